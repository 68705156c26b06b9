"""What becomes of a question before llm is asked; that considering changes nothing."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mind_world import World

from appliance.messages import Commit
from appliance.mind.skills import Outcome


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
