"""What mind keeps for its owner: timers, notes, facts; opened, told, exported and erased here."""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, Literal, NoReturn, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from appliance.config import Config
from appliance.messages import Accepted, FactItem, Refused, TimerItem
from appliance.mind.clocks import Clock, SystemClock, local_zone_name
from appliance.mind.memory import FACT_DECODER, Memory, Who
from appliance.mind.sayings import length
from appliance.mind.skills import OWNER, VOICE_DECODER, Voice
from appliance.mind.store import (
    Database,
    StoreCorruptError,
    StoreError,
    StoreKeyError,
    Table,
    credential_key,
)
from appliance.mind.timer_items import DECODER as ITEM_DECODER
from appliance.mind.timer_items import Item, Timer
from appliance.mind.timers import Timers
from appliance.mind.tools import NOTE_DECODER, Notes
from appliance.mind.understanding import spoken_time

logger = logging.getLogger(__name__)

R = TypeVar("R")


class _Nowhere(Generic[R]):
    """In place of a table that cannot be opened: empty, and says why nothing is kept."""

    def __init__(self, why: str) -> None:
        self._why = why

    def all(self) -> list[R]:
        """Nothing."""
        return []

    def put(self, *_records: R) -> NoReturn:
        """Refuse."""
        raise StoreError(self._why)

    def delete(self, identities: Iterable[str]) -> None:
        """Nothing is there; refuse to say otherwise."""
        if list(identities):
            raise StoreError(self._why)

    def replace(self, gone: Iterable[str], *records: R) -> None:
        """Refuse, unless there is nothing to do."""
        if records or list(gone):
            raise StoreError(self._why)


@dataclass
class Belongings:
    """Everything that is kept, open."""

    timers: Timers
    notes: Notes
    memory: Memory | None
    """None: switched off."""
    voices: Table[Voice]
    """How loud and fast the box itself speaks."""
    who: Who
    clock: Clock
    encrypted: bool
    problem: str
    """What the owner must know; empty: all is well."""
    _database: Database | None

    @classmethod
    def open(cls, config: Config) -> Belongings:
        """Open the store; one that cannot be opened is told of, and nothing is kept."""
        clock = SystemClock()
        database: Database | None = None
        problem, encrypted = "", False
        try:
            secret = credential_key()
            encrypted = secret is not None
            database = Database(config.mind_path, secret)
        except (StoreError, StoreKeyError) as error:
            problem = f"nothing can be kept: {error}"
            logger.error("%s", problem)
        if database is not None and database.set_aside is not None:
            aside = database.set_aside
            problem = f"the store was damaged ({aside.reason}) and is now {aside.path}"
            logger.error("%s; begun afresh", problem)

        def table(name: str, decoder: Any) -> Any:  # noqa: ANN401
            return _Nowhere(problem) if database is None else Table(database, name, decoder)

        def scrub() -> None:
            if database is not None:
                database.scrub()

        zone = config.mind.time_zone or local_zone_name()
        facts = table("facts", FACT_DECODER)
        return cls(
            timers=Timers(table("timers", ITEM_DECODER), clock, zone),
            notes=Notes(table("notes", NOTE_DECODER), _wall_ms, scrub),
            memory=Memory(facts, _wall_ms, scrub) if config.mind.memory else None,
            voices=table("voices", VOICE_DECODER),
            who=Who(room=config.mind.room),
            clock=clock,
            encrypted=encrypted,
            problem=problem,
            _database=database,
        )

    def now(self) -> dt.datetime:
        """Local time."""
        zone = ZoneInfo(self.timers.zone)
        return dt.datetime.fromtimestamp(self.clock.now().wall_ns / 1e9, zone)

    def voice(self) -> Voice:
        """How the box itself spoke last."""
        return next((voice for voice in self.voices.all() if voice.id == OWNER), Voice())

    def keep_voice(self, voice: Voice) -> None:
        """How the box is to speak after a restart too; forgotten where nothing can be kept."""
        try:
            self.voices.put(voice)
        except StoreCorruptError:
            raise
        except StoreError as error:
            logger.error("volume and speed will not outlast a restart: %s", error)

    def timer_items(self) -> tuple[TimerItem, ...]:
        """For the panel."""
        ringing = self.timers.ringing()
        pending = self.timers.list()
        items = {item.id: item for item in (*ringing, *pending)}
        return tuple(self._timer_item(item, item in ringing) for item in items.values())

    def _timer_item(self, item: Item, rings: bool) -> TimerItem:
        if isinstance(item, Timer):
            at = length(item.duration_ms, "en")
        else:
            local = dt.datetime.fromtimestamp(item.due_wall_ns // 10**9, ZoneInfo(item.zone))
            at = f"{spoken_time(local, 'en')}, {local.date()}"
        left_s = 0.0 if rings else self.timers.remaining_ms(item) / 1000
        kind: Literal["timer", "alarm"] = "timer" if isinstance(item, Timer) else "alarm"
        return TimerItem(id=item.id, kind=kind, name=item.name, remaining_s=left_s, at=at)

    def fact_items(self) -> tuple[FactItem, ...]:
        """For the panel: what holds at present."""
        if self.memory is None:
            return ()
        return tuple(
            FactItem(id=f.id, text=f.text, owner=f.owner, told_wall_ms=f.told_wall_ms)
            for f in self.memory.about(self.who)
        )

    def cancel_timer(self, identity: str) -> Accepted | Refused:
        """End a timer or alarm, ringing or not. Waits for the disk."""
        try:
            known = [item for item in self.timers.find() if item.id == identity]
            self.timers.acknowledge([identity])
            self.timers.cancel([identity])
        except StoreError as error:
            return Refused(reason=str(error))
        return Accepted() if known else Refused(reason="there is no such timer")

    def forget(self, identities: tuple[str, ...]) -> Accepted | Refused:
        """Delete facts for good; none named: all. Waits for the disk."""
        if self.memory is None:
            return Refused(reason="the memory is switched off")
        try:
            if identities:
                self.memory.forget_these(identities)
            else:
                self.memory.erase()
        except StoreError as error:
            return Refused(reason=str(error))
        return Accepted()

    def export(self) -> str:
        """Everything that is stored about people, as JSON."""
        facts = msgspec.Raw(self.memory.export().encode()) if self.memory else []
        everything = {
            "facts": facts,
            "notes": list(self.notes.find("", OWNER)),
            "timers": list(self.timers.list()),
        }
        return msgspec.json.format(msgspec.json.encode(everything)).decode()

    def close(self) -> None:
        """Close the store."""
        if self._database is not None:
            self._database.close()


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
