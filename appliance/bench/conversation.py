"""A conversation measured from outside: people talk to the appliance in a virtual room.

Everything is measured on the audio: the end of the user's last word at the microphone, the first
audible sample at the loudspeaker, the loudspeaker's level while somebody talks over it. The room
has an RT60 of 0.3 s, the user sits 2 m away, the loudspeaker stands beside the four microphones
and is 15 dB louder there than the user. On the same questions, after the appliance has ended, a
plain sequential pipeline of the same models (`sequential`).
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from appliance import config as configuration
from appliance.bench import conversation_plot, conversation_scenarios, dialogues
from appliance.bench.conversation_report import Trials, figures, judged
from appliance.bench.conversation_stage import living_room, open_stage, overrides
from appliance.bench.dialogues import Saying
from appliance.bench.report import machine, report
from appliance.bench.sequential import SequentialPipeline, SequentialTurn
from appliance.errors import ApplianceError

logger = logging.getLogger(__name__)

STANDARD = (
    "questions",
    "sequential",
    "pauses",
    "interruptions",
    "sounds",
    "television",
    "alone",
)
LONG = ("music", "duet", "stuck", "monologue")
"""What is no conversation, and must end in one again."""
_TELEVISION_S = 9.0
_MUSIC_S, _DUET_S, _STUCK_S, _MONOLOGUE_S = 120.0, 30.0, 30.0, 600.0
_DEVICE_LATENCY_MS = 35.0
"""Of the loudspeaker, where this run has not measured it."""
_PACKAGES = (
    "voice-appliance",
    "ctranslate2",
    "llama-cpp-python",
    "onnxruntime",
    "piper-tts",
    "numpy",
)


@dataclass(frozen=True)
class Size:
    """How many trials of each scenario."""

    questions: int
    pauses: int
    interruptions: int
    sounds: int
    television: int
    alone_minutes: float


FULL = Size(40, 30, 24, 24, 6, 2.0)
QUICK = Size(10, 4, 4, 4, 1, 0.3)


def run(
    *,
    scenarios: Sequence[str] = (),
    quick: bool = False,
    minutes: float | None = None,
    llm: str,
    seed: int,
    plot: Path | None = None,
) -> dict[str, Any]:
    """Play the scenarios and return the report.

    Args:
        scenarios: of `STANDARD` and `LONG`; none is all of `STANDARD`.
        quick: fewer trials.
        minutes: of the appliance's own speech in the scenario ``alone``.
        llm: the language model, for the appliance and the baseline.
        seed: of texts, voices, pauses and noise.
        plot: a waterfall of the questions' answers is written there.

    Raises:
        ApplianceError: the appliance does not start or ends, a recording or a model is missing,
            or there is no such scenario.
    """
    if unknown := sorted(set(scenarios) - {*STANDARD, *LONG}):
        raise ApplianceError(
            f"There is no scenario {unknown[0]!r}; choose {', '.join((*STANDARD, *LONG))}."
        )
    before = machine()
    started = time.monotonic()
    chosen = scenarios or STANDARD
    size = QUICK if quick else FULL
    questions = dialogues.complete_questions(size.questions, seed)
    trials = _converse(chosen, size, questions, llm=llm, seed=seed, minutes=minutes)
    if "sequential" in chosen:
        trials.sequential = _sequential(trials, questions, llm=llm)
    if plot is not None:
        conversation_plot.draw(trials.questions, trials.sequential, plot)
    values = figures(trials)
    only = "".join(f" --only {name}" for name in chosen) if set(chosen) != set(STANDARD) else ""
    options = (" --quick" if quick else "") + only
    options += f" --minutes {minutes:g}" if minutes is not None else ""
    command = f"appliance bench conversation --llm {llm} --seed {seed}{options} --json"
    return {
        **report({}, command=command, seed=seed, before=before),
        "figures": values,
        "targets": judged(values),
        "date": datetime.now(timezone.utc).isoformat(timespec="minutes"),
        "minutes": round((time.monotonic() - started) / 60, 1),
        "versions": {package: _version(package) for package in _PACKAGES},
        "configuration": overrides(llm),
        "trials": asdict(trials),
    }


def _converse(
    chosen: Sequence[str],
    size: Size,
    questions: Sequence[Saying],
    *,
    llm: str,
    seed: int,
    minutes: float | None,
) -> Trials:
    """All that needs the running appliance."""
    trials = Trials()
    if set(chosen) <= {"sequential"}:
        return trials
    pauses = dialogues.paused_questions(size.pauses, seed + 1)
    interruptions = dialogues.interruptions(size.interruptions, seed + 2)
    long_questions = dialogues.long_questions(4, seed + 2)
    sounds = dialogues.passing_sounds(size.sounds, seed + 3)
    programmes = [
        dialogues.television(_TELEVISION_S, seed + number) for number in range(size.television)
    ]
    beside = dialogues.complete_questions(size.television, seed + 4)
    unmeasured = random.Random(seed).choice(questions)  # noqa: S311 - a bench, not a secret
    with open_stage(llm, seed) as stage:
        conversation_scenarios.warm_up(stage, unmeasured)
        if "questions" in chosen:
            trials.questions = conversation_scenarios.ask_all(stage, questions)
        if "pauses" in chosen:
            trials.pauses = conversation_scenarios.ask_all(stage, pauses)
        if "interruptions" in chosen:
            trials.interruptions = conversation_scenarios.interrupt_all(
                stage, interruptions, long_questions
            )
        if "sounds" in chosen:
            trials.sounds = conversation_scenarios.sound_over(stage, sounds)
        if "television" in chosen:
            trials.television = conversation_scenarios.ask_beside_television(
                stage, beside, programmes
            )
        if "alone" in chosen:
            alone_minutes = size.alone_minutes if minutes is None else minutes
            trials.alone = [conversation_scenarios.leave_alone(stage, alone_minutes)]
        if "music" in chosen:
            trials.endured.append(
                conversation_scenarios.endure(stage, dialogues.music(_MUSIC_S, seed))
            )
        if "duet" in chosen:
            trials.endured.append(
                conversation_scenarios.endure(
                    stage,
                    dialogues.monologue(_DUET_S, seed),
                    beside=dialogues.monologue(_DUET_S, seed + 1),
                )
            )
        if "stuck" in chosen:
            trials.endured.append(conversation_scenarios.endure(stage, dialogues.stuck(_STUCK_S)))
        if "monologue" in chosen:
            trials.endured.append(
                conversation_scenarios.endure(stage, dialogues.monologue(_MONOLOGUE_S, seed))
            )
        if trials.endured:  # it listens again
            trials.afterwards = conversation_scenarios.ask_all(stage, questions[:1])
    return trials


def _sequential(trials: Trials, questions: Sequence[Saying], *, llm: str) -> list[SequentialTurn]:
    """The baseline on the same questions, with the loudspeaker's latency of this run."""
    config = configuration.load()
    config = config.model_copy(update={"llm": config.llm.model_copy(update={"model": llm})})
    latencies = sorted(
        trial.contributions_ms["playback_latency"]
        for trial in trials.questions
        if "playback_latency" in trial.contributions_ms
    )
    latency_ms = latencies[len(latencies) // 2] if latencies else _DEVICE_LATENCY_MS
    result = []
    with SequentialPipeline(config, living_room(48_000), latency_ms) as pipeline:
        pipeline.answer(questions[-1])  # the first is slow: everything is loaded and warmed by it
        for number, question in enumerate(questions, start=1):
            if (turn := pipeline.answer(question)) is not None:
                result.append(turn)
            logger.info("sequential %d of %d", number, len(questions))
    return result


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
