"""The words of a language that the understanding needs besides its sentence templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Lexicon:
    """Read from ``_lexicon.yaml`` of a language."""

    variants: Mapping[str, str] = field(default_factory=dict)
    """A word as it is written or heard, to how the templates write it ("what's" to "what is")."""
    fillers: frozenset[str] = frozenset()
    """Words that never count."""
    openers: tuple[tuple[str, ...], ...] = ()
    """Beginnings of a request that say only that it is one ("could you")."""
    closers: tuple[tuple[str, ...], ...] = ()
    """The same for its end ("for me")."""
    light_dropped: frozenset[str] = frozenset()
    """Words that are not compared at all (articles)."""
    light: frozenset[str] = frozenset()
    """Words that may be missing or too many at little cost ("is")."""
    personal: tuple[str, ...] = ()
    """Words with which a fact about the speaker begins ("my")."""
    states: tuple[str, ...] = ()
    """Verbs that say how something is."""
    asks: tuple[str, ...] = ()
    """Words with which one asks or bids: with one of them nothing is stated."""
    mishearings: tuple[tuple[str, str], ...] = ()
    """Regular expressions on the normalised sentence with its slots, and what they stand for."""
    arithmetic: tuple[tuple[str, str], ...] = ()
    """Regular expressions that turn operators in words into signs."""
    units: Mapping[str, str] = field(default_factory=dict)
    """A unit as it is said, to its name in `units.UNITS`."""
    unit_names: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """A unit's name in `units.UNITS`, to its singular and plural as they are spoken."""
    places: Mapping[str, str] = field(default_factory=dict)
    """A place as it is said, to its IANA time zone."""
    similar: Mapping[str, str] = field(default_factory=dict)
    """A character, to the first of those that sound alike."""

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Lexicon:
        """Of what YAML holds; ``ValueError`` names a key that does not belong there."""
        unknown = set(raw) - set(cls.__dataclass_fields__)
        if unknown:
            raise ValueError(f"unknown key {sorted(unknown)[0]!r}")
        units = {
            said: name
            for name, forms in raw.get("units", {}).items()
            for said in (str(form) for form in forms)
        }
        return cls(
            variants=_strings(raw.get("variants", {})),
            fillers=frozenset(raw.get("fillers", ())),
            openers=_phrases(raw.get("openers", ())),
            closers=_phrases(raw.get("closers", ())),
            light_dropped=frozenset(raw.get("light_dropped", ())),
            light=frozenset(raw.get("light", ())),
            personal=tuple(str(word) for word in raw.get("personal", ())),
            states=tuple(str(word) for word in raw.get("states", ())),
            asks=tuple(str(word) for word in raw.get("asks", ())),
            mishearings=_pairs(raw.get("mishearings", ())),
            arithmetic=_pairs(raw.get("arithmetic", ())),
            units=units,
            unit_names={
                name: (str(forms[0]), str(forms[1] if _has_plural(forms) else forms[0]))
                for name, forms in raw.get("units", {}).items()
            },
            places=_strings(raw.get("places", {})),
            similar={
                character: group[0] for group in raw.get("similar", ()) for character in group
            },
        )


def _has_plural(forms: Sequence[str]) -> bool:
    """Chinese has none: there the second form is another word."""
    return len(forms) > 1 and str(forms[0]).isascii()


def _strings(raw: Mapping[Any, Any]) -> dict[str, str]:
    return {str(key): str(value) for key, value in raw.items()}


def _pairs(raw: Sequence[Sequence[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((str(pattern), str(replacement)) for pattern, replacement in raw)


def _phrases(raw: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Longest first, so that "could you please" goes before "could you"."""
    phrases = (tuple(str(p).split() if str(p).isascii() else str(p)) for p in raw)
    return tuple(sorted(phrases, key=len, reverse=True))
