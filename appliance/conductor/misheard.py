"""Whether to tell the user that they were heard but not understood. Pure.

Only a voice that was surely one is worth it: of coughs, slams, applause and music the detector is
never sure, nor of somebody murmuring far away (docs/conversation.md). And only once until something
was understood again, or a television in another language would be apologised to all evening.
"""

from __future__ import annotations

_TURN_MS = 700
"""So much of a sure voice without a word is a question that was lost."""
_INTERRUPTION_MS = 450
"""The same where it ended an answer: silence after that is what nobody expects."""


class Misheard:
    """Remembers whether it was said already."""

    def __init__(self) -> None:
        self._said = False

    def understood(self) -> None:
        """There were words: the next loss is worth telling again."""
        self._said = False

    def shall_say(self, voiced_ms: float, *, interrupted: bool) -> bool:
        """Whether to say that nothing was understood; true once.

        Args:
            voiced_ms: how much of the speech without words was surely a voice.
            interrupted: whether it ended an answer.
        """
        if self._said or voiced_ms < (_INTERRUPTION_MS if interrupted else _TURN_MS):
            return False
        self._said = True
        return True
