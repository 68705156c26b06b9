"""The judge of speech over an answer: interruption, backchannel, noise or echo. Pure.

The loudspeaker was lowered by reflex long before (tts does that); here it is decided what becomes
of the answer. Words decide where there are any, duration where there are none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from appliance.conductor.words import is_backchannel, is_echo, is_stop, starts_interruption
from appliance.messages import Overlap, OverlapKind

_LONG_MS = 1_500
"""So much speech is an interruption, whatever is said."""
_LONG_BACKCHANNEL_MS = 2_000
"""Even known encouraging words are said no longer than this."""
_SHORT_MS = 800
"""Speech that ended within this, and whose words nobody knows in time, was none."""
_SURE_WORDS = 3
_SURE_MS = 700
"""Before a pause, fewer words than that are believed from this duration on: a listener's "mm-hm" is
shorter, and is heard as all kinds of words. The answer is silent by then."""
_SURE_LOGPROB = -0.65
"""Mean log-probability from which the words of a short utterance are believed."""
MOST_MS = 2_500
"""Bound on any undecided overlap."""


@dataclass
class OverlapJudge:
    """One stretch of speech over an answer, from the first suspicion to the verdict."""

    onset_ns: int
    utterance_id: str = ""
    """Empty while it is no more than a suspicion."""
    continues_turn: bool = False
    """The user goes on with the very question that is being answered."""
    ducked_ns: int = 0
    active_ns: int = 0
    """Newest moment at which it was still speech."""
    reason: str = ""

    def duration_ms(self) -> float:
        """Of the speech so far."""
        return max(0, self.active_ns - self.onset_ns) / 1e6

    def words(
        self, text: str, spoken: Sequence[str], *, final: bool, avg_logprob: float = 0.0
    ) -> OverlapKind | None:
        """Take words that were heard.

        Args:
            text: all words of the overlap so far; may be empty.
            spoken: pieces of the answer that may be in the air.
            final: whether the speech has paused: then there will be a verdict.
            avg_logprob: how sure they are, if that is known.

        Returns:
            The verdict; None when it is too early.
        """
        said = text.strip()
        if not said:
            return self._because("noise", "no words in it") if final else None
        if is_stop(said) or starts_interruption(said):
            return self._because("interruption", "asked to stop or wait")
        if is_echo(said, spoken):
            return self._because("echo", "the words are the answer's own")
        if is_backchannel(said) and self.duration_ms() < _LONG_BACKCHANNEL_MS:
            return self._because("backchannel", "an encouraging word") if final else None
        if final and avg_logprob < _SURE_LOGPROB and self.duration_ms() < _SURE_MS:
            return self._because("noise", "short, and its words are doubtful")
        enough = len(said.split()) >= _SURE_WORDS or self.duration_ms() >= _SURE_MS
        claims = final or enough
        return self._because("interruption", "said something of their own") if claims else None

    def time(self) -> OverlapKind | None:
        """The verdict by duration alone, if it is long enough."""
        if self.duration_ms() >= _LONG_MS:
            return self._because("interruption", f"spoke for {self.duration_ms():.0f} ms")
        return None

    def give_up(self, *, ended: bool) -> OverlapKind:
        """The verdict when nobody says in time what it was.

        Args:
            ended: whether the speech has paused.
        """
        if not self.utterance_id or (ended and self.duration_ms() < _SHORT_MS):
            return self._because("noise", "too short, and nobody said what it was")
        return self._because("interruption", "nobody said what it was")

    def record(self, kind: OverlapKind, end_ns: int, *, silent_ns: int = 0) -> Overlap:
        """The line for the turn's record."""
        return Overlap(self.onset_ns, end_ns, kind, self.reason, self.ducked_ns, silent_ns)

    def _because(self, kind: OverlapKind, reason: str) -> OverlapKind:
        self.reason = reason
        return kind
