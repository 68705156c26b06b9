"""Voice to voice, measured from outside: the end of a question to the first sound of its answer.

A virtual room speaks recordings of people into the appliance's microphone and listens to its
loudspeaker. The appliance's own ledger is compared with what the room heard.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

import numpy as np

from appliance.bench.recordings import Recording, all_recordings, questions
from appliance.bench.report import machine, report
from appliance.bench.rig import Rig, private_appliance
from appliance.client import ApplianceClient
from appliance.errors import ApplianceError
from appliance.loopback.acoustics import anechoic
from appliance.loopback.room import VirtualRoom
from appliance.messages import TurnRecord

Kind = Literal["questions", "people"]
SHORTEST_S, LONGEST_S = 2.0, 4.5
_TURN_BOUND_S = 90.0
_NOISE_DBFS = -70.0


@dataclass(frozen=True)
class Turn:
    """One question and its answer."""

    acoustic_ms: float
    """From the room: end of the last word to the first sound of the answer."""
    record: TurnRecord


def choose(kind: Kind, count: int, seed: int) -> list[Recording]:
    """What is asked, in random order: synthesised questions, or recordings of people."""
    if kind == "questions":
        suitable = questions()
    else:
        suitable = [r for r in all_recordings() if SHORTEST_S <= r.seconds <= LONGEST_S and r.text]
    random.Random(seed).shuffle(suitable)  # noqa: S311 - a bench, not a secret
    return (suitable * (count // len(suitable) + 1))[:count]


def ask(rig: Rig, client: ApplianceClient, room: VirtualRoom, recording: Recording) -> Turn | None:
    """Speak one recording; None when no words were recognised in it."""
    if not client.wait_for(lambda: client.floor == "idle", _TURN_BOUND_S):
        raise ApplianceError(f"The appliance hangs in a turn:\n{rig.log[-2000:]}")
    client.forget_turns()
    seen = len(room.events)
    room.say(recording.samples, 16_000, recording.name)
    near = room.wait_for("near_end", _TURN_BOUND_S, since=seen)
    record = client.next_turn(_TURN_BOUND_S)
    if record is None:
        raise ApplianceError(f"No answer to {recording.name}:\n{rig.log[-2000:]}")
    if record.outcome == "nothing_said":
        return None
    answer = room.wait_for("answer_started", _TURN_BOUND_S, since=seen)
    room.wait_for("answer_ended", _TURN_BOUND_S, since=seen)
    return Turn((answer.at_ns - near.speech_end_ns) / 1e6, record)


def run(*, kind: Kind, count: int, llm: str, seed: int) -> dict[str, object]:
    """Ask ``count`` questions; returns the report.

    ``after_endpointing`` is the latency without the silence that ends a turn by default.
    """
    before = machine()
    with (
        private_appliance({"APPLIANCE_LLM__MODEL": llm}) as rig,
        VirtualRoom(
            rig.devices.environment, anechoic(rig.devices.rate_hz, noise_dbfs=_NOISE_DBFS), seed
        ) as room,
        ApplianceClient(rig.config) as client,
    ):
        asked = choose(kind, count, seed)
        turns = [turn for r in asked if (turn := ask(rig, client, room, r)) is not None]
        fallback_ms = rig.config.vad.fallback_ms
    acoustic = np.array([turn.acoustic_ms for turn in turns])
    ledger = np.array([turn.record.voice_to_voice_ms for turn in turns])
    figures = {
        "questions_asked": len(asked),
        "questions_answered": len(turns),
        "voice_to_voice_p50_ms": float(np.percentile(acoustic, 50)),
        "voice_to_voice_p95_ms": float(np.percentile(acoustic, 95)),
        "after_endpointing_p50_ms": float(np.percentile(acoustic, 50)) - fallback_ms,
        "after_endpointing_p95_ms": float(np.percentile(acoustic, 95)) - fallback_ms,
        "ledger_minus_acoustic_p50_ms": float(np.percentile(ledger - acoustic, 50)),
        "ledger_within_50_ms_percent": float(np.mean(np.abs(ledger - acoustic) <= 50) * 100),
    }
    for stage in turns[0].record.contributions_ms:
        values = [turn.record.contributions_ms.get(stage, 0.0) for turn in turns]
        figures[f"{stage}_p50_ms"] = float(np.percentile(values, 50))
    return report(
        {name: round(value, 1) for name, value in figures.items()},
        command=f"appliance bench voice --kind {kind} --count {count} --llm {llm} "
        f"--seed {seed} --json",
        seed=seed,
        before=before,
    )
