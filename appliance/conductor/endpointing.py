"""How much silence ends a turn. Pure.

Two opinions on whether the user has finished: by the sound of the last words (`EndOfTurn`) and by
the words (how likely a language model finds it that the sentence ends there). Neither needs the
other. The words tell far more: over recorded and synthetic voices the sound alone takes most
pauses inside a sentence for its end, unless they follow an "um" (docs/benchmarks.md,
``appliance bench end-of-turn``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

MOST_MS = 2_000
"""Bound on any pause within a turn."""
UNFINISHED_MS = 1_600
"""Silence after what clearly sounds unfinished: people pause up to 1.2 s to find a word, and it
takes a third of a second to notice that they go on."""
_CLEARLY = 2.0
"""Log-odds below the threshold at which it is clear."""
_SOUND_WEIGHT = 0.25
_WITHOUT_WORDS = -0.5
"""Log-odds in place of the words' while they are not known."""
_LEAST_ODDS = 1e-4
_LEAST_CAUTION = 0.25
"""The share of the speaker's own pauses that counts however finished it sounds."""
_UNFINISHED_ODDS = -4.5
"""Log-odds of words that nobody ends with, as far as they are not doubted more already."""
_DECAY = 0.8
_MARGIN = 1.2


@dataclass(frozen=True, kw_only=True)
class EndpointingSettings:
    """What the configuration says."""

    end_of_turn_ms: int = 200
    """Silence after what surely sounds finished."""
    fallback_ms: int = 800
    """Silence when nobody has an opinion."""
    threshold: float = 0.5
    """Probability from which it sounds finished."""


def finished_odds(
    sound: float | None, words: float | None, *, unfinished: bool = False
) -> float | None:
    """The log-odds that the turn is complete, of two probabilities; None when nothing is known.

    Args:
        sound: by the sound of the last words.
        words: that the sentence ends after the last word.
        unfinished: the last word is one that nobody ends with.
    """
    if sound is None and words is None and not unfinished:
        return None
    by_sound = 0.0 if sound is None else _SOUND_WEIGHT * _log_odds(sound)
    by_words = _WITHOUT_WORDS if words is None else _log_odds(words)
    return by_sound + (min(by_words, _UNFINISHED_ODDS) if unfinished else by_words)


def silence_needed_ms(odds: float | None, settings: EndpointingSettings) -> int:
    """Silence that ends a turn: the less finished it sounds the more, at most 1.6 s.

    Args:
        odds: see `finished_odds`.
        settings: `end_of_turn_ms` is for whatever reaches `threshold`.
    """
    if odds is None:
        return settings.fallback_ms
    shortest = settings.end_of_turn_ms
    longest = max(shortest, UNFINISHED_MS)
    doubt = (_log_odds(settings.threshold) - odds) / _CLEARLY
    return round(shortest + min(1.0, max(0.0, doubt)) * (longest - shortest))


class Endpointing:
    """Silence needed, by how finished it sounds and how this speaker pauses.

    Args:
        end_of_turn_ms: see `EndpointingSettings`.
        fallback_ms: likewise.
        threshold: likewise.
    """

    def __init__(self, *, end_of_turn_ms: int, fallback_ms: int, threshold: float) -> None:
        self._settings = EndpointingSettings(
            end_of_turn_ms=end_of_turn_ms, fallback_ms=fallback_ms, threshold=threshold
        )
        self._own_pause_ms = 0.0

    def silence_needed_ms(
        self, sound: float | None, words: float | None = None, *, unfinished: bool = False
    ) -> int:
        """Silence that ends the turn, from `end_of_turn_ms` to 2 s; see `finished_odds`."""
        settings = self._settings
        odds = finished_odds(sound, words, unfinished=unfinished)
        needed_ms = silence_needed_ms(odds, settings)
        caution = 1.0
        if odds is not None:
            sureness = (odds - _log_odds(settings.threshold)) / _CLEARLY
            caution = min(1.0, max(_LEAST_CAUTION, 1.0 - sureness))
        shortest = settings.end_of_turn_ms
        own_ms = shortest + caution * max(0.0, self._own_pause_ms - shortest)
        return min(max(MOST_MS, shortest), max(needed_ms, round(own_ms)))

    def spoke_on(self, pause_ms: float) -> None:
        """The speaker went on after such a pause within a turn."""
        self._own_pause_ms = min(MOST_MS, max(self._own_pause_ms, _MARGIN * pause_ms))

    def turn_over(self) -> None:
        """A turn ended: what was learnt fades."""
        self._own_pause_ms *= _DECAY


def _log_odds(probability: float) -> float:
    probability = min(1.0 - _LEAST_ODDS, max(_LEAST_ODDS, probability))
    return math.log(probability / (1.0 - probability))
