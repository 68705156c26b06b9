"""A question goes to mind first; nothing is done before the turn is over."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.conductor import phrases
from appliance.conductor.asking import CONSIDER_BOUND_MS
from appliance.messages import (
    Cancel,
    Commit,
    Consider,
    Considered,
    Done,
    Generate,
    Message,
    Release,
    Ringing,
    Speak,
    SpeechEnded,
    SpeechPaused,
    TurnRecord,
)
from tests.unit.turn_world import SESSION, SETTINGS, World


class MindWorld(World):
    """A world with a mind in it."""

    def __init__(self) -> None:
        super().__init__()
        self.beat("mind", 1)

    def considered(self, **what: Any) -> list[Message]:
        request_id = self.last(Consider).request_id
        return self.hear(Considered(session_id=SESSION, request_id=request_id, **what))

    def done(self, reply: str) -> list[Message]:
        request_id = self.last(Commit).request_id
        return self.hear(Done(session_id=SESSION, request_id=request_id, reply=reply))

    def pauses_with(self, text: str) -> None:
        """An utterance up to its first pause, transcribed."""
        start_ms = self.now_ms
        self.now_ms += 300
        self.started("u1", start_ms)
        self.now_ms += 900
        self.speech(SpeechPaused, "u1", start_ms, self.now_ms - 50)
        self.transcript(text)

    def stays_silent(self) -> None:
        """The pause was the end of the turn."""
        end_ms = self.now_ms - 50
        self.now_ms += 800
        self.speech(SpeechEnded, "u1", end_ms - 1_150, end_ms, decided_ns=self.now_ns)

    def speaks_by_llm(self) -> None:
        """A turn up to its audible answer."""
        self.says()
        self.transcript("What is the capital of Italy?")
        self.considered()
        self.reply("Rome.", last=True)
        self.plays(self.last(Speak).utterance_id)

    def heard_to_its_end(self) -> TurnRecord:
        speak = self.last(Speak)
        self.plays(speak.utterance_id)
        self.now_ms += 500
        self.ends(speak.utterance_id, " ".join(p.text for p in self.spoken(speak.utterance_id)))
        return self.last(TurnRecord)

    def spoken(self, utterance_id: str) -> list[Speak]:
        return [m for m in self.sent if isinstance(m, Speak) and m.utterance_id == utterance_id]


@pytest.fixture
def world() -> MindWorld:
    return MindWorld()


def test_what_mind_can_answer_is_spoken_without_llm(world: MindWorld) -> None:
    world.pauses_with("What time is it?")
    world.considered(reply="It's noon.", intent="time_now")
    assert world.last(Speak).hold
    assert not world.count(Commit)
    world.stays_silent()
    assert world.last(Commit).request_id == world.last(Consider).request_id
    assert world.last(Release).utterance_id == world.last(Speak).utterance_id
    record = world.heard_to_its_end()
    assert not world.count(Generate)
    assert (record.outcome, record.reply, record.marks) == ("answered", "It's noon.", ("time_now",))
    assert sum(record.contributions_ms.values()) == pytest.approx(record.voice_to_voice_ms)


def test_what_llm_is_to_answer_is_asked_with_facts_after_the_question(world: MindWorld) -> None:
    world.pauses_with("What is my dog called?")
    world.considered(facts="(What I told you before: My dog is called Rex.)")
    question = world.last(Generate).messages[-1]
    assert question.role == "user"
    assert question.text.startswith("What is my dog called?\n")
    assert "Rex" in question.text


def test_a_follow_up_is_asked_in_full(world: MindWorld) -> None:
    world.pauses_with("And in Italy?")
    world.considered(question="What is the capital of Italy?")
    assert world.last(Generate).messages[-1].text == "What is the capital of Italy?"
    world.stays_silent()
    world.reply("Rome.", last=True)
    assert world.heard_to_its_end().transcript == "And in Italy?"


def test_nothing_is_done_while_the_user_may_go_on(world: MindWorld) -> None:
    world.pauses_with("Set a timer for ten minutes")
    world.considered(reply="The timer is set.", acts=True, intent="timer_set")
    held = world.last(Speak)
    world.now_ms += 100
    world.resumes("u1", world.now_ms - 1_400)
    assert not world.count(Commit)
    assert world.last(Cancel).id == held.utterance_id


def test_who_goes_on_after_the_deed_is_known_to_be_in_the_same_turn(world: MindWorld) -> None:
    world.pauses_with("Set a timer for ten minutes")
    world.considered(acts=True, intent="timer_set")
    world.stays_silent()
    first = world.last(Commit)
    world.resumes("u1", world.now_ms - 2_000)
    world.now_ms += 400
    world.speech(SpeechPaused, "u1", world.now_ms - 2_400, world.now_ms - 50)
    world.transcript("Set a timer for ten minutes please")
    assert world.last(Consider).turn_id == first.turn_id
    world.considered(acts=True, intent="timer_set")
    world.stays_silent()
    assert world.count(Commit) == 2
    assert world.last(Commit).turn_id == first.turn_id
    world.done("The timer is set.")
    assert world.heard_to_its_end().turn_id == first.turn_id


def test_a_deed_is_told_of_when_it_is_done(world: MindWorld) -> None:
    world.pauses_with("Set a timer for ten minutes")
    world.considered(reply="The timer is set.", acts=True, intent="timer_set")
    world.stays_silent()
    assert world.count(Commit) == 1
    assert not world.count(Release)
    world.done("The timer is set.")
    assert world.last(Release).utterance_id == world.last(Speak).utterance_id
    assert world.count(Speak) == 1
    assert world.heard_to_its_end().outcome == "answered"


def test_a_deed_that_failed_is_never_told_as_done(world: MindWorld) -> None:
    world.pauses_with("Set a timer for ten minutes")
    world.considered(reply="The timer is set.", acts=True, intent="timer_set")
    foreseen = world.last(Speak)
    world.stays_silent()
    world.done("Sorry, the disk is full.")
    assert Cancel(session_id=SESSION, id=foreseen.utterance_id) in world.sent
    assert not any(
        m.utterance_id == foreseen.utterance_id for m in world.sent if isinstance(m, Release)
    )
    assert world.last(Speak).text == "Sorry, the disk is full."
    assert world.heard_to_its_end().reply == "Sorry, the disk is full."


def test_a_deed_whose_words_only_it_can_tell(world: MindWorld) -> None:
    world.pauses_with("Cancel the timer")
    world.considered(acts=True, intent="timer_cancel")
    world.stays_silent()
    assert not world.count(Speak)
    world.done("Cancelled: the timer.")
    assert world.last(Speak).text == "Cancelled: the timer."
    assert not world.last(Speak).hold


def test_a_question_as_text_is_done_at_once(world: MindWorld) -> None:
    turn_id, out = world.taker.ask("Set a timer for one minute", world.now_ns)
    world.sent += out
    assert turn_id
    world.considered(reply="The timer is set.", acts=True, intent="timer_set")
    assert not world.count(Speak)
    world.done("The timer is set.")
    assert world.last(Speak).text == "The timer is set."


def test_a_silent_mind_costs_a_moment_and_no_answer(world: MindWorld) -> None:
    world.pauses_with("What is two and two?")
    assert not world.count(Generate)
    assert world.taker.due_ns() is not None
    world.wait(CONSIDER_BOUND_MS)
    assert world.last(Generate).messages[-1].text == "What is two and two?"
    world.considered(reply="Too late.", intent="calculate")
    assert not world.count(Speak)
    world.reply("Four.", last=True)
    world.stays_silent()
    record = world.heard_to_its_end()
    assert record.reply == "Four."
    assert "mind_late" in record.marks


def test_without_mind_llm_is_asked_at_once() -> None:
    world = World()
    world.says()
    world.transcript("What time is it?")
    assert world.count(Generate) == 1
    assert not world.count(Consider)


def test_a_mind_that_dies_in_a_deed_is_not_asked_twice(world: MindWorld) -> None:
    world.pauses_with("Set a timer for ten minutes")
    world.considered(acts=True, intent="timer_set")
    world.stays_silent()
    world.beat("mind", 2)
    assert world.count(Commit) == 1
    assert world.last(Speak).text == phrases.NOT_SURE


def test_a_mind_that_dies_while_it_considers_is_done_without(world: MindWorld) -> None:
    world.pauses_with("What is two and two?")
    world.beat("mind", 2)
    assert world.count(Generate) == 1


def test_what_llm_calls_for_is_done_when_the_turn_is_over(world: MindWorld) -> None:
    world.pauses_with("Turn the lamp on")
    world.considered(grammar="root ::= call | text", facts="Tools that may be called: …")
    assert world.last(Generate).grammar
    world.reply("", last=True, call='{"name": "lamp", "arguments": {}}')
    assert not world.count(Commit)
    world.stays_silent()
    assert "lamp" in world.last(Commit).call
    assert not world.count(Speak)
    world.done("The lamp is on.")
    assert world.heard_to_its_end().reply == "The lamp is on."


def test_text_where_a_call_was_possible_is_spoken(world: MindWorld) -> None:
    world.pauses_with("Who invented the lamp?")
    world.considered(grammar="root ::= call | text", facts="Tools that may be called: …")
    world.stays_silent()
    assert not world.count(Commit)
    world.reply("Thomas Edison.", last=True)
    assert world.last(Commit).call == ""
    assert world.heard_to_its_end().reply == "Thomas Edison."


def test_llm_is_never_told_what_mind_did(world: MindWorld) -> None:
    world.pauses_with("Set a timer for ten minutes")
    world.considered(reply="The timer is set.", acts=True, intent="timer_set")
    world.stays_silent()
    world.done("The timer is set.")
    world.heard_to_its_end()
    world.now_ms += 2_000
    world.says("u2")
    world.transcript("What is two and two?")
    world.considered()
    told = " ".join(m.text for m in world.last(Generate).messages)
    assert "timer" not in told


@pytest.mark.parametrize("more", [{"error": "no model"}, {}])
def test_a_summary_that_cannot_be_written_is_not_asked_for_again_and_again(
    more: dict[str, Any],
) -> None:
    world = World()
    for n in range(SETTINGS.history_turns + 1):
        world.whole_turn(f"question {n}", "Yes.", f"u{n}")
        world.now_ms += 1_000
    world.wait(5_000)
    asked = world.last(Generate)
    assert not asked.spoken
    world.reply("", last=True, **more)
    before = world.count(Generate)
    for _ in range(20):
        world.wait(250)
    assert world.count(Generate) == before


def test_what_rings_is_said_as_soon_as_nobody_has_the_floor(world: MindWorld) -> None:
    world.speaks_by_llm()
    world.hear(Ringing(session_id=SESSION, ids=("t1",), text="The tea timer is done."))
    world.wait(10)
    assert world.last(Speak).text != "The tea timer is done."
    world.ends(world.last(Speak).utterance_id, "Rome.")
    world.wait(10)
    assert world.last(Speak).text == "The tea timer is done."


def test_what_was_silenced_is_not_said_any_more(world: MindWorld) -> None:
    world.speaks_by_llm()
    world.hear(Ringing(session_id=SESSION, ids=("t1",), text="The tea timer is done."))
    world.hear(Ringing(session_id=SESSION, ids=(), text=""))
    world.ends(world.last(Speak).utterance_id, "Rome.")
    world.wait(10)
    assert world.last(Speak).text != "The tea timer is done."


def test_while_llm_loads_the_user_is_told_and_mind_answers(world: MindWorld) -> None:
    world.beat("llm", 1, "starting")
    world.pauses_with("What is two and two?")
    world.considered(reply="Four.", intent="calculate")
    world.stays_silent()
    assert world.heard_to_its_end().marks == ("calculate",)
    world.now_ms += 2_000
    world.says("u2")
    world.transcript("Who wrote Hamlet?")
    world.considered()
    assert world.last(Speak).text == phrases.ONE_MOMENT
    world.beat("llm", 1, "ready")
    world.reply("William Shakespeare.", last=True)
    assert world.heard_to_its_end().reply == "William Shakespeare."


def test_a_mind_that_dies_before_a_deed_is_asked_anew(world: MindWorld) -> None:
    world.pauses_with("Set a timer for ten minutes")
    world.considered(reply="The timer is set.", acts=True, intent="timer_set")
    world.beat("mind", 2, "starting")
    world.beat("mind", 2)
    assert world.count(Consider) == 2
    world.considered(reply="The timer is set.", acts=True, intent="timer_set")
    world.stays_silent()
    world.done("The timer is set.")
    assert world.heard_to_its_end().reply == "The timer is set."


def test_what_rings_is_said_once_however_often_it_is_told(world: MindWorld) -> None:
    ringing = Ringing(session_id=SESSION, ids=("t1",), text="The tea timer is done.")
    for _ in range(3):
        world.hear(ringing)
        world.wait(10)
    assert world.count(Speak) == 1
    world.heard_to_its_end()
    world.hear(ringing)
    world.wait(1_000)
    assert world.count(Speak) == 1
    both = Ringing(session_id=SESSION, ids=("t1", "t2"), text="The pasta timer is done.")
    world.hear(both)
    world.wait(10)
    assert world.last(Speak).text == "The pasta timer is done."
