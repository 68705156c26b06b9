"""The latency optimiser: steps down when answers are too slow, and back up when it can. Pure.

It looks at the ledger of the last turns. A stage that is over its threshold in most of them costs a
step of that stage's own ladder; a step is taken back after a run of turns that were clearly fast
enough, each time more cautiously where the last attempt had failed.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median

from appliance.conductor.governor import Advice
from appliance.messages import ServiceLevel, TurnRecord

THRESHOLDS_MS = {"vad": 50.0, "asr": 500.0, "llm": 1000.0, "tts": 200.0, "end_to_end": 2000.0}
"""Of the specification; exceeded by the median of the last turns they call for a step."""
_STAGES = {
    "asr": ("transcription_delay",),
    "llm": ("llm_queue", "llm_ttft", "text_aggregation"),
    "tts": ("tts_queue", "tts_ttfb"),
}
_QUEUED_MS = 200.0
"""From so long on an answer waited for somebody else's."""
_TURNS = 5
_FEWEST_TURNS = 3
_CLEARLY_BELOW = 0.5
"""Of the threshold: so fast the turns must be before a step is taken back."""
_CALM_TURNS = 8
_MOST_CALM_TURNS = 64


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """What there is to choose from; the first of each is what is configured.

    Attributes:
        asr_models: speech models, from the best to the fastest.
        llm_models: language models, likewise.
        history_turns: earlier turns that an answer may refer to.
        first_clause_words: length of the first spoken clause, 0 for the splitter's own.
    """

    asr_models: tuple[str, ...]
    llm_models: tuple[str, ...]
    history_turns: tuple[int, ...]
    first_clause_words: tuple[int, ...] = (0, 2)


class Optimiser:
    """Keeps the ledger's last turns and says what to use from now on."""

    def __init__(self, ladder: Ladder, session_id: str) -> None:
        self._ladder = ladder
        self._session_id = session_id
        self._steps: list[str] = []
        """Rungs that were stepped down, in order: names of fields of the ladder."""
        self._spared = 0
        """Language models that were stepped down for the machine's sake."""
        self._recent: deque[TurnRecord] = deque(maxlen=_TURNS)
        self._calm = 0
        self._calm_needed = _CALM_TURNS
        self._risen = False
        """Whether the last change was a step back up."""

    @property
    def slow(self) -> bool:
        """Whether the next answer is likely to be slow."""
        return (
            len(self._recent) >= _FEWEST_TURNS
            and self._typical("end_to_end") > (THRESHOLDS_MS["end_to_end"])
        )

    def step(self, record: TurnRecord, now_ns: int) -> ServiceLevel | None:
        """Take a finished turn.

        Returns:
            What to use from now on if that changes, else None.
        """
        plain = record.outcome in ("answered", "interrupted") and record.source == "speech"
        parts = record.contributions_ms
        # neither answers without llm nor waits behind other sessions say anything of the models
        plain = plain and "llm_ttft" in parts and parts.get("llm_queue", 0.0) < _QUEUED_MS
        if not plain or not record.audible_ns or any("restarted" in m for m in record.marks):
            return None
        self._recent.append(record)
        if len(self._recent) < _FEWEST_TURNS:
            return None
        late = [stage for stage in THRESHOLDS_MS if self._typical(stage) > THRESHOLDS_MS[stage]]
        if late:
            self._calm = 0
            return self._down(late, now_ns)
        calm = all(self._typical(s) <= _CLEARLY_BELOW * limit for s, limit in THRESHOLDS_MS.items())
        self._calm = self._calm + 1 if calm else 0
        if self._steps and self._calm >= self._calm_needed:
            return self._up(now_ns)
        return None

    def spare(self, advice: Advice, now_ns: int) -> ServiceLevel | None:
        """Step down or up for the machine's sake; None when there is no such step."""
        left = len(self._ladder.llm_models) - 1 - self._taken("llm_models")
        if advice.direction == "down" and left > 0:
            self._spared += 1
        elif advice.direction == "up" and self._spared:
            self._spared -= 1
        else:
            return None
        self._recent.clear()
        return self._level(f"{advice.reason}: {self._describe('llm_models')} now", now_ns)

    def _taken(self, rung: str) -> int:
        return self._steps.count(rung) + (self._spared if rung == "llm_models" else 0)

    def _down(self, late: list[str], now_ns: int) -> ServiceLevel | None:
        for stage in late:
            for rung in self._rungs(stage):
                if self._taken(rung) + 1 < len(getattr(self._ladder, rung)):
                    if self._risen:  # it was too early to go back: wait longer next time
                        self._calm_needed = min(2 * self._calm_needed, _MOST_CALM_TURNS)
                    self._steps.append(rung)
                    self._risen = False
                    typical, limit = self._typical(stage), THRESHOLDS_MS[stage]
                    self._recent.clear()
                    return self._level(
                        f"{stage} took {typical:.0f} ms (limit {limit:.0f}): "
                        f"{self._describe(rung)} now",
                        now_ns,
                    )
        return None

    def _up(self, now_ns: int) -> ServiceLevel:
        rung = self._steps.pop()
        self._calm = 0
        self._risen = True
        self._recent.clear()
        return self._level(f"fast again for a while: back to {self._describe(rung)}", now_ns)

    def _rungs(self, stage: str) -> tuple[str, ...]:
        """What may help against a slow stage, the least painful first."""
        match stage:
            case "asr":
                return ("asr_models",)
            case "llm":
                return ("first_clause_words", "history_turns", "llm_models")
            case "tts":
                return ("first_clause_words",)
            case "end_to_end":
                spent = {name: self._typical(name) for name in _STAGES}
                return self._rungs(max(spent, key=lambda name: spent[name]))
        return ()

    def _describe(self, rung: str) -> str:
        value = self._value(rung)
        match rung:
            case "history_turns":
                return f"{value} earlier turns in the prompt"
            case "first_clause_words":
                return f"first clause of {value} words" if value else "usual first clause"
        return str(value)

    def _value(self, rung: str) -> str | int:
        choices: tuple[str | int, ...] = getattr(self._ladder, rung)
        return choices[min(self._taken(rung), len(choices) - 1)]

    def _level(self, reason: str, now_ns: int) -> ServiceLevel:
        return ServiceLevel(
            session_id=self._session_id,
            level=len(self._steps) + self._spared,
            asr_model=str(self._value("asr_models")),
            llm_model=str(self._value("llm_models")),
            history_turns=int(self._value("history_turns")),
            first_clause_words=int(self._value("first_clause_words")),
            reason=reason,
            since_ns=now_ns,
        )

    def _typical(self, stage: str) -> float:
        """Median over the last turns, in milliseconds."""
        if stage == "end_to_end":
            return median(record.voice_to_voice_ms for record in self._recent)
        parts = _STAGES.get(stage, ())
        return median(
            sum(record.contributions_ms.get(part, 0.0) for part in parts) for record in self._recent
        )
