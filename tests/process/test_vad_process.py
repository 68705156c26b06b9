"""The vad process itself: words go into a ring, messages come out on the bus."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from appliance.audio.blocks import BLOCK_SAMPLES, RATE_HZ, Samples
from appliance.bench.recordings import short_utterances
from appliance.config import Config
from appliance.ipc.audio_ring import MIC_RING, RingWriter
from appliance.ipc.bus import Bus, subscribe
from appliance.messages import (
    EndOfTurn,
    Heartbeat,
    Message,
    NearEnd,
    SpeechContinued,
    SpeechEnded,
    SpeechPaused,
    SpeechStarted,
    WakeWord,
    heartbeat_topic,
)

KINDS = (NearEnd, SpeechStarted, SpeechContinued, SpeechPaused, SpeechEnded, EndOfTurn, WakeWord)
ALIVE = heartbeat_topic("vad")
_DEADLINE_S = 60.0
Say = Callable[[Samples], list[Message]]


@pytest.fixture
def vad(place, request) -> Iterator[Say]:
    """The process with these settings; it is spoken to as capture does it, only faster."""
    settings = {f"APPLIANCE_VAD__{key.upper()}": value for key, value in request.param.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "appliance.ipc.process", "vad"],
        env={**os.environ, **settings, "APPLIANCE_RUNTIME_DIR": str(place.runtime_dir)},
        stdout=subprocess.DEVNULL,
    )
    prefix = Config(runtime_dir=str(place.runtime_dir)).shm_prefix
    bus = Bus(runtime_dir=place.runtime_dir, process="capture")
    ring = RingWriter(prefix, MIC_RING)
    ear = subscribe(place.runtime_dir, [*(kind.topic for kind in KINDS), ALIVE])
    until = time.monotonic() + _DEADLINE_S

    def hear(wanted: Callable[[Message], bool], heard: list[Message]) -> None:
        while time.monotonic() < until:
            if (message := ear.receive(100)) is not None:
                heard.append(message)
                if wanted(message):
                    return
        raise AssertionError(f"not heard in time; heard: {heard}")

    def say(samples: Samples) -> list[Message]:
        heard: list[Message] = []
        hear(lambda m: isinstance(m, Heartbeat) and m.state == "ready", heard)
        for n in range(len(samples) // BLOCK_SAMPLES):
            block = samples[n * BLOCK_SAMPLES : (n + 1) * BLOCK_SAMPLES]
            bus.publish(ring.write(block, time.monotonic_ns()))
            while message := ear.receive(2):
                heard.append(message)
        if not any(isinstance(m, SpeechEnded) for m in heard):
            hear(lambda m: isinstance(m, SpeechEnded), heard)
        hear(lambda m: isinstance(m, Heartbeat), heard)
        return [m for m in heard if not isinstance(m, Heartbeat)]

    yield say
    process.terminate()
    process.communicate()
    ear.close()
    ring.close()
    bus.close()
    place.forget_sockets()


def utterance() -> Samples:
    noise = np.random.default_rng(1).standard_normal(RATE_HZ).astype(np.float32) * 1e-4
    return np.concatenate([noise, short_utterances()[0].samples, noise])


@pytest.mark.models
@pytest.mark.parametrize("vad", [{}], indirect=True)
def test_a_pause_is_judged_while_the_process_goes_on_hearing(vad: Say) -> None:
    heard = vad(utterance())
    kinds = [type(m) for m in heard]
    assert kinds.index(NearEnd) < kinds.index(SpeechStarted) < kinds.index(SpeechContinued)
    pauses = {(m.utterance_id, m.speech_end_ns) for m in heard if isinstance(m, SpeechPaused)}
    judged = {(m.utterance_id, m.speech_end_ns) for m in heard if isinstance(m, EndOfTurn)}
    assert judged
    assert judged <= pauses
    assert all(0.0 <= m.probability <= 1.0 for m in heard if isinstance(m, EndOfTurn))
    assert [m.active for m in heard if isinstance(m, NearEnd)][-1] is False


@pytest.mark.models
@pytest.mark.parametrize("vad", [{"end_of_turn": "off"}], indirect=True)
def test_without_it_speech_is_told_all_the_same(vad: Say) -> None:
    heard = vad(utterance())
    assert not any(isinstance(m, EndOfTurn) for m in heard)
    assert any(isinstance(m, SpeechEnded) for m in heard)


@pytest.mark.models
def test_an_unknown_wake_word_ends_it_with_the_known_ones(place) -> None:
    pytest.importorskip("pymicro_wakeword")
    done = subprocess.run(
        [sys.executable, "-m", "appliance.ipc.process", "vad"],
        env={
            **os.environ,
            "APPLIANCE_VAD__WAKE_WORD": "hal",
            "APPLIANCE_RUNTIME_DIR": str(place.runtime_dir),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "okay_nabu" in done.stdout + done.stderr
    place.forget_sockets()
