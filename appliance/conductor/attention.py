"""Whether speech is meant for the appliance. Pure."""

from __future__ import annotations

from appliance.audio.blocks import BLOCK_NS
from appliance.messages import Span, SpeechEvent

_WAKE_NS = 2_000_000_000
"""Speech that begins so soon after the wake word was meant."""


class Attention:
    """With a wake word: who called is listened to, and who goes on soon after an answer.

    Args:
        wake_word: whether one is needed; without, all speech is meant.
        follow_up_ms: how long after an answer none is needed.
    """

    def __init__(self, *, wake_word: bool, follow_up_ms: int) -> None:
        self._wake_word = wake_word
        self._follow_up_ns = follow_up_ms * 1_000_000
        self._until_ns = 0
        self._called_ns = 0
        self._taken_over: tuple[str, int] = "", 0

    def called(self, end_ns: int) -> None:
        """The wake word was said, and ended then."""
        self._called_ns = end_ns
        self._until_ns = max(self._until_ns, end_ns + _WAKE_NS)

    def wanted(self, until_ns: int) -> None:
        """Somebody pressed a button instead of calling."""
        self._until_ns = max(self._until_ns, until_ns)

    def answered(self, ended_ns: int) -> None:
        """An answer ended."""
        self._until_ns = max(self._until_ns, ended_ns + self._follow_up_ns)

    def is_meant(self, onset_ns: int) -> bool:
        """Whether speech that began then is for the appliance."""
        return not self._wake_word or onset_ns <= self._until_ns

    def taken_over(self, utterance_id: str, from_ns: int) -> None:
        """What was said in that stretch of speech before that time was somebody else's."""
        self._taken_over = utterance_id, from_ns

    def meant_spans(self, event: SpeechEvent) -> tuple[Span, ...]:
        """The event's audio without the call that it begins with, or what others said in it."""
        from_ns = self._called_ns if self._wake_word else 0
        if event.utterance_id == self._taken_over[0]:
            from_ns = max(from_ns, self._taken_over[1])
        skipped = (from_ns - event.speech_start_ns) // BLOCK_NS
        if skipped <= 0 or not event.spans:
            return event.spans
        first, *rest = event.spans
        if first.first + skipped < first.last:
            return (Span(first.epoch, first.first + skipped, first.last), *rest)
        return tuple(rest) or (Span(first.epoch, first.last, first.last),)
