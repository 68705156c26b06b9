"""What becomes of a question before llm is asked; that considering changes nothing."""

from __future__ import annotations

import datetime as dt
import functools
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.config import Config, MindConfig
from appliance.messages import Commit, Consider, Considered, TurnRecord
from appliance.mind.belongings import Belongings
from appliance.mind.making import INTENTS, LANGUAGES, make_mind
from appliance.mind.mind import Mind
from appliance.mind.skills import Outcome
from appliance.mind.tools import typed_tool
from appliance.mind.tools.registry import Arguments
from appliance.mind.understanding import Understanding, load


@functools.cache
def understandings() -> dict[str, Understanding]:
    """Loaded once: they hold no state."""
    return {language: load(INTENTS, language) for language in LANGUAGES}


class World:
    """A mind with its store, and somebody who talks to it."""

    def __init__(self, folder: Path, *, memory: bool = True) -> None:
        config = Config(mind=MindConfig(data_dir=str(folder), memory=memory, time_zone="UTC"))
        self.things = Belongings.open(config)
        self.mind: Mind = make_mind(config, self.things, understandings(), lambda: {"llm": "ready"})
        self.asked = 0

    def consider(self, text: str, session: str = "local", **more: bool | str) -> Considered:
        self.asked += 1
        message = Consider(
            session_id=session, request_id=f"r{self.asked}", text=text, in_dialogue=False
        )
        return self.mind.consider(msgspec.structs.replace(message, **more))

    def say(
        self, text: str, session: str = "local", llm: str = "I see.", **more: bool | str
    ) -> str:
        """A whole turn; what was said in it."""
        considered = self.consider(text, session, **more)
        commit = Commit(session_id=session, request_id=considered.request_id)
        reply = considered.reply or llm
        if (act := self.mind.commit(commit)) is not None:
            outcome = act()
            self.mind.done(session, outcome)
            reply = outcome.reply
        self.heard(text, reply, session, (considered.intent,))
        return reply

    def heard(self, text: str, reply: str, session: str, marks: tuple[str, ...] = ()) -> None:
        self.mind.heard(
            TurnRecord(
                session_id=session,
                turn_id="t",
                source="speech",
                outcome="answered",
                transcript=text,
                reply=reply,
                utterance_ids=(),
                speech_end_ns=0,
                audible_ns=1,
                voice_to_voice_ms=1.0,
                contributions_ms={},
                marks=marks,
            )
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_considering_changes_nothing(world: World) -> None:
    for text in ("Set a timer for ten minutes", "Remember that I like tea", "Volume 20 percent"):
        considered = world.consider(text)
        assert considered.acts
        assert considered.reply
    assert world.things.timers.list() == ()
    assert world.things.memory is not None
    assert world.things.memory.about(world.things.who) == ()
    assert world.mind.session("local").voice.volume_percent == 100


def test_what_is_foreseen_is_what_is_said(world: World) -> None:
    for text in (
        "Set a timer for ten minutes",
        "Set a pasta timer for one hour and five minutes",
        "Set an alarm for half past six tomorrow",
        "Remember that my sister lives in Rome",
        "Volume 20 percent",
    ):
        considered = world.consider(text)
        act = world.mind.commit(Commit(session_id="local", request_id=considered.request_id))
        assert act is not None
        assert act().reply == considered.reply


def test_a_timer_is_corrected_by_what_follows(world: World) -> None:
    world.say("Set a timer for ten minutes")
    assert "20 minutes" in world.say("make it twenty")
    (timer,) = world.things.timers.list()
    assert getattr(timer, "duration_ms", 0) == 20 * 60_000


def test_what_was_not_said_to_the_end_is_no_topic(world: World) -> None:
    world.say("Set a timer for ten minutes")
    world.consider("What is the capital of France?")
    assert world.consider("make it twenty").intent == "timer_set"


def test_a_missing_duration_is_asked_for_and_taken(world: World) -> None:
    assert world.say("Set a timer") == "For how long?"
    assert world.say("five minutes") == "The timer is set for 5 minutes."


def test_of_several_timers_one_is_asked_for(world: World) -> None:
    world.say("Set a tea timer for ten minutes")
    world.say("Set a pasta timer for twenty minutes")
    assert world.say("Cancel the timer").startswith("Which one:")
    assert len(world.things.timers.list()) == 2
    assert "tea" in world.say("Cancel the tea timer")
    assert world.say("Cancel all timers").startswith("Cancelled:")
    assert world.things.timers.list() == ()


def test_everything_is_forgotten_only_after_a_yes(world: World) -> None:
    assert world.things.memory is not None
    world.say("Remember that my dog is called Rex")
    assert world.say("Forget everything") == "Shall I forget everything you told me?"
    assert world.say("no") == "Okay, I won't."
    assert world.things.memory.about(world.things.who)
    world.say("Forget everything")
    assert world.say("Yes, please.") == "I forgot everything you told me."
    assert world.things.memory.about(world.things.who) == ()


def test_a_yes_to_nothing_is_for_llm(world: World) -> None:
    assert world.consider("yes").intent == ""


def test_a_yes_that_comes_much_later_is_no_answer(world: World) -> None:
    now_ns = 0
    world.mind.clock_ns = lambda: now_ns
    world.say("Remember that my dog is called Rex")
    world.say("Forget everything")
    now_ns = 60_000_000_000
    assert world.consider("Yes.").intent == ""
    assert world.consider("Good morning.").reply != "Okay, I won't."


def test_a_chinese_question_is_no_answer_to_ours(world: World) -> None:
    world.say("忘记一切")
    assert world.consider("不").reply == "好的，不做了。"
    assert world.consider("法国的首都是哪里？").intent != "confirm"


def test_another_question_is_no_answer_to_ours(world: World) -> None:
    world.say("Remember that my dog is called Rex")
    world.say("Forget everything")
    assert world.consider("What is the capital of France?").intent == ""
    world.say("What is the capital of France?")
    assert world.consider("yes").intent == ""


def test_a_fact_answers_what_asks_for_it(world: World) -> None:
    world.say("Remember that my dog is called Rex")
    considered = world.consider("What is the name of my dog?")
    assert (considered.intent, considered.reply) == ("recall", "Your dog is called Rex.")


def test_a_fact_that_may_matter_is_told_to_llm(world: World) -> None:
    world.say("Remember that I'm allergic to peanuts")
    considered = world.consider("What should I cook without peanuts?")
    assert considered.intent == ""
    assert "allergic to peanuts" in considered.facts


@pytest.mark.parametrize(
    "question",
    ["Where does my sister live?", "What is the name of my dog?", "When is our anniversary?"],
)
def test_what_only_the_user_can_know_is_not_made_up(world: World, question: str) -> None:
    assert world.say(question) == "You haven't told me that."


@pytest.mark.parametrize(
    "question",
    ["What is the best way to clean my oven?", "Why does my dog bark?", "What should my son eat?"],
)
def test_what_anybody_can_answer_is_for_llm(world: World, question: str) -> None:
    assert world.consider(question).intent == ""


def test_what_was_talked_about_is_for_llm(world: World) -> None:
    world.say("My sister moved to Rome last year.", llm="That sounds exciting.")
    assert world.consider("Where does my sister live?", in_dialogue=True).intent == ""


def test_without_memory_nothing_is_kept_and_it_says_so(tmp_path: Path) -> None:
    world = World(tmp_path, memory=False)
    assert "switched off" in world.say("Remember that my dog is called Rex")
    assert "switched off" in world.say("What do you know about me?")
    assert world.consider("What is the name of my dog?").facts == ""


def test_sessions_have_their_own_topic_and_voice(world: World) -> None:
    world.say("Set a timer for ten minutes", "kitchen")
    assert world.consider("make it twenty", "office").intent == ""
    world.say("Volume 20 percent", "kitchen")
    voices = dict(world.mind.voices())
    assert voices["kitchen"].volume_percent == 20
    assert voices["local"].volume_percent == 100


def test_slower_says_it_again(world: World) -> None:
    world.say("Who wrote Hamlet?", llm="William Shakespeare.")
    assert world.say("Say that slower") == "William Shakespeare."
    assert world.mind.session("local").voice.speed < 1
    assert world.consider("Repeat that").reply == "William Shakespeare."


def test_the_box_speaks_as_before_after_a_restart(tmp_path: Path) -> None:
    world = World(tmp_path)
    outcome = Outcome("", volume_percent=20, speed=0.8)
    world.things.keep_voice(outcome.voice(world.mind.session("local").voice))
    voice = dict(World(tmp_path).mind.voices())["local"]
    assert (voice.volume_percent, voice.speed) == (20, 0.8)


# --- answers that are given again --------------------------------------------------------------


def test_an_answer_is_given_again(world: World) -> None:
    world.say("What is the capital of France?", llm="Paris.")
    considered = world.consider("what is the capital of france")
    assert (considered.intent, considered.reply) == ("cache", "Paris.")


@pytest.mark.parametrize("question", ["What did I say?", "Is it raining now?", "And what else?"])
def test_what_depends_on_anything_is_asked_again(world: World, question: str) -> None:
    world.say(question, llm="Something.")
    assert world.consider(question).intent != "cache"


def test_what_hangs_on_the_conversation_is_not_kept(world: World) -> None:
    world.say("What is the capital?", llm="Rome.", in_dialogue=True)
    assert world.consider("What is the capital?").intent == ""
    world.say("What is the capital of Portugal?", llm="Lisbon.", in_dialogue=True)
    assert world.consider("What is the capital of Portugal?", in_dialogue=True).intent == "cache"


def test_what_went_wrong_is_not_kept(world: World) -> None:
    world.consider("What is the capital of France?")
    world.mind.commit(Commit(session_id="local", request_id=f"r{world.asked}"))
    world.heard("What is the capital of France?", "Par", "local", ("llm_failed",))
    assert world.consider("What is the capital of France?").intent == ""


def test_forgetting_forgets_the_answers_too(world: World) -> None:
    world.say("Remember that my dog is called Rex")
    world.say("What is the capital of France?", llm="Paris.")
    world.say("Forget everything")
    world.say("yes")
    assert len(world.mind.cache) == 0


# --- tools of others ---------------------------------------------------------------------------


class Switch(Arguments, frozen=True):
    """Switches the lamp on or off."""

    on: bool


def lamp(done: list[bool], *, confirm: bool = False) -> object:
    def run(asked: Switch) -> dict[str, bool]:
        done.append(asked.on)
        return {"on": asked.on}

    return typed_tool(
        Switch,
        name="lamp_switch",
        run=run,
        say=lambda value, _language: f"The lamp is {'on' if value['on'] else 'off'}.",
        label={"en": "the lamp", "zh": "灯"},
        permission="mcp:home",
        confirm=(lambda _asked, _language: "Shall I?") if confirm else None,
    )


def offered(world: World, done: list[bool], *, confirm: bool = False) -> None:
    world.mind.offer([lamp(done, confirm=confirm)], lambda tools: f"{len(list(tools))} tools")  # type: ignore[list-item]


def test_a_tool_is_offered_only_where_the_question_is_about_it(world: World) -> None:
    offered(world, [])
    considered = world.consider("Please turn on the lamp in here")
    assert considered.grammar == "1 tools"
    assert "lamp_switch" in considered.facts
    assert world.consider("Who wrote Hamlet?").grammar == ""


def call(world: World, json: str) -> Outcome:
    considered = world.consider("Please turn on the lamp in here")
    act = world.mind.commit(Commit(session_id="local", request_id=considered.request_id, call=json))
    assert act is not None
    return act()


def test_a_call_is_done_and_told_from_its_result(world: World) -> None:
    done: list[bool] = []
    offered(world, done)
    assert call(world, '{"name": "lamp_switch", "arguments": {"on": true}}').reply == (
        "The lamp is on."
    )
    assert done == [True]


@pytest.mark.parametrize(
    "json",
    [
        "{",
        '{"name": "lamp_switch", "arguments": {"on": "maybe"}}',
        '{"name": "timer_set", "arguments": {"minutes": 5}}',
        '{"name": "note_delete", "arguments": {"about": "x"}}',
        '{"name": "rm", "arguments": {}}',
    ],
)
def test_no_tool_runs_without_its_permission(world: World, json: str) -> None:
    done: list[bool] = []
    offered(world, done)
    reply = call(world, json).reply
    assert not done
    assert world.things.timers.list() == ()
    assert reply.startswith(("I can't", "I'm not allowed", "I didn't"))


def test_a_call_that_asks_first_waits_for_the_yes(world: World) -> None:
    done: list[bool] = []
    offered(world, done, confirm=True)
    outcome = call(world, '{"name": "lamp_switch", "arguments": {"on": true}}')
    world.mind.done("local", outcome)
    assert (outcome.reply, done) == ("Shall I?", [])
    assert world.say("yes") == "The lamp is on."
    assert done == [True]


# --- bad input ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("mind"))


@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=500))
def test_no_text_breaks_it(shared: World, text: str) -> None:
    considered = shared.consider(text)
    msgspec.msgpack.encode(considered.reply.encode(errors="surrogatepass"))
    assert len(considered.reply) < 2_000


def test_an_endless_text_is_left_to_llm(shared: World) -> None:
    assert shared.consider("set a timer " * 10_000).intent == ""


def test_a_store_that_cannot_be_opened_is_told_and_nothing_is_promised(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    world = World(blocked)
    assert "nothing can be kept" in world.things.problem
    assert "can't keep" in world.say("Set a timer for ten minutes")
    assert "can't keep" in world.say("Remember that my dog is called Rex")
    assert "156" in world.say("What is 12 times 13?")


def test_the_clock_is_asked_not_guessed(world: World) -> None:
    hour = dt.datetime.now(dt.timezone.utc).strftime("%-I:%M")
    assert hour.split(":")[0] in world.say("What time is it?")


# --- a turn that goes on though it seemed over ------------------------------------------------


def said_on(world: World, *texts: str) -> str:
    """One turn whose end was taken too soon but for the last text; what was said in the end."""
    reply = ""
    for text in texts:
        considered = world.consider(text, turn_id="t")
        commit = Commit(session_id="local", request_id=considered.request_id, turn_id="t")
        if (act := world.mind.commit(commit)) is not None:
            outcome = act()
            world.mind.done("local", outcome)
            reply = outcome.reply
    world.heard(texts[-1], reply, "local")
    return reply


def test_what_is_said_on_does_not_do_the_same_twice(world: World) -> None:
    reply = said_on(world, "Set a timer for ten minutes", "Set a timer for ten minutes please")
    assert reply == "The timer is set for 10 minutes."
    assert len(world.things.timers.list()) == 1
    reply = said_on(world, "Cancel the timer", "Cancel the timer please")
    assert reply.startswith("Cancelled:")
    assert world.things.timers.list() == ()
    world.say("Volume 50 percent")
    said_on(world, "Louder", "Louder please")
    assert world.mind.session("local").voice.volume_percent == 65


def test_what_is_said_on_takes_the_place_of_what_was_done(world: World) -> None:
    said_on(world, "Set a timer for ten minutes", "Set a timer for ten minutes and thirty seconds")
    (timer,) = world.things.timers.list()
    assert getattr(timer, "duration_ms", 0) == 630_000
    said_on(world, "Remember that my dog", "Remember that my dog is called Rex")
    assert world.things.memory is not None
    assert [f.text for f in world.things.memory.about(world.things.who)] == ["my dog is called Rex"]
    said_on(world, "Make a note: buy milk", "Make a note: buy milk and bread")
    assert [note.text for note in world.things.notes.find("", "local")] == ["buy milk and bread"]


def test_a_yes_that_is_said_on_is_still_one(world: World) -> None:
    world.say("Remember that my dog is called Rex")
    said_on(world, "Forget everything", "Forget everything please")
    assert said_on(world, "Yes", "Yes please") == "I forgot everything you told me."


def test_what_was_done_is_taken_back_where_something_else_was_meant(world: World) -> None:
    said_on(world, "Volume 20 percent", "Volume 20 percent is what my father calls loud, isn't it?")
    assert world.mind.session("local").voice.volume_percent == 100
    said_on(world, "Set a timer for ten minutes", "What does it mean to be French in Germany?")
    assert world.things.timers.list() == ()


def test_the_same_in_two_turns_is_done_twice(world: World) -> None:
    said_on(world, "Set a timer for ten minutes")
    said_on(world, "Set a timer for ten minutes")
    assert len(world.things.timers.list()) == 2


# --- sessions ----------------------------------------------------------------------------------


def test_who_comes_next_into_a_session_does_not_hear_what_was_said_in_it(world: World) -> None:
    world.heard("tell me a secret", "The key is under the mat.", "remote.1")
    assert world.say("repeat that", "remote.1") == "The key is under the mat."
    world.mind.forget_session("remote.1")
    assert "mat" not in world.consider("repeat that", "remote.1").reply


def test_a_turn_that_ended_with_its_session_is_not_remembered(world: World) -> None:
    closed = ("session_closed",)
    world.heard("tell me a secret", "The key is under the mat.", "remote.1", closed)
    assert "mat" not in world.consider("repeat that", "remote.1").reply


def test_what_was_considered_for_who_has_gone_is_not_done(world: World) -> None:
    considered = world.consider("set a timer for ten minutes", "remote.1")
    assert considered.acts
    world.mind.forget_session("remote.1")
    commit = Commit(session_id="remote.1", request_id=considered.request_id)
    assert world.mind.commit(commit) is None


def test_who_comes_next_is_not_asked_what_the_last_one_was(world: World) -> None:
    considered = world.consider("Forget everything", "remote.1")
    act = world.mind.commit(Commit(session_id="remote.1", request_id=considered.request_id))
    assert act is not None
    world.mind.forget_session("remote.1")
    world.mind.done("remote.1", act())
    assert "remote.1" not in dict(world.mind.voices())
    assert world.consider("yes", "remote.1").intent == ""


def test_no_words_open_the_microphones(world: World) -> None:
    considered = world.consider("Unmute the microphone")
    assert (considered.intent, considered.acts) == ("unmute", False)
    assert "panel" in considered.reply


def test_what_is_usual_is_a_fact_and_what_is_set_an_alarm(world: World) -> None:
    assert world.consider("What time do I get up?").intent == "alarm_list"
    world.say("Remember that I get up at five")
    assert world.consider("What time do I get up?").reply == "You get up at five."
    assert world.consider("What time do I get up tomorrow?").intent != "recall"
    assert world.consider("What alarms do I have?").intent == "alarm_list"


def test_after_a_long_silence_nothing_is_repeated_or_followed_up(world: World) -> None:
    now_ns = 0
    world.mind.clock_ns = lambda: now_ns
    world.say("What is 12 times 13?")
    now_ns += 14 * 60 * 10**9
    assert "156" in world.consider("Say that again").reply
    assert world.consider("divided by 3").intent == "calculate"
    now_ns += 2 * 60 * 10**9
    assert "156" not in world.consider("Say that again").reply
    assert world.consider("divided by 3").intent != "calculate"


def test_a_chinese_question_is_about_a_tool_by_its_words(world: World) -> None:
    calendar = replace(lamp([]), description="读取家里的日程安排")  # type: ignore[type-var]
    world.mind.offer([calendar], lambda tools: f"{len(list(tools))} tools")  # type: ignore[list-item]
    assert world.consider("请看看我的日程安排").grammar == "1 tools"
    assert world.consider("天空为什么是蓝色的？").grammar == ""
