"""The audio front-end in the running appliance: four microphones in a virtual room, live.

The loudspeaker stands beside the microphones, distorts a little and has a clock of its own; the
user sits two metres away and is 13 dB quieter than the echo.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest
from hearing import overlap

from appliance.asr.engine import create_engine
from appliance.asr.transcriber import Transcriber
from appliance.audio.blocks import BLOCK_MS, Samples
from appliance.bench.recordings import librivox
from appliance.bench.rig import Rig, private_appliance
from appliance.client import ApplianceClient
from appliance.errors import ApplianceError
from appliance.ipc.audio_ring import MIC_RING, RingReader
from appliance.ipc.bus import Client, Subscription, subscribe
from appliance.loopback.acoustics import shoebox, speech_bounds
from appliance.loopback.loudspeaker import Loudspeaker
from appliance.loopback.room import RoomEvent, VirtualRoom
from appliance.loopback.virtual_devices import LOUDSPEAKER_SINK, MICROPHONE_SINK
from appliance.messages import (
    Accepted,
    AudioGap,
    BlocksReady,
    Floor,
    FrontEndReport,
    Message,
    PlaybackEnded,
    PlaybackStarted,
    Refused,
    SetFrontEndBypass,
    SpeechEnded,
    SpeechStarted,
    ring_topic,
)
from appliance.models.store import ensure_model

pytestmark = [pytest.mark.loopback, pytest.mark.models]

RATE_HZ = 48_000
USER_DEG = 36.87
"""Where `shoebox` puts the person."""
USER_DBFS = -36.0
ECHO_DB = -5.0
"""Of the loudspeaker at the microphones: 13 dB above the user."""
ANSWER = (
    "The quick brown fox jumps over the lazy dog, and then it runs back into the forest. "
    "There it meets an old bear, who has been asleep since the first of November. "
    "They talk about the weather for a while, because nothing else comes to their minds."
)
TOPICS = (
    ring_topic(MIC_RING.name),
    *(
        kind.topic
        for kind in (
            AudioGap,
            Floor,
            FrontEndReport,
            PlaybackEnded,
            PlaybackStarted,
            SpeechEnded,
            SpeechStarted,
        )
    ),
)


@dataclass
class Ears:
    """Everything that was said on the bus, with the time at which it was heard here."""

    bus: Subscription
    reader: RingReader
    heard: list[tuple[int, Message]] = field(default_factory=list)

    def listen(self, until: Callable[[], bool], timeout_s: float) -> bool:
        """Listen until something holds; False when that took too long."""
        deadline = time.monotonic() + timeout_s
        while not until():
            if time.monotonic() > deadline:
                return False
            message = self.bus.receive(50)
            if isinstance(message, BlocksReady):
                self.reader.announced(message)
            elif message is not None:
                self.heard.append((time.monotonic_ns(), message))
        return True

    def until(
        self, kind: type[Message], timeout_s: float, since_ns: int = 0
    ) -> tuple[int, Message]:
        """The first message of a kind after a time, with its own time."""

        def found() -> list[tuple[int, Message]]:
            return [(at, m) for at, m in self.heard if isinstance(m, kind) and at > since_ns]

        assert self.listen(lambda: bool(found()), timeout_s), f"no {kind.__name__}"
        return found()[0]

    def until_idle(self, timeout_s: float) -> None:
        """Listen until what was said is answered, and nobody has the floor."""

        def idle() -> bool:
            floors = [m for _, m in self.heard if isinstance(m, Floor)]
            return not floors or floors[-1].state == "idle"

        assert self.listen(idle, timeout_s), "it still speaks"

    def for_s(self, seconds: float) -> None:
        """Listen for a while."""
        self.listen(lambda: False, seconds)

    def reports(self, from_ns: int, to_ns: int) -> list[FrontEndReport]:
        """The front-end's figures of seconds that lie wholly between two times."""
        return [
            m
            for _, m in self.heard
            if isinstance(m, FrontEndReport)
            and from_ns + 1_000_000_000 <= m.at_ns <= to_ns
            and m.far_end_active
        ]

    def story(self, from_ns: int) -> str:
        """What happened, for whoever looks at a failure."""
        lines = []
        for at, message in self.heard:
            line = f"{(at - from_ns) / 1e9:6.1f} s {type(message).__name__}"
            match message:
                case FrontEndReport() as r:
                    line += (
                        f" ERLE {r.erle_linear_db}/{r.erle_final_db} dB, delay {r.delay_ms} ms, "
                        f"near {r.near_end_dbfs}, far {r.far_end_dbfs} dBFS, "
                        f"{r.block_p99_ms:.1f} ms, xruns {r.xruns}, "
                        f"{ {k: v for k, v in r.faults.items() if v} }"
                    )
                case SpeechStarted() | SpeechEnded():
                    start_s = (message.speech_start_ns - from_ns) / 1e9
                    line += f" that began at {start_s:.1f} s, {message.direction_deg} deg"
            lines.append(line)
        return "\n".join(lines)

    def erle_db(self, from_ns: int, to_ns: int) -> float:
        """Median of the final echo reduction in the seconds that lie between two times."""
        return float(np.median([r.erle_final_db or 0.0 for r in self.reports(from_ns, to_ns)]))

    def speech(self, from_ns: int) -> list[SpeechStarted]:
        """What vad took for speech after a time."""
        return [m for at, m in self.heard if isinstance(m, SpeechStarted) and at > from_ns]


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    overrides = {
        "APPLIANCE_AUDIO__INPUT_CHANNELS": "4",
        "APPLIANCE_FRONT_END__ARRAY": "circle:4:0.032",
        "APPLIANCE_LLM__MODEL": "smollm2-135m",
    }
    with private_appliance(overrides) as running:
        yield running


@contextlib.contextmanager
def room_around(rig: Rig) -> Iterator[VirtualRoom]:
    acoustics = shoebox(RATE_HZ, 4, rt60_s=0.3, echo_db=ECHO_DB, noise_dbfs=-70)
    loudspeaker = Loudspeaker(drift_ppm=60, delay_ms=15, clip_level=0.8)
    with VirtualRoom(rig.devices.environment, acoustics, loudspeaker=loudspeaker) as room:
        yield room


@pytest.fixture(scope="module")
def room(rig: Rig) -> Iterator[VirtualRoom]:
    """A room in which the appliance has spoken before."""
    with room_around(rig) as it:
        with answering(rig):
            pass
        yield it


@pytest.fixture
def ears(rig: Rig) -> Iterator[Ears]:
    with ApplianceClient(rig.config) as client:
        assert client.wait_ready(30)
    with (
        contextlib.closing(subscribe(rig.config.runtime_path, TOPICS)) as bus,
        contextlib.closing(RingReader(rig.config.shm_prefix, MIC_RING.name)) as reader,
    ):
        yield Ears(bus, reader)


@contextlib.contextmanager
def answering(rig: Rig, text: str = ANSWER) -> Iterator[None]:
    """The appliance says something meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        said = pool.submit(say, rig, text)
        yield
        said.result(60)


def say(rig: Rig, text: str) -> None:
    """Have a text spoken, as soon as nobody else has the floor."""
    deadline = time.monotonic() + 60
    with ApplianceClient(rig.config) as client:
        client.wait_ready(20)
        while True:
            try:
                client.say(text)
            except ApplianceError as refused:
                if "busy" not in str(refused) or time.monotonic() > deadline:
                    raise
                client.next_turn(5)  # the one that has the floor
            else:
                return


def spoken() -> tuple[Samples, str]:
    """A recorded person at the user's level, and the words."""
    recording = librivox()[0]
    first, last = speech_bounds(recording.samples, 16_000)
    rms = np.sqrt(np.mean(np.square(recording.samples[first:last])))
    return recording.samples * np.float32(10 ** (USER_DBFS / 20) / rms), recording.text


def apart_deg(a: float, b: float) -> float:
    return abs((a - b + 180) % 360 - 180)


def test_it_does_not_hear_itself(rig: Rig, room: VirtualRoom, ears: Ears) -> None:
    with answering(rig):
        started_ns, _ = ears.until(PlaybackStarted, 20)
        ended_ns, _ = ears.until(PlaybackEnded, 40)
        ears.for_s(1.5)
    assert ended_ns - started_ns > 8e9, "the test needs a longer answer"
    assert not ears.speech(started_ns), ears.story(started_ns)
    reports = ears.reports(started_ns + 2_000_000_000, ended_ns)
    assert ears.erle_db(started_ns + 2_000_000_000, ended_ns) > 25, ears.story(started_ns)
    assert reports[-1].delay_ms is not None
    assert np.median([r.block_p50_ms for r in reports]) < BLOCK_MS / 2
    assert [channel.health for channel in reports[-1].channels] == ["ok"] * 4


def interrupted(rig: Rig, room: VirtualRoom, ears: Ears, speech: Samples) -> tuple[int, RoomEvent]:
    """The user speaks over an answer: since when, and what the room says of it.

    Again where the room itself has lost some of it: then it was not heard as it was said.
    """
    for _ in range(3):
        already, since_ns = len(room.events), time.monotonic_ns()
        room.say(speech, 16_000, "user", after="answer_started", delay_ms=1_500)
        with answering(rig):
            ears.until(SpeechStarted, 40, since_ns)
            ears.until(SpeechEnded, 20, since_ns)
            near_end = room.wait_for("near_end", 20, name="user", since=already)
        if near_end.intact:
            break
        ears.until_idle(60)  # what the user said is answered, too
    return since_ns, near_end


def test_the_user_is_heard_over_the_answer(rig: Rig, room: VirtualRoom, ears: Ears) -> None:
    speech, text = spoken()
    since_ns, near_end = interrupted(rig, room, ears, speech)
    story = ears.story(near_end.speech_start_ns)
    at_ns, started = ears.until(SpeechStarted, 0, since_ns)
    assert isinstance(started, SpeechStarted)
    assert -500e6 < at_ns - near_end.speech_start_ns < 2_500e6, story
    assert started.direction_deg is not None, story
    assert apart_deg(started.direction_deg, USER_DEG) <= 15, story
    ended = [m for at, m in ears.heard if isinstance(m, SpeechEnded) and at > since_ns]
    spans = [span for m in ended for span in m.spans]
    samples, lost = ears.reader.read_span(spans)
    assert lost == 0
    asr = Transcriber(create_engine("ctranslate2", ensure_model("whisper-tiny.en"), threads=1))
    assert overlap(text, asr.transcribe(samples).text) >= 0.6, story
    assert ended[-1].direction_deg is not None
    assert apart_deg(ended[-1].direction_deg, USER_DEG) <= 15, story
    ears.until_idle(60)  # the next test begins in silence


def test_a_stage_is_switched_off_and_on_while_it_runs(
    rig: Rig, room: VirtualRoom, ears: Ears
) -> None:
    with ApplianceClient(rig.config) as client:
        client.wait_ready(20)
        instance = client._board.active_instance("capture")
    assert instance is not None

    def bypassed() -> tuple[str, ...]:
        _, report = ears.until(FrontEndReport, 20, since_ns=time.monotonic_ns() + 1_000_000_000)
        assert isinstance(report, FrontEndReport)
        return report.bypassed

    with contextlib.closing(Client(rig.config.runtime_path, "capture", instance)) as capture:

        def answer(*stages: str) -> object:
            capture.send(SetFrontEndBypass(stages=stages))
            return capture.receive(20_000)

        assert isinstance(answer("beam"), Accepted)
        assert bypassed() == ("beam",)
        refused = answer("beam", "bean")
        assert isinstance(refused, Refused)
        assert "bean" in refused.reason
        assert bypassed() == ("beam",), "a refused request changes nothing"
        assert isinstance(answer(), Accepted)
        assert bypassed() == ()


def test_the_echo_stays_away_when_capture_is_killed(
    rig: Rig, room: VirtualRoom, ears: Ears
) -> None:
    with ApplianceClient(rig.config) as client:
        client.wait_ready(20)
        victim = client.working_pid("capture")
    with answering(rig, f"{ANSWER} {ANSWER}"):
        started_ns, _ = ears.until(PlaybackStarted, 20)
        ears.for_s(4)
        assert victim > 0, "0 is this very process group"
        os.kill(victim, signal.SIGKILL)
        back_ns, _ = ears.until(AudioGap, 20, since_ns=started_ns)
        ended_ns, _ = ears.until(PlaybackEnded, 60, since_ns=started_ns)
        ears.for_s(1.5)
    assert ears.erle_db(back_ns + 2_000_000_000, ended_ns) > 25, ears.story(started_ns)
    assert not ears.speech(started_ns), ears.story(started_ns)


def test_the_echo_is_found_again_when_the_devices_were_unplugged(rig: Rig, ears: Ears) -> None:
    """Last: the room goes with its devices."""
    for sink in (LOUDSPEAKER_SINK, MICROPHONE_SINK):
        rig.devices.unplug(sink)
    with ApplianceClient(rig.config) as client:
        assert client.wait_for(lambda: not client.is_ready(), 20)
        for sink in (LOUDSPEAKER_SINK, MICROPHONE_SINK):
            rig.devices.plug(sink)
        assert client.wait_ready(30)
    with room_around(rig), answering(rig):
        started_ns, _ = ears.until(PlaybackStarted, 20)
        ended_ns, _ = ears.until(PlaybackEnded, 40, since_ns=started_ns)
        ears.for_s(1.5)
    assert ears.erle_db(started_ns + 2_000_000_000, ended_ns) > 25, ears.story(started_ns)
    assert not ears.speech(started_ns), ears.story(started_ns)
