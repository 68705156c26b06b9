"""Numbers in words, durations, times of day, sums and units, each by itself."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unicode_rbnf import RbnfEngine

from appliance.mind.understanding import english, numbers
from appliance.mind.understanding.arithmetic import MAX_MAGNITUDE, calculate, spoken
from appliance.mind.understanding.chinese import clock as chinese_clock
from appliance.mind.understanding.chinese import duration as chinese_duration
from appliance.mind.understanding.units import UNITS, convert

_ENGLISH = RbnfEngine.for_language("en")
_CHINESE = RbnfEngine.for_language("zh")


@given(number=st.integers(0, 10**9))
def test_english_numbers_are_read_as_they_are_written(number):
    words = _ENGLISH.format_number(number).text.replace("-", " ").split()
    assert numbers.english(words) == [str(number)]


@given(number=st.integers(0, 10**9))
def test_chinese_numbers_are_read_as_they_are_written(number):
    assert numbers.chinese(_CHINESE.format_number(number).text) == str(number)


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("two and a half minutes", "2.5 minutes"),
        ("seven thirty", "7 30"),
        ("six forty five", "6 45"),
        ("one hundred and five times three", "105 times 3"),
        ("a hundred", "100"),
        ("a thousand and one", "1001"),
        ("three point one four", "3.14"),
        ("salt and pepper", "salt and pepper"),
        ("five and six", "5 and 6"),
        ("2 million", "2000000"),
        ("one two three", "1 2 3"),
    ],
)
def test_english_numbers_among_words(said, read):
    assert " ".join(numbers.english(said.split())) == read


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("两百", "200"),
        ("三百五", "350"),
        ("二十五分钟", "25分钟"),
        ("百分之五十", "百分之50"),
        ("一九六六年", "1966年"),
        ("三点半", "3点半"),
        ("两万五", "25000"),
    ],
)
def test_chinese_numbers_among_words(said, read):
    assert numbers.chinese(said) == read


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("10 minutes", 600),
        ("1 hour and 30 minutes", 5400),
        ("1 hour 20", 4800),
        ("an hour and a half", 5400),
        ("half an hour", 1800),
        ("a quarter of an hour", 900),
        ("2.5 minutes", 150),
        ("1 hour 5 minutes 3 seconds", 3903),
        ("0 minutes", None),
        ("999999 hours", None),
        ("minutes", None),
    ],
)
def test_english_durations(said, seconds):
    found = english.duration(said, 0)
    assert (found and found[1]["duration_s"]) == seconds
    if found:
        assert found[0] == len(said)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("10分钟", 600), ("1小时20分钟", 4800), ("半小时", 1800), ("2分半钟", 150), ("1刻钟", 900)],
)
def test_chinese_durations(said, seconds):
    assert chinese_duration(said, 0) == (len(said), {"duration_s": seconds})


@pytest.mark.parametrize(
    ("said", "time", "certain"),
    [
        ("7 am", "07:00", True),
        ("12 am", "00:00", True),
        ("12 pm", "12:00", True),
        ("7:30", "07:30", False),
        ("22:15", "22:15", True),
        ("half past 8", "08:30", False),
        ("a quarter to 7 in the morning", "06:45", True),
        ("quarter to 1", "12:45", False),
        ("20 to 8", "07:40", False),
        ("10 past 9 in the evening", "21:10", True),
        ("7 30", "07:30", False),
        ("7 oh 5 pm", "19:05", True),
        ("noon", "12:00", True),
        ("midnight", "00:00", True),
        ("430 pm", "16:30", True),
        ("25 oclock", None, False),
        ("7:75", None, False),
        ("7", None, False),
    ],
)
def test_english_times(said, time, certain):
    found = english.clock(said, 0)
    assert (found and found[1]["time"]) == time
    if found:
        assert ("either_half" not in found[1]) == certain


@pytest.mark.parametrize(
    ("said", "time"),
    [
        ("3点半", "03:30"),
        ("下午3点半", "15:30"),
        ("6点3刻", "06:45"),
        ("差10分8点", "07:50"),
        ("晚上9点", "21:00"),
        ("中午12点", "12:00"),
        ("早上7点05分", "07:05"),
        ("25点", None),
    ],
)
def test_chinese_times(said, time):
    found = chinese_clock(said, 0)
    assert (found and found[1]["time"]) == time


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("2 + 2 * 3", 8),
        ("-5 + 8", 3),
        ("sqrt(81)", 9),
        ("2 ** 10", 1024),
        ("1 / 0", None),
        ("9 ** 9 ** 9", None),
        ("sqrt(-1)", None),
        ("(-8) ** 0.5", None),
        ("__import__('os')", None),
        ("True + 1", None),
        ("'a' * 9", None),
        ("[1] * 9", None),
        ("1 << 99", None),
        ("sqrt(x=1)", None),
        ("", None),
        ("(" * 300, None),
        ("1" * 500, None),
    ],
)
def test_sums(expression, result):
    assert calculate(expression) == result


@given(expression=st.text(alphabet="0123456789+-*/.() sqrt", max_size=130))
def test_any_sum_has_a_bounded_result_or_none(expression):
    value = calculate(expression)
    assert value is None or (math.isfinite(value) and abs(value) <= MAX_MAGNITUDE)
    if value is not None:
        spoken(value)


@pytest.mark.parametrize(
    ("value", "said"), [(30.0, "30"), (22.5, "22.5"), (1 / 3, "0.3333"), (0.1 + 0.2, "0.3")]
)
def test_numbers_are_said_short(value, said):
    assert spoken(value) == said


@given(value=st.floats(-1e6, 1e6), source=st.sampled_from(sorted(UNITS)), data=st.data())
def test_there_and_back_again(value, source, data):
    same = [name for name, unit in UNITS.items() if unit.dimension == UNITS[source].dimension]
    target = data.draw(st.sampled_from(same))
    there = convert(value, source, target)
    back = convert(there, target, source)
    assert math.isclose(back, value, rel_tol=1e-9, abs_tol=1e-6)


def test_what_does_not_measure_the_same_is_not_converted():
    assert convert(1, "metre", "kilogram") is None
    assert convert(100, "celsius", "fahrenheit") == pytest.approx(212)
    assert convert(-40, "fahrenheit", "celsius") == pytest.approx(-40)
