"""A running appliance, the room around it, and a record of what both report."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

from appliance.audio.blocks import RATE_HZ
from appliance.bench.conversation_measures import Playing
from appliance.bench.conversation_trials import SpokenOver
from appliance.bench.dialogues import Saying
from appliance.bench.rig import Rig, private_appliance
from appliance.errors import ApplianceError
from appliance.ipc.bus import Client, subscribe
from appliance.loopback.acoustics import Acoustics, shoebox
from appliance.loopback.loudspeaker import Loudspeaker
from appliance.loopback.room import EventKind, RoomEvent, VirtualRoom
from appliance.messages import (
    Accepted,
    AudioGap,
    Floor,
    Message,
    NearEnd,
    PlaybackDucked,
    PlaybackEnded,
    Refused,
    SayText,
    SpeechStarted,
    TurnRecord,
)

MICROPHONES = 4
ECHO_DB = -3.0
"""The loudspeaker at the microphones: the default voice is then 15 dB above a talker."""
NOISE_DBFS = -70.0
TELEVISION_DEG = 150.0
LOUDSPEAKER = Loudspeaker(delay_ms=15.0, clip_level=0.8)
_RT60_S = 0.3
_TALK_BOUND_S = 60.0
_NOTICED_S = 3.0
"""Somebody who spoke and is not noticed by then was not heard."""
QUIET_S = 0.5
"""Nothing is played and nobody has the floor for so long: the trial is over."""
_BEFORE_NS, _AFTER_NS = 3_000_000_000, 2_300_000_000
_TOPICS = (
    AudioGap,
    Floor,
    NearEnd,
    PlaybackDucked,
    PlaybackEnded,
    SpeechStarted,
    TurnRecord,
)
_M = TypeVar("_M", bound=Message)


def living_room(rate_hz: int) -> Acoustics:
    """RT60 0.3 s, the user at 2 m, the loudspeaker beside four microphones."""
    return shoebox(rate_hz, MICROPHONES, rt60_s=_RT60_S, echo_db=ECHO_DB, noise_dbfs=NOISE_DBFS)


def beside_the_television(rate_hz: int) -> Acoustics:
    """The same room for a sound from 1.7 m away, 113 degrees from the user."""
    return shoebox(rate_hz, MICROPHONES, rt60_s=_RT60_S, distance_m=1.7, bearing_deg=TELEVISION_DEG)


def overrides(llm: str) -> dict[str, str]:
    """The appliance's configuration: the defaults, the array, and one model from start to end."""
    return {
        "APPLIANCE_LLM__MODEL": llm,
        "APPLIANCE_AUDIO__INPUT_CHANNELS": str(MICROPHONES),
        "APPLIANCE_FRONT_END__ARRAY": f"circle:{MICROPHONES}:0.032",
        "APPLIANCE_CONDUCTOR__OPTIMISE": "false",
    }


class BusLog:
    """What is said on some topics of the bus, taken by a thread of its own."""

    def __init__(self, rig: Rig) -> None:
        self._bus = subscribe(rig.config.runtime_path, [message.topic for message in _TOPICS])
        self._changed = threading.Condition()
        self._messages: list[Message] = []
        self._floor = "idle"
        self._stopping = False
        self._thread = threading.Thread(target=self._listen, name="bus-log", daemon=True)

    def __enter__(self) -> BusLog:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping = True
        self._thread.join()
        self._bus.close()

    def _listen(self) -> None:
        while not self._stopping:
            message = self._bus.receive(100)
            if message is None:
                continue
            with self._changed:
                self._messages.append(message)
                if isinstance(message, Floor):
                    self._floor = message.state
                self._changed.notify_all()

    @property
    def count(self) -> int:
        """Messages so far."""
        return len(self._messages)

    @property
    def floor(self) -> str:
        """Who has the floor."""
        return self._floor

    def since(self, first: int, kind: type[_M]) -> list[_M]:
        """Messages of a kind from a count on."""
        with self._changed:
            return [message for message in self._messages[first:] if isinstance(message, kind)]

    def wait(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until a condition holds that messages bring about; False when the time is up."""
        with self._changed:
            return self._changed.wait_for(condition, timeout_s)


@dataclass(frozen=True)
class Mark:
    """A moment in both records."""

    events: int
    messages: int


@dataclass(frozen=True)
class Stage:
    """Where the trials take place, one after the other."""

    rig: Rig
    room: VirtualRoom
    log: BusLog
    television: Acoustics

    def mark(self) -> Mark:
        """Now."""
        return Mark(len(self.room.events), self.log.count)

    def turns(self, mark: Mark) -> list[TurnRecord]:
        """That ended since."""
        return self.log.since(mark.messages, TurnRecord)

    def events(self, mark: Mark) -> list[RoomEvent]:
        """Of the room since."""
        return self.room.events[mark.events :]

    def say(self, saying: Saying, *, after_answer: bool = False, delay_ms: float = 0.0) -> None:
        """Have the user say something now, or so long after the next answer began."""
        after: EventKind | None = "answer_started" if after_answer else None
        self.room.say(saying.samples, RATE_HZ, saying.name, after=after, delay_ms=delay_ms)

    def television_says(self, saying: Saying) -> None:
        """Switch the television on, now."""
        self.room.say(saying.samples, RATE_HZ, saying.name, place=self.television)

    def said(
        self, saying: Saying, mark: Mark, timeout_s: float = _TALK_BOUND_S
    ) -> RoomEvent | None:
        """The event of something said since a mark; None, and forgotten, when it was not said."""
        timeout_s += len(saying.samples) / RATE_HZ
        try:
            return self.room.wait_for("near_end", timeout_s, name=saying.name, since=mark.events)
        except ApplianceError:
            self._check_life()
            self.room.forget()
            return None

    def settle(self, mark: Mark | None = None, timeout_s: float = _TALK_BOUND_S) -> bool:
        """Wait until nobody has the floor and nothing is played; False when that takes too long.

        Args:
            mark: the appliance is given some seconds to notice what was said since.
            timeout_s: bound.
        """
        if mark is not None:
            self.log.wait(lambda: self._noticed(mark), _NOTICED_S)
        deadline = time.monotonic() + timeout_s
        quiet_since = None
        while (now := time.monotonic()) < deadline:
            self._check_life()
            if self.log.floor != "idle" or self._answering():
                quiet_since = None
            elif quiet_since is None:
                quiet_since = now
            elif now - quiet_since > QUIET_S:
                return True
            time.sleep(0.05)
        return False

    def have_said(self, text: str) -> None:
        """Make the appliance say a text, without waiting for it.

        Raises:
            ApplianceError: it refuses, for all of a minute.
        """
        client = Client(self.rig.config.runtime_path, "conductor")
        deadline = time.monotonic() + _TALK_BOUND_S
        try:
            while time.monotonic() < deadline:
                self._check_life()
                client.send(SayText(text=text))
                match client.receive(2_000):
                    case Accepted():
                        return
                    case Refused():
                        self.settle()
        finally:
            client.close()
        raise ApplianceError(f"The appliance does not say what it is told:\n{self.rig.log[-2000:]}")

    def spoken_over(
        self, near: RoomEvent, mark: Mark, *, generated: bool = False
    ) -> SpokenOver | None:
        """What the room recorded of an answer since a mark; None when there was no answer."""
        starts = [event.at_ns for event in self.events(mark) if event.kind == "answer_started"]
        if not starts:
            return None
        start_ns, samples = self.room.played(
            near.speech_start_ns - _BEFORE_NS, near.speech_end_ns + _AFTER_NS
        )
        return SpokenOver(
            near,
            starts[0],
            Playing(start_ns, samples, self.rig.devices.rate_hz),
            self.turns(mark),
            self.log.since(mark.messages, PlaybackDucked),
            generated,
        )

    def _noticed(self, mark: Mark) -> bool:
        return self.log.floor != "idle" or bool(self.log.since(mark.messages, TurnRecord))

    def _answering(self) -> bool:
        kinds = [e.kind for e in self.room.events if e.kind in ("answer_started", "answer_ended")]
        return bool(kinds) and kinds[-1] == "answer_started"

    def _check_life(self) -> None:
        if self.rig.process.poll() is not None:
            raise ApplianceError(f"The appliance has ended:\n{self.rig.log[-4000:]}")


@contextlib.contextmanager
def open_stage(llm: str, seed: int) -> Iterator[Stage]:
    """Start an appliance in a room; everything is gone afterwards.

    Raises:
        ApplianceError: it did not start.
    """
    with private_appliance(overrides(llm)) as rig:
        rate_hz = rig.devices.rate_hz
        with (
            VirtualRoom(
                rig.devices.environment,
                living_room(rate_hz),
                seed,
                loudspeaker=LOUDSPEAKER,
                record=True,
            ) as room,
            BusLog(rig) as log,
        ):
            yield Stage(rig, room, log, beside_the_television(rate_hz))
