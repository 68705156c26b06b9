"""What a person said of themselves, turned for another mouth. Pure; in doubt it quotes.

"my sister lives in Rome" becomes "Your sister lives in Rome." when the appliance says it, and "The
user's sister lives in Rome." in a prompt. A sentence that also speaks to the appliance ("you"), or
whose verb would have to be guessed, is quoted as it was said.
"""

from __future__ import annotations

import re

_WORD = re.compile(r"[A-Za-z]+(?:['’][A-Za-z]+)?")
_ADDRESSED = re.compile(r"\b(?:you|your|yours|yourself)\b|[你您]|[\"“”「」]", re.IGNORECASE)
_FIRST_PERSON = re.compile(
    r"\b(?:i|me|my|mine|myself|we|us|our|ours|ourselves)\b|我", re.IGNORECASE
)
_CHINESE = re.compile(r"[\u4e00-\u9fff]")
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
_TO_USER = {"i'm": "the user is", "my": "the user's", "our": "the user's", "me": "the user"}
_ADVERBS = frozenset({"never", "always", "usually", "often", "also", "only", "really"})
_SAME_FOR_ALL = _ADVERBS | {
    *("can", "can't", "could", "couldn't", "will", "won't", "would", "wouldn't", "should"),
    *("shouldn't", "must", "might", "may", "had", "hadn't", "did", "didn't", "used", "grew"),
}
"""Words after "I" that do not change after "the user"."""
_REGULAR = (
    *("believe", "bring", "collect", "come", "cook", "dislike", "drink", "drive", "eat", "enjoy"),
    *("feel", "get", "hate", "keep", "know", "learn", "leave", "like", "listen", "live", "look"),
    *("love", "make", "meet", "need", "own", "pay", "plan", "play", "prefer", "sing", "sleep"),
    *("smoke", "speak", "start", "support", "swim", "take", "travel", "use", "visit", "wake"),
    *("walk", "want", "wear", "weigh", "work", "write"),
)
_THIRD_PERSON = {
    **{verb: verb + "s" for verb in _REGULAR},
    **{"am": "is", "was": "was", "have": "has", "haven't": "hasn't", "do": "does"},
    **{"don't": "doesn't", "go": "goes", "study": "studies", "watch": "watches"},
    **{"teach": "teaches", "wash": "washes", "miss": "misses"},
}


def for_speech(text: str) -> str:
    """A fact as the appliance says it to whoever told it: a whole sentence."""
    text = _plain(text)
    if _ADDRESSED.search(text):
        return f"你说过：{text}" if _CHINESE.search(text) else f"You said: {text}"
    if _CHINESE.search(text):
        return _sentence(text.replace("我们", "你们").replace("我", "你"))
    turned = _I_AM.sub(lambda m: f"you {_AM_I[m[1].lower()]}", text)
    return _sentence(_WORD.sub(lambda m: _TO_YOU.get(_key(m[0]), m[0]), turned))


def for_prompt(text: str) -> str:
    """A fact as a sentence about the user; a quotation where that would have to be guessed."""
    text = _plain(text)
    quoted = f"用户说过：“{text}”" if _CHINESE.search(text) else f"The user said: '{text}'"
    if _ADDRESSED.search(text):
        return quoted
    if _CHINESE.search(text):
        return quoted if "我们" in text else _sentence(text.replace("我", "用户"))
    turned = _third_person(text)
    return quoted if turned is None or _FIRST_PERSON.search(turned) else _sentence(turned)


def _third_person(text: str) -> str | None:
    """The sentence about "the user"; None when a verb's form is not known."""
    words = text.split(" ")
    out: list[str] = []
    wanting = False  # "I" was seen and its verb was not
    for word in words:
        key = _key(word.strip(",.;:!?"))
        if wanting:
            if key in _THIRD_PERSON:
                out.append(word.replace(word.strip(",.;:!?"), _THIRD_PERSON[key], 1))
            elif key in _SAME_FOR_ALL:
                out.append(word)
            else:
                return None
            wanting = key in _ADVERBS
        elif key == "i":
            out.append("the user")
            wanting = True
        else:
            out.append(_WORD.sub(lambda m: _TO_USER.get(_key(m[0]), m[0]), word))
    return None if wanting else " ".join(out)


def _key(word: str) -> str:
    return word.lower().replace("’", "'")


def _plain(text: str) -> str:
    return " ".join(text.split()).rstrip(".。")


def _sentence(text: str) -> str:
    end = "" if text.endswith(("!", "?", "！", "？")) else "。" if _CHINESE.search(text) else "."
    return text[:1].upper() + text[1:] + end
