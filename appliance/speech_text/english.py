"""What is said in English for numbers, dates, units and abbreviations. Pure.

Plain numbers stay digits: every English voice here reads those well through espeak-ng.
"""

from __future__ import annotations

import re

from appliance.speech_text.reading import Say

_NUMBER = r"-?\d+(?:,\d{3})*(?:\.\d+)?"
_START = r"(?<![\w.])"
_END = r"(?!\w|[.,]\d)"


def _list(words: str) -> list[str]:
    return words.split()


_MONTHS = _list(
    "January February March April May June July August September October November December"
)
_TENS = _list("hundreds tens twenties thirties forties fifties sixties seventies eighties nineties")
_CURRENCIES = {
    "$": ("dollar", "cent"),
    "€": ("euro", "cent"),
    "£": ("pound", "penny"),
    "¥": ("yen", ""),
    "₹": ("rupee", "paisa"),
}
_SCALES = {
    **{"k": "thousand", "K": "thousand", "M": "million", "m": "million", "bn": "billion"},
    **{"B": "billion", "b": "billion", "T": "trillion", "thousand": "thousand"},
    **{"million": "million", "billion": "billion", "trillion": "trillion"},
}
_UNITS = {
    "km/h": "kilometre per hour",
    "mph": "mile per hour",
    "m/s": "metre per second",
    "km²": "square kilometre",
    "m²": "square metre",
    "cm²": "square centimetre",
    "m³": "cubic metre",
    "km": "kilometre",
    "cm": "centimetre",
    "mm": "millimetre",
    "m": "metre",
    "kg": "kilogram",
    "mg": "milligram",
    "g": "gram",
    "ml": "millilitre",
    "mL": "millilitre",
    "L": "litre",
    "TB": "terabyte",
    "GB": "gigabyte",
    "MB": "megabyte",
    "KB": "kilobyte",
    "kB": "kilobyte",
    "kHz": "kilohertz",
    "MHz": "megahertz",
    "GHz": "gigahertz",
    "Hz": "hertz",
    "kWh": "kilowatt hour",
    "kW": "kilowatt",
    "W": "watt",
    "V": "volt",
    "lbs": "pound",
    "lb": "pound",
    "oz": "ounce",
    "ft": "foot",
    "mi": "mile",
    "min": "minute",
    "hrs": "hour",
    "hr": "hour",
    "sec": "second",
    "ms": "millisecond",
}
_UNCHANGED = ("hertz",)
_ABBREVIATIONS = {
    **{"Mr.": "Mister", "Mrs.": "Missus", "Ms.": "Miz", "Prof.": "Professor", "Sen.": "Senator"},
    **{"Gen.": "General", "Capt.": "Captain", "Sgt.": "Sergeant", "Gov.": "Governor"},
    **{"e.g.": "for example", "i.e.": "that is", "approx.": "approximately", "vs.": "versus"},
    **{"ca.": "circa", "cf.": "compare", "Mt.": "Mount", "Jr.": "Junior", "Sr.": "Senior"},
    **{"dept.": "department", "Ave.": "Avenue", "Blvd.": "Boulevard", "Inc.": "Incorporated"},
    **{"vs": "versus", "w/o": "without"},
}
_FRACTIONS = {
    **{"½": "a half", "¼": "a quarter", "¾": "three quarters", "⅓": "a third"},
    **{"⅔": "two thirds", "⅛": "an eighth", "⅜": "three eighths", "⅝": "five eighths"},
    **{"⅞": "seven eighths"},
}
_PARTS = {2: "half", 3: "third", 4: "quarter", 5: "fifth", 6: "sixth", 8: "eighth", 10: "tenth"}
_SIGNS = {
    **{" - ": "minus", "<": "is less than", ">": "is greater than", "≤": "is at most"},
    **{"≥": "is at least", "≠": "is not", "≈": "is about", "±": "plus or minus", "∞": "infinity"},
    **{"÷": "divided by", "×": "times", "=": "equals", "&": "and", "°": "degrees"},
    **{"√": "the square root of", "‰": "per mille"},
}
_RULERS = (
    "Alexander|Benedict|Catherine|Charles|Clement|Edward|Elizabeth|Francis|Frederick|George"
    "|Gustav|Henry|Ivan|James|John|Leo|Leopold|Louis|Mary|Napoleon|Nicholas|Paul|Peter|Philip|Pius"
    "|Ramses|Richard|Tsar|Wilhelm|William"
)
_NUMBERED = "World War|Chapter|Part|Type|Act|Phase|Volume|Section|Super Bowl|Grade|Stage|Class"
_ROMAN = r"X{0,3}(?:IX|IV|V?I{2,3}|VI|V|X)|XX?"


def _roman(numeral: str) -> int:
    values = [{"I": 1, "V": 5, "X": 10}[letter] for letter in numeral]
    following = [*values[1:], 0]
    return sum(
        -value if value < after else value for value, after in zip(values, following, strict=True)
    )


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if 10 < number % 100 < 14 else ending}"


def _count(number: str, unit: str) -> str:
    """ "1 metre", "2 metres", "3 miles per hour"."""
    first, *rest = unit.split(" per ")
    if number.lstrip("-") != "1" and not first.endswith(_UNCHANGED):
        first = {"foot": "feet", "penny": "pence"}.get(first, f"{first}s")
    return " ".join([number, first, *(f"per {part}" for part in rest)])


def _year(year: str) -> str:
    century, rest = year[:2], year[2:]
    if rest == "00":
        return f"{century} hundred"
    return f"{century} oh {rest[1]}" if rest[0] == "0" else f"{century} {rest}"


def _date(year: str, month: str, day: str) -> str:
    if not (1 <= int(month) <= 12 and 1 <= int(day) <= 31):
        return f"{year} {month} {day}"
    said = _year(year) if not year.startswith("200") else year
    return f"{_MONTHS[int(month) - 1]} {_ordinal(int(day))}, {said}"


def _slash_date(match: re.Match[str]) -> str:
    first, second = match[1], match[2]
    month, day = (second, first) if int(first) > 12 else (first, second)
    return _date(match[3], month, day)


def _time(match: re.Match[str]) -> str:
    hour, minute = int(match[1]), match[2]
    if minute == "00":
        return str(hour) if match[3] else f"{hour} o'clock" if hour < 13 else f"{hour} hundred"
    return f"{hour} oh {minute[1]}" if minute[0] == "0" else f"{hour} {minute}"


def _money(sign: str, amount: str, scale: str) -> str:
    unit, part = _CURRENCIES[sign]
    if scale:
        return _count(f"{amount} {_SCALES[scale]}", unit)
    whole, _, cents = amount.partition(".")
    if len(cents) != 2 or not part:
        return _count(amount, unit)
    said = [_count(whole, unit)] if whole.strip("-0") else []
    if cents != "00" or not said:
        said.append(_count(cents.lstrip("0") or "0", part))
    return " and ".join(said)


def _digits(text: str) -> str:
    """One by one, with a pause where the writing has one."""
    groups = re.findall(r"\d+", text)
    return ("plus " if text.startswith("+") else "") + ", ".join(map(" ".join, groups))


def _fraction(match: re.Match[str]) -> str:
    above, below = int(match[1]), int(match[2])
    if 0 < above < below and below in _PARTS:
        part = _PARTS[below]
        return f"{above} {part}" if above == 1 else f"{above} {part}s".replace("halfs", "halves")
    return f"{above} {below}" if (above, below) == (24, 7) else f"{above} over {below}"


def _range(match: re.Match[str]) -> str:
    ends = [_year(end) if _is_year(end) else end for end in (match[1], match[2])]
    return " to ".join(ends)


def _is_year(text: str) -> bool:
    return re.fullmatch(r"1[1-9]\d\d|20[1-9]\d", text) is not None


def _unit(match: re.Match[str]) -> str:
    return _count(match[1], _UNITS[match[2]])


def _temperature(match: re.Match[str]) -> str:
    scale = {"C": " Celsius", "F": " Fahrenheit", "K": " Kelvin"}.get(match[2] or "", "")
    return _count(match[1], "degree") + scale


def _power(match: re.Match[str]) -> str:
    exponent = {"²": "2", "³": "3"}.get(match[1] or "", match[2])
    return {"2": " squared ", "3": " cubed "}.get(exponent, f" to the power of {exponent} ")


def _host(text: str) -> str:
    return re.sub(r"^www\.", "", text.split("/", maxsplit=1)[0]).replace(".", " dot ")


def _any(words: dict[str, str]) -> str:
    return "|".join(map(re.escape, sorted(words, key=len, reverse=True)))


RULES: dict[str, Say] = {
    # addresses
    r"(?<!\w)[\w.+-]+@[\w-]+(?:\.[\w-]+)+": lambda m: (
        m[0].replace("@", " at ").replace(".", " dot ").replace("_", " ")
    ),
    r"(?<![\w.])www\.[\w-]+(?:\.[\w-]+)+(?:/[^\s,;]*[\w/])?": lambda m: _host(m[0]),
    r"(?<![\w.])(?:[a-z\d-]+\.)+[a-z]{2,}/[^\s,;]*[\w/]": lambda m: _host(m[0]),
    r"(?<![\w.])(?=\w*\d\w*[a-zA-Z]\w*\d\w*[a-zA-Z])\w{16,}": lambda _m: "",
    # dates and times
    rf"{_START}([12]\d{{3}})-(\d\d)-(\d\d){_END}": lambda m: _date(m[1], m[2], m[3]),
    rf"{_START}(\d\d?)/(\d\d?)/([12]\d{{3}}){_END}": _slash_date,
    rf"{_START}([01]?\d|2[0-3]):([0-5]\d)(?=\s?([aApP]\.?[mM])?)(?![:\d])": _time,
    r"(?<![\w.])(1[1-9]|20)(\d)0s\b": lambda m: f"{m[1]} {_TENS[int(m[2])]}",
    # telephone numbers and other rows of digits
    rf"{_START}(?:\+\d{{1,3}}[ -])?(?:\d{{2,4}},? |\d{{2,4}}-)?\d{{3}}-\d{{4}}{_END}": lambda m: (
        _digits(m[0])
    ),
    rf"{_START}\+\d{{1,3}}(?:[ -]?\d{{2,}}){{1,5}}{_END}": lambda m: _digits(m[0]),
    rf"{_START}(?:0\d{{2,}}|\d{{11,}}){_END}": lambda m: _digits(m[0]),
    # quantities
    rf"(-?)([$€£¥₹])({_NUMBER})(?:\s?({_any(_SCALES)}))?{_END}": (
        lambda m: _money(m[2], m[1] + m[3], m[4] or "")
    ),
    rf"{_START}({_NUMBER})\s?([€£¥₹])": lambda m: _money(m[2], m[1], ""),
    r"\$": lambda _m: " ",
    rf"{_START}({_NUMBER})\s?°\s?([CFK])?(?!\w)": _temperature,
    rf"{_START}({_NUMBER})\s?({_any(_UNITS)})(?![\w/²³])": _unit,
    rf"{_START}(\d{{1,3}})((?:\.000)+|(?: 000)+|(?: \d{{3}}){{2,}}){_END}": lambda m: (
        m[0].replace(".", "").replace(" ", "")
    ),
    rf"{_START}v?(\d+(?:\.\d+){{2,}})(?![\w])": lambda m: m[1].replace(
        ".", " dot " if m[1].count(".") == 3 else " point "
    ),
    rf"{_START}(\d+)/(\d+){_END}": _fraction,
    rf"(?<=\d)([{''.join(_FRACTIONS)}])": lambda m: f" and {_FRACTIONS[m[1]]}",
    rf"([{''.join(_FRACTIONS)}])": lambda m: _FRACTIONS[m[1]],
    rf"{_START}(\d+(?:\.\d+)?)[-–](\d+(?:\.\d+)?)(?![\w-]|\.\d)": _range,
    rf"{_START}(1[1-9]\d\d|20[1-9]\d)(?!\w|[.,]\d|%| [a-z]+s\b)": lambda m: _year(m[1]),
    r"[~≈](?=\d)": lambda _m: "about ",
    r"(?<!\w)#(?=\d)": lambda _m: "number ",
    r"(?:([²³])|(?<=\w)\^(\w+))": _power,
    # names and abbreviations
    rf"(?:(?<={' )|(?<='.join(_RULERS.split('|'))} ))({_ROMAN})\b": lambda m: (
        f"the {_ordinal(_roman(m[1]))}"
    ),
    rf"(?:(?<={' )|(?<='.join(_NUMBERED.split('|'))} ))({_ROMAN}|I)\b": lambda m: str(_roman(m[1])),
    rf"(?<![\w.])({_any(_ABBREVIATIONS)})(?!\w)": lambda m: _ABBREVIATIONS[m[1]],
    r"\bAT&T\b": lambda _m: "A T and T",
    r"(?<![\w.])Dr\.(?= [A-Z])": lambda _m: "Doctor",
    r"(?<![\w.])St\.(?= [A-Z])": lambda _m: "Saint",
    r"(?<![\w.])etc\.(?=[,;:]|\s)": lambda _m: "et cetera",
    r"(?<![\w.])(?:[Nn]o|[Nn]r)\.(?= ?\d)": lambda _m: "number",
    r"(?<!\w)([CF])#": lambda m: f"{m[1]} sharp",
    # signs
    r"(?<=\d) - (?=\d)": lambda _m: " minus ",
    rf"[{re.escape(''.join(sign for sign in _SIGNS if len(sign) == 1))}]": lambda m: (
        f" {_SIGNS[m[0]]} "
    ),
    r"(?<=[^\W\d])/(?=[^\W\d])": lambda _m: " ",
}
"""In order of precedence."""
