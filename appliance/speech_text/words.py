"""The words of an answer as they arrive: loops, endless words and stray signs left out. Pure."""

from __future__ import annotations

import re

from appliance.speech_text.gaps import CLAUSE_MARKS, STOPS, rewrite

_IDEOGRAPHS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_ACCENTS = "\u0300-\u036f"
_SIGNS = (
    f"{_ACCENTS}\u0483-\u0487\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0963"
    "\u0966-\u0dff\u0e31-\u0e4e\u0eb1-\u0ece\u0f71-\u0f84\u102b-\u103e\u17b4-\u17d3"
)
"""Accents, and the blocks of those writings whose vowel signs are no letters to Python."""
_RUN = re.compile(
    rf"(?P<ideograph>[{_IDEOGRAPHS}])"
    rf"|(?P<word>(?:[^\W_{_IDEOGRAPHS}]|[{_SIGNS}])+)"
    rf"|(?P<gap>(?:(?![{_IDEOGRAPHS}{_SIGNS}])[\W_])+)"
)
_NO_LETTERS = re.compile(r"^[\W_]+")
_SAME_LETTERS = re.compile(r"([^\W\d_])\1{3,}")
_SAME_ACCENTS = re.compile(rf"([{_ACCENTS}]{{2}})[{_ACCENTS}]+")
_LONGEST_WORD = 64
"""In letters; the longest word in use, a German one, has as many."""
_LONGEST_RAW = 512
_LONGEST_GAP = 64
_LONGEST_LOOP = 32
"""Words in what may be repeated."""


class Words:
    """Takes folded text without markup of more than one sign, and gives what is spoken of it.

    The same text comes out however it was cut up on its way in. Of a loop two or three rounds
    stay, of a run of one letter three letters, of an endless word 64.

    Args:
        repeats: whether loops stay whole: someone may want to hear a word again and again.
    """

    def __init__(self, *, repeats: bool = False) -> None:
        self._repeats = repeats
        self._out: list[str] = []
        self._last = ""
        """The last character that was said."""
        self._gap = ""
        """What came after it."""
        self._given = ""
        """The beginning of what the gap becomes, where that is out already."""
        self._word = ""
        """What came after the gap, maybe not all of it."""
        self._shown = 0
        """Letters of the word that are out; with the first of them the gap is."""
        self._said: list[str] = []
        """The last words, in lower case."""
        self._barred: dict[str, int] = {}
        """Words with which a loop would go on, and its length."""
        self._loop: list[str] = []
        """What is being left out again and again."""
        self._loop_at = 0

    @property
    def has_spoken(self) -> bool:
        """Whether any word is or will be out."""
        return bool(self._last or self._word)

    @property
    def line_is_empty(self) -> bool:
        """Whether no word came since the last line began."""
        return not self._word and (not self._last or "\n" in self._gap)

    @property
    def space_follows(self) -> bool:
        """Whether what is out ends with a whole word, or its mark, and white space came after."""
        after = self._gap[len(self._given) :]
        return bool(self._last and after) and not self._word and after.isspace()

    def push(self, text: str) -> None:
        """Add text."""
        for run in _RUN.finditer(text):
            if run.lastgroup == "word":
                self._add(run.group())
                continue
            self._close()
            if run.lastgroup == "gap":
                self._widen(run.group())
            else:
                self._word = run.group()
                self._close()

    def take(self) -> str:
        """What has become certain since the last call."""
        if self._word:
            if not self._may_be_barred():
                self._show()
        elif self._last and not self._given and self._gap[:1] in {*STOPS, *CLAUSE_MARKS}:
            self._given = "..." if self._gap.startswith("...") else self._gap[0]
            self._out.append(self._given)
        text = "".join(self._out)
        self._out.clear()
        return text

    def finish(self) -> str:
        """The rest, at the end of the text."""
        self._close()
        self._fill("")
        return self.take()

    def _add(self, part: str) -> None:
        if not self._word:
            part = _NO_LETTERS.sub("", part)
        self._word = (self._word + part)[:_LONGEST_RAW]

    def _widen(self, raw: str) -> None:
        if self._loop:  # a colon belongs to the word that was left out
            raw = raw.replace(":", " ").replace("：", " ")
        room = _LONGEST_GAP - len(self._gap)
        self._gap += raw[: max(0, room)]
        if "\n" in raw[max(0, room) :] and "\n" not in self._gap:
            self._gap += "\n"

    def _close(self) -> None:
        """The word is complete: say it, unless it only goes on with a loop."""
        if not self._word:
            return
        plain = _tidy(self._word).casefold()
        if not self._goes_in_circles(plain):
            self._show()
            self._said.append(plain)
            del self._said[: -3 * _LONGEST_LOOP]
            self._barred = {} if self._repeats else _barred(self._said)
        self._word = ""
        self._shown = 0

    def _goes_in_circles(self, word: str) -> bool:
        if self._loop and self._loop[self._loop_at] == word:
            self._loop_at = (self._loop_at + 1) % len(self._loop)
            return True
        length = self._barred.get(word, 0)
        self._loop = self._said[len(self._said) - length :]
        self._loop_at = 1 % max(1, length)
        return length > 0

    def _may_be_barred(self) -> bool:
        """Whether the word may become one that is left out."""
        if self._shown or not (self._barred or self._loop):
            return False
        start = _tidy(self._word).casefold()
        expected = [self._loop[self._loop_at]] if self._loop else []
        return any(word.startswith(start) for word in [*expected, *self._barred])

    def _show(self) -> None:
        text = _tidy(self._word)
        if not self._shown:
            self._fill(text[0])
        self._out.append(text[self._shown :])
        self._shown = len(text)
        self._last = text[-1]

    def _fill(self, after: str) -> None:
        """Say what the gap becomes."""
        text = rewrite(self._last, self._gap, after)
        self._out.append(text[len(self._given) :])
        self._gap = self._given = ""


def _tidy(word: str) -> str:
    word = _SAME_ACCENTS.sub(r"\1", _SAME_LETTERS.sub(r"\1\1\1", word))
    has_case = word[0].lower() != word[0].upper() or word[0].isdigit()
    return word[:_LONGEST_WORD] if has_case else word  # Thai and its like have no spaces


def _barred(said: list[str]) -> dict[str, int]:
    """Words with which a third round (of short loops a fourth) would begin, and the loop's length.

    Numbers may repeat more often: "1 000 000 000 000".
    """
    barred: dict[str, int] = {}
    for length in range(1, min(_LONGEST_LOOP, len(said) // 2) + 1):
        if said[-1] != said[-1 - length]:
            continue
        rounds = 3 if length <= 3 else 2
        if all(word.isdigit() for word in said[-length:]):
            rounds = 8
        whole = rounds * length
        if whole <= len(said) and said[-whole:-length] == said[length - whole :]:
            barred.setdefault(said[-length], length)
    return barred
