"""Reads sentence templates in Home Assistant's style and prepares them for comparison.

hassil parses and expands them. Templates without free text become a table of finished sentences
(so that an exact match is one look-up and a near match can be measured); those with free text
become one regular expression each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import yaml
from hassil.errors import HassilError
from hassil.expression import (
    Alternative,
    Expression,
    Group,
    ListReference,
    Permutation,
    RuleReference,
    Sentence,
    TextChunk,
)
from hassil.intents import Intents, WildcardSlotList
from hassil.parse_expression import parse_sentence
from hassil.parser import ParseError
from hassil.sample import sample_sentence

from appliance.errors import ApplianceError
from appliance.mind.understanding.lexicon import Lexicon
from appliance.mind.understanding.places import cities

SLOTS = frozenset(
    {
        *("moment", "duration", "day", "place", "percent"),
        *("number", "ordinal", "expression", "quantity", "unit"),
    }
)
"""What the slot readers put into a sentence; other names in braces are free text."""
NAME = "name"
"""Free text of one to three words; every other free text may be long."""
FACT = "fact"
"""Free text that begins with a personal word of the lexicon ("my"); handed out as ``text``."""
STATEMENT = "statement"
"""Free text that says how something is, by a verb of the lexicon, and does not ask; as ``text``."""
TEXT = "text"
TASK = "task"
"""Free text beside slots, of what one is to be reminded; handed out as ``name``, as it was said."""
MAX_EXPANSIONS = 4_000
"""Sentences of one template: what expands to more is slow to load and hard to foresee."""
_TEMPLATE_ERRORS = (ParseError, HassilError, ValueError, KeyError, AssertionError, re.error)
LEXICON_FILE = "_lexicon.yaml"


class Literal(Protocol):
    """Brings a literal part of a template into the form of a normalised sentence."""

    def __call__(self, part: str, *, masked: bool) -> str:
        """``masked``: the sentence has its numbers in digits and its slots masked."""
        ...


class IntentsError(ApplianceError):
    """A file of intents that cannot be used: names file, line and what to do."""


@dataclass(frozen=True)
class Meaning:
    """What a sentence stands for before its slots are filled."""

    intent: str
    slots: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Grammar:
    """All of one language's templates."""

    sentences: Mapping[str, Meaning]
    """Finished sentences as `tokens.key_words` joins them."""
    patterns: tuple[tuple[re.Pattern[str], Meaning], ...]
    """Templates with free text, on sentences as the language's ``words`` joins them."""
    responses: Mapping[str, str]
    lexicon: Lexicon
    vocabulary: frozenset[str]
    """Every literal word of the templates."""


def load_lexicon(folder: Path) -> Lexicon:
    """The words of the language in ``folder``. Raises `IntentsError`."""
    path = folder / LEXICON_FILE
    try:
        lexicon = Lexicon.from_dict(_read(path))
        named = cities() if folder.name == "en" else {}
        return replace(lexicon, places={**named, **lexicon.places})
    except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise IntentsError(
            f"{path}: {error}. Compare it with the file that was shipped."
        ) from error


def load(folder: Path, lexicon: Lexicon, key: Callable[[str], str], literal: Literal) -> Grammar:
    """Reads every ``*.yaml`` in ``folder``.

    Args:
        folder: of one language, e.g. ``config/intents/en``.
        lexicon: that language's words.
        key: a finished sentence to what it is compared as.
        literal: for templates with free text.

    Raises:
        IntentsError: nothing to read, or a file that is not right.
    """
    paths = sorted(p for p in folder.glob("*.yaml") if p.name != LEXICON_FILE)
    if not paths:
        raise IntentsError(f"{folder}: no intents (*.yaml) here. Restore config/intents.")
    sentences: dict[str, Meaning] = {}
    patterns: list[tuple[re.Pattern[str], Meaning]] = []
    responses: dict[str, str] = {}
    vocabulary: set[str] = set()
    for path in paths:
        raw = _read(path)
        unknown = set(raw) - {"language", "intents", "expansion_rules", "lists", "responses"}
        if unknown:
            raise _wrong(path, f"unknown key {sorted(unknown)[0]!r}", sorted(unknown)[0])
        if raw.get("language") != folder.name:
            raise _wrong(path, f"language should be {folder.name!r}", "language")
        responses |= {str(k): str(v) for k, v in (raw.get("responses") or {}).items()}
        rules = _rules(path, raw)
        for intent, sentence, slots in _templates(path, raw):
            try:
                template = parse_sentence(sentence)
                free = _free_text(template, rules)
                meaning = Meaning(intent, slots)
                if free:
                    masked = any(name in SLOTS for name in template.list_names(rules))
                    pattern = _pattern(template.expression, rules, partial(literal, masked=masked))
                    pattern = pattern.replace(f"<{FACT}>", f"<{TEXT}>{_personal(lexicon)}")
                    pattern = pattern.replace(f"<{STATEMENT}>", f"<{TEXT}>{_stating(lexicon)}")
                    patterns.append((re.compile(_tidy(pattern)), meaning))
                    continue
                for count, text in enumerate(_expand(template, rules)):
                    if count >= MAX_EXPANSIONS:
                        raise ValueError("too many sentences")
                    finished = key(text)
                    vocabulary.update(finished.split())
                    sentences.setdefault(finished, meaning)
            except _TEMPLATE_ERRORS as error:
                raise _wrong(path, f"template {sentence!r}: {error}", sentence) from error
    for pattern_, _ in patterns:
        vocabulary.update(re.findall(r"[a-z]{2,}", re.sub(r"\?P<\w+>|\\.", " ", pattern_.pattern)))
    return Grammar(sentences, tuple(patterns), responses, lexicon, frozenset(vocabulary))


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise IntentsError(
            f"{path}:{line}: not YAML: {error.problem}. Correct the line."
        ) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise IntentsError(f"{path}: {error}. Restore the file from config/intents.") from error
    if not isinstance(raw, dict):
        raise IntentsError(f"{path}:1: a mapping is expected. Compare it with another file there.")
    return raw


def _wrong(path: Path, what: str, near: str) -> IntentsError:
    """An error with the line on which ``near`` stands."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if near in line:
            return IntentsError(f"{path}:{number}: {what}. Correct the line.")
    return IntentsError(f"{path}: {what}. Correct it.")


def _rules(path: Path, raw: Mapping[str, Any]) -> dict[str, Sentence]:
    rules = {}
    for name, body in (raw.get("expansion_rules") or {}).items():
        try:
            rules[str(name)] = parse_sentence(str(body))
        except (ParseError, HassilError, ValueError, AssertionError) as error:
            raise _wrong(path, f"expansion rule {name!r}: {error}", str(name)) from error
    return rules


def _templates(
    path: Path, raw: Mapping[str, Any]
) -> Iterable[tuple[str, str, Mapping[str, object]]]:
    """(intent, template, slots) of a file, checked in hassil's own reader."""
    try:
        parsed = Intents.from_dict({"intents": {}, **raw})
        for intent in parsed.intents.values():
            for data in intent.data:
                for sentence in data.sentence_texts:
                    yield intent.name, str(sentence), data.slots
    except (KeyError, TypeError, AttributeError, ParseError) as error:
        raise _wrong(path, f"intents: {error!r} is wrong or missing", str(error)) from error


def _free_text(template: Sentence, rules: dict[str, Sentence]) -> bool:
    return any(name not in SLOTS for name in template.list_names(rules))


def _expand(template: Sentence, rules: dict[str, Sentence]) -> Iterable[str]:
    lists = {name: WildcardSlotList(name=name) for name in SLOTS}
    return sample_sentence(template, dict(lists), rules)


def _pattern(
    expression: Expression, rules: Mapping[str, Sentence], normal: Callable[[str], str]
) -> str:
    """A regular expression for one template; literals go through ``normal``."""
    match expression:
        case TextChunk(original_text=text):
            lead, trail = text[:1].isspace(), text[-1:].isspace()
            body = re.escape(normal(text)) if text.strip() else ""
            body = re.sub(r"^(?=[a-z])|(?<=[a-z])$", r"\\b", body)
            return (" " if lead else "") + body + (" " if trail and body else "")
        case Permutation():
            raise ValueError("permutations are not supported beside free text")
        case Alternative(items=items):
            return "(?:" + "|".join(_pattern(item, rules, normal) for item in items) + ")"
        case Group(items=items):
            return "".join(_pattern(item, rules, normal) for item in items)
        case ListReference(list_name=name) if name in SLOTS:
            return re.escape(f"{{{name}}}")
        case ListReference(list_name=name):
            return rf"(?P<{name}>{_NAME if name == NAME else _LONG})"
        case RuleReference(rule_name=name):
            if name not in rules:
                raise ValueError(f"no expansion rule <{name}>")
            return _pattern(rules[name].expression, rules, normal)
    raise ValueError(f"unknown part {expression!r}")


_NAME = r"(?:[a-z0-9']{1,20}(?:\x20[a-z0-9']{1,20}){0,2}?|[^\s{}a-z0-9]{1,4}?)"
"""Up to three words, or four Chinese characters."""
_LONG = r"\S.*?"


def _personal(lexicon: Lexicon) -> str:
    words = "|".join(map(re.escape, lexicon.personal)) or "(?!)"
    return f"(?=(?:{words})(?![a-z]))"


def _stating(lexicon: Lexicon) -> str:
    states, asks = ("|".join(map(re.escape, words)) for words in (lexicon.states, lexicon.asks))
    return rf"(?=.*?\b(?:{states})\b)(?!.*\b(?:{asks})\b)"


def _tidy(pattern: str) -> str:
    """Lets any run of optional words keep one space between the words that are there."""
    return r"^\s*" + re.sub(r"(?:\\ | )+", r"\\s*", pattern) + r"\s*$"
