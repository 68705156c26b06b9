"""Figures of the conversation bench: pooled from its trials and held against what they must reach.

Pure. A figure that no trial speaks of is None and neither passed nor missed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from appliance.bench.conversation_measures import percentile, share_percent
from appliance.bench.conversation_trials import (
    UNDERSTOOD,
    Alone,
    Asked,
    Endured,
    Interrupted,
    Passing,
)
from appliance.bench.sequential import SequentialTurn

LEDGER_WITHIN_MS = 20.0
Figures = dict[str, float | None]


@dataclass(frozen=True)
class Target:
    """What a figure must reach."""

    figure: str
    required: float
    aim: float
    at_least: bool = False


TARGETS = (
    Target("voice_to_voice_p50_ms", 650, 400),
    Target("voice_to_voice_p95_ms", 1200, 1200),
    Target("ratio_to_sequential_p50", 0.4, 0.25),
    Target("ledger_within_20_ms_percent", 95, 95, at_least=True),
    Target("cut_off_in_pause_percent", 8, 3),
    Target("ducked_p95_ms", 200, 100),
    Target("silent_p95_ms", 450, 250),
    Target("interruptions_obeyed_percent", 95, 99, at_least=True),
    Target("backchannels_stopped_percent", 8, 2),
    Target("self_interruptions", 0, 0),
)


@dataclass
class Trials:
    """All that was played in one run."""

    questions: list[Asked] = field(default_factory=list)
    sequential: list[SequentialTurn] = field(default_factory=list)
    pauses: list[Asked] = field(default_factory=list)
    interruptions: list[Interrupted] = field(default_factory=list)
    sounds: list[Passing] = field(default_factory=list)
    television: list[Asked] = field(default_factory=list)
    alone: list[Alone] = field(default_factory=list)
    endured: list[Endured] = field(default_factory=list)
    afterwards: list[Asked] = field(default_factory=list)
    """A question after all that."""


def figures(trials: Trials) -> Figures:
    """Every figure, flat, units in the names."""
    return {
        **_questions(trials.questions),
        **_sequential(trials.questions, trials.sequential),
        **_pauses(trials.pauses),
        **_interruptions(trials.interruptions),
        **_sounds(trials.sounds),
        **_television(trials.television),
        **_alone(trials.alone),
        **_endured(trials.endured),
        **({"words_afterwards_percent": _words(trials.afterwards)} if trials.endured else {}),
    }


def judged(values: Figures) -> list[dict[str, Any]]:
    """The targets with what was reached; ``passed`` is None where nothing was measured."""
    rows = []
    for target in TARGETS:
        value = values.get(target.figure)
        passed = None
        if value is not None:
            passed = value >= target.required if target.at_least else value <= target.required
        rows.append({**asdict(target), "value": value, "passed": passed})
    return rows


def _questions(trials: Sequence[Asked]) -> Figures:
    if not trials:
        return {}
    times = _times(trials)
    errors = [error for trial in trials if (error := trial.ledger_error_ms) is not None]
    result: Figures = {
        "questions_asked": len(trials),
        "questions_answered_percent": _share(
            t.acoustic_ms is not None and "lost" not in t.outcome for t in trials
        ),
        "questions_cut_off_percent": _share(t.cut_off for t in trials),
        "questions_understood_percent": _share(t.words >= UNDERSTOOD for t in trials),
        "voice_to_voice_p50_ms": percentile(times, 50),
        "voice_to_voice_p95_ms": percentile(times, 95),
        "voice_to_voice_min_ms": percentile(times, 0),
        "ledger_minus_acoustic_p50_ms": percentile(errors, 50),
        "ledger_speech_end_error_p50_ms": _p50(t.speech_end_error_ms for t in trials),
        "ledger_audible_error_p50_ms": _p50(t.audible_error_ms for t in trials),
        "ledger_within_20_ms_percent": _share(abs(e) <= LEDGER_WITHIN_MS for e in errors),
        "ledger_last_sound_within_20_ms_percent": _share(
            abs(error) <= LEDGER_WITHIN_MS
            for trial in trials
            if (error := trial.last_sound_error_ms) is not None
        ),
    }
    for stage in _stages(trials):
        values = [t.contributions_ms.get(stage, 0.0) for t in trials if t.contributions_ms]
        result[f"{stage}_p50_ms"] = percentile(values, 50)
    return result


def _sequential(questions: Sequence[Asked], baseline: Sequence[SequentialTurn]) -> Figures:
    """The ratio is that of the medians, over the questions that both answered."""
    if not baseline:
        return {}
    ours = {t.name: t.acoustic_ms for t in questions if t.acoustic_ms is not None}
    theirs = {turn.name: turn.voice_to_voice_ms for turn in baseline}
    both = sorted(ours.keys() & theirs.keys())
    result: Figures = {
        "sequential_p50_ms": percentile(list(theirs.values()), 50),
        "sequential_p95_ms": percentile(list(theirs.values()), 95),
        "ratio_to_sequential_p50": None,
    }
    our_p50 = percentile([ours[name] for name in both], 50)
    their_p50 = percentile([theirs[name] for name in both], 50)
    if our_p50 and their_p50:
        result["ratio_to_sequential_p50"] = round(our_p50 / their_p50, 3)
    for stage in baseline[0].contributions_ms:
        result[f"sequential_{stage}_p50_ms"] = percentile(
            [turn.contributions_ms[stage] for turn in baseline], 50
        )
    return result


def _pauses(trials: Sequence[Asked]) -> Figures:
    if not trials:
        return {}
    return {
        "pauses": len(trials),
        "cut_off_in_pause_percent": _share(t.cut_off for t in trials),
        "cut_off_in_pause_below_800_ms_percent": _share(
            t.cut_off for t in trials if t.pause_ms < 800
        ),
        "cut_off_in_pause_from_800_ms_percent": _share(
            t.cut_off for t in trials if t.pause_ms >= 800
        ),
        "after_pause_voice_to_voice_p50_ms": percentile(
            _times([t for t in trials if not t.cut_off]), 50
        ),
    }


def _interruptions(trials: Sequence[Interrupted]) -> Figures:
    if not trials:
        return {}
    valid = [t for t in trials if t.valid]
    ducked = [t.ducked_ms for t in valid if t.ducked_ms is not None]
    silent = [t.silent_ms for t in valid if t.silent_ms is not None and t.obeyed]
    reported = [t.reported_ducked_ms for t in valid if t.reported_ducked_ms is not None]
    return {
        "interruptions": len(valid),
        "interruptions_obeyed_percent": _share(t.obeyed for t in valid),
        "interruptions_ducked_percent": _share(t.ducked_ms is not None for t in valid),
        "ducked_before_percent": _share(t.ducks_before for t in valid),
        "ducked_p50_ms": percentile(ducked, 50),
        "ducked_p95_ms": percentile(ducked, 95),
        "ducked_reported_p50_ms": percentile(reported, 50),
        "ducked_reported_p95_ms": percentile(reported, 95),
        "silent_p50_ms": percentile(silent, 50),
        "silent_p95_ms": percentile(silent, 95),
        "new_question_answered_percent": _share(
            t.answered for t in valid if t.answered is not None
        ),
    }


def _sounds(trials: Sequence[Passing]) -> Figures:
    if not trials:
        return {}
    valid = [t for t in trials if t.valid]
    gaps = [t.gap_ms for t in valid if not t.stopped]
    return {
        "sounds": len(valid),
        "backchannels_stopped_percent": _share(t.stopped for t in valid if t.kind == "backchannel"),
        "noises_stopped_percent": _share(t.stopped for t in valid if t.kind == "noise"),
        "sounds_lowered_percent": _share(t.lowered for t in valid),
        "gap_after_sound_p50_ms": percentile(gaps, 50),
        "gap_after_sound_p95_ms": percentile(gaps, 95),
    }


def _television(trials: Sequence[Asked]) -> Figures:
    if not trials:
        return {}
    return {
        "television_questions": len(trials),
        "television_answered_right_percent": _share(
            t.words >= UNDERSTOOD and t.acoustic_ms is not None for t in trials
        ),
        "television_cut_off_percent": _share(t.cut_off for t in trials),
    }


def _alone(trials: Sequence[Alone]) -> Figures:
    if not trials:
        return {}
    return {
        "alone_minutes": sum(t.minutes for t in trials),
        "alone_ducks": sum(t.ducks for t in trials),
        "alone_speech_started": sum(t.speech_started for t in trials),
        "self_interruptions": sum(t.stops for t in trials),
        "alone_turns": sum(t.turns_of_nobody for t in trials),
    }


def _endured(trials: Sequence[Endured]) -> Figures:
    result: Figures = {}
    for trial in trials:
        result[f"{trial.name}_turns"] = sum(trial.turns.values())
        result[f"{trial.name}_back_after_s"] = trial.back_after_s
        if trial.words:
            result[f"{trial.name}_words_percent"] = round(100 * trial.words, 1)
    return result


def _words(trials: Sequence[Asked]) -> float:
    """Of a question after all that, 0 without an answer."""
    return round(100 * max((t.words for t in trials if t.acoustic_ms is not None), default=0.0), 1)


def _times(trials: Sequence[Asked]) -> list[float]:
    return [trial.acoustic_ms for trial in trials if trial.acoustic_ms is not None]


def _p50(values: Iterable[float | None]) -> float | None:
    return percentile([value for value in values if value is not None], 50)


def _stages(trials: Sequence[Asked]) -> list[str]:
    """Names of the contributions in the order in which they come."""
    return list(dict.fromkeys(stage for trial in trials for stage in trial.contributions_ms))


def _share(hits: Iterable[object]) -> float | None:
    """Of an iterable of truths, those that hold, in percent."""
    truths = list(hits)
    return share_percent(sum(map(bool, truths)), len(truths))
