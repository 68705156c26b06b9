"""Cut a stream of text into what a voice speaks at once. Pure.

A sentence is the unit that keeps the melody right; only the first chunk of an answer may be a
clause, because the listener is waiting for it. Rules rather than a library: the ones at hand
(pysbd, nltk's punkt) work on whole texts and change their mind when more arrives, and a voice
cannot take back what it said.
"""

from __future__ import annotations

import itertools
import re

_TERMINATORS = ".!?…"
_CJK_TERMINATORS = "。！？｡"
_CLAUSE_MARKS = ",;:"
_CJK_CLAUSE_MARKS = "，；：、"
_MARKS = _TERMINATORS + _CJK_TERMINATORS + _CLAUSE_MARKS + _CJK_CLAUSE_MARKS
_CLOSERS = "\"'”’»)]}›」』）】*_`"
_OPENERS = "\"'“‘«([{‹「『（【*_`#>-–—•"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TITLES = _words(
    "mr mrs ms mx dr prof rev hon st sr jr gen col capt lt sgt maj cmdr adm gov sen rep pres "
    "messrs mme mlle vs viz cf ca approx e.g i.e al ed eds dept est fig figs mt ft ave blvd "
    "jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thur thurs fri "
    "bzw z.b d.h u.a ggf usw"
)
"""Abbreviations that the rest of their sentence follows."""

_BEFORE_NUMBER = _words("no nos nr p pp vol ch sec art eq tab")
"""Words that are abbreviations only before a number: "No. 5", but "No. It is not."."""

_STARTERS = _words(
    "the a an it he she they we you i this that these those there here in on at for if when while "
    "but and so or however also its his her their my our your what who how why where which as "
    "after before since then yes no please not one some many most today now with to from"
)
"""Words that show, after an initial or "U.S.", that a new sentence began."""

_PHRASE_STARTERS = frozenset(
    {"and", "but", "or", "so", "because", "that", "which", "who", "where", "when", "while", "if"}
    | {"although", "as", "after", "before", "since", "until", "than", "with", "without", "for"}
    | {"from", "in", "into", "on", "at", "by", "to", "about", "through", "during", "between"}
)
"""Words before which a speaker may take breath."""

_LONGEST_STARTER = max(map(len, _STARTERS))
_CJK = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")


class SentenceSplitter:
    """Text pieces in, speakable chunks out; the chunks do not depend on how the text was cut up.

    Args:
        first_clause_words: words after which a comma, semicolon or colon may end the first chunk;
            0 waits for the whole sentence. A CJK character counts as half a word.
        first_phrase_words: words after which the first chunk may end before a conjunction or a
            preposition, without any mark; 0 never does.
        pieces_are_tokens: a piece that ends with a full stop after a word ends a sentence at once,
            without waiting for what follows: a model has one token for ".com" and for '."'.
        max_chars: length at which a sentence that does not end is cut, at a clause mark or a space.
    """

    def __init__(
        self,
        *,
        first_clause_words: int = 3,
        first_phrase_words: int = 6,
        max_chars: int = 240,
        pieces_are_tokens: bool = False,
    ) -> None:
        self._first_clause_words = first_clause_words
        self._first_phrase_words = first_phrase_words
        self._max_chars = max_chars
        self._pieces_are_tokens = pieces_are_tokens
        self._text = ""
        self._is_first = True

    def push(self, piece: str, *, space_follows: bool = False) -> list[str]:
        """Add text; returns the chunks that are now certain, stripped, in order.

        Args:
            piece: possibly empty.
            space_follows: whether white space is known to come next, which a later piece brings.
        """
        self._text += piece
        ends = self._pieces_are_tokens and _ends_with_a_word_and_a_stop(self._text)
        return self._take(final=ends, space_follows=space_follows)

    def flush(self) -> list[str]:
        """End the text; returns what is left. The splitter then starts afresh."""
        chunks = self._take(final=True)
        self._is_first = True
        return chunks

    def _take(self, *, final: bool, space_follows: bool = False) -> list[str]:
        chunks: list[str] = []
        while self._text:
            self._text = self._text.lstrip()
            text = f"{self._text} " if space_follows else self._text
            words = self._first_clause_words if self._is_first else 0
            cut = _next_cut(text, words, self._max_chars, final=final)
            if self._is_first and self._first_phrase_words:
                phrase = _phrase_cut(text[:cut], self._first_phrase_words)
                cut = cut if phrase is None else phrase
            if cut is None:
                break
            if chunk := self._text[:cut].strip():
                chunks.append(chunk)
                self._is_first = False
            self._text = self._text[cut:]
        return chunks


def _next_cut(text: str, clause_words: int, max_chars: int, *, final: bool) -> int | None:
    """Where the first chunk of `text` ends, or None while more text could change the answer."""
    clause_cut = 0  # behind the last clause mark, for a sentence that does not end
    i = 0
    while i < min(len(text), max_chars):
        if text[i] == "\n":
            return i + 1
        if text[i] not in _MARKS:
            i += 1
            continue
        end = _end_of_run(text, i)
        if end == len(text) and not final:
            return None  # "3." may become "3.5", and a quotation mark may follow
        ends: bool | None = False
        if text[i] in _TERMINATORS + _CJK_TERMINATORS:
            ends = _ends_sentence(text, i, end, final=final)
        elif text[i] in _CJK_CLAUSE_MARKS or end == len(text) or text[end].isspace():
            ends = 0 < clause_words <= _count_words(text[:i])
            clause_cut = end
        if ends is not False:
            return end if ends else None
        i = end
    if len(text) > max_chars:
        return clause_cut or text.rfind(" ", 1, max_chars) + 1 or max_chars
    return len(text) if final else None


def _ends_with_a_word_and_a_stop(text: str) -> bool:
    match = re.search(r"([a-z]{3,})[.!?]$", text)
    return match is not None and match[1] not in _TITLES | _BEFORE_NUMBER


def _phrase_cut(text: str, words: int) -> int | None:
    """Where a phrase of at least so many words ends, before a word that begins another one."""
    found = [(match.start(), match.group().lower()) for match in re.finditer(r"\S+", text)]
    for (_, before), (start, word) in itertools.pairwise(found[words - 1 :]):
        complete = text[start + len(word) : start + len(word) + 1].isspace()
        if complete and word in _PHRASE_STARTERS and before not in _PHRASE_STARTERS:
            return start
    return None


def _end_of_run(text: str, start: int) -> int:
    """Index behind the mark at `start`, its like, and the quotes and brackets they close."""
    alike = _CLAUSE_MARKS + _CJK_CLAUSE_MARKS
    if text[start] not in alike:
        alike = _TERMINATORS + _CJK_TERMINATORS
    end = start + 1
    while end < len(text) and text[end] in alike + _CLOSERS:
        end += 1
    return end


def _ends_sentence(text: str, i: int, end: int, *, final: bool) -> bool | None:
    """Whether the terminator at `i`, whose run ends at `end`, ends a sentence; None: not known."""
    if text[i] in _CJK_TERMINATORS or end == len(text):
        return True
    if not text[end].isspace():
        return _CJK.match(text[end]) is not None  # else "3.5", "example.com", "U.S.A"
    following = text[end:].lstrip()
    if "\n" in text[end : len(text) - len(following)]:
        return True
    following = following.lstrip(_OPENERS + " ")
    if not following:
        return final or None
    if following[0].islower():
        return False
    is_full_stop = text[i] == "." and not text.startswith("..", i)
    return not is_full_stop or _full_stop_ends(text[:i], following, final=final)


def _full_stop_ends(before: str, following: str, *, final: bool) -> bool | None:
    """Whether a full stop between `before` and a word that is not in lower case ends a sentence."""
    word = re.split(r"[\s\"'“‘(\[{*_]", before)[-1]
    lower = word.lower()
    if before.strip().isdigit():
        return False  # "1. Preheat the oven": the number of a list item
    if lower in _TITLES or (lower in _BEFORE_NUMBER and following[0].isdigit()):
        return False
    is_initial = len(word) == 1 and word.isalpha() and word.isupper()
    is_acronym = "." in word and word.replace(".", "").isalpha() and word.isupper()
    if not (is_initial or is_acronym):
        return True
    match = re.match(r"[^\W\d_]*", following)
    start = match.group() if match else ""
    if start == following and len(start) <= _LONGEST_STARTER and not final:
        return None  # the next word is not complete
    return start.lower() in _STARTERS


def _count_words(text: str) -> float:
    """Words in `text`, a CJK character as half of one."""
    return len(_CJK.sub(" ", text).split()) + len(_CJK.findall(text)) / 2
