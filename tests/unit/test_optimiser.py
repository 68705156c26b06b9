"""The latency optimiser: steps down for a reason, recovers, and does not swing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.conductor.ledger import SPEECH_STAGES
from appliance.conductor.optimiser import THRESHOLDS_MS, Ladder, Optimiser
from appliance.messages import ServiceLevel, TurnRecord

LADDER = Ladder(
    asr_models=("whisper-base", "whisper-tiny.en"),
    llm_models=("large", "middle", "small"),
    history_turns=(6, 3, 1),
)


def record(**parts_ms: float) -> TurnRecord:
    contributions = {stage: parts_ms.get(stage, 10.0) for stage in SPEECH_STAGES}
    return TurnRecord(
        session_id="local",
        turn_id="t",
        source="speech",
        outcome="answered",
        transcript="what",
        reply="that",
        utterance_ids=("u",),
        speech_end_ns=1,
        audible_ns=2,
        voice_to_voice_ms=sum(contributions.values()),
        contributions_ms=contributions,
    )


def run(optimiser: Optimiser, turns: int, **parts_ms: float) -> list[ServiceLevel]:
    levels = [optimiser.step(record(**parts_ms), n) for n in range(turns)]
    return [level for level in levels if level]


def test_fast_turns_change_nothing() -> None:
    assert run(Optimiser(LADDER, "local"), 50) == []


def test_a_slow_asr_gets_a_smaller_model_and_says_why() -> None:
    (level,) = run(Optimiser(LADDER, "local"), 3, transcription_delay=900.0)
    assert level.asr_model == "whisper-tiny.en"
    assert level.llm_model == "large"
    assert level.level == 1
    assert "asr took 900 ms (limit 500): whisper-tiny.en" in level.reason


def test_one_slow_turn_is_no_reason() -> None:
    optimiser = Optimiser(LADDER, "local")
    assert run(optimiser, 4) == []
    assert run(optimiser, 1, llm_ttft=9_000.0) == []


def test_a_slow_llm_goes_down_step_by_step_the_least_painful_first_and_ends() -> None:
    levels = run(Optimiser(LADDER, "local"), 60, llm_ttft=3_000.0)
    assert [(v.first_clause_words, v.history_turns, v.llm_model) for v in levels] == [
        (2, 6, "large"),
        (2, 3, "large"),
        (2, 1, "large"),
        (2, 1, "middle"),
        (2, 1, "small"),
    ]


def test_a_slow_whole_is_blamed_on_its_largest_part() -> None:
    (level,) = run(
        Optimiser(LADDER, "local"), 3, transcription_delay=450.0, end_of_turn_delay=1_700.0
    )
    assert level.asr_model == "whisper-tiny.en"


def test_it_recovers_and_tries_again_more_and_more_rarely() -> None:
    optimiser = Optimiser(LADDER, "local")
    run(optimiser, 3, transcription_delay=900.0)
    waited = []
    for _ in range(3):
        turns = 0
        while not run(optimiser, 1):
            turns += 1
        waited.append(turns)
        (level,) = run(optimiser, 3, transcription_delay=900.0)
        assert level.level == 1
    assert waited == sorted(waited)
    assert waited[-1] > 2 * waited[0]


def test_interrupted_by_a_restart_or_never_heard_is_no_measure() -> None:
    optimiser = Optimiser(LADDER, "local")
    for _ in range(10):
        slow = record(llm_ttft=9_000.0)
        assert optimiser.step(_with(slow, marks=("llm_restarted",)), 0) is None
        assert optimiser.step(_with(slow, audible_ns=0), 0) is None
        assert optimiser.step(_with(slow, source="text"), 0) is None


def test_slow_answers_are_expected_after_slow_answers() -> None:
    optimiser = Optimiser(LADDER, "local")
    assert not optimiser.slow
    run(optimiser, 2, llm_ttft=9_000.0)
    assert not optimiser.slow


def _with(it: TurnRecord, **changes: object) -> TurnRecord:
    import msgspec

    return msgspec.structs.replace(it, **changes)


@given(st.lists(st.floats(0, 5_000), max_size=80), st.sampled_from(SPEECH_STAGES))
def test_the_level_is_always_on_the_ladder(delays_ms: list[float], stage: str) -> None:
    optimiser = Optimiser(LADDER, "local")
    for number, delay_ms in enumerate(delays_ms):
        level = optimiser.step(record(**{stage: delay_ms}), number)
        if level is not None:
            assert level.asr_model in LADDER.asr_models
            assert level.llm_model in LADDER.llm_models
            assert 0 <= level.level <= 6
            assert level.reason
    assert set(THRESHOLDS_MS) == {"vad", "asr", "llm", "tts", "end_to_end"}


def test_answers_without_llm_and_waits_behind_others_say_nothing_of_the_models() -> None:
    optimiser = Optimiser(LADDER, "local")
    for _ in range(6):
        assert optimiser.step(record(llm_queue=6_000.0), 0) is None
        fast = record()
        del fast.contributions_ms["llm_ttft"]
        assert optimiser.step(fast, 0) is None
    assert not optimiser.slow
