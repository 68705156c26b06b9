"""What the panel knows: messages of the bus in, one bounded picture out. No I/O, no clock.

Written by the bus loop, read by the web server's thread; every method takes the lock for a
moment only.
"""

from __future__ import annotations

import math
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from appliance.admin import latency
from appliance.admin.finished import FinishedTurn
from appliance.admin.latency import Histogram
from appliance.admin.speech_trace import SpeechTraces
from appliance.admin.timeline import Event, event_of
from appliance.health import Board
from appliance.messages import (
    LOCAL_SESSION,
    AudioGap,
    Floor,
    FrontEndReport,
    Heartbeat,
    MuteState,
    PartialTranscript,
    PlaybackEnded,
    ServiceLevel,
    SpeechScores,
    TurnRecord,
)
from appliance.processes import PROCESSES, ProcessSpec

_T = TypeVar("_T")
TURNS_KEPT = 200
EVENTS_KEPT = 400
_SESSIONS_KEPT = 32
_STEPS_KEPT = 50
_BLOCK_MS = 10
"""Of every ring."""
_FLOOR_BOUND_NS = 300 * 1_000_000_000
"""Nobody speaks for so long without a change: whoever had the floor has gone."""
_UTTERANCES_KEPT = 64


class View:
    """The picture.

    Args:
        processes: the table whose heartbeats are expected.
    """

    def __init__(self, processes: Mapping[str, ProcessSpec] = PROCESSES) -> None:
        self._processes = processes
        self._board = Board(processes)
        self._lock = threading.Lock()
        self._floors: dict[str, Floor] = {}
        self._mute: MuteState | None = None
        self._front_end: FrontEndReport | None = None
        self._level: ServiceLevel | None = None
        self._caption: dict[str, Any] = {"stable": "", "tail": ""}
        self._events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self._played: dict[str, str] = {}
        self._traces = SpeechTraces()
        self._turns: deque[FinishedTurn] = deque(maxlen=TURNS_KEPT)
        self.outcomes: Counter[tuple[str, str]] = Counter()
        """Turns by source and outcome since the start."""
        self.overlaps: Counter[str] = Counter()
        """Sounds over an answer by kind since the start."""
        self.marks: Counter[str] = Counter()
        self.lost_audio_ms = 0.0
        self.gaps = 0
        self._floor_changed_ns = 0
        self._conductor_life = 0
        self._steps: deque[tuple[ServiceLevel, float]] = deque(maxlen=_STEPS_KEPT)
        self._writers: dict[str, str] = {}
        """Who writes each ring that there is, by its label."""
        self._starting: dict[str, int] = {}
        self._start_ms: dict[str, float] = {}
        self.histograms: dict[str, Histogram] = {}
        """By contribution, and ``voice_to_voice``; answered spoken turns only."""

    # --- in ---------------------------------------------------------------------------------

    def note(self, message: object, now_ns: int, wall_s: float) -> str:
        """Take a message of the bus.

        Args:
            message: any; unknown ones are ignored.
            now_ns: CLOCK_MONOTONIC.
            wall_s: seconds since 1970, for people.

        Returns:
            What changed: ``figures`` (slowly), ``state`` (at once), ``turn``, ``words`` or nothing.
        """
        with self._lock:
            changed = self._take(message, now_ns, wall_s)
            if event := event_of(message, now_ns):
                self._events.append(event)
        return changed

    def _take(self, message: object, now_ns: int, wall_s: float) -> str:  # noqa: PLR0911 a table
        match message:
            case Heartbeat():
                self._board.note(message, now_ns)
                self._note_life(message, now_ns)
                return "figures"
            case FrontEndReport():
                self._front_end = message
                return "figures"
            case MuteState():
                changed = self._mute != message
                self._mute = message
                return "state" if changed else ""
            case Floor():
                before = self._floors.pop(message.session_id, None)
                if before is None or before.state != message.state:
                    self._floor_changed_ns = now_ns
                _keep(self._floors, message.session_id, message, _SESSIONS_KEPT)
                return "state"
            case ServiceLevel():
                if self._level is None or self._level.level != message.level:
                    self._steps.append((message, wall_s))
                self._level = message
                return "state"
            case AudioGap(lost_ms=lost_ms):
                self.gaps += 1
                self.lost_audio_ms += lost_ms
                return "figures"
            case PartialTranscript(stable=stable, tail=tail):
                self._caption = {"stable": stable, "tail": tail}
                return "words"
            case SpeechScores():
                self._traces.note(message)
            case PlaybackEnded(utterance_id=utterance_id, played_text=text):
                _keep(self._played, utterance_id, text, _UTTERANCES_KEPT)
            case TurnRecord():
                self._finish(message, wall_s)
                return "turn"
        return ""

    def _note_life(self, beat: Heartbeat, now_ns: int) -> None:
        label = f"{beat.process}.{beat.instance}"
        if beat.process == "conductor" and beat.life != self._conductor_life:
            self._conductor_life = beat.life
            self._floors.clear()  # its successor tells them anew
        spec = self._processes.get(beat.process)
        name = label if spec and spec.instances > 1 else beat.process
        # a standby names no ring of its own; one that is closed is not named any more
        self._writers = {
            r: who for r, who in self._writers.items() if who != name or r in beat.rings
        }
        if beat.state != "standby":
            self._writers |= dict.fromkeys(beat.rings, name)
        if beat.state == "starting":
            self._starting[label] = beat.life
        elif self._starting.pop(label, None) == beat.life:  # it was seen to become ready
            self._start_ms[beat.process] = (now_ns - beat.life) / 1e6

    def _finish(self, record: TurnRecord, wall_s: float) -> None:
        session = record.session_id
        events = tuple(event for event in self._events if event.session_id == session)
        self._events = deque((e for e in self._events if e.session_id != session), EVENTS_KEPT)
        played = [self._played.pop(name, "") for name in record.utterance_ids]
        level = self._level.level if self._level else 0
        said = " ".join(filter(None, played))
        scores = self._traces.take(session)
        self._turns.append(FinishedTurn(record, wall_s, events, said, level, scores))
        self._caption = {"stable": "", "tail": ""}
        self.outcomes[record.source, record.outcome] += 1
        self.marks.update(record.marks)
        self.overlaps.update(overlap.kind for overlap in record.overlaps)
        if latency.is_measured(record):
            for name, ms in latency.parts_of(record).items():
                self.histograms.setdefault(name, Histogram()).add(ms)

    # --- out --------------------------------------------------------------------------------

    def health(self, now_ns: int) -> dict[str, Any]:
        """The state of every process, the floor and the last turn, without words."""
        with self._lock:
            turn = self._turns[-1].record if self._turns else None
            health: dict[str, Any] = _finite(self._board.snapshot(now_ns))
            return health | {
                "floor": self._floor(),
                "last_turn": None
                if turn is None
                else {
                    "turn_id": turn.turn_id,
                    "outcome": turn.outcome,
                    "voice_to_voice_ms": turn.voice_to_voice_ms,
                    "contributions_ms": turn.contributions_ms,
                    "marks": turn.marks,
                },
            }

    def snapshot(self, now_ns: int) -> dict[str, Any]:
        """Everything for the overview, ready for JSON, without words."""
        with self._lock:
            board: dict[str, Any] = _finite(self._board.snapshot(now_ns))
            mute, level = self._mute, self._level
            muted = bool(mute and (mute.hardware or mute.software))
            degraded = bool(level and level.level) or any(
                entry["state"] in ("degraded", "silent") for entry in board["processes"].values()
            )
            doing = "muted" if muted else self._floor()
            return board | {
                "state": doing if board["ready"] else "not_ready",
                "degraded": degraded,
                "sessions": {name: floor.state for name, floor in self._floors.items()},
                "mute": {
                    "hardware": bool(mute and mute.hardware),
                    "software": bool(mute and mute.software),
                },
                "level": None
                if level is None
                else {
                    "level": level.level,
                    "reason": level.reason,
                    "asr_model": level.asr_model,
                    "llm_model": level.llm_model,
                },
                "front_end": _finite(self._front_end_json()),
                "rings": self._rings_json(board["processes"]),
                "losses": {"audio_gaps": self.gaps, "lost_ms": round(self.lost_audio_ms, 1)},
                "turns": len(self._turns),
                "last_turn_id": self._turns[-1].record.turn_id if self._turns else "",
            }

    def active_instance(self, process: str) -> int | None:
        """Which instance does the work now; None when none is known to."""
        with self._lock:
            return self._board.active_instance(process)

    def quiet_ns(self, now_ns: int) -> int:
        """For how long nobody has had the floor in any session; 0 while somebody has."""
        with self._lock:
            since_ns = now_ns - self._floor_changed_ns
            held = any(floor.state != "idle" for floor in self._floors.values())
            return 0 if held and since_ns < _FLOOR_BOUND_NS else since_ns

    def start_ms(self, process: str) -> float | None:
        """How long a process took to start, the last time that it was seen to."""
        with self._lock:
            return self._start_ms.get(process)

    def _floor(self) -> str:
        floor = self._floors.get(LOCAL_SESSION)
        return floor.state if floor else "idle"

    def _rings_json(self, processes: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
        """Each ring that there is: what its readers lost, and had not read yet at their worst."""
        rings = []
        for ring, writer in sorted(self._writers.items()):
            readers = {}
            for label, entry in processes.items():
                spec = self._processes[label.split(".", maxsplit=1)[0]]
                counters = entry.get("counters", {})
                if ring in spec.reads_rings and entry["state"] != "standby" and counters:
                    unread = counters.get("unread_blocks")
                    readers[label] = {
                        "lost_blocks": counters.get("lost_blocks"),
                        "unread_ms": None if unread is None else _BLOCK_MS * unread,
                    }
            rings.append({"ring": ring, "writer": writer, "readers": readers})
        return rings

    def steps(self) -> list[dict[str, Any]]:
        """The optimiser's steps, the newest first: when, to what, and why."""
        with self._lock:
            return [
                {
                    "at_s": round(wall_s, 3),
                    "level": step.level,
                    "reason": step.reason,
                    "asr_model": step.asr_model,
                    "llm_model": step.llm_model,
                    "history_turns": step.history_turns,
                }
                for step, wall_s in reversed(self._steps)
            ]

    def _front_end_json(self) -> dict[str, Any] | None:
        report = self._front_end
        if report is None:
            return None
        return {
            "erle_linear_db": report.erle_linear_db,
            "erle_final_db": report.erle_final_db,
            "delay_ms": report.delay_ms,
            "drift_ppm": report.drift_ppm,
            "near_end_dbfs": report.near_end_dbfs,
            "far_end_dbfs": report.far_end_dbfs,
            "clipped_share": report.clipped_share,
            "direction_deg": report.direction_deg,
            "block_p99_ms": report.block_p99_ms,
            "xruns": report.xruns,
            "faults": report.faults,
            "channels": [
                {"level_dbfs": channel.level_dbfs, "health": channel.health}
                for channel in report.channels
            ],
        }

    def caption(self) -> dict[str, Any]:
        """What is being said right now: for the owner alone."""
        with self._lock:
            return dict(self._caption)

    def turns(self, limit: int = TURNS_KEPT, *, words: bool) -> list[dict[str, Any]]:
        """The last turns, the newest first, without their events."""
        with self._lock:
            chosen = list(self._turns)[-limit:] if limit > 0 else []
        return [turn.to_json(words=words) for turn in reversed(chosen)]

    def turn(self, turn_id: str, *, words: bool) -> dict[str, Any] | None:
        """One turn with all its events; None when it is not (or no longer) known."""
        with self._lock:
            found = next((t for t in reversed(self._turns) if t.record.turn_id == turn_id), None)
        return None if found is None else found.whole_to_json(words=words)

    def latency(self) -> dict[str, dict[str, Any]]:
        """p50 and p95 in milliseconds of every contribution over the turns that are kept."""
        return latency.contributions(self._measured())

    def against_thresholds(self) -> dict[str, dict[str, Any]]:
        """p50 and p95 of what the thresholds of the specification are about."""
        return latency.against_thresholds(self._measured())

    def trends(self) -> dict[str, dict[str, Any]]:
        """Latency over time, oldest first: p50 and p95 of the last turns before each, per stage."""
        return latency.trends(self._measured())

    def _measured(self) -> list[TurnRecord]:
        with self._lock:
            return [turn.record for turn in self._turns if latency.is_measured(turn.record)]

    def read(self, reader: Callable[[View], _T]) -> _T:
        """Call ``reader`` while nothing changes: for the counters above."""
        with self._lock:
            return reader(self)


def _finite(value: Any) -> Any:  # noqa: ANN401 whatever JSON can be
    """The same without what JSON cannot say: infinite and undefined numbers become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    return [_finite(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def _keep(table: dict[str, _T], key: str, value: _T, most: int) -> None:
    table[key] = value
    if len(table) > most:
        del table[next(iter(table))]
