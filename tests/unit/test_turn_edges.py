"""Orders of events in which words were once lost, or a question was answered twice."""

from __future__ import annotations

import pytest
from test_consulting_mind import MindWorld
from turn_world import MS, SESSION, SETTINGS, World

from appliance.messages import (
    Cancel,
    Commit,
    Consider,
    EndOfTurn,
    Generate,
    MuteState,
    PiecePlayed,
    Span,
    Speak,
    SpeechEnded,
    SpeechPaused,
    SpeechStarted,
    Transcribe,
    TurnRecord,
)


@pytest.fixture
def world() -> World:
    return World()


def answered_in_the_pause(world: World) -> tuple[int, str]:
    """An answer is audible before vad's segment is over: when it began, and the answer."""
    start_ms = world.now_ms
    world.now_ms += 300
    world.started("u1", start_ms)
    world.now_ms += 900
    end_ms = world.now_ms - 50
    world.speech(SpeechPaused, "u1", start_ms, end_ms, voiced_ms=800.0)
    world.transcript("What is the capital of Italy?")
    world.sounds_finished("u1", end_ms, 0.95)
    world.reply("Rome.", last=True, question_complete=0.99)
    world.wait(300)
    answer = world.last(Speak).utterance_id
    world.plays(answer)
    return start_ms, answer


def questions(world: World) -> list[str]:
    return [m.messages[-1].text for m in world.sent if isinstance(m, Generate)]


def test_a_short_sound_after_the_question_does_not_ask_it_again(world: World) -> None:
    start_ms, answer = answered_in_the_pause(world)
    world.now_ms += 100
    world.resumes("u1", start_ms)
    world.now_ms += 100
    end_ms = world.now_ms
    world.speech(SpeechPaused, "u1", start_ms, end_ms)
    world.now_ms += 800
    world.speech(SpeechEnded, "u1", start_ms, end_ms, decided_ns=world.now_ns)
    world.ends(answer, "Rome.")
    world.wait(3_000)
    assert questions(world) == ["What is the capital of Italy?"]
    assert world.taker.state == "idle"


def test_what_is_said_in_the_same_breath_after_a_short_answer_is_a_question_of_its_own(
    world: World,
) -> None:
    start_ms, answer = answered_in_the_pause(world)
    world.now_ms += 200
    world.resumes("u1", start_ms)
    resumed_ms = world.now_ms
    world.now_ms += 100
    world.ends(answer, "Rome.")
    assert world.taker.state == "listening"
    world.now_ms += 900
    end_ms = world.now_ms
    world.speech(SpeechPaused, "u1", start_ms, end_ms, voiced_ms=1_600.0)
    asked = world.last(Transcribe).spans
    assert asked[0].first >= (resumed_ms - 300) // 10, "what was answered is not heard again"
    world.transcript("And of Spain?")
    world.now_ms += 800
    world.speech(SpeechEnded, "u1", start_ms, end_ms, decided_ns=world.now_ns)
    assert questions(world) == ["What is the capital of Italy?", "And of Spain?"]


@pytest.mark.parametrize("first", ["Okay.", ""])
def test_what_follows_an_encouraging_word_or_a_cough_is_judged_anew(
    world: World, first: str
) -> None:
    answer = world.speaks()
    start_ms = world.over()
    world.over_ends("over", start_ms)
    world.transcript(first)
    assert world.taker.state == "speaking"
    world.now_ms += 200
    world.resumes("over", start_ms)
    for _ in range(6):
        world.now_ms += 330
        world.continues("over", start_ms)
    assert answer in {m.id for m in world.sent if isinstance(m, Cancel)}


def test_a_vad_that_was_restarted_interrupts_nobody_with_the_old_question(world: World) -> None:
    world.says("u1")
    world.transcript("What is the capital of Italy?")
    world.reply("Rome is the capital of Italy.", last=True)
    answer = world.last(Speak).utterance_id
    world.plays(answer)
    told = len(world.sent)
    start_ms = 1_000
    for kind, decided_ms in ((SpeechStarted, 1_250), (SpeechPaused, 2_100), (SpeechEnded, 2_790)):
        event = {} if kind is SpeechStarted else {"speech_end_ns": 2_000 * MS}
        world.hear(
            kind(
                session_id=SESSION,
                utterance_id="u1-again",
                spans=(Span(1, 100, 200),),
                speech_start_ns=start_ms * MS,
                decided_ns=decided_ms * MS,
                **event,
            )
        )
    assert not [m for m in world.sent[told:] if isinstance(m, Transcribe | Cancel)]
    assert world.taker.state == "speaking"


def test_at_a_cut_in_long_speech_no_word_stands_in_both_parts(world: World) -> None:
    start_ms = world.now_ms
    world.now_ms += 28_000
    world.started("u1", start_ms)
    world.now_ms += 900
    world.continues("u1", start_ms)
    cut_ms = start_ms + 23_000
    world.speech(SpeechEnded, "u1", start_ms, cut_ms, decided_ns=world.now_ns, more_follows=True)
    assert world.last(Transcribe).spans == (Span(1, start_ms // 10, cut_ms // 10),)


def test_a_new_voice_while_llm_has_not_written_on_kills_nobody(world: World) -> None:
    world.says()
    world.transcript("What is the capital of Italy?")
    world.reply("Rome.")
    answer = world.last(Speak).utterance_id
    world.plays(answer)
    world.hear(PiecePlayed(session_id=SESSION, utterance_id=answer, index=0))
    world.beat("tts", 1)
    world.beat("tts", 2)
    world.reply("It is in Italy.", index=1, last=True)
    assert world.last(Speak).text == "It is in Italy."


def test_words_that_could_not_be_had_in_a_pause_are_asked_for_again(world: World) -> None:
    start_ms = world.now_ms
    world.now_ms += 300
    world.started("u1", start_ms)
    world.now_ms += 700
    end_ms = world.now_ms - 50
    world.speech(SpeechPaused, "u1", start_ms, end_ms)
    first = world.last(Transcribe).request_id
    world.transcript("", error="broken")
    assert world.count(Speak) == 0, "nobody speaks into the turn"
    world.now_ms += 800
    world.speech(SpeechEnded, "u1", start_ms, end_ms, decided_ns=world.now_ns)
    assert world.last(Transcribe).request_id != first
    world.transcript("What is the capital of Italy?")
    assert questions(world) == ["What is the capital of Italy?"]


def test_the_words_of_an_interruption_are_answered_into_its_silence(world: World) -> None:
    answer = world.speaks()
    start_ms = world.over()
    end_ms = world.over_ends("over", start_ms)
    world.hear(
        EndOfTurn(
            session_id=SESSION,
            utterance_id="over",
            speech_end_ns=end_ms * MS,
            probability=0.97,
            decided_ns=world.now_ns,
        )
    )
    world.transcript("what about Spain")
    world.ends(answer, "Rome is", interrupted=True)
    assert questions(world)[-1] == "what about Spain"
    world.reply("Madrid.", last=True, question_complete=0.99)
    world.wait(SETTINGS.end_of_turn_ms)
    assert world.taker.state == "thinking", "before vad's own end of the segment"


def test_muted_over_an_answer_nothing_waits_for_an_end_that_nobody_tells(world: World) -> None:
    answer = world.speaks()
    start_ms = world.over()
    world.over_ends("over", start_ms)
    world.hear(MuteState(session_id=SESSION, hardware=False, software=True))
    world.transcript("what about Spain")
    world.ends(answer, "Rome is", interrupted=True)
    assert world.taker.state == "idle"


def test_who_speaks_while_an_announcement_is_synthesised_is_heard(world: World) -> None:
    _, sent = world.taker.say("The timer is over.", world.now_ns)
    announcement = next(m for m in sent if isinstance(m, Speak)).utterance_id
    world.sent += sent
    start_ms = world.now_ms
    world.now_ms += 300
    world.started("x", start_ms)
    world.plays(announcement)
    for _ in range(6):
        world.now_ms += 330
        world.continues("x", start_ms)
    assert announcement in {m.id for m in world.sent if isinstance(m, Cancel)}


def test_a_deed_is_owed_to_no_successor() -> None:
    world = MindWorld()
    world.pauses_with("Add milk to my shopping list.")
    world.considered(reply="", acts=True, intent="note_add", confidence=1.0)
    assert world.count(Consider) == 1
    assert world.taker.open_spans()
    world.stays_silent()
    assert world.count(Commit) == 1
    assert world.taker.open_spans() == ()
    world.done("I added milk.")
    assert world.taker.open_spans() == ()


def test_an_apology_that_ends_before_the_deed_is_not_the_end() -> None:
    world = MindWorld()
    world.beat("llm", 1)
    world.says()
    world.transcript("Turn the lamp on.")
    world.considered(grammar="root ::= object", question="Turn the lamp on.")
    world.beat("llm", 2, "starting")
    world.beat("llm", 2)
    apology = world.last(Speak).utterance_id
    world.plays(apology)
    world.reply("", last=True, call='{"tool": "lamp"}')
    assert world.count(Commit) == 1
    world.ends(apology, "Sorry, one moment.")
    assert world.count(TurnRecord) == 0
    world.done("The lamp is on.")
    assert world.last(Speak).text == "The lamp is on."


def test_a_question_in_the_same_breath_as_stop_is_heard(world: World) -> None:
    answer = world.speaks()
    start_ms = world.over()
    world.transcript("Stop,")
    world.ends(answer, "Rome is", interrupted=True)
    end_ms = world.over_ends("over", start_ms)
    world.transcript("Stop.")
    world.wait(SETTINGS.end_of_turn_ms)
    assert world.last(TurnRecord).outcome == "stopped"
    world.now_ms += 150
    world.resumes("over", start_ms)
    assert world.taker.state == "listening"
    world.now_ms += 900
    end_ms = world.now_ms
    world.speech(SpeechPaused, "over", start_ms, end_ms)
    assert world.last(Transcribe).spans[0].first > start_ms // 10
    world.transcript("How many days are there in a week?")
    world.now_ms += 800
    world.speech(SpeechEnded, "over", start_ms, end_ms, decided_ns=world.now_ns)
    assert questions(world)[-1] == "How many days are there in a week?"
