"""What a sentence leads to: a plan, of which nothing happens before the turn is over.

A plan's reply is what will be said if it works; what was really done is told by the `Outcome`.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from appliance.mind.memory import Memory, MemoryLimitError, Who
from appliance.mind.sayings import impossible, phrase
from appliance.mind.store import StoreCorruptError, StoreError, StoreFullError
from appliance.mind.timer_items import TimerError
from appliance.mind.timers import Timers
from appliance.mind.tools import Notes, Registry
from appliance.mind.tools.registry import Language
from appliance.mind.understanding import Understanding, Understood

logger = logging.getLogger(__name__)

OWNER = "local"
"""Timers and notes belong to the box, whoever asks for them."""
_GRANTED = ("timers", "notes")


class Voice(msgspec.Struct, frozen=True):
    """How a session's answers are spoken at present; a record of the store."""

    id: str = OWNER
    """Of the session."""
    volume_percent: int = 100
    speed: float = 1.0


Act = Callable[[], "Outcome"]


@dataclass(frozen=True)
class Choice:
    """One of several that may be meant."""

    label: str
    """As it was told: what the user calls it is looked for in here."""
    act: Act


Choices = tuple[Choice, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of a plan."""

    reply: str
    volume_percent: int | None = None
    """Answers are as loud as this from now on."""
    speed: float | None = None
    """Answers are as fast as this from now on."""
    if_not_muted: str = ""
    """The microphones are to be muted; what is said where that fails."""
    ask: Plan | None = None
    """What is done if the user says yes to the reply."""
    choices: Choices = ()
    """What the reply asks to choose from."""
    forgotten: bool = False
    """Something is not to be known any more."""
    undo: Callable[[], object] | None = None
    """Takes it back, where that is possible: the user went on, and meant something else."""

    def voice(self, before: Voice) -> Voice:
        """How answers are spoken after it."""
        return msgspec.structs.replace(
            before,
            volume_percent=before.volume_percent
            if self.volume_percent is None
            else self.volume_percent,
            speed=before.speed if self.speed is None else self.speed,
        )


@dataclass(frozen=True)
class Plan:
    """What is to become of a sentence."""

    reply: str = ""
    """To be said; of a plan that acts: if it works, and empty where only the act can tell."""
    act: Act | None = None


VOICE_DECODER = msgspec.json.Decoder(Voice)
"""For the store's table ``voices``."""


@dataclass(frozen=True)
class Said:
    """A sentence that was understood, and what it was said to."""

    understood: Understood
    slots: Mapping[str, object]
    language: Language
    voice: Voice
    last_reply: str
    undo: Callable[[], object] | None = None
    """Takes back what was done last."""

    def text(self, slot: str) -> str:
        """Free text of a slot; empty without one."""
        return str(self.slots.get(slot, ""))


@dataclass(frozen=True)
class Skills:
    """What everything that can be done without a language model is done with.

    Args:
        understandings: by language.
        timers: all of them.
        notes: all of them.
        memory: of facts; None when it is switched off.
        registry: the shipped tools.
        who: in whose name facts are kept.
        now: local time, aware of its zone.
        listens: languages that are understood when spoken.
    """

    understandings: Mapping[str, Understanding]
    timers: Timers
    notes: Notes
    memory: Memory | None
    registry: Registry
    who: Who
    now: Callable[[], dt.datetime]
    listens: Sequence[str] = ("en",)

    def tool(self, name: str, language: Language, **arguments: object) -> Outcome:
        """Call a shipped tool; whoever speaks may use them all."""
        encoded = msgspec.json.encode(arguments)
        result = self.registry.call(name, encoded, _GRANTED, language=language, confirmed=True)
        return Outcome(result.spoken)


def kept(act: Act, language: Language) -> Act:
    """The act; what keeps it from being done is said."""

    def tried() -> Outcome:
        try:
            return act()
        except StoreCorruptError:
            raise
        except (TimerError, MemoryLimitError) as error:
            return Outcome(impossible(str(error), language))
        except StoreError as error:
            logger.error("%s", error)
            why = "disk_full" if isinstance(error, StoreFullError) else "disk_fails"
            return Outcome(phrase("cannot_keep", language, why=phrase(why, language)))

    return tried
