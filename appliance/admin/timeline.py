"""What happened in a turn, event by event: the material of "why did it do that?". Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from appliance.messages import (
    AudioGap,
    Considered,
    Done,
    EndOfTurn,
    Floor,
    NearEnd,
    PartialTranscript,
    Pause,
    PlaybackDucked,
    PlaybackEnded,
    PlaybackStarted,
    Release,
    ReplyChunk,
    Restore,
    Ringing,
    ServiceLevel,
    SpeechEnded,
    SpeechPaused,
    SpeechResumed,
    SpeechStarted,
    Transcript,
    WakeWord,
)


@dataclass(frozen=True)
class Event:
    """One entry; ``kind`` is also its key in the dictionaries of the panel."""

    at_ns: int
    session_id: str
    kind: str
    value: float | None = None
    """A probability, a level, milliseconds: what the kind says."""
    note: str = ""
    """A reason or a name; no words of anybody."""
    words: str = ""
    """What somebody said: for the owner alone."""

    def to_json(self, origin_ns: int, *, words: bool) -> dict[str, Any]:
        """With its time in milliseconds after ``origin_ns``."""
        entry: dict[str, Any] = {
            "at_ms": round((self.at_ns - origin_ns) / 1e6, 1),
            "kind": self.kind,
            "value": self.value,
            "note": self.note,
        }
        return entry | {"words": self.words} if words else entry


def event_of(message: object, now_ns: int) -> Event | None:  # noqa: PLR0911, PLR0912 a table
    """The entry that a message makes; None when it makes none.

    Args:
        message: any message of the bus.
        now_ns: when it was received, for messages that carry no time of their own.
    """
    match message:
        case SpeechStarted(session_id=session, speech_start_ns=at):
            return Event(at, session, "speech_started")
        case SpeechPaused(session_id=session, speech_end_ns=at):
            return Event(at, session, "speech_paused")
        case SpeechResumed(session_id=session):
            return Event(now_ns, session, "speech_resumed")
        case SpeechEnded(session_id=session, decided_ns=at):
            return Event(at, session, "speech_ended")
        case EndOfTurn(session_id=session, decided_ns=at, probability=probability):
            return Event(at, session, "end_of_turn", value=round(probability, 3))
        case NearEnd(session_id=session, onset_ns=at, active=True):
            return Event(at, session, "near_end")
        case NearEnd(session_id=session):
            return Event(now_ns, session, "near_end_over")
        case WakeWord(session_id=session, end_ns=at, probability=probability, name=name):
            return Event(at, session, "wake_word", value=round(probability, 3), note=name)
        case PartialTranscript(session_id=session, finished_ns=at, stable=stable, tail=tail):
            return Event(at, session, "partial", words=f"{stable} {tail}".strip())
        case Transcript(session_id=session, finished_ns=at, text=text):
            return Event(
                at,
                session,
                "heard",
                value=round(message.avg_logprob, 3),
                note=message.error,
                words=text + "".join(f" [{was} → {now}]" for was, now in message.corrections),
            )
        case Considered(session_id=session, finished_ns=at, intent=intent):
            confidence = round(message.confidence, 3) if intent else None
            return Event(
                at or now_ns, session, "understood", value=confidence, note=intent or "llm"
            )
        case Done(session_id=session, reply=reply):
            return Event(now_ns, session, "done", words=reply)
        case Ringing(session_id=session, ids=ids, text=text) if ids:
            return Event(now_ns, session, "ringing", value=float(len(ids)), words=text)
        case ReplyChunk(session_id=session, index=0, first_token_ns=at, question_complete=whole):
            return Event(at, session, "first_token", value=whole, note=message.error)
        case Release(session_id=session):
            return Event(now_ns, session, "released")
        case PlaybackStarted(session_id=session, audible_ns=at):
            return Event(at, session, "playback_started")
        case PlaybackDucked(session_id=session, audible_ns=at):
            return Event(at, session, "ducked")
        case Pause(session_id=session):
            return Event(now_ns, session, "paused")
        case Restore(session_id=session):
            return Event(now_ns, session, "restored")
        case PlaybackEnded(session_id=session, ended_ns=at, interrupted=interrupted):
            kind = "playback_cut" if interrupted else "playback_ended"
            return Event(at, session, kind, note=message.error, words=message.played_text)
        case AudioGap(session_id=session, lost_ms=lost, reason=reason):
            return Event(now_ns, session, "audio_gap", value=round(lost, 1), note=reason)
        case ServiceLevel(session_id=session, since_ns=at, level=level, reason=reason):
            return Event(at, session, "service_level", value=float(level), note=reason)
        case Floor(session_id=session, since_ns=at, state=state):
            return Event(at, session, f"floor_{state}")
    return None


EVENT_KINDS = (
    "speech_started",
    "speech_paused",
    "speech_resumed",
    "speech_ended",
    "end_of_turn",
    "near_end",
    "near_end_over",
    "wake_word",
    "partial",
    "heard",
    "understood",
    "done",
    "ringing",
    "first_token",
    "released",
    "playback_started",
    "ducked",
    "paused",
    "restored",
    "playback_ended",
    "playback_cut",
    "audio_gap",
    "service_level",
    "floor_idle",
    "floor_listening",
    "floor_thinking",
    "floor_speaking",
)
"""All there are; each has a name in every dictionary."""
