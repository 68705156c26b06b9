"""What a person said of themselves, turned for another mouth. Pure; in doubt it quotes.

"my sister lives in Rome" becomes "Your sister lives in Rome." when the appliance says it. A
sentence that also speaks to the appliance ("you") is quoted as it was said.
"""

from __future__ import annotations

import re

from appliance.mind.characters import has_chinese

_WORD = re.compile(r"[A-Za-z]+(?:['’][A-Za-z]+)?")
_ADDRESSED = re.compile(r"\b(?:you|your|yours|yourself)\b|[你您]|[\"“”「」]", re.IGNORECASE)
_TO_YOU = {
    "i": "you",
    "i'm": "you're",
    "i've": "you've",
    "i'll": "you'll",
    "i'd": "you'd",
    "me": "you",
    "my": "your",
    "mine": "yours",
    "myself": "yourself",
    "we": "you",
    "we're": "you're",
    "we've": "you've",
    "we'll": "you'll",
    "we'd": "you'd",
    "us": "you",
    "our": "your",
    "ours": "yours",
    "ourselves": "yourselves",
}
_I_AM = re.compile(r"\bI (am|was)\b", re.IGNORECASE)
_AM_I = {"am": "are", "was": "were"}


def for_speech(text: str) -> str:
    """A fact as the appliance says it to whoever told it: a whole sentence."""
    text = _plain(text)
    if _ADDRESSED.search(text):
        return f"你说过：{text}" if has_chinese(text) else f"You said: {text}"
    return _sentence(turned(text))


def turned(text: str) -> str:
    """The words of the user as the appliance says them: "call my mother", "call your mother"."""
    if has_chinese(text):
        return text.replace("我们", "你们").replace("我", "你")
    text = _I_AM.sub(lambda m: f"you {_AM_I[m[1].lower()]}", text)
    return _WORD.sub(lambda m: _TO_YOU.get(_key(m[0]), m[0]), text)


def _key(word: str) -> str:
    return word.lower().replace("’", "'")


def _plain(text: str) -> str:
    return " ".join(text.split()).rstrip(".。")


def _sentence(text: str) -> str:
    end = "" if text.endswith(("!", "?", "！", "？")) else "。" if has_chinese(text) else "."
    return text[:1].upper() + text[1:] + end
