"""What an answer is, while it is written: text for a voice, or the call of a tool. Pure."""

from __future__ import annotations

from appliance.llm.honesty import Honesty
from appliance.speech_text.stream import SpeechStream


class Answer:
    """Pieces of a language model's answer in, what can be spoken of it out.

    An answer that begins with "{" is a call, and not a word of it is spoken, whatever becomes of
    it. Of text nothing is spoken that claims a deed (`Honesty`).

    Args:
        stream: makes text fit for speaking; for this answer only.
        may_call: whether it may be a call; if not, what looks like one is no answer at all.
        spoken: whether somebody will hear it; a note may tell of deeds.
    """

    def __init__(self, stream: SpeechStream, *, may_call: bool, spoken: bool = True) -> None:
        self._stream = stream
        self._honesty = Honesty() if spoken else None
        self._may_call = may_call
        self._is_text = False
        self._begun = ""
        """All of it, until it is known to be text."""

    @property
    def ended(self) -> bool:
        """Whether nothing that may follow would be spoken."""
        claimed = self._honesty is not None and self._honesty.claimed
        return self._is_text and (claimed or self._stream.ended)

    def push(self, piece: str) -> list[str]:
        """Add text; returns the chunks that can now be spoken."""
        if not self._is_text:
            self._begun += piece
            start = self._begun.lstrip()[:1]
            if start in ("", "{"):
                return []
            self._is_text, piece = True, self._begun
        return self._honest(self._stream.push(piece))

    def finish(self) -> tuple[list[str], str]:
        """End it; returns the last chunks to be spoken, and the call as JSON if it was one."""
        if self._is_text:
            rest = self._honest(self._stream.finish())
            return [*rest, *(self._honesty.finish() if self._honesty else ())], ""
        begun = self._begun.strip()
        return [], begun if self._may_call and begun and _is_call(begun) else ""

    def _honest(self, chunks: list[str]) -> list[str]:
        return self._honesty.push(chunks) if self._honesty else chunks


def _is_call(answer: str) -> bool:
    from appliance.mind.tools.grammar import parse  # 4 MB that most answers do without

    return parse(answer) is not None
