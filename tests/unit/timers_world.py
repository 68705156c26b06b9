"""A machine for timers: its clocks, its boots, its disk, all of the test's own."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from appliance.mind import timer_items
from appliance.mind.clocks import Now
from appliance.mind.store import StoreFullError
from appliance.mind.timer_items import Item
from appliance.mind.timers import Timers

BERLIN = "Europe/Berlin"
SECOND = 10**9
HOUR = 3600 * SECOND
DAY = 24 * HOUR
YEAR = 365 * DAY


def wall(
    year: int, month: int, day: int, hour: int = 0, minute: int = 0, zone: str = BERLIN
) -> int:
    moment = dt.datetime(year, month, day, hour, minute, tzinfo=ZoneInfo(zone))
    return int(moment.timestamp()) * SECOND


MONDAY_TEN = wall(2026, 11, 23, 10)


@dataclass
class World:
    """A machine: its clocks, its boots, its disk."""

    boot_ns: int = 50 * SECOND
    wall_ns: int = MONDAY_TEN
    boot_id: str = "first"
    rows: dict[str, Item] = field(default_factory=dict)
    full: bool = False
    writes: int = 0
    on_write: Callable[[], object] = lambda: None

    def now(self) -> Now:
        return Now(self.boot_ns, self.wall_ns)

    def wait(self, ns: int) -> None:
        self.boot_ns += ns
        self.wall_ns += ns

    def reboot(self, off_ns: int, wall_ns: int | None = None) -> None:
        self.boot_ns = 5 * SECOND
        self.wall_ns = self.wall_ns + off_ns if wall_ns is None else wall_ns
        self.boot_id += "+"

    def all(self) -> list[Item]:
        return list(self.rows.values())

    def put(self, *records: Item) -> None:
        self._write()
        self.rows.update((r.id, r) for r in records)

    def delete(self, identities: Iterable[str]) -> None:
        self._write()
        for i in identities:
            self.rows.pop(i, None)

    def replace(self, gone: Iterable[str], *records: Item) -> None:
        self.delete(gone)
        self.put(*records)

    def _write(self) -> None:
        if self.full:
            raise StoreFullError("no room")
        self.on_write()
        self.writes += 1

    def timers(self) -> Timers:
        return Timers(self, self, BERLIN)


def names(rings: Iterable[timer_items.Due]) -> list[str]:
    return [ring.item.name for ring in rings]
