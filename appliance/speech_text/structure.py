"""Takes the markup out of an answer while it is written: what is no words is not spoken. Pure."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable

from appliance.speech_text.characters import fold
from appliance.speech_text.turns import Turns, beginnings

_SCHEMES = ("http://", "https://", "ftp://", "mailto:")
_TRIGGER = re.compile(
    r"[<`\]\[\\&]|~~~|(?<=[^\W\d_])\*+(?=[^\W\d_]|$)|https?://|ftp://|mailto:(?=\S)",
    re.IGNORECASE,
)
_UNFINISHED = re.compile(
    rf"(?:{beginnings('http://', 'https://', 'ftp://', 'mailto:')}|~~?)$", re.I
)
"""What may become a trigger."""
_HIDDEN = frozenset(
    {"think", "thinking", "thought", "reasoning", "reflection", "scratchpad", "tool_call"}
    | {"tool_response", "tool_result", "function_call", "script", "style"}
)
"""Elements whose content is not for the user."""
_BLOCKS = frozenset(
    {"br", "p", "li", "ul", "ol", "div", "tr", "table", "hr", "h1", "h2", "h3", "h4", "h5", "h6"}
)
_ENDS = re.compile(r"\|?(?:im_end|endoftext|eot_id|end_of_text|end_of_turn|eos|end)\|?", re.I)
_TOKEN = re.compile(r"<\|[^<>\n]{0,60}>")
_TAG = re.compile(r"<(/?)([A-Za-z][\w-]{0,30})(?![\w:-])[^<>\n]{0,300}>")
_COMMENT = re.compile(r"<!--.{0,2000}?-->", re.DOTALL)
_MAYBE_TAG = re.compile(r"<(?:$|[/A-Za-z|][^<>\n]{0,300}$|!(?!--.*-->).{0,2000}$)", re.DOTALL)
_CUT_OFF = re.compile(rf"<(?:\||/|!|(?:{'|'.join(sorted(_HIDDEN))})\b)")
"""A tag at the end of an answer that was stopped."""
_TARGET = re.compile(r"\](?:\((?:[^()\n]|\([^()\n]*\)){0,1000}\)|\[[^\[\]\n]{0,80}\])")
_MAYBE_TARGET = re.compile(
    r"\](?:\((?:[^()\n]|\([^()\n]*\)){0,1000}(?:\([^()\n]*)?|\[[^\[\]\n]{0,80})?$"
)
_CITATION = re.compile(r"\[(?:[ xX]|\^?\d{1,3}|/?INST|/?SYS|/?TOOL\w*)\](?!\()")
_MAYBE_CITATION = re.compile(r"\[[\^/ ]?\w{0,14}\]?$")
_COMMAND = re.compile(r"\\(?:([A-Za-z]{1,20})|.)", re.DOTALL)
_ENTITY = re.compile(r"&(?:amp;){0,9}(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-z]{2,8}\d?);")
_MAYBE_ENTITY = re.compile(r"&(?:[#a-z][\w;]{0,60})?$")
_NAME = re.compile(r"#?\w{0,8}")
_ADDRESS = re.compile(
    r"(?:https?://|ftp://|mailto:)(?:www\.)?([^\s/?#:<>\"'`()\[\]{}|\\^*，。！？；：、]*)", re.I
)
_LONGEST_ADDRESS = 300
_ADDRESS_END = re.compile(r"[\s<>\"`)\]}|，。！？；：、\u3040-\u30ff\u3400-\u9fff]")
_SIGNS = {
    **dict.fromkeys(("times", "cdot", "ast"), "×"),
    **{"div": "÷", "pm": "±", "approx": "≈", "le": "≤", "leq": "≤", "ge": "≥", "geq": "≥"},
    **{"ne": "≠", "neq": "≠", "infty": "∞", "sqrt": "√", "circ": "°", "degree": "°", "n": "\n"},
    **{"rightarrow": ",", "to": ",", "ldots": "...", "dots": "...", "percent": "%"},
}
_LAYOUT = frozenset(
    {"frac", "dfrac", "tfrac", "text", "textbf", "textit", "mathrm", "mathbf", "mathit", "mathbb"}
    | {"left", "right", "big", "Big", "quad", "qquad", "begin", "end", "boxed", "displaystyle"}
    | {"operatorname", "emph", "item", "label"}
)

Step = tuple[str, int]
"""What to say of a piece of markup, and where in the buffer it ends."""


class Structure:
    """Takes text as it is written, and hands what can be spoken of it to `turns`.

    Left out: thoughts, tool calls, comments, special tokens, tags, code between fences, addresses
    of links. A token that ends an answer ends it.

    Args:
        turns: where the rest goes.
        code_hint: said in place of a block of code.
    """

    def __init__(self, turns: Turns, code_hint: str = "") -> None:
        self._turns = turns
        self._code_hint = code_hint
        self._before = ""
        """The character before the buffer."""
        self._buffer = ""
        self._skip_to: re.Pattern[str] | None = None
        """Everything before this is left out."""
        self._in_address = False
        self._skipped = ""
        """The last character of an address that is left out."""

    def push(self, text: str) -> None:
        """Add folded text."""
        self._buffer += text
        self._work(final=False)

    def finish(self) -> None:
        """The text is complete."""
        self._work(final=True)
        self._give(self._skipped)
        self._turns.finish()

    def _work(self, *, final: bool) -> None:
        while self._buffer and not self._turns.ended:
            if self._skip_to is not None:
                if not self._skip():
                    return
                continue
            end, is_trigger = self._next_trigger(final)
            self._turns.push(self._buffer[:end])
            self._cut(end)
            if not is_trigger:
                return
            step = self._step(final)
            if step is None:
                return
            self._turns.push(step[0])
            self._cut(step[1])
        if self._turns.ended:
            self._buffer = ""

    def _next_trigger(self, final: bool) -> tuple[int, bool]:
        """Where plain text ends, and whether markup begins there."""
        text, start = self._before + self._buffer, len(self._before)
        trigger = _TRIGGER.search(text, start)
        end = trigger.start() if trigger else len(text)
        unfinished = None if final else _UNFINISHED.search(text, max(start, len(text) - 12))
        if unfinished and unfinished.start() < end:
            return unfinished.start() - start, False
        return end - start, trigger is not None

    def _cut(self, end: int) -> None:
        self._before = self._buffer[:end][-1:] or self._before
        self._buffer = self._buffer[end:]

    def _skip(self) -> bool:
        assert self._skip_to is not None
        found = self._skip_to.search(self._buffer)
        if found is None:
            kept = 0 if self._in_address else 24  # the end may have begun
            self._skipped = self._buffer[-1:] if self._in_address else ""
            self._buffer = self._buffer[max(0, len(self._buffer) - kept) :]
            return False
        if self._in_address:
            last = self._buffer[: found.start()][-1:] or self._skipped
            self._buffer = self._buffer[found.start() :]
            self._skipped = last
            self._give(last)
        else:
            self._buffer = self._buffer[found.end() :]
        self._skip_to, self._in_address = None, False
        return True

    def _give(self, last: str) -> None:
        """A mark at the end of an address is none of it."""
        if last and last in ".,;:!?":
            self._turns.push(last)
        self._skipped = ""

    def _step(self, final: bool) -> Step | None:
        """What the trigger at the beginning of the buffer becomes; None while that is not known."""
        handlers: dict[str, Callable[[bool], Step | None]] = {
            "<": self._tag,
            "`": self._fence,
            "~": self._fence,
            "]": self._target,
            "[": self._citation,
            "\\": self._command,
            "&": self._entity,
            "*": self._emphasis,
        }
        return handlers.get(self._buffer[0], self._address)(final)

    def _tag(self, final: bool) -> Step | None:
        text = self._buffer
        if match := _COMMENT.match(text):
            return "", match.end()
        if match := _TOKEN.match(text):
            if _ENDS.match(text, 1):
                self._turns.end()
            return "\n", match.end()
        if match := _TAG.match(text):
            name = match[2].lower()
            if name in _HIDDEN and not match[1] and not match.group().endswith("/>"):
                self._skip_to = re.compile(rf"</{name}\s*>", re.IGNORECASE)
            if _ENDS.fullmatch(name):
                self._turns.end()
            return "\n" if name in _BLOCKS else "", match.end()
        if _MAYBE_TAG.match(text):
            if not final:
                return None
            if _CUT_OFF.match(text):
                return "", len(text)
        return ("", 1) if (len(text) > 1 and text[1] in "|/!<") or text[1:2].isalpha() else ("<", 1)

    def _fence(self, final: bool) -> Step | None:
        fence = 3 * self._buffer[0]
        if self._buffer.startswith(fence):
            self._skip_to = re.compile(fence)
            return f"\n{self._code_hint}\n", len(fence)
        return None if fence.startswith(self._buffer) and not final else ("", 1)

    def _target(self, final: bool) -> Step | None:
        if match := _TARGET.match(self._buffer):
            return "", match.end()
        return None if not final and _MAYBE_TARGET.match(self._buffer) else ("]", 1)

    def _citation(self, final: bool) -> Step | None:
        if not final and _MAYBE_CITATION.match(self._buffer):
            return None
        match = _CITATION.match(self._buffer)
        return ("", match.end()) if match else ("[", 1)

    def _command(self, final: bool) -> Step | None:
        match = _COMMAND.match(self._buffer)
        if not final and (match is None or (match[1] and match.end() == len(self._buffer))):
            return None
        if match is None or not match[1]:
            return " ", 1
        name = match[1]
        if name[0] == "n" and name[1:2].isupper():
            return "\n", 2  # a line break that was written out
        if name in _SIGNS:
            return _SIGNS[name], match.end()
        return ("" if name in _LAYOUT else f" {_greek(name)}"), match.end()

    def _entity(self, final: bool) -> Step | None:
        if match := _ENTITY.match(self._buffer):
            is_open = match.group().endswith("amp;") and _NAME.fullmatch(self._buffer, match.end())
            if is_open and not final:
                return None
            return fold(html.unescape(re.sub("^&(?:amp;)+", "&", match.group()))), match.end()
        return None if not final and _MAYBE_ENTITY.match(self._buffer) else ("&", 1)

    def _emphasis(self, final: bool) -> Step | None:
        run = len(self._buffer) - len(self._buffer.lstrip("*"))
        if run == len(self._buffer):
            return ("*", run) if final else None
        return ("" if self._buffer[run].isalpha() else "*", run)

    def _address(self, final: bool) -> Step | None:
        match = _ADDRESS.match(self._buffer)
        assert match is not None
        if match.end() == len(self._buffer):
            return (match[1], match.end()) if final or match.end() > _LONGEST_ADDRESS else None
        self._skip_to, self._in_address = _ADDRESS_END, True
        return match[1], match.end()


def _greek(name: str) -> str:
    case = "CAPITAL" if name[0].isupper() else "SMALL"
    try:
        return unicodedata.lookup(f"GREEK {case} LETTER {name.upper()}")
    except KeyError:
        return name
