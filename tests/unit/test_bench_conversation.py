"""The conversation bench's verdicts, scripts, baseline and figures, on what is known in advance."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.audio.blocks import RATE_HZ, Samples
from appliance.bench import conversation, conversation_plot, dialogues
from appliance.bench.conversation_measures import Playing
from appliance.bench.conversation_report import TARGETS, Trials, figures, judged
from appliance.bench.conversation_trials import (
    Alone,
    Asked,
    Interrupted,
    Passing,
    SpokenOver,
    asked,
    interrupted,
    passing,
)
from appliance.bench.dialogues import Saying
from appliance.bench.metrics import active_rms
from appliance.bench.sequential import SequentialTurn, at_microphone, end_of_turn, first_sentence
from appliance.errors import ApplianceError
from appliance.loopback.acoustics import Acoustics, anechoic
from appliance.loopback.room import RoomEvent
from appliance.messages import LOCAL_SESSION, PlaybackDucked, TurnRecord

START_NS = 1_000_000_000_000
FRAME = 512


def at(seconds: float) -> int:
    return START_NS + round(seconds * 1e9)


def near(begin_s: float, end_s: float) -> RoomEvent:
    return RoomEvent(
        "near_end",
        at(begin_s),
        end_ns=at(end_s),
        speech_start_ns=at(begin_s),
        speech_end_ns=at(end_s),
    )


def answer(begin_s: float) -> RoomEvent:
    return RoomEvent("answer_started", at(begin_s))


def turn(end_s: float, audible_s: float, **more: Any) -> TurnRecord:
    settings: dict[str, Any] = {
        "outcome": "answered",
        "source": "speech",
        "transcript": "How many legs does a spider have?",
        "contributions_ms": {"a": (audible_s - end_s) * 1000},
        **more,
    }
    return TurnRecord(
        session_id=LOCAL_SESSION,
        turn_id="t",
        reply="Eight.",
        utterance_ids=(),
        speech_end_ns=at(end_s),
        audible_ns=at(audible_s),
        voice_to_voice_ms=(audible_s - end_s) * 1000,
        **settings,
    )


QUESTION = Saying("q", np.zeros(2 * RATE_HZ, np.float32), "How many legs does a spider have?")
PAUSED = dataclasses.replace(QUESTION, kind="pause", resumes_at=RATE_HZ, pause_ms=500)
STOP = Saying("stop", np.zeros(1, np.float32), "Stop.", "stop")


# --- questions ----------------------------------------------------------------------------------


def test_voice_to_voice_is_what_the_room_heard_and_the_ledger_is_held_against_it() -> None:
    result = asked(QUESTION, near(0, 2), [answer(2.5)], [turn(2.03, 2.51)])
    assert result.acoustic_ms == pytest.approx(500)
    assert result.ledger_error_ms == pytest.approx(-20)
    assert result.speech_end_error_ms == pytest.approx(30)
    assert result.audible_error_ms == pytest.approx(10)
    assert result.words == 1
    assert not result.cut_off


@pytest.mark.parametrize(
    ("events", "turns", "cut_off"),
    [
        ([answer(2.4)], [turn(2, 2.4)], False),
        ([answer(1.5)], [turn(0.5, 1.5, outcome="interrupted")], True),  # heard before the end
        ([answer(2.4)], [turn(0.5, 2.4)], True),  # the first half alone was answered
        ([answer(2.4)], [turn(0.5, 0, outcome="nothing_said"), turn(2, 2.4)], False),
        ([answer(2.4)], [turn(-3, -2), turn(2, 2.4)], False),  # an earlier turn
        ([], [], False),
    ],
)
def test_cut_off(events: list[RoomEvent], turns: list[TurnRecord], cut_off: bool) -> None:
    assert asked(PAUSED, near(0, 2), events, turns).cut_off == cut_off


def test_no_answer_is_no_latency() -> None:
    result = asked(QUESTION, near(0, 2), [], [turn(2, 0, outcome="lost", transcript="")])
    assert result.acoustic_ms is None
    assert result.ledger_error_ms is None
    assert result.outcome == "lost"
    assert result.words == 0


def test_a_ledger_of_another_answer_is_not_taken() -> None:
    assert not asked(QUESTION, near(0, 2), [answer(2.5)], [turn(2, 4.0)]).contributions_ms


# --- speech and sounds over an answer -----------------------------------------------------------


def over(silent_from_s: float, *turns: TurnRecord, end_s: float = 3.5) -> SpokenOver:
    """An answer from 0 on; somebody talks from 3.0 s; recorded from -1 to 6 s."""
    samples = np.random.default_rng(1).uniform(-0.1, 0.1, 7 * RATE_HZ).astype(np.float32)
    samples[:RATE_HZ] = 0
    samples[round((1 + silent_from_s) * RATE_HZ) :] = 0
    return SpokenOver(near(3.0, end_s), at(0), Playing(at(-1), samples, RATE_HZ), turns)


def test_an_answer_that_ends_soon_obeys() -> None:
    result = interrupted(STOP, over(3.2, turn(-1, 0, outcome="interrupted")))
    assert result.valid
    assert result.obeyed
    assert result.silent_ms == pytest.approx(200, abs=5)
    assert result.ducked_ms == pytest.approx(200, abs=5)
    assert result.into_answer_ms == 3000


def test_a_duck_counts_from_the_later_of_the_air_and_the_appliance() -> None:
    spoken_over = over(3.2)

    def ducked(at_s: float) -> Interrupted:
        duck = PlaybackDucked(
            session_id=LOCAL_SESSION, utterance_id="u", onset_ns=at(3), audible_ns=at(at_s)
        )
        return interrupted(STOP, dataclasses.replace(spoken_over, ducks=[duck]))

    assert ducked(3.15).ducked_ms == pytest.approx(200, abs=5)  # it was still loud then
    assert ducked(3.2).reported_ducked_ms == pytest.approx(200)
    assert ducked(9.0).reported_ducked_ms is None
    assert ducked(2.0).ducks_before == 1


def test_an_answer_that_goes_on_does_not_obey() -> None:
    late, never = interrupted(STOP, over(4.9)), interrupted(STOP, over(6.0))
    assert late.valid
    assert never.valid
    assert not late.obeyed
    assert not never.obeyed
    assert never.silent_ms is None


def test_an_answer_that_was_over_before_tells_nothing() -> None:
    assert not interrupted(STOP, over(2.0)).valid
    assert not passing(STOP, over(2.0)).valid


def test_a_new_question_must_be_answered() -> None:
    redirect = dataclasses.replace(STOP, kind="redirect")
    cut = turn(-1, 0, outcome="interrupted")
    assert interrupted(redirect, over(3.2, cut, turn(3.5, 4.2))).obeyed
    assert not interrupted(redirect, over(3.2, cut)).obeyed


def test_a_sound_that_stops_an_answer() -> None:
    assert passing(STOP, over(3.2)).stopped
    assert not passing(STOP, over(6.0)).stopped
    assert passing(STOP, over(6.0)).gap_ms < 5


# --- scripts ------------------------------------------------------------------------------------


def tone(length_ms: int) -> Samples:
    time_s = np.arange(length_ms * RATE_HZ // 1000) / RATE_HZ
    return np.asarray(0.1 * np.sin(2 * np.pi * 200 * time_s), np.float32)


@settings(max_examples=25, deadline=None)
@given(gap_ms=st.integers(0, 20), pause_ms=st.integers(30, 120), first_ms=st.integers(60, 100))
def test_a_pause_is_as_long_as_wanted_and_lies_in_the_gap(
    gap_ms: int, pause_ms: int, first_ms: int
) -> None:
    gap = np.zeros(10 * gap_ms * RATE_HZ // 1000, np.float32)
    samples = np.concatenate([tone(10 * first_ms), gap, tone(800)])
    result = dialogues.with_pause(Saying("x", samples), 10.0 * pause_ms)
    assert result.pause_ms == pytest.approx(10 * max(pause_ms, gap_ms), abs=20)
    before, after = np.split(result.samples, [result.resumes_at])
    quiet = before[-round((result.pause_ms - 30) * RATE_HZ / 1000) :]
    assert np.sqrt(np.mean(quiet**2)) < 0.02
    assert np.abs(after[RATE_HZ // 50 : RATE_HZ // 10]).max() == pytest.approx(0.1, rel=0.01)
    if gap_ms >= 2:  # nothing of the speech is lost
        assert len(result.samples) - len(samples) == pytest.approx(
            10 * max(0, pause_ms - gap_ms) * RATE_HZ / 1000, abs=RATE_HZ / 50
        )


def test_everybody_is_as_loud_as_a_talker() -> None:
    for sample in (tone(1000), 0.01 * tone(700)):
        level = 20 * np.log10(active_rms(dialogues.levelled(sample)))
        assert level == pytest.approx(dialogues.USER_DBFS, abs=0.5)


def test_noises_are_short_and_their_seed_decides() -> None:
    for noise in (dialogues.cough, dialogues.door_slam):
        first, again, other = noise(1), noise(1), noise(2)
        assert np.array_equal(first.samples, again.samples)
        assert not np.array_equal(first.samples, other.samples)
        assert len(first.samples) < RATE_HZ
        assert np.abs(first.samples).max() < 1


def test_all_voices_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    voices = tuple(dialogues.Voice(name, lambda _text: tone(500)) for name in "abc")
    monkeypatch.setattr(dialogues, "voices", lambda: voices)
    sayings = dialogues.interruptions(12, seed=3)
    assert {saying.kind for saying in sayings} == {"stop", "redirect"}
    assert {saying.name[0] for saying in sayings} == set("abc")
    assert [s.name for s in sayings] == [s.name for s in dialogues.interruptions(12, seed=3)]


# --- the baseline -------------------------------------------------------------------------------


def frames_of(speech: list[bool]) -> Samples:
    return np.repeat(np.array(speech, np.float32), FRAME)


def test_a_turn_ends_after_700_ms_of_silence() -> None:
    samples = frames_of([False] * 5 + [True] * 20 + [False] * 10 + [True] * 5 + [False] * 40)
    found = end_of_turn(samples, lambda frame: float(frame[0]))
    assert found is not None
    first, decided = found
    assert first == 5 * FRAME
    silence_ms = (decided - 40 * FRAME) * 1000 / RATE_HZ
    assert 700 <= silence_ms < 732


@pytest.mark.parametrize("speech", [[False] * 50, [True] * 50, [True] * 30 + [False] * 20])
def test_a_turn_that_does_not_end(speech: list[bool]) -> None:
    assert end_of_turn(frames_of(speech), lambda frame: float(frame[0])) is None


def test_the_last_word_is_where_the_room_puts_it() -> None:
    delayed = np.zeros((481, 1), np.float32)
    delayed[-1] = 1  # 10 ms at 48 kHz
    heard, end_ms = at_microphone(Saying("x", tone(1000)), Acoustics(48_000, delayed, None, None))
    last = np.flatnonzero(np.abs(heard) > 0.01)[-1] * 1000 / RATE_HZ
    assert end_ms == pytest.approx(last, abs=12)
    _, near_ms = at_microphone(Saying("x", tone(1000)), anechoic(48_000))
    assert end_ms - near_ms == pytest.approx(10)


def test_the_first_whole_sentence_and_nothing_after_it() -> None:
    asked_for = []

    def pieces() -> Iterator[str]:
        for piece in ["Well", ", it", " is Rome", ".", " And", " more", "."]:
            asked_for.append(piece)
            yield piece

    assert first_sentence(pieces()) == "Well, it is Rome."
    assert asked_for[-1] == "."
    assert len(asked_for) == 4
    assert first_sentence(iter(["no end"])) == "no end"
    assert not first_sentence(iter([]))


# --- figures ------------------------------------------------------------------------------------


def some_trials(count: int = 20) -> Trials:
    rng = random.Random(1)
    times = [rng.uniform(300, 600) for _ in range(count)]
    return Trials(
        questions=[
            Asked(f"q{n}", "question", 0, t, False, 1.0, "answered", {"a": 100.0, "b": t - 95})
            for n, t in enumerate(times)
        ],
        sequential=[
            SequentialTurn(f"q{n}", "", "", {"x": 2 * t, "y": 2 * t}) for n, t in enumerate(times)
        ],
        pauses=[Asked("p", "pause", 400, 500, n == 0, 1.0) for n in range(10)],
        interruptions=[
            Interrupted("i", "stop", 300, False, n != 0, ducked_ms=80, silent_ms=200, obeyed=n != 1)
            for n in range(11)
        ],
        sounds=[Passing("s", "backchannel", 300, True, stopped=n == 0) for n in range(10)],
        alone=[Alone(2.0, 1, 0, 0, 3, 0)],
    )


def test_figures_and_what_they_must_reach() -> None:
    values = figures(some_trials())
    assert values["ratio_to_sequential_p50"] == pytest.approx(0.25)
    assert values["ledger_within_20_ms_percent"] == 100
    assert values["ledger_minus_acoustic_p50_ms"] == pytest.approx(5)
    assert values["cut_off_in_pause_percent"] == 10
    assert values["interruptions"] == 10
    assert values["interruptions_obeyed_percent"] == 90
    assert values["backchannels_stopped_percent"] == 10
    rows = {row["figure"]: row["passed"] for row in judged(values)}
    assert rows["voice_to_voice_p50_ms"] is True
    assert rows["cut_off_in_pause_percent"] is False
    assert rows["interruptions_obeyed_percent"] is False
    assert rows["self_interruptions"] is True
    assert set(rows) == {target.figure for target in TARGETS}


def test_what_was_not_measured_neither_passes_nor_fails() -> None:
    assert not figures(Trials())
    assert {row["passed"] for row in judged({})} == {None}


def test_an_unanswered_question_has_no_part_in_the_ratio() -> None:
    trials = some_trials(2)
    trials.questions[0] = dataclasses.replace(trials.questions[0], acoustic_ms=None)
    values = figures(trials)
    assert values["ratio_to_sequential_p50"] == pytest.approx(0.25)
    assert values["questions_answered_percent"] == 50


def test_waterfall(tmp_path: Path) -> None:
    trials = some_trials()
    conversation_plot.draw(trials.questions, trials.sequential, tmp_path / "w.png")
    assert (tmp_path / "w.png").read_bytes().startswith(b"\x89PNG")
    conversation_plot.draw([], [], tmp_path / "empty.png")


def test_unknown_scenarios_are_named() -> None:
    with pytest.raises(ApplianceError, match="'sleep'"):
        conversation.run(scenarios=["sleep"], llm="", seed=1)
