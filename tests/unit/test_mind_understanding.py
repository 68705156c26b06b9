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
from appliance.mind.understanding import IntentsError, Topic, language_of, load

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
