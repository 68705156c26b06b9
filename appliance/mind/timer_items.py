"""What timers and alarms are, and when an alarm rings: records and the arithmetic of local time."""

from __future__ import annotations

import datetime as dt
import functools
import uuid
from collections.abc import Iterable, Sequence
from typing import Protocol, cast
from zoneinfo import ZoneInfo

import msgspec
from rapidfuzz import fuzz

from appliance.errors import ApplianceError
from appliance.mind.clocks import Now

MAX_ITEMS = 100
MAX_DURATION_MS = 366 * 24 * 3600 * 1000
MAX_NAME_LENGTH = 80
WORKDAYS = (0, 1, 2, 3, 4)
WEEKEND = (5, 6)
DAILY = (0, 1, 2, 3, 4, 5, 6)
LATE_MS = 2000
"""Later than this a ring is announced as late."""

_SEARCH_DAYS = 16
"""Covers each weekday once more after the one that rang already."""
_ALIKE = 70.0
"""Similarity in per cent from which a name counts as misheard, not as another one."""


class TimerError(ApplianceError):
    """A timer or alarm that cannot be set; the message can be spoken."""


class _Item(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    """As it was said; empty for none."""
    reminder: bool = False
    """The name is what to do when it rings ("call Bob")."""
    owner: str
    """Session or user it belongs to."""
    saved_wall_ns: int
    """Wall clock when it was stored: a clock that shows less later has lost the time."""
    due_wall_ns: int
    """Alarm: when it rings next. Timer: the same, as the wall clock stands."""
    ringing: bool = False
    """Rang and was not acknowledged."""


class Timer(_Item, frozen=True, kw_only=True, tag="timer"):
    """A duration that runs."""

    duration_ms: int
    boot_id: str
    due_boot_ns: int
    """On the clock of that boot."""
    unsure: bool = False
    """The machine came up without the time: how long it was off is not known yet."""


class Alarm(_Item, frozen=True, kw_only=True, tag="alarm"):
    """A time of day."""

    hour: int
    minute: int
    zone: str
    days: tuple[int, ...] = ()
    """Weekdays on which it repeats, Monday 0; empty: once."""
    date: str = ""
    """ISO date for which it was set; empty: the next time that the clock shows its time."""
    boot_id: str = ""
    """Boot in which it was stored last while the time was known."""
    rung_date: str = ""
    """Local date on which it rang last: it does not ring twice for one."""


Item = Timer | Alarm
DECODER = cast("msgspec.json.Decoder[Item]", msgspec.json.Decoder(Timer | Alarm))
"""For the store's table ``timers``."""


class Store(Protocol):
    """Where they outlive a restart: `appliance.mind.store.Table`."""

    def all(self) -> list[Item]:
        """What is stored."""

    def put(self, *records: Item) -> None:
        """Store or replace, all or none; on the disk when it returns."""

    def delete(self, identities: Iterable[str]) -> None:
        """Delete."""

    def replace(self, gone: Iterable[str], *records: Item) -> None:
        """Delete and store, all or nothing."""


class Due(msgspec.Struct, frozen=True):
    """Something rings now."""

    item: Item
    late_ms: float
    again: bool = False
    """It had begun to ring before a restart, and nobody had acknowledged it."""

    @property
    def late(self) -> bool:
        """Whether it is worth saying that it comes late."""
        return self.late_ms > LATE_MS


class Wakes(msgspec.Struct, frozen=True):
    """When `Timers.due` is to be called next, on each clock; None: not for its sake."""

    boot_ns: int | None
    wall_ns: int | None


def next_time(
    after_wall_ns: int,
    time_of_day: tuple[int, int],
    zone: str,
    *,
    days: Iterable[int] = (),
    skip: str = "",
) -> int:
    """When a clock in ``zone`` shows that time next, as wall nanoseconds.

    A time that the change to summer time leaves out comes an hour later; one that the change back
    shows twice counts the first time.

    Args:
        after_wall_ns: later than this.
        time_of_day: hour and minute.
        zone: IANA name.
        days: weekdays, Monday 0; none: any.
        skip: an ISO date to leave out.
    """
    place = check_zone(zone)
    wanted = frozenset(days) or frozenset(DAILY)
    today = dt.datetime.fromtimestamp(after_wall_ns // 10**9, place).date()
    for ahead in range(_SEARCH_DAYS):
        day = today + dt.timedelta(days=ahead)
        at_ns = _at(day, time_of_day, place)
        if day.weekday() in wanted and day.isoformat() != skip and at_ns > after_wall_ns:
            return at_ns
    raise AssertionError("a week has every weekday")


def _at(day: dt.date, time_of_day: tuple[int, int], place: ZoneInfo) -> int:
    return int(dt.datetime.combine(day, dt.time(*time_of_day), place).timestamp()) * 10**9


@functools.lru_cache(maxsize=8)
def check_zone(name: str) -> ZoneInfo:
    """The zone of that name.

    Raises:
        TimerError: there is none.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise TimerError(
            f"there is no time zone {name!r}: take one such as Europe/Berlin"
        ) from None


def scheduled(alarm: Alarm, wall_ns: int) -> Alarm:
    """The alarm with its next time after ``wall_ns``; a dated one keeps its date."""
    time_of_day = (alarm.hour, alarm.minute)
    if alarm.date:
        due_ns = _at(dt.date.fromisoformat(alarm.date), time_of_day, check_zone(alarm.zone))
    else:
        due_ns = next_time(wall_ns, time_of_day, alarm.zone, days=alarm.days, skip=alarm.rung_date)
    return msgspec.structs.replace(alarm, due_wall_ns=due_ns)


def rung(item: Item, wall_ns: int) -> Item:
    """The item as it rings, what repeats with its next time after ``wall_ns``."""
    if isinstance(item, Timer) or not item.days:
        return msgspec.structs.replace(item, ringing=True)
    local = dt.datetime.fromtimestamp(item.due_wall_ns // 10**9, check_zone(item.zone))
    done = msgspec.structs.replace(item, ringing=True, rung_date=local.date().isoformat())
    return scheduled(done, wall_ns)


def pending(item: Item) -> bool:
    """Whether it will ring, be it once more."""
    return not item.ringing or (isinstance(item, Alarm) and bool(item.days))


def new_timer(
    duration_ms: int, name: str, owner: str, now: Now, boot_id: str, *, reminder: bool
) -> Timer:
    """A timer that starts now.

    Raises:
        TimerError: no sensible duration.
    """
    if not 0 < duration_ms <= MAX_DURATION_MS:
        raise TimerError("a timer can run for up to a year")
    return Timer(
        id=uuid.uuid4().hex,
        name=clean_name(name),
        reminder=reminder,
        owner=owner,
        saved_wall_ns=now.wall_ns,
        due_wall_ns=now.wall_ns + duration_ms * 1_000_000,
        duration_ms=duration_ms,
        boot_id=boot_id,
        due_boot_ns=now.boot_ns + duration_ms * 1_000_000,
    )


def extended(timer: Timer, by_ms: int) -> Timer:
    """The timer as it runs longer.

    Raises:
        TimerError: no sensible duration.
    """
    if not 0 < timer.duration_ms + by_ms <= MAX_DURATION_MS:
        raise TimerError("a timer can run for up to a year")
    return msgspec.structs.replace(
        timer,
        duration_ms=timer.duration_ms + by_ms,
        due_wall_ns=timer.due_wall_ns + by_ms * 1_000_000,
        due_boot_ns=timer.due_boot_ns + by_ms * 1_000_000,
    )


def carried_over(timer: Timer, now: Now, *, known: bool) -> Timer:
    """A timer's place on this boot's clock, by the wall clock; it never gets longer."""
    left_ns = min(timer.due_wall_ns - now.wall_ns, timer.duration_ms * 1_000_000)
    return msgspec.structs.replace(timer, due_boot_ns=now.boot_ns + left_ns, unsure=not known)


def clean_name(name: str) -> str:
    """The name on one line, bounded, without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in name).split())[:MAX_NAME_LENGTH]


def named(items: Sequence[Item], name: str) -> list[Item]:
    """Those of that name; without any, those whose name holds it; without any, those alike."""
    wanted = clean_name(name).casefold()
    same = [i for i in items if i.name.casefold() == wanted]
    within = [i for i in items if i.name and (wanted in i.name.casefold())]
    alike = [i for i in items if i.name and fuzz.ratio(i.name.casefold(), wanted) >= _ALIKE]
    return same or within or alike


def settled(done: Sequence[Item]) -> tuple[list[Item], list[str]]:
    """What stays set after it was acknowledged, and what does not."""
    stays = [msgspec.structs.replace(item, ringing=False) for item in done if pending(item)]
    return stays, [item.id for item in done if not pending(item)]
