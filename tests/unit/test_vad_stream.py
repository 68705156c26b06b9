"""From ring blocks to speech messages: names, times and restarts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.audio.blocks import BLOCK_NS, BLOCK_SAMPLES, Samples
from appliance.ipc.audio_ring import Block
from appliance.messages import Message, Span, SpeechEnded, SpeechPaused, SpeechStarted
from appliance.vad.detector import SpeechDetector
from appliance.vad.edges import refine_end
from appliance.vad.stream import SpeechStream

MS = 1_000_000
T0 = 5_000_000_000


class LoudIsSpeech:
    """A detector for tests: loud frames are speech."""

    def probability(self, frame: Samples) -> float:
        return 1.0 if float(np.abs(frame).mean()) > 0.05 else 0.0

    def reset(self) -> None:
        pass


def blocks(
    loud_ms: list[tuple[int, int]], length_ms: int, epoch: int = 7, first: int = 0, at_ns: int = T0
) -> list[Block]:
    """Blocks that are loud in the given stretches (milliseconds from the first block)."""
    result = []
    for n in range(length_ms // 10):
        loud = any(a <= n * 10 < b for a, b in loud_ms)
        samples = np.full(BLOCK_SAMPLES, 0.1 if loud else 0.0, np.float32)
        result.append(Block(epoch, first + n, at_ns + n * BLOCK_NS, 0, samples))
    return result


def stream() -> SpeechStream:
    return SpeechStream("local", SpeechDetector(), LoudIsSpeech())


def only(kind: type[Message], messages: list[Message]) -> list[Message]:
    return [m for m in messages if isinstance(m, kind)]


def test_names_and_times_of_an_utterance() -> None:
    messages = stream().step(blocks([(1_000, 2_000)], 3_500))
    assert [type(m).__name__ for m in messages] == ["SpeechStarted", "SpeechPaused", "SpeechEnded"]
    ended = only(SpeechEnded, messages)[0]
    assert ended.speech_end_ns == T0 + 2_000 * MS
    assert ended.speech_start_ns == pytest.approx(T0 + 700 * MS, abs=40 * MS)
    (span,) = ended.spans
    assert span.epoch == 7
    assert span.first <= 70
    assert span.last >= 199
    assert ended.decided_ns == pytest.approx(T0 + 2_800 * MS, abs=70 * MS)


def test_lost_blocks_do_not_shift_the_names_of_later_ones() -> None:
    whole = blocks([(1_000, 2_000)], 3_500)
    messages = stream().step(whole[:20] + whole[50:])
    (span,) = only(SpeechEnded, messages)[0].spans
    assert span.first == pytest.approx(70, abs=4)


def test_speech_across_a_restart_of_capture_is_one_utterance_of_two_spans() -> None:
    before = blocks([(500, 1_500)], 1_500, epoch=7, first=100)
    after = blocks([(0, 500)], 2_000, epoch=9, first=0, at_ns=T0 + 1_600 * MS)  # 100 ms lost
    messages = stream().step(before + after)
    ended = only(SpeechEnded, messages)
    assert len(ended) == 1
    assert [s.epoch for s in ended[0].spans] == [7, 9]
    assert ended[0].spans[0].last == 249
    assert ended[0].spans[1].first == 0
    assert ended[0].speech_end_ns == T0 + 2_100 * MS


def test_a_successor_that_replays_says_the_same() -> None:
    whole = blocks([(1_000, 2_000), (4_000, 5_000)], 6_500)
    told = stream().step(whole)
    again = stream().step(whole[304:])  # attaches in the silence between
    assert [m.utterance_id for m in again] == [
        m.utterance_id for m in told if m.speech_start_ns > T0 + 3_040 * MS
    ]
    assert only(SpeechEnded, again)[0].speech_end_ns == only(SpeechEnded, told)[-1].speech_end_ns


def test_events_come_as_soon_as_blocks_do() -> None:
    one_by_one = stream()
    messages: list[Message] = []
    for block in blocks([(1_000, 2_000)], 3_500):
        out = one_by_one.step([block])
        for message in out:
            if isinstance(message, SpeechPaused):
                assert block.captured_ns - message.speech_end_ns < 260 * MS
            if isinstance(message, SpeechStarted):
                assert isinstance(message.spans[0], Span)
        messages += out
    assert messages == stream().step(blocks([(1_000, 2_000)], 3_500))


@given(st.integers(20, 60), st.integers(-20, 20), st.floats(-75, -45))
def test_the_end_is_found_near_a_wrong_hint_in_noise(end: int, error: int, noise_db: float) -> None:
    rng = np.random.default_rng(1)
    levels = noise_db + rng.uniform(-2, 2, 100)
    levels[:end] = -20 + rng.uniform(-5, 0, end)
    assert refine_end(levels, max(1, end + error)) == end


def test_without_any_contrast_the_detector_is_believed() -> None:
    assert refine_end(np.full(50, -60.0), 30) == 30
    assert refine_end(np.zeros(0), 0) == 0
