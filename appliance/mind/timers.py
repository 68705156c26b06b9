"""Timers and alarms: several, named, on the disk before they are confirmed, lost by nothing.

A timer is a duration: it runs on the boot clock, and only across a reboot by the wall clock. An
alarm is a time of day in a zone and follows the wall clock wherever that is set. What fell due
while nobody was there rings at once; what rang and was not acknowledged rings again after a crash.
"""

from __future__ import annotations

import datetime as dt
import functools
import logging
import threading
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeVar, cast

import msgspec

from appliance.mind.clocks import Clock, Now
from appliance.mind.store import StoreError
from appliance.mind.timer_items import (
    DAILY,
    MAX_ITEMS,
    Alarm,
    Due,
    Item,
    Store,
    Timer,
    TimerError,
    Wakes,
    carried_over,
    check_zone,
    clean_name,
    extended,
    named,
    new_timer,
    pending,
    rung,
    scheduled,
    settled,
)

logger = logging.getLogger(__name__)

_STEP_NS = 20_000_000
"""The wall clock was set when it moved by more than this against the boot clock."""


F = TypeVar("F", bound=Callable[..., Any])


def _writing(method: F) -> F:
    """One at a time. Who only reads waits for nobody: a slow disk must not hold up a question."""

    @functools.wraps(method)
    def run(self: Timers, *args: object, **kwargs: object) -> object:
        with self._lock:
            return method(self, *args, **kwargs)

    return cast(F, run)


class Timers:
    """All timers and alarms. Threads may share it.

    Args:
        store: where they are kept.
        clock: both clocks.
        zone: time zone of new alarms, such as ``Europe/Berlin``.

    Raises:
        StoreError: they cannot be read.
        TimerError: there is no such zone.
    """

    def __init__(self, store: Store, clock: Clock, zone: str) -> None:
        check_zone(zone)
        self.zone = zone
        self._store = store
        self._clock = clock
        self._lock = threading.RLock()
        now = clock.now()
        self._offset_ns = now.wall_ns - now.boot_ns
        items = store.all()
        self._seen_wall_ns = max((item.saved_wall_ns for item in items), default=0)
        self._time_known = now.wall_ns >= self._seen_wall_ns - _STEP_NS or any(
            isinstance(item, Alarm) and item.boot_id == clock.boot_id for item in items
        )
        self._guessed: set[str] = set()
        """Alarms set while the time was not known."""
        self._items: dict[str, Item] = {i.id: self._resumed(i, now) for i in items}
        self._ring_again = [item.id for item in items if item.ringing]
        changed = [self._items[item.id] for item in items if self._items[item.id] != item]
        if changed:
            self._keep(changed, now)

    @_writing
    def set_timer(
        self, duration_ms: int, name: str = "", owner: str = "local", *, reminder: bool = False
    ) -> Timer:
        """Start a timer; it is on the disk when this returns.

        Args:
            duration_ms: from now.
            name: as it was said.
            owner: session or user.
            reminder: the name is what to do when it rings.

        Raises:
            TimerError: too many, or no sensible duration.
            StoreError: it could not be stored, so it does not run.
        """
        now = self._now()
        timer = new_timer(duration_ms, name, owner, now, self._clock.boot_id, reminder=reminder)
        self._admit(timer)
        return timer

    @_writing
    def set_alarm(
        self,
        hour: int,
        minute: int,
        *,
        name: str = "",
        days: Iterable[int] = (),
        date: dt.date | None = None,
        owner: str = "local",
        reminder: bool = False,
    ) -> Alarm:
        """Set an alarm in the zone of this place; it is on the disk when this returns.

        Args:
            hour: 0 to 23.
            minute: 0 to 59.
            name: as it was said.
            days: weekdays on which it repeats, Monday 0; none: it rings once.
            date: for that date; None: when the clock shows that time next.
            owner: session or user.
            reminder: the name is what to do when it rings.

        Raises:
            TimerError: too many, no such time, or it has passed.
            StoreError: it could not be stored, so it is not set.
        """
        now = self._now()
        repeats = tuple(sorted(set(days)))
        if not (0 <= hour < 24 and 0 <= minute < 60 and set(repeats) <= set(DAILY)):
            raise TimerError("there is no such time of day")
        alarm = Alarm(
            id=uuid.uuid4().hex,
            name=clean_name(name),
            reminder=reminder,
            owner=owner,
            saved_wall_ns=now.wall_ns,
            due_wall_ns=0,
            hour=hour,
            minute=minute,
            zone=self.zone,
            days=repeats,
            date=date.isoformat() if date else "",
            boot_id=self._clock.boot_id if self._time_known else "",
        )
        alarm = scheduled(alarm, now.wall_ns)
        if alarm.due_wall_ns <= now.wall_ns:
            raise TimerError("that time has passed already")
        self._admit(alarm)
        if not self._time_known:
            self._guessed.add(alarm.id)
        return alarm

    def list(self, owner: str | None = None) -> tuple[Item, ...]:
        """What is set (not what only rings), the next one first."""
        mine = [i for i in self._items.values() if pending(i) and owner in (None, i.owner)]
        return tuple(sorted(mine, key=self._remaining_ns))

    def find(
        self,
        *,
        name: str = "",
        duration_ms: int | None = None,
        time_of_day: tuple[int, int] | None = None,
        kind: Literal["timer", "alarm"] | None = None,
        owner: str | None = None,
    ) -> tuple[Item, ...]:
        """Those that are meant: by name (misheard ones too), duration, time, or all of a kind."""
        found = [
            item
            for item in (*self.list(owner), *self.ringing(owner))
            if kind in (None, "timer" if isinstance(item, Timer) else "alarm")
            and (
                duration_ms is None or (isinstance(item, Timer) and item.duration_ms == duration_ms)
            )
            and (
                time_of_day is None
                or (isinstance(item, Alarm) and (item.hour, item.minute) == time_of_day)
            )
        ]
        unique = list({item.id: item for item in found}.values())
        return tuple(named(unique, name) if name else unique)

    @_writing
    def cancel(self, identities: Iterable[str]) -> tuple[Item, ...]:
        """Take them out for good. What was taken out; those that were not there are ignored.

        Raises:
            StoreError: it could not be stored; nothing was cancelled.
        """
        gone = tuple(self._items[i] for i in identities if i in self._items)
        if gone:
            self._store.delete([item.id for item in gone])
            self._take([item.id for item in gone], ())
        return gone

    def remaining_ms(self, item: Item) -> float:
        """How long until it rings; negative when it has."""
        return self._remaining_ns(self._items.get(item.id, item)) / 1e6

    def wakes(self) -> Wakes:
        """When to look next."""
        if self._ring_again:
            return Wakes(0, 0)
        waiting = [item for item in self._items.values() if pending(item)]
        return Wakes(
            min((i.due_boot_ns for i in waiting if isinstance(i, Timer)), default=None),
            min((i.due_wall_ns for i in waiting if isinstance(i, Alarm)), default=None),
        )

    @_writing
    def due(self) -> tuple[Due, ...]:
        """What rings now, each once; it counts as ringing until acknowledged."""
        now = self._now()
        rings = [
            Due(item, max(0.0, -self._remaining_ns(item) / 1e6), again=True)
            for i in self._ring_again
            if (item := self._items.get(i)) is not None
        ]
        self._ring_again.clear()
        for item in [i for i in self._items.values() if pending(i)]:
            late_ns = -self._remaining_ns(item)
            if late_ns >= 0:
                rings.append(Due(rung(item, now.wall_ns), late_ns / 1e6))
        fresh = [ring.item for ring in rings if not ring.again]
        if fresh:
            self._keep(fresh, now)
        return tuple(rings)

    def ringing(self, owner: str | None = None) -> tuple[Item, ...]:
        """What rang and was not acknowledged."""
        return tuple(i for i in self._items.values() if i.ringing and owner in (None, i.owner))

    @_writing
    def acknowledge(self, identities: Iterable[str] | None = None) -> tuple[Item, ...]:
        """End the ringing of these, or of all. What repeats stays set.

        It ends even when the disk is full; then it rings once more after a restart.
        """
        chosen = set(self._items) if identities is None else set(identities)
        done = tuple(item for item in self.ringing() if item.id in chosen)
        quiet, gone = settled(done)
        self._take(gone, quiet)
        try:
            self._store.replace(gone, *quiet)
        except StoreError as error:
            logger.error("silenced, but not stored: %s", error)
        return done

    @_writing
    def extend(self, identity: str, by_ms: int) -> Timer:
        """Let a timer that runs run longer.

        Args:
            identity: of the timer.
            by_ms: less than nothing: shorter.

        Raises:
            TimerError: no such timer runs, or no sensible duration.
            StoreError: it could not be stored; it goes on as it was.
        """
        item = self._items.get(identity)
        if not isinstance(item, Timer) or item.ringing:
            raise TimerError("no such timer is running")
        longer = extended(item, by_ms)
        self._store.put(longer)
        self._take((), [longer])
        return longer

    @_writing
    def snooze(self, identity: str, duration_ms: int) -> Timer:
        """End the ringing and have it ring again later.

        Raises:
            TimerError: it does not ring, or no sensible duration.
            StoreError: it could not be stored; it goes on ringing.
        """
        item = self._items.get(identity)
        if item is None or not item.ringing:
            raise TimerError("nothing of that kind is ringing")
        boot_id = self._clock.boot_id
        timer = new_timer(
            duration_ms, item.name, item.owner, self._now(), boot_id, reminder=item.reminder
        )
        quiet, gone = settled([item])
        self._store.replace(gone, *quiet, timer)
        self._take(gone, [*quiet, timer])
        return timer

    # --- inside ---

    def _now(self) -> Now:
        """This moment; takes note when the wall clock was set."""
        now = self._clock.now()
        step_ns = now.wall_ns - now.boot_ns - self._offset_ns
        if abs(step_ns) > _STEP_NS:
            self._offset_ns += step_ns
            self._follow(step_ns, now)
        return now

    def _follow(self, step_ns: int, now: Now) -> None:
        """The wall clock was set by ``step_ns``: timers stay, alarms go with it."""
        logger.info("the clock was set by %.1f s", step_ns / 1e9)
        was_known = self._time_known
        self._time_known = was_known or now.wall_ns >= self._seen_wall_ns
        changed: list[Item] = []
        for item in self._items.values():
            if isinstance(item, Timer):
                if not item.unsure:
                    moved = item.due_wall_ns + step_ns
                    changed.append(msgspec.structs.replace(item, due_wall_ns=moved))
                elif self._time_known:
                    changed.append(carried_over(item, now, known=True))
            elif pending(item) and (
                (step_ns < 0 and was_known and item.due_wall_ns > now.wall_ns)
                or (self._time_known and item.id in self._guessed)
            ):
                changed.append(scheduled(item, now.wall_ns))
        if self._time_known:
            self._guessed.clear()
        if changed:
            self._keep(changed, now)

    def _resumed(self, item: Item, now: Now) -> Item:
        """The item as it stands after the time in which nobody looked."""
        same_boot = item.boot_id == self._clock.boot_id
        if isinstance(item, Alarm):
            set_back = same_boot and now.wall_ns < item.saved_wall_ns
            return scheduled(item, now.wall_ns) if set_back and pending(item) else item
        if same_boot and not item.unsure:
            left_ns = item.due_boot_ns - now.boot_ns
            if abs(now.wall_ns + left_ns - item.due_wall_ns) <= _STEP_NS:
                return item
            return msgspec.structs.replace(item, due_wall_ns=now.wall_ns + left_ns)
        if same_boot and not self._time_known:
            return item
        reference = Now(now.boot_ns, max(now.wall_ns, self._seen_wall_ns))
        carried = carried_over(item, reference, known=self._time_known)
        return msgspec.structs.replace(carried, boot_id=self._clock.boot_id)

    def _remaining_ns(self, item: Item) -> int:
        now = self._clock.now()
        if isinstance(item, Timer):
            return item.due_boot_ns - now.boot_ns
        return item.due_wall_ns - now.wall_ns

    def _admit(self, item: Item) -> None:
        if len(self._items) >= MAX_ITEMS:
            raise TimerError("there are too many timers and alarms already: cancel one first")
        self._store.put(item)
        self._take((), [item])

    def _take(self, gone: Iterable[str], changed: Iterable[Item]) -> None:
        """Change what is held, in one step: who reads meanwhile sees it before or after."""
        items = {**self._items, **{item.id: item for item in changed}}
        for identity in gone:
            items.pop(identity, None)
        self._items = items

    def _keep(self, items: Sequence[Item], now: Now) -> None:
        """Store what has changed by itself; it rings all the same when the disk is full."""
        kept = [self._stamped(item, now) for item in items]
        self._take((), kept)
        try:
            self._store.put(*kept)
        except StoreError as error:
            logger.error("timers go on unsaved: %s", error)

    def _stamped(self, item: Item, now: Now) -> Item:
        if not self._time_known:
            return item
        if isinstance(item, Timer):
            return msgspec.structs.replace(item, saved_wall_ns=now.wall_ns)
        return msgspec.structs.replace(item, saved_wall_ns=now.wall_ns, boot_id=self._clock.boot_id)
