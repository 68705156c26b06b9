"""What the bench of several sessions makes of its turns."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.bench.sessions import (
    Heard,
    browser_figures,
    first_audible_ms,
    run,
    together_figures,
)
from appliance.errors import ApplianceError
from appliance.messages import TurnRecord


def record(words: str = "", *, whole_ms: float = 300.0, **parts_ms: float) -> TurnRecord:
    return TurnRecord(
        session_id="local",
        turn_id="1",
        source="speech",
        outcome="answered",
        transcript=words,
        reply="",
        utterance_ids=(),
        speech_end_ns=1,
        audible_ns=2,
        voice_to_voice_ms=whole_ms,
        contributions_ms=parts_ms,
    )


def test_everyone_at_once() -> None:
    right = record("what do bees make", end_of_turn_delay=200, llm_queue=100)
    others = ("What do cows eat?",)
    figures = together_figures(
        {
            "alone": [Heard("local", "Who?", record("who", llm_ttft=300), 310)],
            "together": [
                Heard("local", "What do bees make?", right, 320, others),
                Heard("remote.1", "What do bees make?", right, 31_000, others),
                Heard("remote.2", "Who am I?", record("what do cows eat"), None, others),
            ],
        }
    )
    assert figures["alone_answered"] == 1
    assert figures["alone_p50_ms"] == 310
    assert figures["together_turns"] == 3
    assert figures["together_answered"] == 1
    assert figures["together_starved"] == 2  # one too late, one never
    assert figures["together_sums_wrong"] == 1
    assert figures["together_mixed_up"] == 1
    assert figures["together_queued"] == 2
    assert figures["together_llm_queue_max_ms"] == 100
    assert figures["together_remote.1_p50_ms"] == 31_000
    assert "together_remote.2_p50_ms" not in figures


def test_what_a_browser_adds_is_taken_pair_by_pair() -> None:
    local = [Heard("local", "Who?", record(), ms) for ms in (400.0, 600.0, None)]
    browser = [Heard("remote.1", "Who?", record(), ms) for ms in (450.0, 750.0, 500.0)]
    figures = browser_figures(local, browser)
    assert figures["browser_pairs"] == 2
    assert figures["browser_pairs_asked"] == 3
    assert figures["browser_beyond_local_p50_ms"] == 100
    assert figures["browser_beyond_ledger_p50_ms"] == 200


def test_the_first_audible_sample_after_the_question_counts() -> None:
    silence, tone = np.zeros(320, np.float32), np.full(320, 0.1, np.float32)
    late = silence.copy()
    late[160:] = 0.1
    packets = [(20_000_000, tone), (120_000_000, silence), (140_000_000, late)]
    assert first_audible_ms(packets, 100_000_000) == pytest.approx(50)
    assert first_audible_ms(packets[:2], 100_000_000) is None


@pytest.mark.parametrize("wrong", [{"browsers": 5}, {"browsers": 0}, {"rounds": 7}, {"rounds": 0}])
def test_numbers_that_cannot_be_measured_are_refused(wrong: dict[str, int]) -> None:
    numbers = {"browsers": 4, "rounds": 4, "pairs": 1} | wrong
    with pytest.raises(ApplianceError, match="browsers"):
        run(**numbers, parts=(), llm="none", seed=1)


def test_a_part_that_is_none_is_named() -> None:
    with pytest.raises(ApplianceError, match="nonsense"):
        run(browsers=1, rounds=1, pairs=1, parts=("nonsense",), llm="none", seed=1)
