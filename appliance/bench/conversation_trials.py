"""What one trial of the conversation bench comes to. Pure: events and recordings in, verdicts out.

Times are CLOCK_MONOTONIC nanoseconds of the virtual room: sound at the first microphone, sound at
the loudspeaker. What the appliance says about itself is kept beside it, never in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from appliance.audio.blocks import RATE_HZ
from appliance.bench.conversation_measures import (
    Playing,
    active_end,
    audible_at,
    ducked_ms,
    longest_gap_ms,
    silent_ms,
    words_heard,
)
from appliance.bench.dialogues import Saying
from appliance.loopback.room import RoomEvent
from appliance.messages import PlaybackDucked, TurnRecord

SAME_SOUND_NS = 500_000_000
"""The appliance's and the room's time of one answer's beginning differ by less."""
_EARLY_NS = 150_000_000
"""A turn that ends so long before its speaker does was cut; closer is the VAD's inaccuracy."""
UNDERSTOOD = 0.7
"""So many of the words, and the answer is to the question that was asked."""
OBEYED_WITHIN_MS = 1_000.0
"""After the end of the words that interrupt: still talking then is not obeying."""
_REFLEX_BOUND_MS = 2_000.0
"""A duck that comes later has another cause."""
STOPPED_MS = 1_000.0
"""A silence of this length is no gap in an answer but its end."""


@dataclass(frozen=True)
class Asked:
    """A question and what became of it."""

    name: str
    kind: str
    pause_ms: float
    acoustic_ms: float | None
    """End of the last word to the first audible sample of the answer; None without an answer."""
    cut_off: bool
    """An answer was heard, or the turn was taken for complete, before its speaker had finished."""
    words: float
    """Share of the words that reached one transcript."""
    outcome: str = ""
    contributions_ms: dict[str, float] = field(default_factory=dict)
    """The appliance's own account of `acoustic_ms`."""
    active_ms: float | None = None
    """As `acoustic_ms`, from the end of active speech on: what the account is held against."""
    speech_end_error_ms: float | None = None
    """The end of active speech by the appliance's account minus that in the air."""
    audible_error_ms: float | None = None
    """The same of the answer's first sound."""
    end_of_turn_probability: float | None = None
    marks: tuple[str, ...] = ()
    intact: bool = True
    """The sound server lost nothing of the question."""

    @property
    def ledger_error_ms(self) -> float | None:
        """The sum of the contributions minus `active_ms`."""
        return self._error_ms(self.acoustic_ms if self.active_ms is None else self.active_ms)

    @property
    def last_sound_error_ms(self) -> float | None:
        """The sum of the contributions minus `acoustic_ms`."""
        return self._error_ms(self.acoustic_ms)

    def _error_ms(self, truth_ms: float | None) -> float | None:
        if truth_ms is None or not self.contributions_ms:
            return None
        return sum(self.contributions_ms.values()) - truth_ms


def asked(
    saying: Saying, near: RoomEvent, events: Sequence[RoomEvent], turns: Sequence[TurnRecord]
) -> Asked:
    """Judge one question.

    Args:
        saying: what was asked.
        near: its event in the room.
        events: of the room, from the question until all was quiet again.
        turns: that ended meanwhile.
    """
    spoken = [turn for turn in turns if turn.source == "speech"]
    starts = [event.at_ns for event in events if event.kind == "answer_started"]
    over_ns = near.speech_end_ns - _EARLY_NS
    if saying.resumes_at:
        over_ns = near.at_ns + saying.resumes_at * 1_000_000_000 // RATE_HZ
    cut_off = any(near.speech_start_ns < at_ns < near.speech_end_ns for at_ns in starts) or any(
        near.speech_start_ns < turn.speech_end_ns < over_ns
        for turn in spoken
        if turn.outcome in ("answered", "interrupted")
    )
    after = [at_ns for at_ns in starts if at_ns >= near.speech_end_ns]
    record = None
    if after and spoken:
        closest = min(spoken, key=lambda turn: abs(turn.audible_ns - after[0]))
        if abs(closest.audible_ns - after[0]) < SAME_SOUND_NS:
            record = closest
    active_end_ns = near.at_ns + active_end(saying.samples) * 1_000_000_000 // RATE_HZ
    return Asked(
        name=saying.name,
        kind=saying.kind,
        pause_ms=round(saying.pause_ms),
        acoustic_ms=(after[0] - near.speech_end_ns) / 1e6 if after else None,
        cut_off=cut_off,
        words=max((words_heard(saying.text, turn.transcript) for turn in spoken), default=0.0),
        outcome=record.outcome if record else ",".join(turn.outcome for turn in spoken),
        contributions_ms=dict(record.contributions_ms) if record else {},
        active_ms=_ms(after[0] - active_end_ns) if after else None,
        speech_end_error_ms=_ms((record.talker_end_ns or record.speech_end_ns) - active_end_ns)
        if record
        else None,
        audible_error_ms=_ms(record.audible_ns - after[0]) if record else None,
        end_of_turn_probability=record.end_of_turn_probability if record else None,
        marks=record.marks if record else (),
        intact=near.intact,
    )


def _ms(duration_ns: int) -> float:
    return round(duration_ns / 1e6, 3)


@dataclass(frozen=True)
class SpokenOver:
    """An answer over which somebody made a sound."""

    near: RoomEvent
    """The sound."""
    started_ns: int
    """When the answer began to be heard."""
    playing: Playing
    """The loudspeaker, from before the onset until well after the sound."""
    turns: Sequence[TurnRecord]
    """That ended from the answer on, the answer's own first."""
    ducks: Sequence[PlaybackDucked] = ()
    """Of the appliance in that time."""
    generated: bool = False
    """The answer was written by the language model meanwhile, not only spoken."""

    @property
    def into_answer_ms(self) -> float:
        """From the answer's beginning to the onset."""
        return round((self.near.speech_start_ns - self.started_ns) / 1e6, 1)

    @property
    def outcome(self) -> str:
        """Of the turns, as the appliance has them."""
        return ",".join(turn.outcome for turn in self.turns)


@dataclass(frozen=True)
class Interrupted:
    """Words that shall end an answer, and whether they did."""

    name: str
    kind: str
    into_answer_ms: float
    generated: bool
    """The answer was written by the language model meanwhile, not only spoken."""
    valid: bool
    """The answer was being heard when the words began."""
    ducked_ms: float | None = None
    """Onset of the words to 10 dB lower; None: never, or nobody can tell. It is the later of what
    was heard and what the appliance says, for a gap between two words looks like a duck."""
    silent_ms: float | None = None
    """Onset of the words to the last audible sample."""
    obeyed: bool = False
    answered: bool | None = None
    """Where they ask something: an answer to it followed."""
    reported_ducked_ms: float | None = None
    """The same as `ducked_ms` by the appliance's own account."""
    ducks_before: int = 0
    """Times that the answer had been lowered before anybody made a sound."""
    outcome: str = ""


def interrupted(saying: Saying, over: SpokenOver) -> Interrupted:
    """Judge one interruption."""
    near, playing, turns = over.near, over.playing, over.turns
    onset_ns = near.speech_start_ns
    if not audible_at(playing, onset_ns):
        return Interrupted(
            saying.name,
            saying.kind,
            over.into_answer_ms,
            over.generated,
            False,
            outcome=over.outcome,
        )
    silence = silent_ms(playing, onset_ns)
    talk_ms = (near.speech_end_ns - onset_ns) / 1e6
    reported_ms, before = _reported_duck(over, until_ms=silence)
    heard_ms = ducked_ms(playing, onset_ns)
    answered = None
    if saying.kind == "redirect":
        answered = any(
            turn.source == "speech"
            and turn.outcome == "answered"
            and turn.speech_end_ns > onset_ns
            and turn.audible_ns > near.speech_end_ns
            for turn in turns
        )
    return Interrupted(
        saying.name,
        saying.kind,
        over.into_answer_ms,
        over.generated,
        True,
        ducked_ms=None if heard_ms is None else max(heard_ms, reported_ms or 0.0) or None,
        silent_ms=silence,
        obeyed=silence is not None
        and silence <= talk_ms + OBEYED_WITHIN_MS
        and answered is not False,
        answered=answered,
        reported_ducked_ms=reported_ms,
        ducks_before=before,
        outcome=over.outcome,
    )


def _reported_duck(over: SpokenOver, until_ms: float | None) -> tuple[float | None, int]:
    """The appliance's own time from the onset to its duck, and how many ducks were before that."""
    onset_ns = over.near.speech_start_ns
    times_ms = [(duck.audible_ns - onset_ns) / 1e6 for duck in over.ducks]
    since = [time_ms for time_ms in times_ms if 0 < time_ms <= (until_ms or _REFLEX_BOUND_MS)]
    started_ms = (over.started_ns - onset_ns) / 1e6
    return min(since, default=None), sum(started_ms < time_ms <= 0 for time_ms in times_ms)


@dataclass(frozen=True)
class Passing:
    """A sound that shall not end an answer, and whether it did."""

    name: str
    kind: str
    into_answer_ms: float
    valid: bool
    """The answer was being heard when the sound began, and would have gone on long enough."""
    stopped: bool = False
    lowered: bool = False
    """It became 10 dB lower for 300 ms or more."""
    gap_ms: float = 0.0
    """The longest silence between the onset and 1.5 s after the sound; natural pauses count too."""
    outcome: str = ""
    classes: tuple[str, ...] = ()
    """What the appliance took it for."""


def passing(saying: Saying, over: SpokenOver) -> Passing:
    """Judge one sound; the recording ends before the answer would have ended by itself."""
    near, playing, turns = over.near, over.playing, over.turns
    onset_ns = near.speech_start_ns
    if not audible_at(playing, onset_ns):
        return Passing(saying.name, saying.kind, over.into_answer_ms, False, outcome=over.outcome)
    return Passing(
        saying.name,
        saying.kind,
        over.into_answer_ms,
        True,
        stopped=silent_ms(playing, onset_ns, STOPPED_MS) is not None,
        lowered=bool(ducked_ms(playing, onset_ns)),
        gap_ms=round(longest_gap_ms(playing, onset_ns, near.speech_end_ns + 1_500_000_000), 1),
        outcome=over.outcome,
        classes=tuple(overlap.kind for turn in turns for overlap in turn.overlaps),
    )


@dataclass(frozen=True)
class Alone:
    """The appliance spoke and nobody was there."""

    minutes: float
    """Of its own speech."""
    ducks: int
    stops: int
    speech_started: int
    near_ends: int
    turns_of_nobody: int


@dataclass(frozen=True)
class Endured:
    """A long sound that is no question, and whether the appliance came back to listening."""

    name: str
    seconds: float
    turns: dict[str, int]
    """By outcome."""
    words: float
    """Share of what was said that is in the transcripts, in order."""
    back_after_s: float | None
    """From its end until all was quiet and the floor free; None: not within the bound."""
