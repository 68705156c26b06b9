import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.speech_text.sentences import SentenceSplitter
from appliance.speech_text.stream import speakable


def split(text, **settings):
    splitter = SentenceSplitter(**{"first_clause_words": 0, "first_phrase_words": 0, **settings})
    return splitter.push(text) + splitter.flush()


@pytest.mark.parametrize(
    "sentences",
    [
        ["Rome is the capital.", "It lies on the Tiber.", "Is it old?", "Yes!"],
        ["Dr. Smith met Mrs. Jones on St. John St. near Mt. Hood.", "They talked."],
        ["Pi is about 3.14159.", "It costs $2.50."],
        ["He moved to the U.S. Army base.", "He stayed."],
        ["He lives in the U.S.", "He likes it."],
        ["J. K. Rowling wrote it.", "She is British."],
        ["Take vitamin C.", "It helps."],
        ["See No. 5 and fig. 3.", "No.", "It is not there."],
        ["It starts at 5 p.m. today.", "Bring water."],
        ["It starts at 5:30 p.m.", "Bring water."],
        ["Fruit, e.g. apples, i.e. Granny Smith, is good.", "Eat it."],
        ["Look at www.example.com/a.b?c=1.", "Then call."],
        ["Well... maybe.", "Wait…", "What?", "Really?!", "Yes."],
        ['He said "Go."', "Then left."],
        ['"Really?" he asked.', "(Yes.)", "“No!”", "Fine."],
        ["1. Preheat the oven.", "2. Bake it."],
        ["The 3. place went to her.", "In 1990.", "Then more."],
        ["**Rome.**", "*Paris.*"],
        ["今天天气很好。", "你好吗？", "很好！", "再见。"],
        ["It is about 20°C.", "Nice."],
        ["Use v2.0.1 now.", "Done"],
    ],
)
def test_sentences_are_found(sentences):
    assert split(" ".join(sentences)) == sentences


def test_newline_ends_a_chunk():
    assert split("Buy these:\n- milk\n- eggs\n\nThat is all") == [
        "Buy these:",
        "- milk",
        "- eggs",
        "That is all",
    ]


def test_first_chunk_may_be_a_clause():
    text = "The capital of Italy is Rome, a very old city; it lies on the Tiber. Well then, go."
    assert split(text, first_clause_words=3) == [
        "The capital of Italy is Rome,",
        "a very old city; it lies on the Tiber.",
        "Well then, go.",
    ]


def test_a_short_opening_is_not_a_clause_of_its_own():
    assert split("Well, in 1,000 years, at 12:30, it ends.", first_clause_words=4) == [
        "Well, in 1,000 years,",
        "at 12:30, it ends.",
    ]


def test_a_long_opening_may_end_before_a_conjunction_or_preposition():
    text = "I am here to answer the questions that you ask about the house. Go on."
    assert split(text, first_phrase_words=6) == [
        "I am here to answer the questions",
        "that you ask about the house.",
        "Go on.",
    ]
    assert split("I am here to help you with it", first_phrase_words=6)[0] == (
        "I am here to help you"
    )
    splitter = SentenceSplitter(first_phrase_words=4)
    assert splitter.push("One two three four wit") == []
    assert splitter.push("h") == [], "it may become 'within'"
    assert splitter.push(" ") == ["One two three four"]


def test_a_cjk_clause_counts_characters():
    assert split("意大利的首都，是罗马。好。", first_clause_words=3) == [
        "意大利的首都，",
        "是罗马。",
        "好。",
    ]


def test_sentence_without_end_is_cut():
    chunks = split("word " * 30 + "and more, " + "word " * 30, max_chars=200)
    assert chunks[0].endswith("more,")
    assert split("x" * 450, max_chars=200) == ["x" * 200, "x" * 200, "x" * 50]


def test_chunks_are_given_as_soon_as_they_are_certain():
    splitter = SentenceSplitter(first_clause_words=3, first_phrase_words=0)
    assert splitter.push("The capital is Rome,") == []
    assert splitter.push(" of") == ["The capital is Rome,"]
    assert splitter.push(" course.") == []
    assert splitter.push(" It") == ["of course."]
    assert splitter.flush() == ["It"]
    assert splitter.push("One two three, four.") == ["One two three,"]


def test_a_token_that_ends_a_sentence_need_not_be_waited_for():
    splitter = SentenceSplitter(pieces_are_tokens=True)
    assert splitter.push("The capital is Rome") == []
    assert splitter.push(".") == ["The capital is Rome."]
    assert splitter.push(" It lies on the") == []
    assert splitter.push(" Tiber.") == ["It lies on the Tiber."]
    for text in ("Ask Dr.", "It costs 3.", "In the U.S.", "See fig."):
        assert SentenceSplitter(pieces_are_tokens=True).push(text) == [], "more may follow"


WORDS = """
Rome is the capital and to of Dr. U.S. e.g. No. 5 3.14 p.m. It I J. The the , ; : . ! ? … ... " ' )
( ** - 1.
你好 。 ！ ， www.a.com word verylongwordindeed
"""
PARTS = st.sampled_from([*WORDS.split(), " ", "  ", "\n"])
TEXTS = st.one_of(
    st.lists(PARTS, max_size=40).map(" ".join), st.lists(PARTS, max_size=40).map("".join), st.text()
)


@given(TEXTS, st.data(), st.integers(0, 4), st.integers(0, 4), st.sampled_from([12, 60, 240]))
def test_nothing_is_lost_however_the_text_arrives(
    text, data, clause_words, phrase_words, max_chars
):
    settings = {
        "first_clause_words": clause_words,
        "first_phrase_words": phrase_words,
        "max_chars": max_chars,
    }
    whole = split(text, **settings)
    assert "".join("".join(whole).split()) == "".join(text.split())
    assert all(chunk == chunk.strip() and chunk for chunk in whole)

    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    splitter = SentenceSplitter(**settings)
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert [c for piece in pieces for c in splitter.push(piece)] + splitter.flush() == whole


@given(TEXTS)
def test_one_character_at_a_time_is_the_same(text):
    splitter = SentenceSplitter()
    chunks = [chunk for char in text for chunk in splitter.push(char)] + splitter.flush()
    assert chunks == split(text, first_clause_words=3, first_phrase_words=6)


@pytest.mark.parametrize(
    ("chunk", "spoken"),
    [
        ("**Rome** is the *capital* of `Italy`.", "Rome is the capital of Italy."),
        ("## A title", "A title"),
        ("- milk", "milk"),
        ("* eggs", "eggs"),
        ("1. Preheat", "1. Preheat"),
        ("> quoted", "quoted"),
        ("See [the page](https://example.com/x) now.", "See the page now."),
        ("Go to https://www.example.com.", "Go to example.com."),
        ("Sure! 😀👍🏽 Done ✅.", "Sure! Done."),
        ("3 * 4 is 12, and snake_case stays.", "3 × 4 is 12, and snake case stays."),
        ("```python", ""),
        ("| a | b |", "a, b"),
        ("In the morning,", "In the morning,"),
        ("---", ""),
        ("…", ""),
        ("20 °C is 5 % more — really.", "20 °C is 5 % more — really."),
        ("你好。", "你好。"),
    ],
)
def test_speakable(chunk, spoken):
    assert speakable(chunk) == spoken


@given(TEXTS)
def test_speakable_is_one_line_and_settles(chunk):
    spoken = speakable(chunk)
    assert "\n" not in spoken
    assert spoken == "" or any(char.isalnum() for char in spoken)
