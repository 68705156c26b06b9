"""What stands between two words of an answer, reduced to what a voice makes of it. Pure.

Markdown, brackets, quotation marks and stray signs live between words. So a text is cleaned by
rewriting each gap between two words, whatever it holds, to one of few forms: a space, a mark and a
space, a joiner as in "well-known" or "3.5", an operator with spaces around it.
"""

from __future__ import annotations

import re

STOPS = ".!?。！？؟۔।॥"
"""Marks that end a sentence."""
CLAUSE_MARKS = ",;:，；：、،؛"
_CJK_MARKS = "。！？，；：、"
_MARK = re.compile(rf"[\s\"')\]}}*_`~>|]*(\.{{3}}|[{STOPS}{CLAUSE_MARKS}])")
_CJK = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_EMOTICON = re.compile(r"(?<=\s)[:;=]-?[()|/\\]+(?=\s|$)")
_SUFFIX = re.compile(r"\s?([%‰°]|[€£¥₹₽₩¢](?=[^\w]|$))|(\+{1,2}|#)(?![\w+])")
_PREFIX = re.compile(r"(?:^|[\s(\[{\"'*_/=<>×÷+|:：,，;；。！？!?])([-−+±~≈]?[$€£¥₹₽₩#√]?)$")
_DECIMAL = re.compile(r"\s+\.$")
_FRACTION_BAR = re.compile(r"^[{}\s]*\}\s*\{[{}\s]*$")
"""Between the two arguments of LaTeX's \\frac."""
_OPERATORS = {
    **{sign: sign for sign in "=<>≤≥≠≈+×÷±"},
    "<=": "≤",
    ">=": "≥",
    "!=": "≠",
    "==": "=",
    "&": "&",
}
_DASHES = ("-", "−", "–", "—", "--", "---")
_PAUSES = re.compile(r"(?:^|\s)\(|\)(?:\s|$)|[|•]|(?:^|\s)/(?:\s|$)")


def is_cjk(char: str) -> bool:
    """Whether a character is written without spaces around it: Chinese or Japanese."""
    return _CJK.match(char) is not None


def rewrite(before: str, raw: str, after: str) -> str:
    """What is kept of a gap. `rewrite(before, rewrite(before, raw, after), after)` is the same.

    Args:
        before: the last character of the word before it; empty at the beginning of a line.
        raw: what stands there, folded.
        after: the first character of the word after it; empty at the end of the text.
    """
    if "\n" not in raw:
        return _between(before, raw, after) if before else _prefix(raw, after)[1]
    head, tail = raw.split("\n", 1)[0], raw.rsplit("\n", 1)[1]
    if not before:
        return _prefix(tail, after)[1]
    if raw.count("\n") == 1 and after.islower() and not raw.strip():
        return " "  # a line that was only wrapped
    suffix, head = _suffix(before, head)
    mark = _mark(head)
    if not after:
        return suffix + mark
    return suffix + (mark or ("。" if is_cjk(before) else ".")) + "\n" + _prefix(tail, after)[1]


def _between(before: str, raw: str, after: str) -> str:
    raw = _FRACTION_BAR.sub("/", raw) if after else raw
    if after and len(raw) == 1 and _joins(before, raw, after):
        return raw
    raw = _EMOTICON.sub("", raw)
    suffix, raw = _suffix(before, raw)
    if not after:
        return suffix + _mark(raw)
    middle, prefix = _prefix(raw, after) if raw != "." else (raw, "")
    if raw and raw == prefix and before.isalnum() and not suffix and prefix not in "-+":
        is_subscript = prefix in "~#" and before.isalpha()  # H~2~O
        return "" if is_subscript else " " if prefix in "~#" else f" {prefix}"
    if raw == prefix and prefix in ("-", "+") and not suffix:
        middle, prefix = raw, ""
    return suffix + (_infix(suffix or before, middle, after) if raw else "") + prefix


def _joins(before: str, sign: str, after: str) -> bool:
    """Whether one sign makes one word of the two around it, as in "don't", "3.5", "AT&T"."""
    if sign in " '-/@–×^+":
        return True
    if sign in ",:~":
        return before.isdigit() and after.isdigit()
    if sign == "&":
        return all(char.isupper() and char.isascii() for char in before + after)
    if sign == "°":
        return before.isdigit() and not after.isdigit()
    cjk = [is_cjk(before), is_cjk(after)]
    return (sign == "." and not any(cjk)) or (sign == "·" and all(cjk))


def _suffix(before: str, raw: str) -> tuple[str, str]:
    """A sign that belongs to the word before, as in "5 %", "20°", "C++", and the rest."""
    match = _SUFFIX.match(raw)
    if match is None:
        return "", raw
    sign = match[1] or match[2]
    fits = before.isdigit() if match[1] else before.isalnum() and before.isascii()
    if sign == "#":
        fits = before in "ACDFG"
    return (match.group(), raw[match.end() :]) if fits else ("", raw)


def _prefix(raw: str, after: str) -> tuple[str, str]:
    """The rest, and a sign that belongs to the number after it, as in "$5", "-3", "#1", ".5"."""
    if not after.isdigit():
        return raw, ""
    if raw == "." or _DECIMAL.match(raw):
        return raw[:-1], "."
    match = _PREFIX.search(raw)
    return (raw[: match.start(1)], match[1]) if match else (raw, "")


def _mark(raw: str) -> str:
    match = _MARK.match(raw)
    return match[1] if match else ""


def _infix(before: str, raw: str, after: str) -> str:
    if mark := _mark(raw):
        return mark if mark in _CJK_MARKS else f"{mark} "
    core = raw.strip("\"'`_{} \t")
    if core in _DASHES:
        is_minus = core in "-−" and before.isdigit() and after.isdigit()
        return " - " if is_minus else " — "
    if core == "*" and (before.isdigit() or after.isdigit()):
        core = "×"
    if core in _OPERATORS and not (core == "==" and raw[0] == "="):
        return f" {_OPERATORS[core]} "
    if _PAUSES.search(raw):
        return ", "
    return " " if raw else ""
