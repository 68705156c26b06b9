"""Spoken commands and questions asked twice, in the virtual room: how soon the answer is heard."""

from __future__ import annotations

from dataclasses import asdict
from itertools import cycle
from typing import Any

from appliance.bench import conversation_scenarios as scenarios
from appliance.bench.conversation_measures import percentile
from appliance.bench.conversation_stage import open_stage
from appliance.bench.conversation_trials import Asked
from appliance.bench.dialogues import Saying, levelled, voices

COMMANDS = (
    *("What time is it?", "What day is it today?", "Set a timer for five minutes."),
    *("What is twelve times thirteen?", "How many feet are in a mile?", "Turn on the lights."),
    *("What's the weather like tomorrow?", "Good evening.", "Thank you very much."),
    *("Set a pasta timer for ten minutes.", "What timers are running?", "Cancel all timers."),
    *("Remind me to call my mother in one hour.", "Play some music.", "Volume eighty percent."),
    *("Wake me up at seven tomorrow morning.", "Cancel all alarms.", "What is the date tomorrow?"),
    *("Add milk to my shopping list.", "What's on my shopping list?", "Call my brother."),
    *("What time is it in Tokyo?", "How long is an hour in seconds?", "Order a pizza."),
)
CACHED = ("What is the capital of France?", "Who wrote Romeo and Juliet?", "Why is the sky blue?")


def measure(llm: str, seed: int, *, quick: bool) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Say every command once, each by another voice; ask some questions twice.

    Raises:
        ApplianceError: the appliance does not start or ends.
    """
    talkers = cycle(voices())
    sayings = []
    for text in COMMANDS[: 8 if quick else None]:
        voice = next(talkers)
        sayings.append(
            Saying(f"{voice.name}: {text}", levelled(voice.speak(text)), text, "command")
        )
    clear = voices()[-1]
    asked_twice = [
        Saying(f"{clear.name}: {text} ({n})", levelled(clear.speak(text)), text, "cached")
        for text in CACHED[: 1 if quick else None]
        for n in (1, 2)
    ]
    with open_stage(llm, seed) as stage:
        scenarios.warm_up(stage, asked_twice[0])
        trials = scenarios.ask_all(stage, [*sayings, *asked_twice])
    by_mind = [t for t in trials if t.acoustic_ms is not None and _who(t) == "mind"]
    cached = [t for t in trials if t.acoustic_ms is not None and _who(t) == "cache"]
    intents = [t.acoustic_ms for t in by_mind if t.acoustic_ms is not None]
    again = [t.acoustic_ms for t in cached if t.acoustic_ms is not None]
    figures: dict[str, float | None] = {
        "voice_commands": len(sayings),
        "voice_commands_answered_by_mind": len(intents),
        "voice_intent_p50_ms": percentile(intents, 50),
        "voice_intent_p95_ms": percentile(intents, 95),
        "voice_cached_answers": len(again),
        "voice_cached_p50_ms": percentile(again, 50),
        "voice_intent_and_cached_p50_ms": percentile([*intents, *again], 50),
        "voice_intent_and_cached_p95_ms": percentile([*intents, *again], 95),
    }
    known = {name: round(value, 1) for name, value in figures.items() if value is not None}
    return known, [asdict(trial) for trial in trials]


def _who(trial: Asked) -> str:
    """Who answered, by what the turn waited for."""
    if "cache" in trial.marks:
        return "cache"
    return "llm" if "llm_ttft" in trial.contributions_ms else "mind"
