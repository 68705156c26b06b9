"""Numbers, dates, units and abbreviations are said as people say them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.speech_text.reading import readings


def say(text: str, language: str) -> str:
    return " ".join(reading.spoken for reading in readings(text, language))


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("It is 20°C.", "It is 20 degrees Celsius."),
        ("It is -5 °C outside.", "It is -5 degrees Celsius outside."),
        ("It is 1 °F.", "It is 1 degree Fahrenheit."),
        ("It costs $3.50.", "It costs 3 dollars and 50 cents."),
        ("$0.50", "50 cents"),
        ("$1", "1 dollar"),
        ("$1,000.00", "1,000 dollars"),
        ("€20, 5 €", "20 euros, 5 euros"),
        ("$5 million", "5 million dollars"),
        ("$1.2bn", "1.2 billion dollars"),
        ("1,234,567 people", "1,234,567 people"),
        ("3.14159", "3.14159"),
        ("Version 3.2.1", "Version 3 point 2 point 1"),
        ("in 1999", "in 19 99"),
        ("In 1905, 1500 people", "In 19 oh 5, 15 hundred people"),
        ("2024", "20 24"),
        ("2005", "2005"),
        ("1900", "19 hundred"),
        ("the 1990s", "the 19 nineties"),
        ("at 5:30 p.m.", "at 5 30 p.m."),
        ("at 17:05", "at 17 oh 5"),
        ("10:00 a.m.", "10 a.m."),
        ("10:00", "10 o'clock"),
        ("on 2024-03-05", "on March 5th, 20 24"),
        ("12/25/2024", "December 25th, 20 24"),
        ("25/12/2024", "December 25th, 20 24"),
        ("1/2 cup, 2/3, 3/4", "1 half cup, 2 thirds, 3 quarters"),
        ("2½ cups", "2 and a half cups"),
        ("2nd place, 21st", "2nd place, 21st"),
        ("3-5 days", "3 to 5 days"),
        ("1914–1918", "19 14 to 19 18"),
        ("100 km/h", "100 kilometres per hour"),
        ("5 km, 1 kg", "5 kilometres, 1 kilogram"),
        ("5 m²", "5 square metres"),
        ("5ft 3", "5 feet 3"),
        ("x^2, 2^10, m³", "x squared, 2 to the power of 10, m cubed"),
        ("5 × 3 = 15", "5 times 3 equals 15"),
        ("3 < 5", "3 is less than 5"),
        ("a & b", "a and b"),
        ("AT&T", "A T and T"),
        ("Dr. Smith", "Doctor Smith"),
        ("e.g. apples, i.e. Granny Smith", "for example apples, that is Granny Smith"),
        ("approx. 5", "approximately 5"),
        ("St. John", "Saint John"),
        ("Henry VIII.", "Henry the 8th."),
        ("Elizabeth II, Louis XIV", "Elizabeth the 2nd, Louis the 14th"),
        ("World War I", "World War 1"),
        ("John I think", "John I think"),
        ("I saw V", "I saw V"),
        ("call 555-1234", "call 5 5 5, 1 2 3 4"),
        ("+49 170 1234567", "plus 4 9, 1 7 0, 1 2 3 4 5 6 7"),
        ("007", "0 0 7"),
        ("See No. 5", "See number 5"),
        ("No. It is not.", "No. It is not."),
        ("#1", "number 1"),
        ("and/or", "and or"),
        ("192.168.1.1", "192 dot 168 dot 1 dot 1"),
        ("~5", "about 5"),
        ("Mr. Jones vs. Mrs. Jones", "Mister Jones versus Missus Jones"),
        ("foo@bar.com", "foo at bar dot com"),
        ("www.foo.com/a/b", "foo dot com"),
        ("C# and C++", "C sharp and C++"),
        ("5 - 3", "5 minus 3"),
        ("24/7", "24 7"),
        ("1.000.000", "1000000"),
        ("1 000 000", "1000000"),
        ("8f14e45fceea167a5a36", ""),
        ("It takes 5 min.", "It takes 5 minutes."),
        ("It is 5", "It is 5"),
        ("-3", "-3"),
    ],
)
def test_english(written: str, spoken: str) -> None:
    assert say(written, "en-us") == spoken


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("今天20°C。", "今天二十摄氏度。"),
        ("-5°C", "零下五摄氏度"),
        ("2024年3月5日", "二零二四年三月五日"),
        ("2024-03-05", "二零二四年三月五日"),
        ("下午5:30", "下午五点三十分"),
        ("10:05", "十点零五分"),
        ("2:00", "两点整"),
        ("3.5公里", "三点五公里"),
        ("50%", "百分之五十"),
        ("$3.50", "三点五零美元"),
        ("¥5万", "五万元"),
        ("1,234", "一千二百三十四"),
        ("第1名", "第一名"),
        ("第2次", "第二次"),
        ("2个苹果", "两个苹果"),
        ("12个", "十二个"),
        ("3-5天", "三到五天"),
        ("1/2", "二分之一"),
        ("2019-2024年", "二零一九到二零二四年"),
        ("1905年", "一九零五年"),
        ("电话13812345678", "电话幺三八幺二三四五六七八"),
        ("010-12345678", "零一零一二三四五六七八"),
        ("100km/h", "一百公里每小时"),
        ("5kg", "五公斤"),
        ("3×4=12", "三乘以四等于十二"),
        ("10000", "一万"),
        ("1050", "一千零五十"),
        ("0.5", "零点五"),
        ("3.2.1版", "三点二点一版"),
        ("#1", "第一"),
        ("~5", "大约五"),
        ("3 - 2 = 1", "三减二 等于 一"),
        ("-3", "负三"),
        ("½杯", "二分之一杯"),
        ("007", "零零七"),
        ("example.com", "example点com"),
        ("AI技术", "AI技术"),
    ],
)
def test_chinese(written: str, spoken: str) -> None:
    assert say(written, "cmn") == spoken


def test_what_is_said_as_a_whole_stays_together() -> None:
    assert [reading.written for reading in readings("It is 5 km, Dr. Who.", "en")] == [
        "It",
        "is",
        "5 km,",
        "Dr.",
        "Who.",
    ]


def test_another_language_reads_its_numbers_itself() -> None:
    assert say("5 km, $3", "de") == "5 km, $3"


SYMBOLS = st.sampled_from(
    [*"0123456789 .,:-–/$€%°CFkmgXIV^²½#~@=<年月日个", "Henry ", "Dr. ", "http"]
)


@given(st.lists(SYMBOLS, max_size=40).map("".join), st.sampled_from(["en-us", "cmn", "de"]))
def test_no_word_is_lost(text: str, language: str) -> None:
    parts = readings(text, language)
    assert [word for part in parts for word in part.written.split()] == text.split()
    assert all(part.spoken == " ".join(part.spoken.split()) for part in parts)
    assert sum(len(part.spoken) for part in parts) <= 40 * len(text)


@given(st.integers(0, 10**12))
def test_a_chinese_number_has_no_digits(number: int) -> None:
    for text in (f"{number}", f"{number:,}", f"{number}.5", f"-{number}"):
        assert not any(char in "0123456789" for char in say(text, "cmn"))
