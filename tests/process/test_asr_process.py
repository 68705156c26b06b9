"""The asr process itself: audio in a ring, requests on the bus, words come back."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.asr.evaluation import normalise
from appliance.audio.blocks import BLOCK_SAMPLES, Samples
from appliance.bench.recordings import librivox
from appliance.config import PROJECT_ROOT, Config
from appliance.ipc.audio_ring import MIC_RING, RingWriter
from appliance.ipc.bus import Bus, subscribe
from appliance.messages import (
    LOCAL_SESSION,
    Heartbeat,
    Message,
    PartialTranscript,
    ServiceLevel,
    Span,
    SpeechContinued,
    Transcribe,
    Transcript,
    heartbeat_topic,
)
from appliance.models.manifest import MANIFEST_NAME
from appliance.models.store import models_dir

pytestmark = pytest.mark.models

_DEADLINE_S = 100
_MODEL = "whisper-tiny.en"
_TWIN = "whisper-twin.en"


@dataclass
class Asr:
    """The process, and everybody it listens to."""

    capture: Bus
    vad: Bus
    conductor: Bus
    ring: RingWriter
    hear: Callable[..., Message]
    """Waits for the message wanted; a second function is called again and again meanwhile."""

    def speak(self, samples: Samples) -> Span:
        """Write samples into the ring as capture does; return their name."""
        count = len(samples) // BLOCK_SAMPLES
        for n in range(count):
            block = samples[n * BLOCK_SAMPLES : (n + 1) * BLOCK_SAMPLES]
            ready = self.ring.write(block, time.monotonic_ns())
        return Span(ready.epoch, ready.sequence - count + 1, ready.sequence)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A models folder with the default model and its twin by another name."""
    default = models_dir() / _MODEL
    head, *entries = (PROJECT_ROOT / "models" / MANIFEST_NAME).read_text().split("[[models]]")
    (entry,) = (entry for entry in entries if f'name = "{_MODEL}"' in entry)
    twin = entry.replace(f'name = "{_MODEL}"', f'name = "{_TWIN}"')
    (tmp_path / MANIFEST_NAME).write_text(head + "".join(f"[[models]]{e}" for e in (entry, twin)))
    for name in (_MODEL, _TWIN):
        (tmp_path / name).symlink_to(default)
    return tmp_path


@pytest.fixture
def asr(place, models: Path) -> Iterator[Asr]:
    process = subprocess.Popen(
        [sys.executable, "-m", "appliance.ipc.process", "asr"],
        env={
            **os.environ,
            "APPLIANCE_RUNTIME_DIR": str(place.runtime_dir),
            "APPLIANCE_MODELS_DIR": str(models),
        },
        stdout=subprocess.DEVNULL,
    )
    buses = [
        Bus(runtime_dir=place.runtime_dir, process=name) for name in ("capture", "vad", "conductor")
    ]
    ring = RingWriter(Config(runtime_dir=str(place.runtime_dir)).shm_prefix, MIC_RING)
    topics = [PartialTranscript.topic, Transcript.topic, heartbeat_topic("asr")]
    ear = subscribe(place.runtime_dir, topics)
    until = time.monotonic() + _DEADLINE_S

    def hear(wanted: Callable[[Message], bool], say: Callable[[], object] = int) -> Message:
        while time.monotonic() < until:
            for bus in buses:
                bus.beat()
            say()
            if (message := ear.receive(100)) is not None and wanted(message):
                return message
        raise AssertionError("not heard in time")

    hear(lambda m: isinstance(m, Heartbeat) and m.state == "ready")
    yield Asr(*buses, ring, hear)
    process.terminate()
    assert process.wait(10) == 0
    ear.close()
    ring.close()
    for bus in buses:
        bus.close()
    place.forget_sockets()


def test_words_come_while_speech_goes_on_and_whole_at_its_end(asr: Asr) -> None:
    recording = librivox()[3]
    span = asr.speak(recording.samples)

    def so_far(blocks: int) -> PartialTranscript:
        said = SpeechContinued(
            session_id=LOCAL_SESSION,
            utterance_id="u",
            spans=(Span(span.epoch, span.first, span.first + blocks - 1),),
            speech_start_ns=0,
        )
        # as vad does, again and again: asr passes over what comes while it is at work
        message = asr.hear(
            lambda m: isinstance(m, PartialTranscript) and m.heard_ms == 10 * blocks,
            lambda: asr.vad.publish(said),
        )
        assert isinstance(message, PartialTranscript)
        return message

    first, second = so_far(250), so_far(350)
    assert first.stable == ""
    assert normalise(recording.text).startswith(normalise(second.stable)[:8])
    assert 3 <= len(second.stable.split()) <= len(f"{second.stable} {second.tail}".split())
    assert second.heard_ms == 3500.0
    asr.conductor.publish(
        Transcribe(session_id=LOCAL_SESSION, request_id="r", spans=(span,), utterance_id="u")
    )
    final = asr.hear(lambda m: isinstance(m, Transcript))
    assert isinstance(final, Transcript)
    assert normalise(final.text).startswith(normalise(second.stable)[:8])
    assert len(final.text.split()) > len(second.stable.split())
    assert final.lost_blocks == 0
    assert final.avg_logprob < 0.0


def test_another_model_is_taken_and_one_that_is_not_there_is_not(asr: Asr) -> None:
    def use(model: str) -> None:
        asr.conductor.publish(
            ServiceLevel(
                session_id=LOCAL_SESSION,
                level=0,
                asr_model=model,
                llm_model="",
                history_turns=0,
                first_clause_words=0,
                reason="",
                since_ns=0,
            )
        )

    use(_TWIN)
    asr.hear(lambda m: isinstance(m, Heartbeat) and m.detail.endswith(_TWIN))
    use("whisper-of-nobody")
    span = asr.speak(librivox()[4].samples)
    asr.conductor.publish(Transcribe(session_id=LOCAL_SESSION, request_id="r", spans=(span,)))
    final = asr.hear(lambda m: isinstance(m, Transcript))
    assert isinstance(final, Transcript)
    assert "amiable himself" in normalise(final.text)
