"""Which pieces of which utterance have been played, and what text that was. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class _Piece:
    index: int
    text: str
    duration_ms: float = 0.0
    reported: bool = False


@dataclass
class _Utterance:
    pieces: list[_Piece] = field(default_factory=list)
    complete: bool = False

    @property
    def duration_ms(self) -> float:
        return sum(piece.duration_ms for piece in self.pieces)


class Progress:
    """Follows the utterances handed to the loudspeaker, in the order of their first audio."""

    def __init__(self) -> None:
        self._utterances: dict[str, _Utterance] = {}

    def queued(self, utterance_id: str, index: int, text: str, duration_ms: float) -> None:
        """Audio of a piece was handed to the loudspeaker; a piece may come in several parts."""
        utterance = self._utterances.setdefault(utterance_id, _Utterance())
        if not utterance.pieces or utterance.pieces[-1].index != index:
            utterance.pieces.append(_Piece(index, text))
        utterance.pieces[-1].duration_ms += duration_ms

    def complete(self, utterance_id: str) -> None:
        """No more audio of the utterance comes."""
        self._utterances.setdefault(utterance_id, _Utterance()).complete = True

    def has_audio(self, utterance_id: str) -> bool:
        """Whether any audio of it was handed over."""
        utterance = self._utterances.get(utterance_id)
        return utterance is not None and utterance.duration_ms > 0

    def newly_played(self, waiting_ms: float) -> list[tuple[str, int]]:
        """Pieces that have been played to their end since the last call.

        Args:
            waiting_ms: audio that waits in the loudspeaker's queue, of all utterances.
        """
        played_ms = sum(u.duration_ms for u in self._utterances.values()) - waiting_ms
        done = []
        end_ms = 0.0
        for utterance_id, utterance in self._utterances.items():
            for position, piece in enumerate(utterance.pieces):
                end_ms += piece.duration_ms
                growing = position == len(utterance.pieces) - 1 and not utterance.complete
                if end_ms <= played_ms and not piece.reported and not growing:
                    piece.reported = True
                    done.append((utterance_id, piece.index))
        return done

    def ended(self, utterance_id: str, played_ms: float) -> str:
        """Forget an utterance; returns the words of it that were played.

        A piece that was cut counts with as many of its words as its played share suggests.
        """
        utterance = self._utterances.pop(utterance_id, _Utterance())
        words: list[str] = []
        for piece in utterance.pieces:
            if piece.duration_ms <= 0:
                continue
            share = min(1.0, max(0.0, played_ms / piece.duration_ms))
            played_ms -= piece.duration_ms
            said = piece.text.split()
            # the last few milliseconds are a fade and a breath, not a word
            words += said if share > _WHOLE else said[: int(share * len(said))]
        return " ".join(words)


_WHOLE = 0.95
