"""What kind of answer a question wants, and whether a fact can be one. Pure.

A fact that shares a question's words may still not answer it: "my bike has a flat tyre" does not
say where the bike is. So a "where" wants a place, a "when" a time, a "how old" a number.
"""

from __future__ import annotations

import functools
import math
import re

from appliance.mind.characters import has_chinese
from appliance.mind.recall import is_personal

_MAX_LENGTH = 400
"""Characters of a question that are looked at."""
_ANSWERS = 0.45
"""Share of a question's words with which a fact answers it ..."""
_ANSWERS_IN_KIND = 0.4
"""... where it also is of the kind that is wanted ..."""
_ANSWERS_WHY = 0.66
"""... where it is a reason ..."""
_ANSWERS_IMPERSONAL = 0.85
"""... where the question is about nobody's own, but names a certain thing ..."""
_ANSWERS_IMPERSONAL_IN_KIND = 0.66
"""... and the same where the fact is of the kind that is wanted."""

_CERTAIN = re.compile(r"\bthe\b|(?<!^)(?<![.?!,] )\b[A-Z][a-z]+")
_LEADS = (
    r"(?:(?:and|so|hey|please|ok|okay|well|sorry|do you (?:know|remember|recall)|can you tell me"
    r"|could you tell me|tell me|remind me(?: of)?(?: again)?|any idea|i forgot|i've forgotten"
    r"|i can't remember|i don't remember|have you any idea|did i (?:tell|mention) you)[ ,]+)*"
)
_ASKS_FOR_FACT = re.compile(
    rf"{_LEADS}(?:what'?s|what|when|where|who|whom|whose|which|how|why"
    r"|(?:in|on|at|to|until|till|since|from|with|for|by) (?:which|what|when|whom|whose)"
    r"|is|are|am|was|were|do|does|did|have|has|had|can)\b"
    r"|(?:remind me of|tell me) (?:my|our|the)\b"
    r"|.*(?:什么|哪|谁|几|多少|多大|多久|多高|多长|多重|吗|来着|呢)",
    re.IGNORECASE,
)
_LAST_CLAUSE = re.compile(r".*[,;.] +(?=(?:and )?(?:what|when|where|who|whose|which|how)\b)", re.I)
"""Before it stands why it is asked: "I need my passport, where is it?" """
_ASKS_FOR_ADVICE = re.compile(
    r"\b(?:should|could|would|may i|must|think|recommend|suggest|explain|write|make|help|if)\b"
    r"|\bwhy\b(?! (?:(?:do|does|did)(?:n't)?|am|are|is|was|were|have|had) (?:i|we|my|our)\b)"
    r"|为什么|应该|怎么办|建议",
    re.IGNORECASE,
)
_LEAD = re.compile(_LEADS, re.IGNORECASE)
_ASKS_HOW = re.compile(r"\b(?:can i|how (?:do|can) (?:i|we|you))\b|怎么|怎样", re.IGNORECASE)
"""May ask for a fact ("where can I find my passport?") or for advice: only all words tell."""
_ASKS_FOR_OWN = re.compile(
    r"(?:what|where|when|who|which day|how old|how tall|how many|how much)"
    r"(?:'s| is| are| was| were| does| do| did| has| have)?"
    r"(?: the (?:name|names|number|address|birthday|age|colou?r|size|job|code|password) of)?"
    r" (?:my|our) (?P<thing>[a-z]+(?:-[a-z]+)*)\b",
    re.IGNORECASE,
)

_NUMBER = (
    r"\d|\b(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
    r"|(?:thir|four|fif|six|seven|eigh|nine)teen|twenty"
    r"|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand|million|half|dozen|once"
    r"|twice|double|couple|no|none|several|few)\b|[一二三四五六七八九十两百千万半](?![月号日点])"
)
_ORDINAL = (
    r"\b(?:first|second|third|(?:four|fif|six|seven|eigh|nin|ten|eleven|twelf)th"
    r"|(?:thir|four|fif|six|seven|eigh|nine)teenth|(?:twen|thir|for|fif|six|seven|eigh|nine)tieth)\b"
)
_CALENDAR = (
    r"\b(?:(?:mon|tues|wednes|thurs|fri|satur|sun)days?|january|february|march|april|may|june"
    r"|july|august|september|october|november|december|spring|summer|autumn|winter|christmas"
    r"|easter|new year'?s?|weekends?|weekdays?|workdays?|mornings?|afternoons?|evenings?|nights?"
    r"|noon|midnight|breakfast|lunch|dinner|today|tomorrow|tonight|yesterday|ago|before|after"
    r"|until|since|every|daily|weekly|monthly|yearly|always|never|days?|weeks?|months?|years?"
    r"|hours?|minutes?|o'clock)\b|[年月日号点天周早晚]|星期|礼拜|以前|以后|小时|分钟|节"
)
_TIME = re.compile(f"{_NUMBER}|{_ORDINAL}|{_CALENDAR}", re.IGNORECASE)
_AMOUNT = re.compile(f"{_NUMBER}|{_ORDINAL}", re.IGNORECASE)
_PLACE = re.compile(
    rf"\b(?:in|at|on|under|underneath|behind|from|above|below|near|by|inside|outside|beside|between"
    rf"|next|over|into|to|with|around|opposite|upstairs|downstairs|abroad|home)\b"
    rf"(?! (?:the )?(?:{_NUMBER}|{_ORDINAL}|{_CALENDAR}))"
    r"|在|到|从|住|放|里|上面|下面|旁|边|往|来自|忘",
    re.IGNORECASE,
)
_REASON = re.compile(r"\b(?:because|since|for|so|due|after|when|if)\b|因为|由于|为了", re.I)

_KINDS = (
    (
        re.compile(
            r"\b(?:when|(?:what|which) (?:time|day|date|month|year|week|evening|morning)|how long"
            r"|how often|how many times|since when|until when|what hour)\b"
            r"|什么时候|什么时间|几点|几号|几月|哪天|哪一天|哪年|星期几|周几|多久|多长时间",
            re.IGNORECASE,
        ),
        _TIME,
    ),
    (
        re.compile(
            r"\b(?:how (?:old|many|much|tall|big|heavy|warm|cold|hot|far|high|fast|strong|deep)"
            r"|what (?:number|code|size|pin|price|age|weight|height|temperature)"
            r"|what(?:'s| is) (?:the|my|our) (?:\w+ )?(?:number|code|pin|size|age|weight|height))\b"
            r"|多少|多大|多高|多重|多长|几",
            re.IGNORECASE,
        ),
        _AMOUNT,
    ),
    (
        re.compile(
            r"\b(?:where|(?:what|which) (?:town|city|country|place|room|street|village|floor|house)"
            r"|whose house)\b|哪里|哪儿|什么地方|哪个城市|哪个国家",
            re.IGNORECASE,
        ),
        _PLACE,
    ),
    (re.compile(r"\bwhy\b|为什么", re.IGNORECASE), _REASON),
)


def fits(question: str, fact: str) -> bool:
    """Whether a fact says something of the kind that a question asks for."""
    holds = _wanted(question[:_MAX_LENGTH])
    return holds is None or holds.search(fact) is not None


def needed(question: str) -> float:
    """Share of a question's words that a fact must meet to answer it alone; infinity: none can.

    Questions of the user about themselves or what is theirs; of others ("where is the spare key?")
    only those that are met almost whole, and name a certain thing.
    """
    question = question.strip()[:_MAX_LENGTH]
    clause = _LAST_CLAUSE.match(question)
    asked = question[clause.end() :] if clause else question
    if not _ASKS_FOR_FACT.match(asked) or _ASKS_FOR_ADVICE.search(question):
        return math.inf
    if _ASKS_HOW.search(question):
        return 1.0
    wanted = _wanted(question)
    if not is_personal(question):
        # Chinese has no articles: there only the kind of what is asked for makes it certain
        if not (_CERTAIN.search(question) or (has_chinese(question) and wanted)):
            return math.inf
        return _ANSWERS_IMPERSONAL_IN_KIND if wanted else _ANSWERS_IMPERSONAL
    if wanted is _REASON:
        return _ANSWERS_WHY
    return _ANSWERS if wanted is None else _ANSWERS_IN_KIND


def asks_for_own(question: str) -> str:
    """The thing or person of the user's own that a question wants a fact about; empty: none.

    Only where nobody but the user could know: a small language model makes something up instead.
    """
    question = question.strip()[:_MAX_LENGTH]
    lead = _LEAD.match(question)
    found = _ASKS_FOR_OWN.match(question, lead.end() if lead else 0)
    advice = _ASKS_FOR_ADVICE.search(question) or _ASKS_HOW.search(question)
    return found["thing"].lower() if found and not advice else ""


@functools.lru_cache(maxsize=64)
def _wanted(question: str) -> re.Pattern[str] | None:
    """What must be found in an answer; None where anything may be one."""
    return next((holds for asks, holds in _KINDS if asks.search(question)), None)
