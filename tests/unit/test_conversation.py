"""Ends of turns, answers prepared ahead, speech over answers, attention, mute."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from turn_world import MS, SESSION, SETTINGS, World

from appliance.conductor import phrases
from appliance.conductor.overlap import MOST_MS, OverlapJudge
from appliance.conductor.words import (
    is_backchannel,
    is_echo,
    is_stop,
    starts_interruption,
    takes_back,
)
from appliance.messages import (
    Cancel,
    DialogueWords,
    Generate,
    MuteState,
    Pause,
    Prepare,
    QuestionRead,
    Release,
    Restore,
    Speak,
    SpeechEnded,
    SpeechPaused,
    Transcribe,
    TurnRecord,
    WakeWord,
)


@pytest.fixture
def world() -> World:
    return World()


def asked(world: World, name: str = "u1", text: str = "what time is it") -> tuple[int, int]:
    """Speech up to its first pause, transcribed; returns its start and end."""
    start = world.now_ms
    world.now_ms += 300
    world.started(name, start)
    world.now_ms += 800
    end = world.now_ms - 100
    world.speech(SpeechPaused, name, start, end)
    world.transcript(text)
    return start, end


# --- the end of the user's turn ----------------------------------------------------------------


def test_what_sounds_finished_is_answered_after_a_short_silence(world: World) -> None:
    _, end = asked(world)
    world.reply("Noon.", last=True, question_complete=0.9)
    assert world.last(Speak).hold
    world.sounds_finished("u1", end, 0.95)
    assert world.taker.state == "listening"
    due_ns = world.taker.due_ns()
    assert due_ns == (end + SETTINGS.end_of_turn_ms) * MS
    out = world.wait(due_ns // MS - world.now_ms)
    assert [m.utterance_id for m in out if isinstance(m, Release)] == [
        world.last(Speak).utterance_id
    ]
    world.plays(world.last(Speak).utterance_id)
    world.ends(world.last(Speak).utterance_id, "Noon.")
    record = world.last(TurnRecord)
    assert record.end_of_turn_probability == 0.95
    assert record.contributions_ms["end_of_turn_delay"] == SETTINGS.end_of_turn_ms
    assert sum(record.contributions_ms.values()) == pytest.approx(record.voice_to_voice_ms)
    assert record.contributions_ms["llm_ttft"] == 0, "it was done in the silence"


def test_what_sounds_unfinished_is_waited_for_longer_than_the_fallback(world: World) -> None:
    start, end = asked(world, text="I would like to know")
    world.sounds_finished("u1", end, 0.02)
    world.now_ms = end + SETTINGS.fallback_ms
    world.speech(SpeechEnded, "u1", start, end, decided_ns=world.now_ns)
    assert world.taker.state == "listening"
    world.wait(2_100)
    assert world.taker.state == "thinking"


def test_words_that_do_not_end_hold_the_answer_back_however_it_sounds(world: World) -> None:
    start, end = asked(world, text="I would like to know what")
    world.sounds_finished("u1", end, 0.95)
    world.reply("What?", last=True, question_complete=0.001)
    world.wait(SETTINGS.fallback_ms)
    assert world.taker.state == "listening"
    world.resumes("u1", start)
    assert world.count(Release) == 0


def test_the_words_are_waited_for_no_longer_than_silence_alone_would_take(world: World) -> None:
    _, end = asked(world)
    world.sounds_finished("u1", end, 0.99)
    assert world.taker.due_ns() == (end + SETTINGS.fallback_ms) * MS


def test_without_an_opinion_silence_alone_ends_the_turn(world: World) -> None:
    start, end = asked(world)
    world.now_ms = end + SETTINGS.fallback_ms
    world.speech(SpeechEnded, "u1", start, end, decided_ns=world.now_ns)
    assert world.taker.state == "thinking"


@pytest.mark.parametrize("later_ms", [0, 20, -20])
def test_what_sounds_unfinished_is_waited_for_beyond_the_end_of_the_segment(
    world: World, later_ms: int
) -> None:
    """At the segment's end vad knows a little better when speech ended than in the pause."""
    start, end = asked(world, text="How do you say")
    world.sounds_finished("u1", end, 0.1)
    world.reply("Say what?", question_complete=0.02)
    world.now_ms = end + SETTINGS.fallback_ms + 50
    world.speech(SpeechEnded, "u1", start, end + later_ms, decided_ns=world.now_ns)
    if later_ms:
        world.transcript("How do you say")
    assert world.taker.state == "listening"
    world.now_ms = end + 1_150
    world.started("u2", world.now_ms - 250)
    assert world.taker.state == "listening"
    assert world.count(TurnRecord) == 0, "it is the same turn"


def test_an_opinion_about_an_earlier_pause_counts_no_more(world: World) -> None:
    start, end = asked(world)
    world.resumes("u1", start)
    world.sounds_finished("u1", end, 0.99)
    world.wait(1_000)
    assert world.taker.state == "listening"


def test_a_sound_in_the_pause_holds_the_end_back_until_it_is_nothing(world: World) -> None:
    _, end = asked(world)
    world.reply("Noon.", last=True, question_complete=0.9)
    world.sounds_finished("u1", end, 0.95)
    world.near_end(active=True)
    world.now_ms = end + SETTINGS.end_of_turn_ms
    world.wait(10)
    assert world.taker.state == "listening"
    world.near_end(active=False)
    world.wait(1)
    assert world.taker.state == "thinking"


def test_who_pauses_long_is_given_longer(world: World) -> None:
    start, end = asked(world, text="the first thing")
    world.now_ms = end + 700
    world.resumes("u1", start)
    world.now_ms += 800
    end = world.now_ms - 100
    world.speech(SpeechPaused, "u1", start, end)
    world.transcript("the first thing and the second")
    world.sounds_finished("u1", end, 0.95)
    due_ns = world.taker.due_ns()
    assert due_ns is not None
    assert due_ns > (end + 700) * MS


def test_going_on_after_the_end_but_before_the_answer_reopens_the_turn(world: World) -> None:
    start, end = asked(world, text="what is the capital")
    world.sounds_finished("u1", end, 0.95)
    world.reply("Of what?", last=True, question_complete=0.9)
    world.wait(500)
    assert world.taker.state == "thinking"
    spoken = world.last(Speak).utterance_id
    world.resumes("u1", start)
    assert world.taker.state == "listening"
    assert spoken in {m.id for m in world.sent if isinstance(m, Cancel)}
    world.now_ms += 900
    world.speech(SpeechPaused, "u1", start, world.now_ms - 100)
    world.transcript("what is the capital of Italy")
    assert world.last(Generate).messages[-1].text == "what is the capital of Italy"


def test_stable_words_are_read_by_llm_while_they_are_spoken(world: World) -> None:
    start = world.now_ms
    world.now_ms += 300
    world.started("u1", start)
    world.partial("u1", "what is the", "cap")
    assert world.last(Prepare).question == "what is the"
    before = world.count(Prepare)
    world.partial("u1", "what is the capital")
    assert world.count(Prepare) == before, "not for every word"


def test_what_may_be_a_whole_question_is_read_to_where_its_answer_begins(world: World) -> None:
    start = world.now_ms
    world.now_ms += 300
    world.started("u1", start)
    world.partial("u1", "what is the", "capital?")
    ahead = world.last(Prepare)
    assert (ahead.question, ahead.whole) == ("what is the capital?", True)
    before = world.count(Prepare)
    world.partial("u1", "What is the capital?")
    assert world.count(Prepare) == before, "the same words"
    world.partial("u1", "What is the capital", "of the old")
    ahead = world.last(Prepare)
    assert (ahead.question, ahead.whole) == ("What is the capital of the", False)


@pytest.mark.parametrize("text", ["???", "🎉"])
def test_a_question_without_words_is_put_to_llm_as_it_is(world: World, text: str) -> None:
    _, out = world.taker.ask(text, world.now_ns)
    world.sent += out
    assert world.last(Generate).messages[-1].text == text


def test_a_question_is_put_to_llm_as_llm_has_read_it(world: World) -> None:
    start = world.now_ms
    world.now_ms += 300
    world.started("u1", start)
    world.partial("u1", "what is", "the capital of Italy.")
    world.now_ms += 900
    world.speech(SpeechPaused, "u1", start, world.now_ms - 100)
    world.transcript("What is the capital of Italy?")
    assert world.last(Generate).messages[-1].text == "what is the capital of Italy."
    world.speech(SpeechEnded, "u1", start, world.now_ms - 100, decided_ns=world.now_ns)
    world.reply("Rome.", last=True)
    answer = world.last(Speak).utterance_id
    world.plays(answer)
    world.ends(answer, "Rome.")
    assert world.last(TurnRecord).transcript == "What is the capital of Italy?"


# --- speech over the answer --------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", ["Stop.", "no wait", "what about Spain", "Be quiet, please.", "Cancel that."]
)
def test_an_interruption_cancels_the_answer_and_takes_the_floor(world: World, words: str) -> None:
    answer = world.speaks()
    start = world.over()
    world.over_ends("over", start)
    out = world.transcript(words)
    assert answer in {m.id for m in out if isinstance(m, Cancel)}
    assert world.taker.state == "listening"
    world.ends(answer, "Rome is", interrupted=True)
    first = world.last(TurnRecord)
    assert (first.outcome, first.reply) == ("interrupted", "Rome is")
    assert [o.kind for o in first.overlaps] == ["interruption"]
    assert first.overlaps[0].ducked_ns > 0
    assert world.last(DialogueWords).text == "Rome is"
    world.now_ms += 700
    world.speech(SpeechEnded, "over", start, world.now_ms - 800, decided_ns=world.now_ns)
    world.transcript(words)
    if is_stop(words):
        assert world.last(TurnRecord).outcome == "stopped"
        assert world.taker.state == "idle"
    else:
        messages = [(m.role, m.text) for m in world.last(Generate).messages[1:]]
        assert messages == [
            ("user", "What is the capital of Italy?"),
            ("assistant", "Rome is"),
            ("user", words),
        ]


def test_the_next_question_waits_for_what_was_played(world: World) -> None:
    answer = world.speaks()
    start = world.over(speech_ms=500)
    world.over_ends("over", start)
    world.transcript("and of Spain")
    generates = world.count(Generate)
    world.now_ms += 700
    world.speech(SpeechEnded, "over", start, world.now_ms - 800, decided_ns=world.now_ns)
    world.transcript("and of Spain")
    assert world.count(Generate) == generates
    world.ends(answer, "Rome", interrupted=True)
    assert [m.text for m in world.last(Generate).messages[2:]] == ["Rome", "and of Spain"]


def test_a_tts_that_never_says_what_was_played_does_not_block(world: World) -> None:
    world.speaks()
    start = world.over(speech_ms=500)
    world.over_ends("over", start)
    world.transcript("and of Spain")
    world.now_ms += 700
    world.speech(SpeechEnded, "over", start, world.now_ms - 800, decided_ns=world.now_ns)
    world.transcript("and of Spain")
    world.wait(2_000)
    assert world.last(Generate).messages[-1].text == "and of Spain"


@pytest.mark.parametrize(
    ("words", "avg_logprob", "kind"),
    [
        ("Mm-hmm.", -0.9, "backchannel"),
        ("Yeah, okay.", -0.3, "backchannel"),
        ("", -0.3, "noise"),
        ("In a month.", -0.9, "noise"),
        ("is the capital of Italy", -0.3, "echo"),
    ],
)
def test_what_is_no_interruption_lets_the_answer_go_on(
    world: World, words: str, avg_logprob: float, kind: str
) -> None:
    answer = world.speaks()
    start = world.over()
    end = world.over_ends("over", start)
    out = world.transcript(words, avg_logprob=avg_logprob)
    assert [m.utterance_id for m in out if isinstance(m, Restore)] == [answer]
    assert world.taker.state == "speaking"
    world.now_ms += 700
    world.speech(SpeechEnded, "over", start, end, decided_ns=world.now_ns)
    world.ends(answer, "Rome is the capital of Italy.")
    record = world.last(TurnRecord)
    assert (record.outcome, [o.kind for o in record.overlaps]) == ("answered", [kind])
    assert world.taker.state == "idle", "it is not answered either"


def test_a_sound_that_never_becomes_speech_is_noise(world: World) -> None:
    answer = world.speaks()
    world.near_end(active=True)
    world.ducks()
    world.now_ms += 150
    out = world.near_end(active=False)
    assert [m.utterance_id for m in out if isinstance(m, Restore)] == [answer]
    world.ends(answer, "Rome is the capital of Italy.")
    assert [o.kind for o in world.last(TurnRecord).overlaps] == ["noise"]


def test_words_while_they_are_spoken_interrupt_without_waiting_for_a_pause(world: World) -> None:
    answer = world.speaks()
    world.over()
    out = world.transcript("tell me about")
    assert answer in {m.id for m in out if isinstance(m, Cancel)}


def test_speech_without_known_words_silences_the_answer_and_then_ends_it(world: World) -> None:
    answer = world.speaks()
    start = world.over()
    out = world.wait(200)
    assert [m.utterance_id for m in out if isinstance(m, Pause)] == [answer]
    for _ in range(4):
        world.now_ms += 330
        world.continues("over", start)
    assert answer in {m.id for m in world.sent if isinstance(m, Cancel)}
    assert world.taker.state == "listening"


def test_an_encouraging_word_does_not_even_silence_the_answer(world: World) -> None:
    world.speaks()
    world.over()
    world.transcript("Yeah")
    world.wait(300)
    assert world.count(Pause) == 0


def test_going_on_with_the_question_takes_the_answer_back(world: World) -> None:
    start, end = asked(world, text="what is the capital")
    world.sounds_finished("u1", end, 0.9)
    world.wait(300)
    world.reply("Of which country?", last=True)
    answer = world.last(Speak).utterance_id
    world.plays(answer)
    assert world.taker.state == "speaking"
    world.now_ms += 100
    world.resumes("u1", start)
    world.now_ms += 330
    out = world.continues("u1", start)
    assert answer in {m.id for m in out if isinstance(m, Cancel)}
    world.ends(answer, "Of", interrupted=True)
    assert world.taker.state == "listening"
    end = world.now_ms + 500
    world.now_ms = end + 100
    world.speech(SpeechPaused, "u1", start, end)
    world.transcript("what is the capital of Italy")
    world.sounds_finished("u1", end, 0.99)
    world.wait(2_000)
    world.reply("Rome.", last=True)
    world.plays(world.last(Speak).utterance_id)
    world.ends(world.last(Speak).utterance_id, "Rome.")
    record = world.last(TurnRecord)
    assert world.count(TurnRecord) == 1
    assert "cut_off" in record.marks
    assert record.transcript == "what is the capital of Italy"


def test_who_still_speaks_when_the_answer_is_over_has_the_floor(world: World) -> None:
    answer = world.speaks()
    start = world.over()
    world.ends(answer, "Rome is the capital of Italy.")
    assert world.taker.state == "listening"
    end = world.over_ends("over", start)
    world.transcript("and how large is it")
    world.sounds_finished("over", end, 0.99)
    world.wait(2_000)
    assert world.last(Generate).messages[-1].text == "and how large is it"


def test_a_dead_asr_does_not_make_it_deaf_to_interruptions(world: World) -> None:
    answer = world.speaks()
    start = world.over()
    world.over_ends("over", start)
    world.transcript("", error="out of memory")
    assert answer in {m.id for m in world.sent if isinstance(m, Cancel)}


def test_stop_alone_is_never_answered(world: World) -> None:
    start, end = asked(world, text="Stop.")
    assert world.count(Generate) == 0
    world.now_ms = end + SETTINGS.fallback_ms
    world.speech(SpeechEnded, "u1", start, end, decided_ns=world.now_ns)
    assert world.last(TurnRecord).outcome == "stopped"


# --- heard and not understood ------------------------------------------------------------------


def test_a_question_whose_words_are_lost_is_asked_for_again_once(world: World) -> None:
    world.says("u1", voiced_ms=900)
    world.transcript("")
    said = world.last(Speak)
    assert said.text == phrases.NOT_CAUGHT
    world.plays(said.utterance_id)
    world.now_ms += 1_500
    world.ends(said.utterance_id, said.text)
    assert world.last(TurnRecord).outcome == "nothing_said"
    assert world.taker.state == "idle"

    world.says("u2", voiced_ms=900)
    world.transcript("")
    assert world.count(Speak) == 1, "a television in another language would be a loop"

    world.whole_turn(name="u3")
    spoken = world.count(Speak)
    world.says("u4", voiced_ms=900)
    world.transcript("")
    assert world.count(Speak) == spoken + 1


@pytest.mark.parametrize("voiced_ms", [0, 300, 650])
def test_what_was_hardly_a_voice_provokes_no_apology(world: World, voiced_ms: int) -> None:
    world.says("u1", voiced_ms=voiced_ms)
    world.transcript("")
    assert world.count(Speak) == 0
    assert world.taker.state == "idle"


def test_an_interruption_without_words_is_not_met_with_silence(world: World) -> None:
    answer = world.speaks()
    start = world.over()
    world.wait(200)
    for _ in range(4):
        world.now_ms += 330
        world.continues("over", start)
    assert answer in {m.id for m in world.sent if isinstance(m, Cancel)}
    world.ends(answer, "Rome is", interrupted=True)
    end = world.now_ms
    world.now_ms += 100
    world.speech(SpeechPaused, "over", start, end, voiced_ms=500)
    world.transcript("")
    world.now_ms += 700
    world.speech(SpeechEnded, "over", start, end, decided_ns=world.now_ns, voiced_ms=500)
    assert world.last(Speak).text == phrases.NOT_CAUGHT


def test_who_says_it_again_meanwhile_is_listened_to(world: World) -> None:
    world.says("u1", voiced_ms=900)
    world.transcript("")
    said = world.last(Speak)
    world.plays(said.utterance_id)
    world.now_ms += 300
    world.says("u2", voiced_ms=900)
    assert said.utterance_id in {m.id for m in world.sent if isinstance(m, Cancel)}
    world.ends(said.utterance_id, "Sorry", interrupted=True)
    world.transcript("What is the capital of Italy?")
    assert world.last(Generate).messages[-1].text == "What is the capital of Italy?"


# --- who is meant ------------------------------------------------------------------------------


def test_with_a_wake_word_only_who_calls_is_heard_and_without_the_call() -> None:
    world = World(replace(SETTINGS, wake_word=True))
    world.says("u1")
    assert world.taker.state == "idle"
    start = world.now_ms
    world.now_ms += 1_300
    world.hear(
        WakeWord(session_id=SESSION, name="okay_nabu", end_ns=(start + 1_000) * MS, probability=0.9)
    )
    world.started("u2", start)
    world.now_ms += 1_000
    world.speech(SpeechPaused, "u2", start, world.now_ms - 100)
    assert world.last(Transcribe).spans[0].first == (start + 1_000) // 10


def test_after_an_answer_no_wake_word_is_needed_for_a_while() -> None:
    world = World(replace(SETTINGS, wake_word=True))
    world.hear(WakeWord(session_id=SESSION, name="n", end_ns=world.now_ns, probability=0.9))
    world.whole_turn()
    world.now_ms += 2_000
    world.says("u2")
    assert world.taker.state == "thinking"
    world.transcript("")
    world.now_ms += SETTINGS.follow_up_ms + 1_000
    world.says("u3")
    assert world.taker.state == "idle"


@pytest.mark.parametrize("hardware", [True, False])
def test_muting_ends_what_is_being_said(world: World, hardware: bool) -> None:
    asked(world)
    world.hear(MuteState(session_id=SESSION, hardware=hardware, software=not hardware))
    assert world.last(TurnRecord).outcome == "muted"
    world.says("u2")
    assert world.taker.state == "idle"
    world.hear(MuteState(session_id=SESSION, hardware=False, software=False))
    world.says("u3")
    assert world.taker.state == "thinking"


# --- words -------------------------------------------------------------------------------------


def test_words_are_what_they_are() -> None:
    for text in ("Mm-hmm.", "uh-huh", "Okay, yeah.", "I see.", "Right!", "嗯"):
        assert is_backchannel(text), text
    for text in ("", "okay so what about Spain", "no", "right, but where", "yes yes yes yes yes"):
        assert not is_backchannel(text), text
    for text in ("Stop.", "Okay, stop please", "shut up", "That's enough.", "停"):
        assert is_stop(text), text
    for text in ("Wait, wait.", "Hold on a second.", "Just a moment, please.", "No, stop, stop!"):
        assert is_stop(text), text
    for text in ("stop the timer", "how do I stop smoking", "", "enough of that, what's next"):
        assert not is_stop(text), text
    for text in ("wait for me", "One minute.", "Hold on, what is the capital of Spain?"):
        assert not is_stop(text), text  # a minute may be how long a timer runs
    for text in ("Cancel that.", "Oh, never mind.", "Forget it.", "算了"):
        assert starts_interruption(text) and takes_back(text) and not is_stop(text), text
    for text in ("cancel the timer", "forget that I like tea", "what is a cancelled flight"):
        assert not takes_back(text), text
    assert starts_interruption("no I meant the other one")
    assert not starts_interruption("nobody knows")
    assert is_echo("capital of Italy", ["Rome is the capital of Italy."])
    assert is_echo("The capital.", ["Rome is the capital of Italy."])
    assert is_echo("Capital", ["Rome is the capital of Italy."])
    assert not is_echo("is", ["Rome is the capital of Italy."])
    assert not is_echo("", ["Rome is the capital of Italy."])
    assert not is_echo("what about Spain then", ["Rome is the capital of Italy."])


@given(st.text(max_size=60), st.booleans(), st.integers(0, 4_000))
def test_the_judge_always_has_a_verdict_when_the_speech_is_over(
    text: str, final: bool, spoken_ms: int
) -> None:
    judge = OverlapJudge(0, active_ns=spoken_ms * MS)
    verdict = judge.words(text, ["Rome is the capital."], final=final)
    assert verdict is not None or not final
    if verdict is not None:
        assert judge.reason


# --- whatever happens --------------------------------------------------------------------------

NAMES = """
says started continues resumes paused finished unfinished ended transcript stop yeah partial reply
last plays ends cut near_on near_off ducks kill wait mute unmute wake ask
"""
ACTIONS = st.lists(st.sampled_from(NAMES.split()), max_size=60)


@settings(max_examples=400, deadline=None)
@given(ACTIONS, st.booleans(), st.booleans())
def test_every_state_has_an_exit_and_history_is_what_was_played(
    actions: list[str], barge_in: bool, wake_word: bool
) -> None:
    world = World(replace(SETTINGS, barge_in=barge_in, wake_word=wake_word, acknowledge=True))
    life = number = 0
    name, start = "u0", world.now_ms
    for process in ("asr", "llm", "tts"):
        world.beat(process, life=0)
    for action in actions:
        world.now_ms += 53
        match action:
            case "says" | "started":
                number += 1
                name, start = f"u{number}", world.now_ms
                world.says(name) if action == "says" else world.started(name)
            case "continues":
                world.continues(name, start)
            case "resumes":
                world.resumes(name, start)
            case "paused":
                world.speech(SpeechPaused, name, start, world.now_ms)
            case "finished" | "unfinished":
                probability = 0.99 if action == "finished" else 0.01
                world.sounds_finished(name, world.now_ms - 53, probability)
            case "ended":
                world.speech(SpeechEnded, name, start, world.now_ms, decided_ns=world.now_ns)
            case "transcript" | "stop" | "yeah" if world.count(Transcribe):
                world.transcript({"transcript": "and Spain"}.get(action, action))
            case "partial":
                world.partial(name, "what is the capital of")
            case "reply" | "last" if world.count(Generate):
                world.reply("Hi.", index=number, last=action == "last")
            case "plays" if world.count(Speak):
                world.plays(world.last(Speak).utterance_id)
            case "ends" | "cut" if world.count(Speak):
                world.ends(world.last(Speak).utterance_id, "played", interrupted=action == "cut")
            case "near_on" | "near_off":
                world.near_end(active=action == "near_on")
            case "ducks" if world.count(Speak):
                world.ducks()
            case "kill":
                life += 1
                for process in ("asr", "llm", "tts"):
                    world.beat(process, life=life)
            case "wait":
                world.wait(700)
            case "mute" | "unmute":
                muted = action == "mute"
                world.hear(MuteState(session_id=SESSION, hardware=False, software=muted))
            case "wake":
                world.hear(
                    WakeWord(session_id=SESSION, name="n", end_ns=world.now_ns, probability=1.0)
                )
            case "ask":
                world.sent += world.taker.ask("hello", world.now_ns)[1]
    for _ in range(30):
        world.wait(MOST_MS)
        world.wait(5_000)
    assert world.taker.state == "idle"
    assert world.taker.due_ns() is None
    records = [m for m in world.sent if isinstance(m, TurnRecord)]
    assert len({m.turn_id for m in records}) == len(records), "a turn ends once"
    world.hear(MuteState(session_id=SESSION, hardware=False, software=False))
    out = world.taker.ask("next", world.now_ns)[1]
    asked_with = next(m for m in out if isinstance(m, Generate)).messages
    replies = [m.reply for m in records if m.reply]
    told = [m.text for m in asked_with if m.role == "assistant"]
    assert told == [r for m in records for r in [m.reply] if r and m.transcript][-len(told) :]
    assert set(told) <= set(replies)


@pytest.mark.parametrize(
    ("words", "own", "obeyed"),
    [
        ("Stop.", "It is a long story.", True),
        ("Cancel.", "It is a long story.", True),
        ("Stop.", "The bus will stop there.", False),
        ("Mm.", "It is a long story.", False),
        ("", "It is a long story.", False),
    ],
)
def test_a_word_too_short_for_speech_is_obeyed_if_it_asks_for_silence(
    world: World, words: str, own: str, obeyed: bool
) -> None:
    answer = world.speaks(own)
    world.near_end(active=True)
    world.ducks()
    world.now_ms += 300
    world.near_end(active=False)
    assert world.count(Restore) == 1, "the answer goes on meanwhile"
    world.transcript(words)
    assert (answer in {m.id for m in world.sent if isinstance(m, Cancel)}) is obeyed
    if not obeyed:
        assert world.taker.state == "speaking"
    elif is_stop(words):
        assert world.last(TurnRecord).outcome == "stopped"
    else:  # there may be something to take back
        world.ends(answer, "It is", interrupted=True)
        assert world.last(Generate).messages[-1].text == words


def test_of_several_short_sounds_only_the_newest_is_heard(world: World) -> None:
    answer = world.speaks()
    for _ in range(2):
        world.near_end(active=True)
        world.ducks()
        world.now_ms += 300
        world.near_end(active=False)
        world.now_ms += 50
    first, second = [m.request_id for m in world.sent if isinstance(m, Transcribe)][-2:]
    cancelled = {m.id for m in world.sent if isinstance(m, Cancel)}
    assert first in cancelled
    assert second not in cancelled
    world.transcript("Stop.")
    assert answer in {m.id for m in world.sent if isinstance(m, Cancel)}


def test_llms_opinion_of_the_question_ends_the_turn_before_its_answer_is_written(
    world: World,
) -> None:
    _, end = asked(world)
    world.sounds_finished("u1", end, 0.95)
    world.hear(
        QuestionRead(session_id=SESSION, request_id=world.last(Generate).request_id, complete=0.9)
    )
    assert world.taker.due_ns() == (end + SETTINGS.end_of_turn_ms) * MS
    world.hear(QuestionRead(session_id=SESSION, request_id="another", complete=0.001))
    assert world.taker.due_ns() == (end + SETTINGS.end_of_turn_ms) * MS


def test_a_last_word_that_nobody_ends_with_is_waited_for_without_llm(world: World) -> None:
    start, end = asked(world, text="Please tell me about the")
    world.sounds_finished("u1", end, 0.99)
    world.now_ms = end + SETTINGS.fallback_ms
    world.speech(SpeechEnded, "u1", start, end, decided_ns=world.now_ns)
    world.wait(500)
    assert world.taker.state == "listening"
    world.wait(400)
    assert world.taker.state == "thinking"
