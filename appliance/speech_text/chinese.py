"""What is said in Chinese for numbers, dates, units and signs. Pure.

Everything is written out: the voices of Piper for Chinese, unlike espeak-ng, read no digits.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from appliance.speech_text.reading import Say

if TYPE_CHECKING:
    from unicode_rbnf import RbnfEngine

_DIGITS = dict(zip("0123456789", "零一二三四五六七八九", strict=True))
_NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?"
_START = r"(?<![\d.A-Za-z])"
_END = r"(?![\d]|\.\d)"
_LARGEST_DIGITS = 16
_CURRENCIES = {"$": "美元", "€": "欧元", "£": "英镑", "¥": "元", "₹": "卢比"}
_UNITS = {
    **{"km/h": "公里每小时", "m/s": "米每秒", "km²": "平方公里", "m²": "平方米", "m³": "立方米"},
    **{"km": "公里", "cm": "厘米", "mm": "毫米", "m": "米", "kg": "公斤", "mg": "毫克", "g": "克"},
    **{"ml": "毫升", "mL": "毫升", "L": "升", "kWh": "度", "kW": "千瓦", "W": "瓦", "V": "伏"},
    **{"GB": "吉字节", "MB": "兆字节", "KB": "千字节", "GHz": "吉赫兹", "MHz": "兆赫兹"},
    **{"kHz": "千赫兹", "Hz": "赫兹", "min": "分钟", "ms": "毫秒"},
}
_SIGNS = {
    **{"+": "加", "×": "乘以", "÷": "除以", "=": "等于", "<": "小于", ">": "大于", "≤": "小于等于"},
    **{"≥": "大于等于", "≠": "不等于", "≈": "约等于", "±": "正负", "&": "和", "√": "根号"},
    **{"∞": "无穷大", "²": "的平方", "³": "的立方", "°": "度", "%": "百分号", "‰": "千分号"},
    **{"½": "二分之一", "¼": "四分之一", "¾": "四分之三", "⅓": "三分之一", "⅔": "三分之二"},
}
_COUNTED = (
    "个|只|条|位|本|次|天|周|小时|分钟|秒|种|块|杯|台|公里|公斤|千克|米|张|岁|层|间|家|辆|头|碗|瓶|支|件|把|双"
    "|份|句|首|颗|座|部|点(?!\\d)|倍|年(?!\\d)|万|千|亿"
)


@lru_cache(maxsize=1)
def _engine() -> RbnfEngine:
    from unicode_rbnf import RbnfEngine  # 8 MB and 40 ms, for those who speak Chinese

    return RbnfEngine.for_language("zh")


def _by_digits(text: str) -> str:
    return "".join(_DIGITS.get(digit, "") for digit in text)


def _number(text: str) -> str:
    """A number as it is counted: 1,050.5 is 一千零五十点五."""
    whole, _, decimals = text.replace(",", "").partition(".")
    if len(whole) > _LARGEST_DIGITS or (whole.startswith("0") and len(whole) > 1):
        said = _by_digits(whole)
    else:
        said = str(_engine().format_number(int(whole)).text).replace("〇", "零")
    return said + ("点" + _by_digits(decimals) if decimals else "")


def _counted(text: str) -> str:
    """Before what is counted, 2 is 两."""
    return "两" if text == "2" else _number(text)


def _time(match: re.Match[str]) -> str:
    hour, minute = _counted(str(int(match[1]))), match[2]
    if minute == "00":
        return f"{hour}点整"
    return (
        f"{hour}点零{_DIGITS[minute[1]]}分" if minute[0] == "0" else f"{hour}点{_number(minute)}分"
    )


def _date(match: re.Match[str]) -> str:
    month, day = _number(str(int(match[2]))), _number(str(int(match[3])))
    return f"{_by_digits(match[1])}年{month}月{day}日"


def _temperature(match: re.Match[str]) -> str:
    unit = {"C": "摄氏度", "F": "华氏度"}.get(match[3] or "", "度")
    return ("零下" if match[1] else "") + _number(match[2]) + unit


def _any(words: dict[str, str]) -> str:
    return "|".join(map(re.escape, sorted(words, key=len, reverse=True)))


RULES: dict[str, Say] = {
    r"(?<!\w)[A-Za-z\d_.+-]+@[A-Za-z\d-]+(?:\.[A-Za-z\d-]+)+": lambda m: (
        m[0].replace("@", " at ").replace(".", "点").replace("_", " ")
    ),
    r"(?<![A-Za-z\d.])(?:[A-Za-z\d-]+\.)+[a-z]{2,}(?:/[A-Za-z\d/_.%-]*)?": lambda m: re.sub(
        r"^www\.", "", m[0].split("/")[0]
    ).replace(".", "点"),
    # dates and times
    rf"{_START}([12]\d{{3}})[-/](\d\d?)[-/](\d\d?){_END}": _date,
    rf"{_START}([12]\d{{3}})[-–~]([12]\d{{3}})(?=\s?年)": lambda m: (
        f"{_by_digits(m[1])}到{_by_digits(m[2])}"
    ),
    rf"{_START}([12]\d{{3}})(?=\s?年)": lambda m: _by_digits(m[1]),
    rf"{_START}([01]?\d|2[0-3])[:：]([0-5]\d)(?![:\d])": _time,
    # rows of digits
    rf"{_START}1[3-9]\d{{9}}{_END}": lambda m: _by_digits(m[0]).replace("一", "幺"),
    rf"{_START}(?:0\d{{2,3}}-\d{{7,8}}|\d{{3}}-\d{{4}}){_END}": lambda m: _by_digits(m[0]),
    rf"{_START}0\d+{_END}(?!\.\d)": lambda m: _by_digits(m[0]),
    rf"{_START}\d+(?:\.\d+){{2,}}": lambda m: "点".join(map(_number, m[0].split("."))),
    # quantities
    rf"(-?)({_NUMBER})\s?[%]": lambda m: ("负" if m[1] else "") + f"百分之{_number(m[2])}",
    rf"(?<!\d)(-?)({_NUMBER})\s?(?:°\s?([CF])?|度)(?![A-Za-z])": _temperature,
    rf"([{''.join(re.escape(sign) for sign in _CURRENCIES)}])({_NUMBER})([千万亿]*)": lambda m: (
        f"{_counted(m[2])}{m[3]}{_CURRENCIES[m[1]]}"
    ),
    rf"{_START}({_NUMBER})\s?([€£¥₹])": lambda m: f"{_counted(m[1])}{_CURRENCIES[m[2]]}",
    rf"{_START}({_NUMBER})\s?({_any(_UNITS)})(?![A-Za-z/])": lambda m: (
        f"{_counted(m[1])}{_UNITS[m[2]]}"
    ),
    rf"{_START}(\d+)/(\d+){_END}": lambda m: f"{_number(m[2])}分之{_number(m[1])}",
    rf"{_START}({_NUMBER})[-–~]({_NUMBER})(?![\d-])": lambda m: f"{_number(m[1])}到{_number(m[2])}",
    r"(?<=\d) - (?=\d)": lambda _m: "减",
    rf"(?<![\dA-Za-z])-({_NUMBER})": lambda m: f"负{_number(m[1])}",
    r"[~≈](?=\d)": lambda _m: "大约",
    r"(?<!\w)#(?=\d)": lambda _m: "第",
    rf"(?<![\d.第])2(?=\s?(?:{_COUNTED}))": lambda _m: "两",
    _NUMBER: lambda m: _number(m[0]),
    rf"[{re.escape(''.join(_SIGNS))}]": lambda m: _SIGNS[m[0]],
    r"(?<=\w)\^(?=\w)": lambda _m: "的次方",
    r"[$€£₹]": lambda _m: " ",
}
"""In order of precedence."""
