"""Audio in the microphone's place: whatever a client does, the microphone is heard again."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.audio.blocks import BLOCK_SAMPLES
from appliance.capture.inject import PATIENCE_BLOCKS, QUEUE_LIMIT_SAMPLES, Injector
from appliance.messages import InjectAudio, InjectProgress

MICROPHONE = np.full(BLOCK_SAMPLES, 0.25, np.float32)


def audio(samples: int, *, value: float = 0.5, last: bool = False) -> InjectAudio:
    return InjectAudio(samples=np.full(samples, value, np.float32).tobytes(), last=last)


def hear(injector: Injector, blocks: int) -> tuple[np.ndarray, list[InjectProgress]]:
    heard, reports = [], []
    for sequence in range(blocks):
        heard.append(injector.replace(MICROPHONE))
        if report := injector.note(1, sequence):
            reports.append(report[1])
    return np.concatenate(heard), reports


def test_a_recording_is_heard_whole_and_then_the_microphone_again() -> None:
    injector = Injector()
    assert injector.accept(b"a", audio(250)) == ""
    assert injector.accept(b"a", audio(100, last=True)) == ""
    heard, reports = hear(injector, 4)
    assert (heard[:350] == 0.5).all()
    assert (heard[350 : 3 * BLOCK_SAMPLES] == 0).all()
    assert (heard[3 * BLOCK_SAMPLES :] == 0.25).all()
    assert reports[-1].finished
    assert reports[-1].consumed == 350


def test_a_client_that_died_does_not_close_the_ear_for_ever() -> None:
    injector = Injector()
    injector.accept(b"a", audio(2 * BLOCK_SAMPLES))
    heard, _ = hear(injector, 2 + PATIENCE_BLOCKS + 1)
    assert (heard[-BLOCK_SAMPLES:] == 0.25).all()
    assert (heard[2 * BLOCK_SAMPLES : -BLOCK_SAMPLES] == 0).all()
    assert injector.accept(b"b", audio(10)) == ""


def test_a_slow_client_is_waited_for_again_and_again() -> None:
    injector = Injector()
    for _ in range(3):
        injector.accept(b"a", audio(BLOCK_SAMPLES))
        heard, _ = hear(injector, PATIENCE_BLOCKS)
        assert 0.25 not in heard


def test_an_empty_recording_ends_at_once() -> None:
    injector = Injector()
    injector.accept(b"a", audio(0, last=True))
    heard, reports = hear(injector, 2)
    assert reports[0].finished
    assert (heard[BLOCK_SAMPLES:] == 0.25).all()


def test_a_second_client_is_refused_and_leaves_the_first_alone() -> None:
    injector = Injector()
    injector.accept(b"a", audio(BLOCK_SAMPLES))
    assert "another" in injector.accept(b"b", audio(BLOCK_SAMPLES, value=0.1))
    injector.accept(b"a", audio(BLOCK_SAMPLES, last=True))
    heard, _ = hear(injector, 3)
    assert (heard[: 2 * BLOCK_SAMPLES] == 0.5).all()
    assert (heard[2 * BLOCK_SAMPLES :] == 0.25).all()


@pytest.mark.parametrize(
    "request_",
    [
        InjectAudio(samples=b"abc"),
        audio(10, value=float("nan")),
        audio(10, value=float("inf")),
        audio(QUEUE_LIMIT_SAMPLES + 1),
    ],
)
def test_what_is_not_audio_is_refused_and_not_heard(request_: InjectAudio) -> None:
    injector = Injector()
    assert injector.accept(b"a", request_)
    heard, _ = hear(injector, 2)
    assert (heard == 0.25).all()


def test_audio_beyond_full_scale_is_clipped() -> None:
    injector = Injector()
    injector.accept(b"a", audio(BLOCK_SAMPLES, value=1e38))
    assert hear(injector, 1)[0].max() == 1.0
