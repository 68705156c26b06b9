"""Takes claims of deeds out of a language model's answer: it can only talk. Pure.

A small model that is asked to feed the dog says "Sure, I'll feed the dog". What can be done is done
by mind, or by a tool's call, and told from its result; text that says so is never true. A sentence
that might begin such a claim is held back until that is known, mostly for two or three words;
every other answer goes through as it comes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence


def _set(*words: str) -> frozenset[str]:
    return frozenset(" ".join(words).split())


CANNOT = ("I can't do that: all I can do is talk.", "这个我做不到，我只能说话。")
ONLY_TALK = ("I can only talk about that, not do it.", "这件事我只能谈谈，不能去做。")
CANNOT_KEEP = (
    'I can only keep what you ask me to remember: say "remember that", and then what it is.',
    "只有你说“记住”，我才能记住。",
)

_AGREES = _set(
    "sure okay ok yes yeah yep certainly of course alright all right absolutely no problem",
    "great got it gladly definitely well now so then right away here you are go thank",
    "thanks",
)
_ME = frozenset(["i", "i'll", "i've", "i'm", "we", "we'll", "we've", "we're", "let"])
_BETWEEN = _set(
    "will have am are shall be me just already now going to gladly happily happy also go",
    "ahead and immediately right away first quickly try",
)
_ABLE = frozenset(["can", "could"])
_THINGS = _set(
    "light lights lamp lamps heating heater thermostat door doors window windows blinds",
    "music radio song tv television message email text call timer alarm reminder order",
    "pizza taxi table meeting appointment oven kettle robot washing garage",
)
_TALKS = _set(
    "tell explain say answer help try give share describe translate recommend suggest list write",
    "sing talk read repeat spell count think guess be do my love miss ask speak assist discuss",
    "show teach compare summarise summarize continue begin imagine name define mention not never",
)
"""What may be promised, since words can keep it."""
_HELPS = _set("help", "assist")
_KEEP = frozenset(["remember", "note", "memorise", "memorize"])
_REGULAR = (
    "turn switch lower raise lock unlock open start preheat adjust call dial text email "
    "message notify inform play resume skip pause order book reserve transfer add schedule "
    "cancel search download update vacuum clean save print restart reboot activate "
    "deactivate change arrange mark remind increase decrease close dim stop contact reach "
    "fetch water cook brew warm boil record launch load charge post upload delete remove "
    "install connect alert forward reply deliver purchase wash feed bring send buy pay put "
    "set wake shut light ring get check look do"
)
_IRREGULAR = (
    "leave left leaving sent sending bought paid putting setting woken woke waking shutting "
    "rang rung ringing getting "
    "got looked doing did dimmed dimming stopped stopping skipped skipping cancelled cancelling "
    "shutting fed brought lit"
)


def _forms(verb: str) -> list[str]:
    stem = verb.removesuffix("e")
    past = verb[:-1] + "ied" if verb.endswith("y") and verb[-2] not in "aeou" else stem + "ed"
    return [verb, past, stem + "ing"]


_DEEDS = frozenset(
    [*(form for verb in _REGULAR.split() for form in _forms(verb)), *_IRREGULAR.split(), *_KEEP]
)
_FINITE = _set(
    "is are was were can may might will would makes make helps help requires means involves",
    "takes improves needs has gives lets should",
)
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_ENDS = re.compile(r"[.!?。！？][\"'”’)]*$")
_SENTENCES = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")
_HOLLOW = re.compile(
    r"\W*(?:sure|yes|okay|ok|certainly|of course|absolutely)\W+(?:I|we)(?: can| could| will| would"
    r"|'ll|'d)(?: help| assist)?(?: you)?(?: out)?(?: with (?:that|this|it))?[.!]*",
    re.IGNORECASE,
)
"""Agrees, and does not say to what: alone it leaves the user waiting for what never comes."""
_DONE = re.compile(r"\W*(?:(?:okay|ok|sure|all|yes)\W+)*done\W*", re.IGNORECASE)
_IS_DONE = re.compile(
    r"\b(?:is|are|was|were|has been|have been|will be) (?:now |already |being )?(?:on|off|locked"
    r"|unlocked|open|opened|closed|playing|paused|sent|ordered|booked|reserved|paid|added|set|"
    r"scheduled|cancelled|canceled|turned|switched|on (?:the|its|their) way|started|preheating|"
    r"running|ringing)\b",
    re.IGNORECASE,
)
_HAN = re.compile(r"[㐀-鿿]")
_CHINESE = re.compile(
    r"(?:好的?|当然|没问题|可以|行|是的)?[，。！,! ]*(?:我(?:们)?)?"
    r"(?:已经|已|会|将|马上|这就|正在|现在|立刻|可以|来|就)+"
    r"(?:(?:为|帮|给|替|把)[^，。]{1,6}?)?"
    r"(?:打开|开灯|关|播放|打电话|拨打|发送|发|预?订|购买|买|下单|设置|调|锁|启动|提醒|添加|取消"
    r"|记住|记下|通知|联系|安排)"
)
_CHINESE_STARTS = "好当没可行是我已正马这现"


class Honesty:
    """One answer's pieces in, the same out as long as they claim no deed.

    A piece is a clause or some sentences, whole words in any case, as it will be spoken.
    """

    def __init__(self) -> None:
        self._held: list[str] = []
        self._within = False
        """Whether a sentence has begun that is known to be no claim."""
        self.claimed = False
        """Whether there was one: then what was to be said instead has been given out."""

    def push(self, pieces: Sequence[str]) -> list[str]:
        """Add pieces; returns what may be said."""
        out: list[str] = []
        for piece in pieces:
            out += self._take(piece, last=False)
        return out

    def finish(self) -> list[str]:
        """The answer is complete; returns the rest."""
        return self._take("", last=True) if self._held else []

    def _take(self, piece: str, *, last: bool) -> list[str]:
        if self.claimed:
            return []
        self._held.append(piece)
        text = " ".join(filter(None, self._held))
        sentences = _sentences(text)
        for n in range(int(self._within), len(sentences)):
            over = last or bool(_ENDS.search(sentences[n].rstrip()))
            at_end = n == len(sentences) - 1
            verdict = _verdict(sentences[n], over=over, last=last and at_end)
            if verdict is None and at_end and not last:
                return []
            if verdict:
                self.claimed, self._held = True, []
                return [*filter(None, [" ".join(sentences[:n])]), verdict]
        said = [held for held in self._held if held]
        self._held = []
        self._within = not _ENDS.search(text.rstrip())
        return said


def _words(text: str) -> list[str]:
    return [match[0].lower().replace("’", "'") for match in _WORD.finditer(text)]


def _sentences(text: str) -> list[str]:
    """Its sentences; one that only says yes belongs to the next."""
    found: list[str] = []
    for sentence in _SENTENCES.split(text):
        if found and all(word in _AGREES for word in _words(found[-1])):
            found[-1] += f" {sentence}"
        elif sentence.strip():
            found.append(sentence)
    return found


def _verdict(text: str, *, over: bool, last: bool) -> str | None:
    """What to say instead of a sentence; empty: nothing, it is no claim; None: not known yet.

    Args:
        text: the sentence as far as it goes.
        over: that is all of it.
        last: nothing follows it.
    """
    if _HAN.match(text.lstrip()):
        return _chinese(text.lstrip(), over=over)
    if _DONE.fullmatch(text) and over:
        return CANNOT[0]
    hollow = over and _HOLLOW.fullmatch(text.strip()) is not None
    words = [] if hollow else _words(text)
    first = next((n for n, word in enumerate(words) if word not in _AGREES), None)
    if first is None:
        return (ONLY_TALK[0] if hollow else "") if last else None
    word, rest = words[first], words[first + 1 :]
    if word in _ME:
        return _deed_of_mine(word, rest, agreed=first > 0, over=over)
    if word in ("the", "your"):
        may_claim, claims = not rest or rest[0] in _THINGS, bool(_IS_DONE.search(text))
    else:
        may_claim = word.endswith("ing") and word in _DEEDS
        claims = not _FINITE & set(rest)
    if may_claim and not over:
        return None
    return CANNOT[0] if may_claim and claims else ""


def _deed_of_mine(word: str, rest: Sequence[str], *, agreed: bool, over: bool) -> str | None:
    if word == "let" and rest and rest[0] != "me":
        return ""
    between = _BETWEEN | _ABLE if agreed else _BETWEEN
    verb = next((w for w in rest if w not in between), None)
    if verb is None or (agreed and verb in _HELPS and not over):
        return "" if over else None
    promised = agreed and (word in ("i'll", "we'll") or rest[:1] == ["will"])
    if verb not in _DEEDS and not (promised and verb not in _TALKS):
        return ""
    return CANNOT_KEEP[0] if verb in _KEEP else CANNOT[0]


def _chinese(text: str, *, over: bool) -> str | None:
    if text[0] not in _CHINESE_STARTS:
        return ""
    if not over:
        return None
    claim = _CHINESE.match(text)
    if claim is None or re.search("不|没|无法", claim[0].removeprefix("没问题")):
        return ""
    return CANNOT_KEEP[1] if claim[0].endswith(("记住", "记下")) else CANNOT[1]
