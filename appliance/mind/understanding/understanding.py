"""From a final transcript to an intent with its slots, without any language model."""

from __future__ import annotations

import bisect
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rapidfuzz import process
from rapidfuzz.distance import JaroWinkler, Levenshtein

from appliance.mind.understanding import answers, grammar, matching, tokens
from appliance.mind.understanding.chinese import Chinese
from appliance.mind.understanding.chinese import words as chinese_words
from appliance.mind.understanding.english import English
from appliance.mind.understanding.english import words as english_words
from appliance.mind.understanding.grammar import IntentsError, Meaning
from appliance.mind.understanding.numbers import ENGLISH_WORDS
from appliance.mind.understanding.slots import WEEKDAYS, Variant
from appliance.mind.understanding.tokens import Token

LEAST_CONFIDENCE = 0.8
"""What is less certain is left to the language model."""
CORRECTED = 0.93
"""Confidence where a word had to be put right before a template fitted."""
MOST_STRANGE = 1
"""Unknown words, beside one in five, with which a sentence may still be a misheard command."""
TENTHS = 10
"""A volume up to this, said without "percent", is on a scale of ten."""
LAST_RESORT = frozenset({"unknowable", "undoable"})
"""Intents that only say what is not known or cannot be done: of the kind, no slot else matters."""
FOR_MODEL = "model"
"""Its templates take a sentence out of a wider one's reach: it is for the language model."""
MOST_WORDS_SOUGHT = 48
"""Of a sentence in which a task is looked for: every part of it may have to be tried."""
SAME_WORD = 0.88
"""Jaro-Winkler similarity from which an unknown word is taken for a known one."""


@dataclass(frozen=True)
class Understood:
    """What was meant."""

    intent: str
    slots: Mapping[str, object]
    confidence: float
    """0 to 1; never below `LEAST_CONFIDENCE`."""
    language: str
    text: str
    """The transcript it came from."""


class Understanding:
    """Intents of one language. Holds no state between sentences; safe to share."""

    def __init__(self, folder: Path, language: str) -> None:
        self.language = language
        self._lexicon = lexicon = grammar.load_lexicon(folder)
        self._slots = English(lexicon) if language == "en" else Chinese(lexicon)
        self._words = english_words if language == "en" else chinese_words
        self._grammar = grammar.load(folder, lexicon, self._template_key, self._literal)
        self._templates = matching.Templates(self._grammar.sentences, self._weight)
        self._vocabulary = self._known_words()
        gap = "" if language == "zh" else " "
        self._politeness = frozenset(gap.join(phrase) for phrase in lexicon.openers)
        self._targets = sorted(word for word in self._vocabulary if len(word) > 3)
        self._put_right = functools.lru_cache(maxsize=1024)(self._nearest_word)

    @property
    def responses(self) -> Mapping[str, str]:
        """Every sentence to say, by name, for ``str.format``."""
        return self._grammar.responses

    @property
    def intents(self) -> frozenset[str]:
        """The names of all intents."""
        found = [*self._grammar.sentences.values(), *(m for _, m in self._grammar.patterns)]
        return frozenset(meaning.intent for meaning in found)

    def answer(self, understood: Understood, now: datetime) -> str | None:
        """The reply that needs nothing but a clock, see `answers.answer`."""
        return answers.answer(
            understood.intent,
            understood.slots,
            now,
            language=self.language,
            lexicon=self._lexicon,
            responses=self.responses,
        )

    def understand(self, text: str) -> Understood | None:
        """The intent of ``text``, or None when it is for the language model. Never raises."""
        if len(text) > tokens.MAX_CHARACTERS:
            return None
        clean = tokens.clean(text)
        whole = tokens.tokenise(clean, self._lexicon)
        if not whole:
            return None
        heard = tokens.without_openers(whole, self._lexicon)
        found = self._exact(clean, whole, 1.0)
        if not found and heard != whole:
            found = self._exact(clean, heard, 1.0)
        if not found and len(heard) > 1:  # one word alone could be any word: "tiger"
            better = [token._replace(text=self._put_right(token.text)) for token in heard]
            if better != heard:
                found = self._exact(clean, better, CORRECTED)
        found = found or self._near(heard)
        if not found:
            return None
        meaning, confidence = found
        if meaning.intent == FOR_MODEL:
            return None
        slots = _finished(meaning)
        if slots is None:
            return None
        return Understood(meaning.intent, slots, confidence, self.language, text)

    def variants(self, text: str) -> list[Variant]:
        """Every reading of ``text`` in which a slot was found; for follow-ups."""
        heard = self._tokens(tokens.clean(text))
        return list(self._slots.variants(self._normal(heard)))

    def _tokens(self, clean: str) -> list[Token]:
        return tokens.without_openers(tokens.tokenise(clean, self._lexicon), self._lexicon)

    def _normal(self, heard: Sequence[Token]) -> str:
        return self._words([token.text for token in heard])

    def _exact(
        self, clean: str, heard: Sequence[Token], confidence: float
    ) -> tuple[Meaning, float] | None:
        normal = self._normal(heard)
        variants = [Variant(normal), *self._slots.variants(normal)]
        for variant in variants:
            for text in self._repaired(variant.text):
                meaning = self._grammar.sentences.get(self._key(text))
                if meaning:
                    return Meaning(meaning.intent, {**meaning.slots, **variant.slots}), confidence
        free = self._free_text(clean, heard, variants)
        return (free, confidence) if free else None

    def _free_text(
        self, clean: str, heard: Sequence[Token], variants: Sequence[Variant]
    ) -> Meaning | None:
        plain, starts = self._joined(heard)
        best: tuple[int, Meaning] | None = None
        for pattern, meaning in self._grammar.patterns:
            for variant in (Variant(plain), *variants[1:]):
                found = pattern.match(variant.text)
                free = {k: v for k, v in found.groupdict().items() if v} if found else {}
                # "记得吗" asks, and remembers no 吗; "帮我定时" names no timer 帮我.
                if not found or not self._lexicon.light_dropped.isdisjoint(free.values()):
                    continue
                if free.get(grammar.NAME) in self._politeness:
                    continue
                # The template that explains most of the sentence is meant.
                length = sum(map(len, free.values()))
                if best and best[0] <= length:
                    break
                if grammar.TEXT in free:
                    if variant.text != plain:
                        continue
                    first = _token_at(starts, found.start(grammar.TEXT))
                    last = _token_at(starts, found.end(grammar.TEXT) - 1)
                    free[grammar.TEXT] = clean[heard[first].start : heard[last].end]
                if task := free.pop(grammar.TASK, None):
                    free[grammar.NAME] = self._as_said(clean, heard, task)
                slots = {**meaning.slots, **variant.slots, **free}
                best = length, Meaning(meaning.intent, slots)
                break
        return best[1] if best else None

    def _as_said(self, clean: str, heard: Sequence[Token], words: str) -> str:
        """Normalised words of a sentence as they stand in it; of an endless one as they are."""
        if len(heard) > MOST_WORDS_SOUGHT:
            return words
        for first in range(len(heard)):
            for last in range(first, len(heard)):
                if self._normal(heard[first : last + 1]) == words:
                    return clean[heard[first].start : heard[last].end]
        return words

    def _near(self, heard: Sequence[Token]) -> tuple[Meaning, float] | None:
        normal = self._normal(heard)
        best: tuple[Meaning, float] | None = None
        for variant in [Variant(normal), *self._slots.variants(normal)]:
            words = self._key(variant.text).split()
            if self._strange(words) > MOST_STRANGE + len(words) // 5:
                continue
            found = self._templates.nearest(words)
            if found and found[1] >= max(LEAST_CONFIDENCE, best[1] if best else 0):
                meaning = self._grammar.sentences[found[0]]
                best = Meaning(meaning.intent, {**meaning.slots, **variant.slots}), found[1]
        return best

    def _strange(self, words: Sequence[str]) -> int:
        """How many words no template has, nor anything like it: a question for the model."""
        return sum(
            word not in self._vocabulary and self._put_right(word) == word
            for word in words
            if self._weight(word) == 1.0 and "{" not in word
        )

    def _repaired(self, text: str) -> Iterable[str]:
        yield text
        again = text
        for pattern, replacement in self._lexicon.mishearings:
            again = re.sub(pattern, replacement, again)
        if again != text:
            yield again

    def _joined(self, heard: Sequence[Token]) -> tuple[str, list[int]]:
        """The words in a row as the free-text templates see them, and where each begins."""
        gap = "" if self.language == "zh" else " "
        starts, at = [], 0
        for token in heard:
            starts.append(at)
            at += len(token.text) + len(gap)
        return gap.join(token.text for token in heard), starts

    def _key(self, normal: str) -> str:
        return " ".join(tokens.key_words(normal, self._lexicon))

    def _template_key(self, sentence: str) -> str:
        heard = tokens.tokenise(sentence, self._lexicon)
        return self._key(self._normal(heard))

    def _literal(self, part: str, *, masked: bool) -> str:
        words = [token.text for token in tokens.tokenise(part, self._lexicon)]
        if masked:
            return self._words(words)
        return ("" if self.language == "zh" else " ").join(words)

    def _weight(self, word: str) -> float:
        return matching.LIGHT_COST if word in self._lexicon.light else 1.0

    def _known_words(self) -> frozenset[str]:
        spoken = " ".join([*self._lexicon.units, *WEEKDAYS])
        operators = "times plus minus divided multiplied percent square root squared power half"
        hours = "hour hours minute minutes second seconds morning evening tomorrow today oclock"
        return self._grammar.vocabulary.union(
            spoken.split(), operators.split(), hours.split(), ENGLISH_WORDS, self._lexicon.fillers
        )

    def _nearest_word(self, word: str) -> str:
        if len(word) < 3 or word in self._vocabulary or not word.isalpha():
            return word
        found = process.extractOne(
            word, self._targets, scorer=JaroWinkler.similarity, score_cutoff=SAME_WORD
        )
        if not found or Levenshtein.distance(word, found[0]) > max(1, len(found[0]) // 4):
            return word
        return found[0]


def _token_at(starts: Sequence[int], offset: int) -> int:
    return bisect.bisect_right(starts, offset) - 1


def _finished(meaning: Meaning) -> Mapping[str, object] | None:
    """The slots as they are handed out; None where a number makes no sense."""
    slots = dict(meaning.slots)
    if meaning.intent in LAST_RESORT:
        return {"kind": slots["kind"]}
    if "repeat" in slots and not meaning.intent.startswith("alarm_"):
        return None
    number = slots.get("number")
    if meaning.intent == "volume_set" and isinstance(number, int):
        if number > 100:
            return None
        del slots["number"]
        slots["percent"] = number * 10 if number <= TENTHS else number
    return slots


def load(folder: Path, language: str) -> Understanding:
    """The intents of ``language`` (``en`` or ``zh``) in ``folder / language``.

    Raises:
        IntentsError: a file is missing or wrong, or the language is not there.
    """
    path = folder / language
    if language not in ("en", "zh") or not path.is_dir():
        raise IntentsError(f"{path}: no intents for the language {language!r}. Choose en or zh.")
    return Understanding(path, language)
