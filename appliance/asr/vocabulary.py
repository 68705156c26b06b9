"""The names and words that are likely here: what was misheard of them is put right.

Plain decoding never sees the vocabulary, so silence and other words cannot bring it forth. Only
when words were heard that sound like an entry is the audio asked again: decoded after a prompt of
those few entries, and scored with each of them in place of the words heard. Without the audio,
sounds and the decoder's own doubt decide, more cautiously.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rapidfuzz.distance import Levenshtein

from appliance.asr.correction import (
    MAX_SPAN_WORDS,
    Candidate,
    Entry,
    bare,
    candidates,
    uncertainty,
)
from appliance.asr.phonetics import is_pronounceable, sound
from appliance.asr.tokens import Vocabulary as Tokens
from appliance.asr.words import Acoustics, Corrected, HeardWord, text_of

_NEAR, _FAR = 0.35, 0.55
"""Distances beyond which an entry is not thought of, without and with the audio to ask."""
_ASKED = 6
"""Entries that the audio is asked about: with more, each is recognised less."""
_SPANS_ASKED = 2
_CLOSE, _ASKED_AGAIN = -2.0, 2
"""When none is likely but some nearly, the audio is asked about the likeliest alone."""
_FAR_CHANGED = 0.6
"""Nothing alike: the prompt made the decoder lose its way."""
_FAR_AGAIN = 0.45
"""An entry that is farther than this from all that is heard after its prompt was not said."""
_DOUBT = 0.016
"""How much nearer than their sounds words are that the decoder was a nat less sure of."""
_DIALOGUE_BOOST = 1.0
_DIALOGUE_TURNS = 3
_DISTANCE_NATS = 10.0
"""Among the spans that an entry may be, so much gain makes up for a whole distance."""
_WORD_DISTANCE = 0.04
"""Without the audio: what a span gains in likeness by swallowing another word must be more."""
_RARE_PIECES, _UNKNOWN_PIECES = 3, 2
_SENTENCE = re.compile(r"[.!?…:]\s*$")


def load_vocabulary(
    boosts: Mapping[str, float], *, language: str, model_dir: Path
) -> ContextVocabulary:
    """Make the vocabulary; what words are usual is known from the model's own tokens.

    Raises:
        ApplianceError: see ``ContextVocabulary``; the model's files are missing or corrupt.
    """
    tokens = Tokens.load(model_dir)

    def pieces(word: str) -> int:
        return min(len(tokens.encode(f" {form}")) for form in (word, word.capitalize()))

    return ContextVocabulary(boosts, language=language, pieces=pieces)


class ContextVocabulary:
    """Entries with boosts, and the words of the current dialogue. Not thread-safe (espeak-ng)."""

    def __init__(
        self,
        boosts: Mapping[str, float],
        *,
        language: str = "en",
        pieces: Callable[[str], int] = lambda word: _UNKNOWN_PIECES,
    ) -> None:
        """Take entries with boosts from 0 to 10; those that nobody can say are left out.

        ``pieces`` tells of how many tokens a word is made: one, everybody uses it; three and more,
        it is rare and worth listening for when the appliance has said it.

        Raises:
            ApplianceError: espeak-ng is missing or does not know ``language``.
        """
        self._language = language
        self._pieces = pieces
        self._follows_dialogue = is_pronounceable(language)
        self._entries = self._pronounced(boosts.items())

    def prompt(self, dialogue: str) -> str:
        """Return nothing: many names in a prompt help little, and cost time at every decoding.

        Of misheard names twenty in the prompt brought back a third, the right five over a half.
        """
        return ""

    def correct(
        self,
        words: Sequence[HeardWord],
        dialogue: str = "",
        acoustics: Acoustics | None = None,
    ) -> Corrected:
        """Mend near-misses and leave everything else alone.

        ``dialogue`` is what the appliance said, a turn a line, the last one last. ``acoustics``
        is the audio of exactly these words; without it only clear cases are mended.
        """
        entries = [*self._entries, *self._said(dialogue)]
        if not entries or not words:
            return Corrected(tuple(words))
        right = _already_right(words, entries)
        settled = {position for candidate in right for position in candidate.positions}
        found = [
            candidate
            for candidate in self._candidates(
                words, entries, within=_NEAR if acoustics is None else _FAR
            )
            if settled.isdisjoint(candidate.positions)
        ]
        if acoustics is None:
            odds = [(candidate.odds(), candidate) for candidate in _tightest(found)]
        else:
            odds = self._ask(acoustics, words, found)
        chosen: list[Candidate] = []
        for likely, candidate in sorted(odds, key=lambda pair: -pair[0]):
            if likely > 0.0 and settled.isdisjoint(candidate.positions):
                chosen.append(candidate)
                settled.update(candidate.positions)
        return _apply(words, [*right, *chosen])

    def _ask(
        self, acoustics: Acoustics, words: Sequence[HeardWord], found: Sequence[Candidate]
    ) -> list[tuple[float, Candidate]]:
        """Return the candidates that the audio may bear out, with their log-odds."""
        ranked = sorted(
            (candidate for candidate in found if candidate.is_plausible),
            key=lambda c: c.distance - _DOUBT * c.uncertainty,
        )
        entries = list(dict.fromkeys(candidate.entry for candidate in ranked))[:_ASKED]
        odds = self._ask_about(entries, acoustics, words, ranked)
        close = sorted((pair for pair in odds if pair[0] > _CLOSE), key=lambda pair: -pair[0])
        if len(entries) > _ASKED_AGAIN and close and close[0][0] <= 0.0:
            entries = [candidate.entry for _, candidate in close[:_ASKED_AGAIN]]
            odds = self._ask_about(entries, acoustics, words, ranked)
        return odds

    def _ask_about(
        self,
        entries: Sequence[Entry],
        acoustics: Acoustics,
        words: Sequence[HeardWord],
        ranked: Sequence[Candidate],
    ) -> list[tuple[float, Candidate]]:
        """Return the best of the ``ranked`` spans of each of ``entries``, with its log-odds."""
        if not entries:
            return []
        prompt = ", ".join(entry.text for entry in entries) + "."
        again = acoustics.hear(prompt)
        heard_again = sorted(
            self._candidates(again, entries, within=_FAR_AGAIN), key=lambda c: c.distance
        )
        asked: list[tuple[Candidate, float]] = []
        for entry in entries:
            nearest = next((c for c in heard_again if c.entry == entry), None)
            if nearest is None:
                continue
            spans = [c for c in ranked if c.entry == entry][:_SPANS_ASKED]
            changed = self._changed(words, again, nearest)
            if changed is not None and all(changed.positions != c.positions for c in spans):
                spans.append(changed)
            asked += [(candidate, nearest.distance) for candidate in spans]
        if not asked:
            return []
        texts = [text_of(words), *(text_of(_apply(words, [c]).words) for c, _ in asked)]
        before, *after = acoustics.score(texts, prompt)
        best: dict[Entry, tuple[float, float, Candidate]] = {}
        for (candidate, distance), score in zip(asked, after, strict=True):
            gain = score - before
            fit = gain - _DISTANCE_NATS * candidate.distance
            if candidate.entry not in best or fit > best[candidate.entry][0]:
                best[candidate.entry] = (fit, candidate.odds_given(gain, distance), candidate)
        return [(odds, candidate) for _, odds, candidate in best.values()]

    def _changed(
        self, words: Sequence[HeardWord], again: Sequence[HeardWord], nearest: Candidate
    ) -> Candidate | None:
        """Return the entry in place of the words that the prompt changed into it, if it did."""
        span = _matching_span(words, again, nearest.first, nearest.last)
        if span is None or span[1] - span[0] > MAX_SPAN_WORDS:
            return None
        first, last = span
        heard = "".join(self._sounds(words[first:last]))
        distance = Levenshtein.normalized_distance(heard, nearest.entry.sound)
        if distance > _FAR_CHANGED:
            return None
        unsure = sum(map(uncertainty, words[first:last])) / (last - first)
        ordinary = last - first == 1 and self._is_ordinary(bare(words[first].text))
        return Candidate(nearest.entry, first, last, distance, unsure, ordinary)

    def _candidates(
        self, words: Sequence[HeardWord], entries: Sequence[Entry], *, within: float
    ) -> Iterable[Candidate]:
        return candidates(
            words, self._sounds(words), entries, within=within, is_ordinary=self._is_ordinary
        )

    def _is_ordinary(self, word: str) -> bool:
        return self._pieces(word) == 1

    def _sounds(self, words: Iterable[HeardWord]) -> list[str]:
        return [sound(word.text, self._language) for word in words]

    def _said(self, dialogue: str) -> tuple[Entry, ...]:
        """Return the names and rare words of the last turns; what is said longer ago fades."""
        boosts: dict[str, float] = {}
        if not self._follows_dialogue:
            return ()
        turns = [turn for turn in dialogue.splitlines() if turn.strip()]
        for age, turn in enumerate(reversed(turns[-_DIALOGUE_TURNS:])):
            for word in self._notable(turn):
                boosts.setdefault(word, _DIALOGUE_BOOST / 2**age)
        known = {bare(entry.text) for entry in self._entries}
        return self._pronounced((w, boost) for w, boost in boosts.items() if bare(w) not in known)

    def _notable(self, turn: str) -> Iterable[str]:
        begins = True
        for token in turn.split():
            word = token.strip('.,;:!?…"“”()[]')
            name = word[:1].isupper() and word[1:].islower() and not begins
            if len(word) > 2 and (name or (word.isalpha() and self._pieces(word) >= _RARE_PIECES)):
                yield word
            begins = _SENTENCE.search(token) is not None

    def _pronounced(self, boosts: Iterable[tuple[str, float]]) -> tuple[Entry, ...]:
        return tuple(
            Entry(" ".join(text.split()), code, boost)
            for text, boost in boosts
            if (code := sound(text, self._language))
        )


def _tightest(found: Iterable[Candidate]) -> list[Candidate]:
    """Return for every span the candidates that no overlapping span of their entry betters."""
    result: list[Candidate] = []
    settled: dict[Entry, set[int]] = {}
    for candidate in sorted(found, key=lambda c: c.distance + _WORD_DISTANCE * len(c.positions)):
        positions = settled.setdefault(candidate.entry, set())
        if positions.isdisjoint(candidate.positions):
            result.append(candidate)
            positions.update(candidate.positions)
    return result


def _already_right(words: Sequence[HeardWord], entries: Sequence[Entry]) -> list[Candidate]:
    """Return where entries stand as they are, apart from case; longer ones first."""
    heard = [bare(word.text) for word in words]
    result: list[Candidate] = []
    settled: set[int] = set()
    for entry in sorted(entries, key=lambda entry: -len(entry.text.split())):
        parts = bare(entry.text).split()
        for first in range(len(heard) - len(parts) + 1):
            candidate = Candidate(entry, first, first + len(parts), 0.0, 0.0)
            if heard[first : first + len(parts)] == parts and settled.isdisjoint(
                candidate.positions
            ):
                result.append(candidate)
                settled.update(candidate.positions)
    return result


def _matching_span(
    words: Sequence[HeardWord], again: Sequence[HeardWord], first: int, last: int
) -> tuple[int, int] | None:
    """Return which ``words`` the words ``again[first:last]`` stand for, whole changed passages."""
    matcher = difflib.SequenceMatcher(
        None, [bare(word.text) for word in words], [bare(w.text) for w in again], autojunk=False
    )
    for kind, start, end, new_start, new_end in matcher.get_opcodes():
        if kind == "replace" and new_start <= first and last <= new_end:
            return start, end
    return None


def _apply(words: Sequence[HeardWord], chosen: Iterable[Candidate]) -> Corrected:
    """Write the entries in place of the words they were, with the punctuation around them."""
    result = list(words)
    corrections: list[tuple[str, str]] = []
    for candidate in sorted(chosen, key=lambda c: -c.first):
        span = words[candidate.first : candidate.last]
        heard = text_of(span)
        if bare(heard) != bare(candidate.entry.text):
            corrections.append((heard, candidate.entry.text))
        result[candidate.first : candidate.last] = _respelt(span, candidate)
    return Corrected(tuple(result), tuple(reversed(corrections)))


def _respelt(span: Sequence[HeardWord], candidate: Candidate) -> list[HeardWord]:
    """Return the entry's words over the time of ``span``."""
    before = re.match(r"\W*", span[0].text)
    after = re.search(r"\W*$", span[-1].text)
    parts = candidate.entry.text.split()
    if candidate.first == 0 and span[0].text[:1].isupper() and candidate.entry.text.islower():
        parts[0] = parts[0][:1].upper() + parts[0][1:]  # a sentence begins
    parts[0] = (before.group() if before else "") + parts[0]
    parts[-1] += after.group() if after else ""
    start_s, end_s = span[0].start_s, span[-1].end_s
    step_s = (end_s - start_s) / len(parts)
    probability = min(word.probability for word in span)
    return [
        replace(
            span[0],
            text=part,
            probability=probability,
            start_s=start_s + number * step_s,
            end_s=start_s + (number + 1) * step_s,
        )
        for number, part in enumerate(parts)
    ]
