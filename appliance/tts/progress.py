"""Which pieces of which utterance have been played, and which words those were. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

_HEARD_SHARE = 0.75
"""A word of which so much was played has been said."""


@dataclass(frozen=True)
class SpokenWord:
    """A word of a text as it was written, and when its sound ends in its utterance."""

    text: str
    end_ms: float
    joined: bool = False
    """Written without a space between it and the word before, as Chinese is."""


@dataclass
class _Utterance:
    duration_ms: float = 0.0
    words: list[SpokenWord] = field(default_factory=list)
    ends: list[tuple[int, float]] = field(default_factory=list)
    """(index, end in milliseconds) of pieces that are complete and not yet reported."""


class Progress:
    """Follows the audio that was handed to the loudspeaker, held or not."""

    def __init__(self) -> None:
        self._utterances: dict[str, _Utterance] = {}

    def queued(
        self, utterance_id: str, duration_ms: float, words: Iterable[SpokenWord] = ()
    ) -> None:
        """More audio of an utterance was handed over; its words may be told later than it."""
        utterance = self._utterances.setdefault(utterance_id, _Utterance())
        utterance.duration_ms += duration_ms
        utterance.words += words

    def piece_complete(self, utterance_id: str, index: int) -> None:
        """All audio of a piece was handed over."""
        utterance = self._utterances.setdefault(utterance_id, _Utterance())
        utterance.ends.append((index, utterance.duration_ms))

    def duration_ms(self, utterance_id: str) -> float:
        """Audio that was handed over so far."""
        utterance = self._utterances.get(utterance_id)
        return utterance.duration_ms if utterance else 0.0

    def newly_played(self, utterance_id: str, played_ms: float) -> list[int]:
        """Pieces with a sound that have been played to their end since the last call."""
        utterance = self._utterances.get(utterance_id)
        done = []
        # a resampler may give a sample less than it took
        while utterance and utterance.ends and 0 < utterance.ends[0][1] <= played_ms + 0.1:
            done.append(utterance.ends.pop(0)[0])
        return done

    def ended(self, utterance_id: str, played_ms: float) -> str:
        """Forget an utterance; returns the words of it that were played, at least mostly."""
        utterance = self._utterances.pop(utterance_id, _Utterance())
        said: list[str] = []
        start_ms = 0.0
        for word in utterance.words:
            if start_ms + _HEARD_SHARE * (word.end_ms - start_ms) > played_ms:
                break
            if word.text:
                said.append(word.text if word.joined or not said else f" {word.text}")
            start_ms = word.end_ms
        return "".join(said)
