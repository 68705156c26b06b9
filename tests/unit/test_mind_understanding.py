"""From transcript to intent: sentences, free text, follow-ups, hostile input, broken files."""

import time
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.bench.intents import evaluate, read
from appliance.errors import ApplianceError
from appliance.mind.understanding import IntentsError, Topic, language_of, load, next_time

ROOT = Path(__file__).parents[2]
INTENTS = ROOT / "config" / "intents"
LISTS = ROOT / "tests" / "data" / "intents"
NOW = datetime(2026, 11, 23, 20, 40, tzinfo=ZoneInfo("Europe/London"))  # a Monday


@pytest.fixture(scope="module")
def english():
    return load(INTENTS, "en")


@pytest.fixture(scope="module")
def chinese():
    return load(INTENTS, "zh")


def understanding_of(language, english, chinese):
    return english if language == "en" else chinese


@pytest.mark.parametrize(
    ("language", "part", "accuracy", "false_matches"),
    [
        ("en", "dev", 0.99, 0.01),
        ("zh", "dev", 0.98, 0.01),
        ("en", "held_back", 0.95, 0.01),
        ("zh", "held_back", 0.90, 0.01),
    ],
)
def test_lists_reach_their_bounds(language, part, accuracy, false_matches, english, chinese):
    understanding = understanding_of(language, english, chinese)
    figures = evaluate(understanding, read(LISTS / f"{language}_{part}.tsv"))
    assert figures.accuracy >= accuracy, figures.misses
    assert figures.false_match_rate <= false_matches, figures.misses


@pytest.mark.parametrize("language", ["en", "zh"])
def test_questions_for_the_model_are_left_to_it(language, english, chinese):
    understanding = understanding_of(language, english, chinese)
    figures = evaluate(understanding, read(LISTS / f"{language}_questions.tsv"))
    assert figures.questions == 100
    assert figures.false_match_rate <= 0.01, figures.misses


@pytest.mark.parametrize(
    ("said", "intent"),
    [
        ("why will it rain", None),  # as near to "when" in letters as any mishearing
        ("when will it rain", "unknowable"),
        ("what is the weather like on Venus", None),
        ("what is the weather like in Norwich", "unknowable"),
    ],
)
def test_what_is_asked_for_decides(said, intent, english):
    understood = english.understand(said)
    assert (understood.intent if understood else None) == intent


@pytest.mark.parametrize(
    ("said", "slots"),
    [
        ("设一个早上七点二十分的闹钟", {"time": "07:20"}),
        ("定个差五分九点的闹钟", {"time": "08:55", "either_half": True}),
        ("设一个一点五小时的计时器", {"duration_s": 5400}),
        ("过五分钟叫我", {"duration_s": 300}),
        ("帮我定时二十分钟", {"duration_s": 1200}),  # no timer is called 帮我
    ],
)
def test_minutes_of_a_time_are_no_duration(said, slots, chinese):
    understood = chinese.understand(said)
    assert understood is not None
    assert understood.slots == slots


@pytest.mark.parametrize(
    ("said", "intent", "text"),
    [
        ("Remember that my sister lives in Rome.", "remember", "my sister lives in Rome"),
        ("Um, please remember that, uh, I'm 42.", "remember", "I'm 42"),
        ("remember my PIN is 20-20", "remember", "my PIN is 20-20"),
        ("Forget that my sister lives in Rome.", "forget", "my sister lives in Rome"),
        ("Take a note: buy two bottles, please.", "note_add", "buy two bottles, please"),
        ("Note down that the meeting is at three.", "note_add", "the meeting is at three"),
    ],
)
def test_free_text_is_handed_over_as_it_was_said(said, intent, text, english):
    understood = english.understand(said)
    assert understood.intent == intent
    assert understood.slots["text"] == text
    assert understood.text == said


@pytest.mark.parametrize("text", ["delete everything", "cancel everything", "delete the file"])
def test_nothing_is_forgotten_by_a_vague_word(text, english):
    understood = english.understand(text)
    assert understood is None or understood.intent != "forget"


def test_a_question_is_not_remembered(chinese):
    assert chinese.understand("记得吗").intent != "remember"


def test_chinese_free_text(chinese):
    understood = chinese.understand("请记住，我家的密码是蓝马七号。")
    assert (understood.intent, understood.slots) == ("remember", {"text": "我家的密码是蓝马七号"})


def test_a_misheard_sentence_is_less_certain_than_a_clear_one(english):
    clear = english.understand("What time is it?")
    garbled = english.understand("What tyme is it?")
    assert clear.intent == garbled.intent == "time_now"
    assert garbled.confidence < clear.confidence == 1.0


@pytest.mark.parametrize("language", ["en", "zh"])
def test_one_unknown_word_is_not_put_right(language, english, chinese):
    assert understanding_of(language, english, chinese).understand("tiger") is None


@pytest.mark.parametrize(
    "text", ["", " ", "...", "\x00\x1b[2J", "🙂🙂🙂", "{duration}", "''''", "%"]
)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_nothing_said_is_nothing_understood(text, language, english, chinese):
    assert understanding_of(language, english, chinese).understand(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "a" * 100_000,
        "remember that " + "x " * 50_000,
        "set a timer for ten minutes " * 4_000,
        "9" * 100_000,
        "9**" * 130,
        "what is " + "(" * 300 + "1" + ")" * 300,
        "加" * 399,
        "'" * 399,
        "a " * 199,
        "half " * 80,
        "一百零" * 130,
        "set a timer for " + "1 hour " * 50,
    ],
)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_hostile_input_takes_bounded_time(text, language, english, chinese):
    understanding = understanding_of(language, english, chinese)
    took = []
    for _ in range(3):
        start = time.thread_time()
        understanding.understand(text)
        took.append(time.thread_time() - start)
    assert min(took) < 0.02


def test_a_sentence_cut_short_is_not_taken_for_a_command(english):
    """What would be remembered would not be what was said."""
    assert english.understand("remember that " + "x " * 190) is not None
    assert english.understand("remember that " + "x " * 200) is None
    assert english.understand("remember that " + "x " * 50_000) is None


@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=300))
def test_any_text_is_understood_or_not_but_never_fails(text, english, chinese):
    for understanding in (english, chinese):
        understood = understanding.understand(text)
        if understood:
            assert 0.8 <= understood.confidence <= 1.0
            understanding.answer(understood, NOW)
        Topic().after("What time is it?", understanding.understand("现在几点")).follow(
            text, understanding
        )


_WORDS = st.sampled_from(
    [
        "what",
        "is",
        "the",
        "set",
        "a",
        "timer",
        "for",
        "ten",
        "and",
        "half",
        "an",
        "hour",
        "minutes",
        "times",
        "divided",
        "by",
        "zero",
        "remember",
        "that",
        "alarm",
        "at",
        "to",
        "quarter",
        "past",
        "seven",
        "tomorrow",
        "next",
        "friday",
        "convert",
        "miles",
        "percent",
        "of",
        "9",
        "^",
        "**",
        "(",
        ")",
        "-",
        "in",
        "tokyo",
        "degrees",
        "celsius",
        "volume",
        "point",
        "million",
        "delete",
        "note",
        "second",
        "last",
    ]
)


@settings(max_examples=300, deadline=None)
@given(words=st.lists(_WORDS, max_size=14))
def test_any_row_of_known_words_is_answered_without_failing(words, english):
    understood = english.understand(" ".join(words))
    if understood:
        reply = english.answer(understood, NOW)
        assert reply is None or ("{" not in reply and reply.strip())


@pytest.mark.parametrize(
    ("said", "reply"),
    [
        ("What time is it?", "It's 8:40 PM."),
        ("What time is it in Tokyo?", "In Tokyo it's 5:40 AM."),
        ("What's the date?", "Today is Monday, November 23rd."),
        ("What date is next Friday?", "That will be Friday, December 4th."),
        ("What was the date yesterday?", "Yesterday was Sunday, November 22nd."),
        ("Is it Tuesday today?", "No, today is Monday."),
        ("What's five times six?", "That's 30."),
        ("What is ten divided by zero?", "That has no result that I can say."),
        ("What is 9 to the power of 999?", "That has no result that I can say."),
        ("How many kilometres are five miles?", "5 miles are 8.0467 kilometers."),
        ("How many inches in a foot?", "1 foot is 12 inches."),
        ("What's 72 degrees Fahrenheit in Celsius?", None),
        ("Good night.", "Goodbye!"),
        ("Will it rain tomorrow?", "I can't know the weather: I'm not connected to the internet."),
    ],
)
def test_english_answers(said, reply, english):
    answer = english.answer(english.understand(said), NOW)
    if reply is None:
        assert answer == "72 degrees Fahrenheit are 22.2222 degrees Celsius."
    else:
        assert answer == reply


@pytest.mark.parametrize(
    ("said", "reply"),
    [
        ("现在几点？", "现在是晚上8点40分。"),
        ("东京现在几点？", "东京现在是早上5点40分。"),
        ("今天星期几？", "今天是11月23日，星期一。"),
        ("五乘以六等于多少？", "等于30。"),
        ("一米等于多少厘米", "1米等于100厘米。"),
        ("明天会下雨吗？", "我没有联网，所以不知道天气。"),
    ],
)
def test_chinese_answers(said, reply, chinese):
    assert chinese.answer(chinese.understand(said), NOW) == reply


def test_every_intent_can_be_answered_or_says_that_it_needs_more(english, chinese):
    for language in (english, chinese):
        answered = set()
        for part in ("dev", "held_back"):
            for case in read(LISTS / f"{language.language}_{part}.tsv"):
                understood = language.understand(case.text)
                if understood and language.answer(understood, NOW):
                    answered.add(understood.intent)
        assert answered == {
            *("time_now", "date", "calculate", "convert", "unknowable", "undoable"),
            *("greet", "thanks", "goodbye"),
        }


@pytest.mark.parametrize(
    ("said", "rings"),
    [
        ("Set an alarm for seven o'clock.", datetime(2026, 11, 24, 7, 0)),
        ("Set an alarm for nine o'clock.", datetime(2026, 11, 23, 21, 0)),
        ("Set an alarm for 7 a.m.", datetime(2026, 11, 24, 7, 0)),
        ("Set an alarm for noon.", datetime(2026, 11, 24, 12, 0)),
        ("Wake me at half past six tomorrow.", datetime(2026, 11, 24, 6, 30)),
        ("Set an alarm for Monday at five in the morning.", datetime(2026, 11, 30, 5, 0)),
        ("Set an alarm for 12 am", datetime(2026, 11, 24, 0, 0)),
    ],
)
def test_when_an_alarm_rings(said, rings, english):
    understood = english.understand(said)
    assert understood.intent == "alarm_set"
    assert next_time(understood.slots, NOW.replace(tzinfo=None)) == rings


@pytest.mark.parametrize(
    ("before", "then", "intent", "slots"),
    [
        ("Set a timer for five minutes.", "and for ten minutes?", "timer_set", {"duration_s": 600}),
        (
            "Set a pasta timer for five minutes.",
            "Make it twenty.",
            "timer_set",
            {"duration_s": 1200, "name": "pasta", "replace": True},
        ),
        ("What's the date today?", "and tomorrow?", "date", {"days": 1}),
        ("What time is it?", "And in Tokyo?", "time_now", {"place": "tokyo"}),
        ("Will it rain today?", "What about tomorrow?", "unknowable", {"kind": "weather"}),
        ("Set a timer.", "Ten minutes.", "timer_set", {"duration_s": 600}),
        ("Set the volume to 30%.", "make it fifty", "volume_set", {"percent": 50}),
    ],
)
def test_follow_ups_of_an_intent(before, then, intent, slots, english):
    topic = Topic().after(before, english.understand(before))
    followed = topic.follow(then, english)
    assert (followed.intent, dict(followed.slots)) == (intent, slots)


def test_a_sum_goes_on(english):
    topic = Topic().after("x", english.understand("What is five times six?"))
    followed = topic.follow("times two", english)
    assert followed.slots["result"] == 60


@pytest.mark.parametrize(
    ("before", "then", "question"),
    [
        ("What is the capital of France?", "And in Italy?", "What is the capital of Italy?"),
        ("What is the capital of France?", "What about Spain?", "What is the capital of Spain?"),
        ("How many people live in Tokyo?", "and New York?", "How many people live in New York?"),
        ("What is the capital of France?", "Why?", None),
        ("What is the capital of France?", "Who was Napoleon?", None),
        ("What is the capital of France?", "and that is good", None),
        ("Why is the sky blue?", "And in Italy?", None),
        ("Did Einstein live in Bern?", "And Newton?", None),
    ],
)
def test_follow_ups_of_a_question(before, then, question, english):
    assert Topic().after(before, None).follow(then, english) == question


def test_chinese_follow_up(chinese):
    topic = Topic().after("法国的首都是哪里？", None)
    assert topic.follow("那意大利呢？", chinese) == "意大利的首都是哪里？"


def test_thanks_do_not_change_the_topic(english):
    topic = Topic().after("What is the capital of France?", None)
    assert topic.after("Thanks.", english.understand("Thanks.")) == topic


@pytest.mark.parametrize(
    ("text", "language"),
    [("What time is it?", "en"), ("现在几点？", "zh"), ("播放 Hello 这首歌", "zh"), ("", "en")],
)
def test_language_by_script(text, language):
    assert language_of(text) == language


@pytest.mark.parametrize(
    ("content", "where", "what"),
    [
        ("language: en\nintents: [\n", ":3:", "not YAML"),
        ("- 1\n", ":1:", "mapping"),
        ("language: en\nintent: {}\n", ":2:", "intent"),
        ("language: de\nintents: {}\n", ":1:", "'en'"),
        (
            "language: en\nintents:\n  a:\n    data:\n      - sentences:\n          - '(go|'\n",
            ":6:",
            "(go|",
        ),
        (
            "language: en\nintents:\n  a:\n    data:\n      - sentences:\n          - 'x <no>'\n",
            ":6:",
            "x <no>",
        ),
        (
            "language: en\nintents:\n  a:\n    data:\n      - sentence: ['x']\n",
            "a.yaml",
            "sentence",
        ),
        (
            "language: en\nintents:\n  a:\n    data:\n      - sentences:\n"
            "          - '" + "[a|b|c|d|e|f|g|h|i] " * 6 + "x'\n",
            ":6:",
            "too many",
        ),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path, content, where, what):
    folder = tmp_path / "en"
    folder.mkdir()
    (folder / "_lexicon.yaml").write_text("fillers: [um]\n")
    (folder / "a.yaml").write_text(content)
    with pytest.raises(IntentsError) as error:
        load(tmp_path, "en")
    assert where in str(error.value)
    assert what in str(error.value)
    assert "\n" not in str(error.value)


def test_a_language_or_a_lexicon_that_is_not_there(tmp_path):
    with pytest.raises(IntentsError, match="Choose en or zh"):
        load(tmp_path, "de")
    (tmp_path / "en").mkdir()
    with pytest.raises(IntentsError, match=r"_lexicon\.yaml"):
        load(tmp_path, "en")
    (tmp_path / "en" / "_lexicon.yaml").write_text("filler: [um]\n")
    with pytest.raises(IntentsError, match="filler"):
        load(tmp_path, "en")


def test_a_list_with_a_broken_line_is_named(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text("# fine\nonly a sentence\n")
    with pytest.raises(ApplianceError, match=":2:"):
        read(path)


def test_evaluation_counts_what_it_should(tmp_path, english):
    path = tmp_path / "x.tsv"
    path.write_text(
        "What time is it?\ttime_now\nSet a timer for ten minutes\ttimer_set\tduration_s=60\n"
        "Why?\tstop\nStop.\t-\nTell me a joke.\t-\n"
    )
    figures = evaluate(english, read(path))
    assert (figures.commands, figures.right_intent, figures.correct) == (3, 2, 1)
    assert (figures.questions, figures.false_matches) == (2, 1)
    assert len(figures.misses) == 3
