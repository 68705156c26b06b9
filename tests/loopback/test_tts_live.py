"""The tts process alone, on a virtual loudspeaker: how soon it is heard, lower, or silent."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from appliance.config import Config
from appliance.ipc.audio_ring import Block, RingReader
from appliance.ipc.bus import Bus, Subscription, subscribe
from appliance.loopback.outside import Recorder
from appliance.loopback.virtual_devices import LOUDSPEAKER, VirtualDevices
from appliance.messages import (
    BlocksReady,
    Cancel,
    Heartbeat,
    Message,
    NearEnd,
    Pause,
    PlaybackDucked,
    PlaybackEnded,
    PlaybackStarted,
    Release,
    Restore,
    Ringing,
    Speak,
    SpeechSettings,
    ring_topic,
)
from appliance.processes import REMOTE_SESSIONS, speaker_ring

pytestmark = [pytest.mark.loopback, pytest.mark.models]

RATE_HZ = 48_000
LONG = "The quick brown fox jumped over the lazy dog, and then it went home and slept till morning."
M = TypeVar("M", bound=Message)


@dataclass
class Rig:
    """The process, its neighbours' sides of the bus, and ears in front of the loudspeaker."""

    conductor: Bus
    vad: Bus
    mind: Bus
    events: Subscription
    ears: Recorder
    shm_prefix: str

    def wait_for(self, kind: type[M], utterance_id: str = "", timeout_s: float = 15) -> M:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            message = self.events.receive(100)
            if isinstance(message, kind) and utterance_id in (
                "",
                getattr(message, "utterance_id", ""),
            ):
                return message
        raise AssertionError(f"no {kind.__name__} of {utterance_id!r}")

    def speak(
        self, utterance_id: str, text: str, *, hold: bool = False, session: str = "local"
    ) -> int:
        at_ns = time.monotonic_ns()
        self.conductor.publish(
            Speak(
                session_id=session,
                utterance_id=utterance_id,
                index=0,
                text=text,
                last=True,
                hold=hold,
            )
        )
        return at_ns

    def cancel(self, utterance_id: str) -> int:
        at_ns = time.monotonic_ns()
        self.conductor.publish(Cancel(session_id="local", id=utterance_id))
        return at_ns

    def near_end(self, *, active: bool) -> int:
        at_ns = time.monotonic_ns()
        self.vad.publish(
            NearEnd(session_id="local", active=active, onset_ns=at_ns, far_end_active=True)
        )
        return at_ns

    def ring(self, *ids: str) -> int:
        at_ns = time.monotonic_ns()
        self.mind.publish(Ringing(session_id="local", ids=ids, text="Your tea is ready."))
        return at_ns

    def heard(self, from_ns: int, seconds: float) -> tuple[np.ndarray, Callable[[int], float]]:
        """What was at the loudspeaker since then, and how late after it a sample was, in ms."""
        first = max(0, round((from_ns - self.ears.first_sample_ns) * RATE_HZ / 1e9))
        assert self.ears.wait_frames(first + round(seconds * RATE_HZ), 10)
        samples = self.ears.samples()[first : first + round(seconds * RATE_HZ)]
        return samples, lambda n: (self.ears.time_of(first + n) - from_ns) / 1e6


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    runtime = tmp_path_factory.mktemp("tts")
    with VirtualDevices() as devices:
        environment = {
            **os.environ,
            **devices.environment,
            "APPLIANCE_RUNTIME_DIR": str(runtime),
            "APPLIANCE_AUDIO__OUTPUT_DEVICE": LOUDSPEAKER,
        }
        topics = [PlaybackStarted, PlaybackEnded, PlaybackDucked]
        rings = [ring_topic(speaker_ring(session)) for session in REMOTE_SESSIONS]
        events = subscribe(runtime, [*(m.topic for m in topics), *rings, "heartbeat.tts"])
        conductor, vad, mind = (
            Bus(runtime_dir=Path(runtime), process=n) for n in ("conductor", "vad", "mind")
        )
        shm_prefix = Config(runtime_dir=str(runtime)).shm_prefix
        process = subprocess.Popen(
            [sys.executable, "-m", "appliance.ipc.process", "tts"], env=environment
        )
        try:
            with Recorder(devices.environment) as ears:
                it = Rig(conductor, vad, mind, events, ears, shm_prefix)
                while it.wait_for(Heartbeat).state != "ready":
                    pass
                yield it
        finally:
            process.terminate()
            process.wait(10)
            for bus in (conductor, vad, mind):
                bus.close()
            events.close()


ids = (f"u{n}" for n in itertools.count())


def test_ready_audio_is_heard_after_the_device_alone(rig: Rig) -> None:
    delays_ms = []
    for _ in range(6):
        name = next(ids)
        spoken_ns = rig.speak(name, "One thing, and another.", hold=True)
        samples, _ = rig.heard(spoken_ns, 0.6)
        assert np.abs(samples).max() < 1e-4, "held"
        released_ns = time.monotonic_ns()
        rig.conductor.publish(Release(session_id="local", utterance_id=name))
        samples, late_ms = rig.heard(released_ns, 0.3)
        delays_ms.append(late_ms(int(np.flatnonzero(np.abs(samples) > 0.003)[0])))
        rig.cancel(name)
        rig.wait_for(PlaybackEnded, name)
    assert np.median(delays_ms) < 60


def test_near_end_lowers_and_a_cancel_silences(rig: Rig) -> None:
    ducked_ms, silent_ms, told_ms = [], [], []
    for n in range(5):
        name = next(ids)
        rig.speak(name, LONG)
        started = rig.wait_for(PlaybackStarted, name)
        time.sleep(max(0.0, (started.audible_ns - time.monotonic_ns()) / 1e9) + 0.5 + 0.3 * n)
        onset_ns = rig.near_end(active=True)
        ducked = rig.wait_for(PlaybackDucked, name)
        ducked_ms.append((ducked.audible_ns - onset_ns) / 1e6)
        before, _ = rig.heard(onset_ns - 500_000_000, 0.5)
        after, _ = rig.heard(ducked.audible_ns + 10_000_000, 0.3)
        assert np.abs(after).max() < 0.3 * np.abs(before).max()
        cancelled_ns = rig.cancel(name)
        ended = rig.wait_for(PlaybackEnded, name)
        samples, late_ms = rig.heard(cancelled_ns, 0.4)
        sounding = np.flatnonzero(np.abs(samples) > 1e-6)
        silent_ms.append(late_ms(int(sounding[-1])) if sounding.size else 0.0)
        rig.near_end(active=False)
        told_ms.append((ended.ended_ns - cancelled_ns) / 1e6)
        words = ended.played_text.split()
        assert words == LONG.split()[: len(words)]
        played_s = (ended.ended_ns - started.audible_ns) / 1e9
        assert 1 < len(words) < len(LONG.split())
        assert len(words) <= 5 * played_s
    assert np.median(ducked_ms) < 90
    assert np.median(silent_ms) < 90
    assert np.median(np.abs(np.subtract(told_ms, silent_ms))) < 25


def test_a_dropped_answer_does_not_delay_the_next_and_a_held_one_neither(rig: Rig) -> None:
    endless = "constitutional " * 260
    for cancelled in (True, False):
        held, name = next(ids), next(ids)
        rig.speak(held, endless, hold=True)
        time.sleep(0.2)
        if cancelled:
            rig.cancel(held)
        spoken_ns = rig.speak(name, f"The answer is {held}.")
        started = rig.wait_for(PlaybackStarted, name)
        assert (started.synthesised_ns - spoken_ns) / 1e6 < 400
        rig.cancel("*")
        rig.wait_for(PlaybackEnded, name)


def peak(samples: np.ndarray) -> float:
    return float(np.abs(samples).max())


LOW = 10 ** (-18 / 20)
PERIOD_S = 2.0


def test_a_timer_rings_below_every_voice_and_is_silent_at_once(rig: Rig) -> None:
    rings_ms, silent_ms = [], []
    for _ in range(3):  # a busy machine may hold up one
        rang_ns = rig.ring("tea")
        samples, late_ms = rig.heard(rang_ns, 0.5)
        rings_ms.append(late_ms(int(np.flatnonzero(np.abs(samples) > 0.01)[0])))
        quiet_ns = rig.ring()
        samples, late_ms = rig.heard(quiet_ns, 0.5)
        sounding = np.flatnonzero(np.abs(samples) > 1e-4)
        silent_ms.append(late_ms(int(sounding[-1])) if sounding.size else 0.0)
    assert np.median(rings_ms) < 90
    assert np.median(silent_ms) < 90
    name = next(ids)
    samples, _ = rig.heard(rig.ring("tea"), 2 * PERIOD_S)
    full = peak(samples)
    assert full > 0.1
    onset_ns = rig.near_end(active=True)
    samples, _ = rig.heard(onset_ns + 100_000_000, PERIOD_S)
    assert peak(samples) == pytest.approx(full * LOW, rel=0.1)
    rig.near_end(active=False)
    rig.speak(name, LONG)
    started = rig.wait_for(PlaybackStarted, name)
    rig.heard(started.audible_ns, 0.5)
    # an answer that pauses still has the floor: what is heard then is the chime below it
    rig.conductor.publish(Pause(session_id="local", utterance_id=name))
    samples, _ = rig.heard(time.monotonic_ns() + 200_000_000, PERIOD_S)
    assert peak(samples) == pytest.approx(full * LOW, rel=0.1)
    rig.conductor.publish(Restore(session_id="local", utterance_id=name))
    ended = rig.wait_for(PlaybackEnded, name)
    assert ended.played_text == LONG
    assert ended.underruns == 0
    samples, _ = rig.heard(ended.ended_ns + 300_000_000, PERIOD_S)
    assert peak(samples) == pytest.approx(full, rel=0.05)
    quiet_ns = rig.ring()
    samples, _ = rig.heard(quiet_ns + 200_000_000, PERIOD_S)
    assert peak(samples) < 1e-4


def test_the_volume_follows_within_a_fifth_of_a_second_and_stays(rig: Rig) -> None:
    name = next(ids)
    rig.speak(name, LONG)
    started = rig.wait_for(PlaybackStarted, name)
    samples, _ = rig.heard(started.audible_ns, 1.0)
    full = float(np.sqrt(np.mean(samples**2)))
    settings = SpeechSettings(session_id="local", volume_percent=25)
    rig.mind.publish(settings)
    samples, _ = rig.heard(time.monotonic_ns() + 200_000_000, 1.0)
    assert 20 * np.log10(np.sqrt(np.mean(samples**2)) / full) == pytest.approx(-24, abs=5)
    rig.mind.publish(SpeechSettings(session_id="local"))
    assert rig.wait_for(PlaybackEnded, name).played_text == LONG


def test_remote_sessions_are_spoken_to_through_their_rings_all_at_once(rig: Rig) -> None:
    readers = {
        speaker_ring(session): RingReader(rig.shm_prefix, speaker_ring(session))
        for session in REMOTE_SESSIONS
    }
    blocks: dict[str, list[Block]] = {ring: [] for ring in readers}
    waiting = {next(ids): session for session in REMOTE_SESSIONS}
    begin_ns = time.monotonic_ns()  # what an earlier attempt left in the rings is none of ours
    spoken_ns = {name: rig.speak(name, LONG, session=s) for name, s in waiting.items()}
    started, ended = {}, {}
    deadline = time.monotonic() + 30
    while len(ended) < len(waiting):
        assert time.monotonic() < deadline
        match message := rig.events.receive(100):
            case BlocksReady(ring=ring):
                readers[ring].announced(message, rewind_blocks=1_000)
                news = readers[ring].read()
                blocks[ring] += [b for b in news if b.captured_ns > begin_ns]
            case PlaybackStarted(utterance_id=name):
                started[name] = message
            case PlaybackEnded(utterance_id=name):
                ended[name] = message
    for name, session in waiting.items():
        ring = speaker_ring(session)
        assert ended[name].played_text == LONG
        assert ended[name].session_id == session
        assert ended[name].underruns == 0
        assert readers[ring].lost_blocks == 0
        assert (started[name].audible_ns - spoken_ns[name]) / 1e6 < 1_500
        times_ns = np.array([block.captured_ns for block in blocks[ring]])
        np.testing.assert_array_equal(np.diff(times_ns), 10_000_000)
        sound = np.concatenate([block.samples for block in blocks[ring]])
        audible = int(np.flatnonzero(np.abs(sound) > 0.001)[0])
        audible_ns = times_ns[0] + audible * 62_500
        assert abs(audible_ns - started[name].audible_ns) < 2_000_000
        assert (ended[name].ended_ns - times_ns[0]) / 1e9 > 3
        readers[ring].close()


@pytest.mark.parametrize(
    "text",
    [
        "🎉🎉🎉",
        "See https://example.com/a?b=c 👍🏽 3,141,592.65 €",
        "你好 and hello 世界",
        "\x00\x01\x1b[31m \ufeff\u200b",
        "9" * 200,
    ],
)
def test_any_text_comes_to_an_end(rig: Rig, text: str) -> None:
    name = next(ids)
    rig.speak(name, text)
    time.sleep(0.3)
    rig.cancel(name)
    assert not rig.wait_for(PlaybackEnded, name).error
