"""A turn that is over, as the panel keeps and shows it."""

from __future__ import annotations

from typing import Any, NamedTuple

from appliance.admin import speech_trace
from appliance.admin.timeline import Event
from appliance.messages import SpeechScores, TurnRecord


class FinishedTurn(NamedTuple):
    """Its record, and what else was seen of it."""

    record: TurnRecord
    wall_s: float
    """When it ended, in seconds since 1970."""
    events: tuple[Event, ...]
    played: str
    """What the loudspeaker really said."""
    level: int
    """Of service."""
    scores: tuple[SpeechScores, ...]

    def to_json(self, *, words: bool) -> dict[str, Any]:
        """The turn without its events; what was said only with ``words``."""
        record = self.record
        after_ns = record.audible_ns or record.speech_end_ns
        turn: dict[str, Any] = {
            "turn_id": record.turn_id,
            "session_id": record.session_id,
            "ended_s": round(self.wall_s, 3),
            "source": record.source,
            "outcome": record.outcome,
            "voice_to_voice_ms": round(record.voice_to_voice_ms, 1),
            "contributions_ms": {
                name: round(ms, 1) for name, ms in record.contributions_ms.items()
            },
            "marks": list(record.marks),
            "level": self.level,
            "end_of_turn_probability": record.end_of_turn_probability,
            "overlaps": [
                {
                    "kind": overlap.kind,
                    "reason": overlap.reason,
                    "onset_ms": round((overlap.onset_ns - after_ns) / 1e6, 1),
                    "lasted_ms": round((overlap.end_ns - overlap.onset_ns) / 1e6, 1),
                    "ducked_after_ms": _after(overlap.onset_ns, overlap.ducked_ns),
                    "silent_after_ms": _after(overlap.onset_ns, overlap.silent_ns),
                }
                for overlap in record.overlaps
            ],
        }
        if words:
            turn |= {"transcript": record.transcript, "reply": record.reply, "played": self.played}
        return turn

    def whole_to_json(self, *, words: bool) -> dict[str, Any]:
        """The turn with all its events and the trace of its speech."""
        record = self.record
        origin_ns = record.talker_end_ns or record.speech_end_ns or record.audible_ns
        if not origin_ns and self.events:
            origin_ns = self.events[0].at_ns
        ordered = sorted(self.events, key=lambda event: event.at_ns)
        started_ns = next((e.at_ns for e in ordered if e.kind == "speech_started"), None)
        return self.to_json(words=words) | {
            "events": [event.to_json(origin_ns, words=words) for event in ordered],
            "speech": None
            if started_ns is None
            else speech_trace.to_json(self.scores, started_ns, origin_ns),
        }


def _after(start_ns: int, end_ns: int) -> float | None:
    return round((end_ns - start_ns) / 1e6, 1) if end_ns else None
