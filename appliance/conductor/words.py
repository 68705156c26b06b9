"""What short utterances mean to whoever has the floor. Pure.

Backchannels are the listener's "go on" (Yngve 1970; Clark 1996): they claim no turn.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rapidfuzz import fuzz

_ENCOURAGING = """
ah aha alright cool good great hm hmm hmmm huh indeed interesting m mhm mm mmhm mmhmm mmm nice oh ok
okay okey right sure uh uhhuh uhm um umhum wow yeah yep yes yup 嗯 嗯嗯 哦 好 好的 对 是的
"""
_BACKCHANNELS = frozenset(_ENCOURAGING.split())
"""Without hyphens and punctuation; any sequence of them is still one."""
_BACKCHANNEL_PHRASES = re.compile(
    r"\b(uh huh|mm hm+|m hm+|i see|got it|go on|of course|that's right|all right|makes sense)\b"
)
_LONGEST_BACKCHANNEL_WORDS = 4
_SILENCE = (
    r"(?:stop(?: it| that| now| please| talking| speaking)*|be quiet|quiet|shut up|silence|hush|"
    r"enough|that's enough|that is enough|"
    r"(?:wait|hold on|hang on)(?: (?:a|one) (?:moment|minute|second|sec))?|"
    r"(?:just )?(?:a|one) moment|just (?:a|one) (?:minute|second|sec)|"
    r"停|停下|停止|别说了|安静|闭嘴|够了|等|等等|等一下|稍等)"
)
_STOP = re.compile(
    r"(?:(?:oh|ok|okay|no|please|hey|now|just)\s+)*"
    rf"{_SILENCE}(?:\s+{_SILENCE})*"
    r"(?:\s+(?:please|now|it|that|thanks|thank you))*"
)
_TAKES_BACK = re.compile(
    r"(?:(?:oh|ok|okay|no|please|actually)\s+)*"
    r"(?:(?:cancel|undo|scratch)(?: (?:that|it|this))?|never ?mind|forget (?:that|it|about it)|"
    r"take (?:that|it) back|取消|算了)(?:\s+please)?"
)
_STOP_STARTS = re.compile(
    r"(?:(?:oh|ok|okay|please|hey|well)\s+)*(?:stop|wait|no|hold on|excuse me|hang on|shut up|"
    r"be quiet|quiet|enough|cancel|never ?mind|forget it|停|等|不)\b"
)
_NEVER_LAST = """
a an the my your his her its our their and or but because than if whether although while um uh er
erm 和 跟 但是 因为 如果 或者
"""
_UNFINISHED_WORDS = frozenset(_NEVER_LAST.split())
"""No sentence ends with one of them."""
_SELDOM_LAST = """
of to for with from at by about into between during without as which every very is are was were am
be been has had does i'm you're he's she's it's we're they're what's that's who's i'd i'll i've
"""
_SELDOM_LAST_WORDS = frozenset(_SELDOM_LAST.split())
"""A sentence that ends with one of them is a question."""
_LIKE_ECHO = 80.0
"""Similarity in percent from which three and more words are the appliance's own."""
_LONG_WORD = 6
"""One word alone is taken for an echo only if it is not one of those that everybody says."""


def plain(text: str) -> str:
    """Lower case, apostrophes kept, hyphens and other punctuation to spaces."""
    return " ".join(re.sub(r"[^\w\s']|_", " ", text.lower()).split())


def is_backchannel(text: str) -> bool:
    """Whether the words only say "I am listening"; false without words."""
    bare = _BACKCHANNEL_PHRASES.sub("ok", plain(text))
    words = bare.split()
    return 0 < len(words) <= _LONGEST_BACKCHANNEL_WORDS and all(w in _BACKCHANNELS for w in words)


def is_stop(text: str) -> bool:
    """Whether the words ask for silence and for nothing else."""
    return _STOP.fullmatch(plain(text)) is not None


def takes_back(text: str) -> bool:
    """Whether what was just done may be meant to be undone: more than silence, mind knows what."""
    return _TAKES_BACK.fullmatch(plain(text)) is not None


def starts_interruption(text: str) -> bool:
    """Whether the first words claim the floor, whatever follows."""
    return takes_back(text) or _STOP_STARTS.match(plain(text)) is not None


def same_words(text: str, other: str) -> bool:
    """Whether two hearings differ in nothing that is spoken."""
    return plain(text) == plain(other)


def is_unfinished(text: str) -> bool:
    """Whether the last words show that more is to come, whatever they sound like."""
    bare = text.rstrip()
    words = plain(bare).split()
    if not words:
        return False
    if words[-1] in _UNFINISHED_WORDS or bare.endswith((",", "，", "-", "—")):
        return True
    return words[-1] in _SELDOM_LAST_WORDS and not bare.endswith(("?", "？"))


def is_echo(text: str, spoken: Sequence[str]) -> bool:
    """Whether the words are those that the appliance itself has just been saying.

    Args:
        text: what was heard over the answer.
        spoken: the pieces of the answer that may have been audible.
    """
    words, own = plain(text), plain(" ".join(spoken))
    count = len(words.split())
    if count >= 3:
        return fuzz.partial_ratio(words, own) >= _LIKE_ECHO
    long_enough = count == 2 or len(words) >= _LONG_WORD
    return bool(words) and long_enough and f" {words} " in f" {own} "
