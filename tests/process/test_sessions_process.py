"""Several sessions at once through the real vad, asr and conductor: each its own ring and turn."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import pytest

from appliance.asr.evaluation import normalise
from appliance.audio.blocks import BLOCK_SAMPLES, RATE_HZ, Samples
from appliance.bench.recordings import librivox
from appliance.config import Config
from appliance.ipc.audio_ring import RingWriter, mic_format
from appliance.ipc.bus import Bus, Subscription, subscribe
from appliance.messages import (
    Cancel,
    EndOfTurn,
    Floor,
    Generate,
    Heartbeat,
    Message,
    NearEnd,
    OpenSession,
    Sessions,
    SpeechEnded,
    SpeechStarted,
    Transcript,
    TurnRecord,
    heartbeat_topic,
)

pytestmark = pytest.mark.models

M = TypeVar("M", bound=Message)
ONE, TWO = "remote.1", "remote.2"
WORDS = {ONE: ("young", "man"), TWO: ("amiable", "himself")}
PROCESSES = ("vad", "asr", "conductor")
KINDS = (
    SpeechStarted,
    SpeechEnded,
    NearEnd,
    EndOfTurn,
    Transcript,
    Floor,
    Generate,
    TurnRecord,
    Cancel,
)
_DEADLINE_S = 60
_TELL_S = 1.0
_PAIR_S = 2 * BLOCK_SAMPLES / RATE_HZ


@dataclass
class House:
    """The processes under test; the test itself is the gateway, and speaks for its browsers."""

    runtime_dir: str
    gateway: Bus
    ear: Subscription
    prefix: str
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    rings: dict[str, RingWriter] = field(default_factory=dict)
    open: dict[str, int] = field(default_factory=dict)
    heard: list[Message] = field(default_factory=list)
    told_s: float = 0.0
    until_s: float = field(default_factory=lambda: time.monotonic() + _DEADLINE_S)

    def start(self, name: str) -> None:
        self.processes[name] = subprocess.Popen(
            [sys.executable, "-m", "appliance.ipc.process", name],
            env={**os.environ, "APPLIANCE_RUNTIME_DIR": self.runtime_dir},
            stdout=subprocess.DEVNULL,
        )

    def opens(self, session_id: str) -> None:
        self.rings[session_id] = RingWriter(self.prefix, mic_format(session_id))
        self.open[session_id] = time.monotonic_ns()
        self.tell()

    def closes(self, session_id: str) -> None:
        self.rings.pop(session_id).close()
        del self.open[session_id]
        self.tell()

    def tell(self) -> None:
        self.told_s = time.monotonic()
        self.gateway.publish(Sessions(open=tuple(OpenSession(*s) for s in self.open.items())))

    def listen(self, for_ms: int) -> None:
        """Take what comes within a time, and say once a second who is there."""
        until_s = time.monotonic() + for_ms / 1000
        while (left_s := until_s - time.monotonic()) > 0:
            if time.monotonic() - self.told_s > _TELL_S:
                self.tell()
            self.gateway.beat()
            message = self.ear.receive(max(1, int(1000 * min(left_s, 0.1))))
            if message is not None:
                self.heard.append(message)

    def say(self, **speech: Samples) -> None:
        """Speak in several sessions at the same time, in real time."""
        voices = {name.replace("_", "."): samples for name, samples in speech.items()}
        start_s = time.monotonic()
        for n in range(max(map(len, voices.values())) // BLOCK_SAMPLES // 2):
            for session_id, samples in voices.items():
                if session_id not in self.rings:
                    continue
                for at in (2 * n * BLOCK_SAMPLES, (2 * n + 1) * BLOCK_SAMPLES):
                    block = samples[at : at + BLOCK_SAMPLES]
                    if len(block) == BLOCK_SAMPLES:
                        ready = self.rings[session_id].write(block, time.monotonic_ns())
                self.gateway.publish(ready)
            self.listen(max(0, int(1000 * (start_s + (n + 1) * _PAIR_S - time.monotonic()))))

    def of(self, kind: type[M], session_id: str) -> list[M]:
        return [m for m in self.heard if isinstance(m, kind) and m.session_id == session_id]

    def asked(self, session_id: str) -> str:
        """The words that llm was asked about last."""
        return normalise(self.of(Generate, session_id)[-1].messages[-1].text)

    def wait(self, wanted: Callable[[], object]) -> None:
        while not wanted():
            assert time.monotonic() < self.until_s, f"not in time; heard: {self.heard}"
            self.listen(20)

    def wait_ready(self, *names: str, life_other_than: int = 0) -> int:
        """Until these are at work; the life of the last."""
        lives: dict[str, int] = {}

        def ready() -> bool:
            for beat in self.heard:
                if isinstance(beat, Heartbeat) and beat.state == "ready":
                    lives[beat.process] = beat.life
            return all(lives.get(name, life_other_than) != life_other_than for name in names)

        self.wait(ready)
        return lives[names[-1]]


@pytest.fixture
def house(place) -> Iterator[House]:
    with contextlib.ExitStack() as stack:
        prefix = Config(runtime_dir=str(place.runtime_dir)).shm_prefix
        gateway = Bus(runtime_dir=place.runtime_dir, process="gateway")
        stack.callback(place.forget_sockets)
        stack.callback(gateway.close)
        topics = [*(kind.topic for kind in KINDS), *(heartbeat_topic(name) for name in PROCESSES)]
        ear = stack.enter_context(contextlib.closing(subscribe(place.runtime_dir, topics)))
        it = House(str(place.runtime_dir), gateway, ear, prefix)

        def end() -> None:
            for process in it.processes.values():
                process.kill()
                process.wait(10)
            for ring in it.rings.values():
                ring.close()

        stack.callback(end)
        for name in PROCESSES:
            it.start(name)
        it.wait_ready(*PROCESSES)
        yield it


def spoken(index: int) -> Samples:
    quiet = np.random.default_rng(index).standard_normal(RATE_HZ).astype(np.float32) * 1e-4
    return np.concatenate([quiet, librivox()[index].samples, quiet, quiet])


def test_two_at_once_are_heard_each_in_its_own_turn(house: House) -> None:
    house.opens(ONE)
    house.opens(TWO)
    house.say(remote_1=spoken(1), remote_2=spoken(4))
    house.wait(lambda: house.of(Generate, ONE) and house.of(Generate, TWO))
    for session_id, words in WORDS.items():
        kinds = [type(m) for m in house.heard if getattr(m, "session_id", "") == session_id]
        assert kinds.index(SpeechStarted) < kinds.index(Transcript)
        assert EndOfTurn in kinds
        asked = house.asked(session_id)
        assert all(word in asked for word in words), asked
        other = WORDS[TWO if session_id == ONE else ONE]
        assert not any(word in asked for word in other)
        states = [m.state for m in house.of(Floor, session_id)]
        assert states[:2] == ["listening", "thinking"]
    named = [
        {(s.epoch, s.first) for m in house.of(SpeechEnded, session_id) for s in m.spans}
        for session_id in (ONE, TWO)
    ]
    assert named[0]
    assert named[1]
    assert not named[0] & named[1]
    assert not house.of(SpeechStarted, "local")


@pytest.mark.slow
def test_one_that_goes_in_mid_turn_leaves_nothing_and_the_other_is_answered(house: House) -> None:
    house.opens(ONE)
    house.opens(TWO)
    house.say(remote_1=spoken(1)[: 3 * RATE_HZ])
    house.wait(lambda: house.of(Floor, ONE))
    house.closes(ONE)
    house.wait(lambda: house.of(TurnRecord, ONE))
    (record,) = house.of(TurnRecord, ONE)
    assert record.outcome == "lost"
    assert "session_closed" in record.marks
    assert house.of(Floor, ONE)[-1].state == "idle"
    house.heard.clear()
    house.opens(ONE)  # somebody else
    house.say(remote_2=spoken(4))
    house.wait(lambda: house.of(Generate, TWO))
    assert "amiable" in house.asked(TWO)
    assert not house.of(SpeechStarted, ONE)
    assert not house.of(Transcript, ONE)


@pytest.mark.slow
def test_the_successor_of_a_vad_killed_in_mid_word_hears_the_session_whole(house: House) -> None:
    speech = spoken(4)
    middle = 2 * RATE_HZ
    house.opens(TWO)
    life = house.wait_ready("vad")
    house.say(remote_2=speech[:middle])
    house.wait(lambda: house.of(SpeechStarted, TWO))
    killed = house.processes["vad"]
    killed.send_signal(signal.SIGKILL)
    killed.wait(10)
    house.start("vad")
    house.wait_ready("vad", life_other_than=life)
    house.say(remote_2=speech[middle:])
    house.wait(lambda: house.of(Generate, TWO))
    assert house.asked(TWO).startswith("he might even")
    assert house.asked(TWO).endswith("amiable himself")
    assert house.of(Transcript, TWO)[-1].lost_blocks == 0
