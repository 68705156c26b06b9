"""The rows of the front-end's table of figures, and what each must reach."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from appliance.bench import front_end_measures as measures
from appliance.bench.front_end_measures import LOUD_ECHO_DB, Measure, Values
from appliance.bench.front_end_processors import NLMS, NOTHING, SPEEX, Candidate, chain
from appliance.capture.beam import Mode

RT60_S = (0.3, 0.6)
CHAIN = chain()
_DOA_WITHIN_DEG = 10.0

Pooled = Mapping[str, Mapping[str, Values]]
"""The values of all scenes by candidate and what was measured."""

Reduce = Callable[[Pooled, str], float]
"""From what all candidates gave to the figure of one."""


def _median(name: str) -> Reduce:
    return lambda pooled, candidate: float(np.median(pooled[candidate][name]))


def _share_within(pooled: Pooled, candidate: str) -> float:
    return float(100 * np.mean(np.asarray(pooled[candidate]["error"]) <= _DOA_WITHIN_DEG))


def _error_rate(pooled: Pooled, candidate: str) -> float:
    values = pooled[candidate]
    return 100 * sum(values["errors"]) / max(sum(values["words"]), 1.0)


def _excess_over_speex(pooled: Pooled, candidate: str) -> float:
    """Word errors beyond those on clean speech, as a share of what speex has of them."""
    clean = _error_rate(pooled, "clean")
    speex = _error_rate(pooled, "speex") - clean
    return (_error_rate(pooled, candidate) - clean) / speex if speex > 0 else 1.0


@dataclass(frozen=True)
class Figure:
    """One figure of a row."""

    name: str
    """With its unit; none where it has none."""
    reduce: Reduce
    measured: str = ""
    """What of the measured values has quartiles; empty for none."""
    targets: Mapping[float, float] = field(default_factory=dict)
    """What the row's first candidate must reach, by RT60; empty where nothing was promised."""
    at_least: bool = True
    """Whether the target is the least value that will do; else the greatest."""

    def passes(self, value: float, target: float) -> bool:
        """Whether a value reaches the target."""
        return value >= target if self.at_least else value <= target


@dataclass(frozen=True)
class Row:
    """Scenes of one kind and what is measured on them."""

    measure: Measure
    figures: tuple[Figure, ...]
    candidates: tuple[Candidate, ...] = (CHAIN, SPEEX, NLMS)
    ablated: bool = False
    """Whether the chain is also measured without each of its stages."""
    rt60_s: tuple[float, ...] = RT60_S


def _at_least(name: str, unit: str, *targets: float) -> Figure:
    return Figure(f"{name}{unit}", _median(name), name, dict(zip(RT60_S, targets, strict=False)))


def _at_most(name: str, unit: str, *targets: float) -> Figure:
    return replace(_at_least(name, unit, *targets), at_least=False)


def _double_talk(echo_db: float, sdr: tuple[float, float], stoi: tuple[float, float]) -> Row:
    return Row(
        measures.double_talk(echo_db),
        (_at_least("sdr", "_db", *sdr), _at_least("stoi", "", *stoi), _at_least("si_sdr", "_db")),
        (CHAIN, SPEEX, NLMS, NOTHING),
        ablated=True,
    )


def _direction(measure: Measure, error: dict[float, float], share: dict[float, float]) -> Row:
    """Targets by RT60; a row without a target at an RT60 is not measured there."""
    figures = (
        Figure("error_deg", _median("error"), "error", error, at_least=False),
        Figure("within_10_deg_percent", _share_within, "", share),
    )
    return Row(measure, figures, (CHAIN,), rt60_s=tuple(share))


def _beam(mode: Mode, *targets: float) -> Row:
    figures = (_at_least("gain", "_db", *targets), _at_least("direct_gain", "_db"))
    return Row(measures.beam(mode), figures, (CHAIN,))


ROWS: dict[str, Row] = {
    "erle": Row(
        measures.erle,
        (
            _at_least("after_2s", "_db", 35, 31),
            _at_least("cold", "_db", 22, 20),
            _at_least("warm", "_db", 35, 32),
        ),
        ablated=True,
    ),
    "double-talk": _double_talk(LOUD_ECHO_DB, (10.5, 8.5), (0.86, 0.83)),
    "double-talk-0db": _double_talk(0.0, (17, 14), (0.95, 0.92)),
    "drift": Row(
        measures.drift,
        (
            _at_most("erle_loss", "_db", 1, 1),
            _at_most("sdr_loss", "_db", 1, 1),
            _at_most("stoi_loss", ""),
            _at_most("lock", "_s", 8, 8),
        ),
    ),
    "beam-fixed": _beam("fixed", 5, 3.5),
    "beam-adaptive": _beam("adaptive", 8, 5.5),
    "doa-quiet": _direction(measures.direction(), {0.3: 2, 0.6: 3}, {0.3: 95, 0.6: 92}),
    "doa-pink-5db": _direction(measures.direction(noise_snr_db=5.0), {}, {0.3: 80}),
    "doa-playback": _direction(measures.direction(echo_db=LOUD_ECHO_DB), {}, {0.3: 70, 0.6: 50}),
    "wer": Row(
        measures.words,
        (
            Figure("wer_percent", _error_rate),
            Figure(
                "excess_over_speex", _excess_over_speex, "", {0.3: 0.5, 0.6: 0.5}, at_least=False
            ),
        ),
        (CHAIN, SPEEX, NLMS, NOTHING),
        ablated=True,
    ),
}
