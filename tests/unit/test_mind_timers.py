"""Timers and alarms under two clocks of the test's own: nothing lost, nothing rung twice."""

from __future__ import annotations

import datetime as dt
import threading

import pytest
from timers_world import DAY, HOUR, SECOND, World, names

from appliance.mind import timer_items
from appliance.mind.store import StoreFullError
from appliance.mind.timer_items import DAILY, Alarm, TimerError
from appliance.mind.timers import Timers


def test_several_ring_each_at_its_time_and_once() -> None:
    world = World()
    timers = world.timers()
    timers.set_timer(60_000, "pasta")
    timers.set_timer(30_000, "eggs")
    assert timers.wakes().boot_ns == world.boot_ns + 30 * SECOND
    world.wait(30 * SECOND - 1)
    assert timers.due() == ()
    world.wait(1)
    assert names(timers.due()) == ["eggs"]
    assert timers.due() == ()
    world.wait(31 * SECOND)
    (ring,) = timers.due()
    assert (ring.item.name, ring.late_ms, ring.late) == ("pasta", 1000.0, False)
    assert names(timers.due()) == []
    assert len(timers.ringing()) == 2
    assert timers.wakes() == timer_items.Wakes(None, None)


def test_it_is_stored_before_it_is_confirmed() -> None:
    world = World(full=True)
    timers = world.timers()
    with pytest.raises(StoreFullError):
        timers.set_timer(1000)
    with pytest.raises(StoreFullError):
        timers.set_alarm(7, 0)
    assert timers.list() == ()


def test_a_full_disk_stops_neither_ringing_nor_silencing() -> None:
    world = World()
    timers = world.timers()
    item = timers.set_timer(1000)
    world.full = True
    world.wait(SECOND)
    assert len(timers.due()) == 1
    assert timers.acknowledge([item.id])[0].id == item.id
    assert timers.ringing() == ()
    assert timers.due() == ()


def test_it_goes_on_after_a_crash() -> None:
    world = World()
    world.timers().set_timer(60_000, "pasta")
    world.wait(40 * SECOND)
    timers = world.timers()
    assert timers.remaining_ms(timers.list()[0]) == 20_000
    world.wait(20 * SECOND)
    assert names(timers.due()) == ["pasta"]


def test_what_rang_unacknowledged_rings_again_after_a_crash_and_only_then() -> None:
    world = World()
    timers = world.timers()
    timers.set_timer(1000, "tea")
    world.wait(SECOND)
    assert len(timers.due()) == 1
    successor = world.timers()
    assert successor.wakes().boot_ns == 0
    (ring,) = successor.due()
    assert ring.again
    assert successor.due() == ()
    successor.acknowledge()
    assert world.timers().due() == ()
    assert world.rows == {}


def test_finding_by_name_duration_time_and_kind() -> None:
    timers = World().timers()
    pasta = timers.set_timer(600_000, "Pasta")
    tea = timers.set_timer(180_000, "green tea")
    wake = timers.set_alarm(7, 30, name="wake up")
    other = timers.set_timer(180_000, "tea", owner="kitchen")
    assert timers.find(name="pasta") == (pasta,)
    assert timers.find(name="tea", owner="local") == (tea,)
    assert timers.find(name="tea") == (other,), "the exact name comes before one that contains it"
    assert timers.find(name="paster") == (pasta,), "misheard"
    assert timers.find(name="laundry") == ()
    assert set(timers.find(duration_ms=180_000)) == {tea, other}
    assert timers.find(time_of_day=(7, 30)) == (wake,)
    assert timers.find(kind="alarm") == (wake,)
    assert timers.list("kitchen") == (other,)
    assert timers.list()[-1] == wake


def test_cancelled_is_gone_for_good() -> None:
    world = World()
    timers = world.timers()
    item = timers.set_timer(1000)
    assert timers.cancel([item.id, "unknown"]) == (item,)
    world.wait(DAY)
    assert timers.due() == ()
    assert world.timers().list() == ()


def test_snoozed_rings_again_under_its_name() -> None:
    world = World()
    timers = world.timers()
    alarm = timers.set_alarm(10, 30, name="wake", days=DAILY)
    world.wait(HOUR // 2)
    timers.due()
    timers.snooze(alarm.id, 540_000)
    assert timers.ringing() == ()
    world.wait(540 * SECOND)
    assert names(timers.due()) == ["wake"]
    assert [type(item) for item in timers.list()] == [Alarm]
    with pytest.raises(TimerError):
        timers.snooze(alarm.id, 540_000)


def test_what_cannot_be_set_says_so() -> None:
    timers = World().timers()
    for duration_ms in (0, -5, 10**15):
        with pytest.raises(TimerError):
            timers.set_timer(duration_ms)
    with pytest.raises(TimerError):
        timers.set_alarm(25, 0)
    with pytest.raises(TimerError):
        timers.set_alarm(9, 0, date=dt.date(2026, 11, 23))
    with pytest.raises(TimerError, match="no time zone"):
        Timers(World(), World(), "Mars/Olympus")
    for _ in range(timer_items.MAX_ITEMS):
        timers.set_timer(1000)
    with pytest.raises(TimerError, match="already"):
        timers.set_timer(1000)


def test_names_are_cleaned_and_bounded() -> None:
    item = World().timers().set_timer(1000, "a\nb\x00c" + "x" * 100_000)
    assert item.name.startswith("a b c")
    assert len(item.name) == timer_items.MAX_NAME_LENGTH


def test_looking_writes_nothing() -> None:
    world = World()
    timers = world.timers()
    timers.set_timer(600_000)
    before = world.writes
    for _ in range(20):
        world.wait(SECOND)
        timers.due()
        timers.list()
        timers.wakes()
    assert world.writes == before


def test_whoever_asks_does_not_wait_for_the_disk() -> None:
    world = World()
    timers = world.timers()
    tea = timers.set_timer(600_000, "tea")
    alarm = timers.set_alarm(11, 0)
    writing, go_on = threading.Event(), threading.Event()
    seen: list[object] = []

    def ask() -> None:
        seen.append(timers.list())
        seen.append(timers.find(name="tea"))
        seen.append(timers.remaining_ms(tea))
        seen.append(timers.ringing())
        seen.append(timers.wakes())

    def write() -> None:
        writing.set()
        go_on.wait(20)

    world.on_write = write
    setter = threading.Thread(target=timers.set_timer, args=(60_000, "egg"))
    asker = threading.Thread(target=ask, daemon=True)
    setter.start()
    try:
        assert writing.wait(20)
        asker.start()
        asker.join(20)
        wakes = timer_items.Wakes(tea.due_boot_ns, alarm.due_wall_ns)
        assert seen == [(tea, alarm), (tea,), 600_000.0, (), wakes], "not before it is stored"
    finally:
        go_on.set()
        setter.join(20)
    assert [item.name for item in timers.list()] == ["egg", "tea", ""]
