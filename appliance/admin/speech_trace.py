"""How likely a turn's sound was speech: collected from vad's messages, and drawn. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from appliance.admin.charts import HEIGHT, WIDTH
from appliance.messages import SpeechScores

_CERTAIN = 255
_FRAMES_KEPT = 1_000
"""Of a session, 32 s; the oldest messages beyond go."""
_SESSIONS_KEPT = 32
_OVERLAP_NS = 100_000_000
"""Times of captured sound are estimates: by less than this a message may reach into another."""
_BEFORE_SPEECH_NS = 500_000_000
_MARGIN = 4.0
"""Above and below the curve: its line is not cut off."""


class SpeechTraces:
    """What vad has told of each session since its last turn; bounded."""

    def __init__(self) -> None:
        self._told: dict[str, deque[SpeechScores]] = {}

    def note(self, message: SpeechScores) -> None:
        """Take a message; a vad that was restarted tells some of it again, which then counts."""
        if not message.scores:
            return
        told = self._told.pop(message.session_id, deque())
        while told and told[-1].end_ns - _OVERLAP_NS > _begin_ns(message):
            told.pop()
        told.append(message)
        while len(told) > 1 and sum(len(part.scores) for part in told) > _FRAMES_KEPT:
            told.popleft()
        self._told[message.session_id] = told
        if len(self._told) > _SESSIONS_KEPT:
            del self._told[next(iter(self._told))]

    def take(self, session_id: str) -> tuple[SpeechScores, ...]:
        """What there is of a turn that is over."""
        return tuple(self._told.pop(session_id, ()))


def _begin_ns(message: SpeechScores) -> int:
    return message.end_ns - _frames_ns(message, len(message.scores))


def _frames_ns(message: SpeechScores, frames: int) -> int:
    return int(frames * message.frame_ms * 1e6)


def to_json(
    told: Sequence[SpeechScores], speech_start_ns: int, origin_ns: int
) -> dict[str, Any] | None:
    """The turn's part of it, with times in milliseconds after ``origin_ns``; None without any.

    Args:
        told: in order.
        speech_start_ns: what lies long before is left out.
        origin_ns: of the turn.
    """
    from_ns = speech_start_ns - _BEFORE_SPEECH_NS
    parts = []
    for message in told:
        begin_ns = _begin_ns(message)
        frame_ns = _frames_ns(message, 1)
        skipped = max(0, -((begin_ns - from_ns) // frame_ns)) if frame_ns else 0
        values = [round(score / _CERTAIN, 2) for score in message.scores[skipped:]]
        if values:
            at_ns = begin_ns + skipped * frame_ns
            parts.append({"at_ms": round((at_ns - origin_ns) / 1e6, 1), "values": values})
    if not parts:
        return None
    return {
        "frame_ms": told[-1].frame_ms,
        "start_threshold": told[-1].start_threshold,
        "stop_threshold": told[-1].stop_threshold,
        "parts": parts,
    }


@dataclass(frozen=True)
class Pause:
    """A silence in the turn, as a part of the drawing's width."""

    from_ms: float
    to_ms: float
    x: float
    width: float


@dataclass(frozen=True)
class Drawing:
    """What the template puts into SVG, ``WIDTH`` by ``HEIGHT``; higher is likelier."""

    curves: tuple[str, ...]
    """Points of polylines; what nobody knows lies between them."""
    start_y: float
    stop_y: float
    pauses: tuple[Pause, ...]
    decided_x: tuple[float, ...]
    """Where the end of the turn was judged by its sound."""
    from_ms: float
    to_ms: float
    speech_ms: float
    """How much was at or above the threshold at which speech begins."""


def drawing(
    speech: Mapping[str, Any] | None, events: Sequence[Mapping[str, Any]]
) -> Drawing | None:
    """The picture of a turn; None when nothing is known.

    Args:
        speech: as `to_json` makes it.
        events: of the turn, in order of time.
    """
    if not speech:
        return None
    parts: list[dict[str, Any]] = speech["parts"]
    frame_ms: float = speech["frame_ms"]
    from_ms: float = parts[0]["at_ms"]
    to_ms: float = max(part["at_ms"] + frame_ms * len(part["values"]) for part in parts)
    scale = WIDTH / max(to_ms - from_ms, frame_ms)

    def x(at_ms: float) -> float:
        return round(min(max((at_ms - from_ms) * scale, 0.0), WIDTH), 1)

    def y(value: float) -> float:
        return round(HEIGHT - _MARGIN - value * (HEIGHT - 2 * _MARGIN), 1)

    return Drawing(
        curves=tuple(
            " ".join(
                f"{x(part['at_ms'] + (index + 0.5) * frame_ms)},{y(value)}"
                for index, value in enumerate(part["values"])
            )
            for part in parts
        ),
        start_y=y(speech["start_threshold"]),
        stop_y=y(speech["stop_threshold"]),
        pauses=tuple(
            Pause(begin, end, x(begin), round(x(end) - x(begin), 1))
            for begin, end in _pauses(events, to_ms)
            if from_ms <= begin < end
        ),
        decided_x=tuple(
            x(event["at_ms"])
            for event in events
            if event["kind"] == "end_of_turn" and from_ms <= event["at_ms"] <= to_ms
        ),
        from_ms=from_ms,
        to_ms=round(to_ms, 1),
        speech_ms=frame_ms
        * sum(v >= speech["start_threshold"] for part in parts for v in part["values"]),
    )


def _pauses(events: Sequence[Mapping[str, Any]], to_ms: float) -> list[tuple[float, float]]:
    """From each end of speech to the next speech, or to the end of the picture."""
    pauses: list[tuple[float, float]] = []
    begun_ms: float | None = None
    for event in events:
        if event["kind"] == "speech_paused" and begun_ms is None:
            begun_ms = event["at_ms"]
        elif event["kind"] in ("speech_resumed", "speech_started") and begun_ms is not None:
            pauses.append((begun_ms, event["at_ms"]))
            begun_ms = None
    if begun_ms is not None:
        pauses.append((begun_ms, to_ms))
    return pauses
