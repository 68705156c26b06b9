"""Timers and alarms when the clocks jump: reboots, a clock set back, summer time."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from timers_world import BERLIN, DAY, HOUR, MONDAY_TEN, SECOND, YEAR, World, names, wall

from appliance.mind import timer_items
from appliance.mind.timer_items import DAILY, WORKDAYS, Timer


def test_a_reboot_is_bridged_by_the_wall_clock() -> None:
    world = World()
    world.timers().set_timer(3_600_000, "roast")
    world.wait(600 * SECOND)
    world.reboot(off_ns=300 * SECOND)
    timers = world.timers()
    assert timers.remaining_ms(timers.list()[0]) == pytest.approx(2_700_000)
    world.wait(2700 * SECOND)
    assert names(timers.due()) == ["roast"]


def test_what_fell_due_while_off_rings_at_once_and_late() -> None:
    world = World()
    first = world.timers()
    first.set_timer(60_000, "tea")
    first.set_alarm(10, 5, name="call")
    world.reboot(off_ns=2 * HOUR)
    rings = world.timers().due()
    assert sorted(names(rings)) == ["call", "tea"]
    assert all(ring.late for ring in rings)


def test_a_machine_that_comes_up_in_1970_loses_nothing_and_invents_nothing() -> None:
    world = World()
    first = world.timers()
    first.set_timer(3_600_000, "roast")
    first.set_alarm(7, 0, name="wake", days=DAILY)
    off_until = MONDAY_TEN + 1800 * SECOND
    world.reboot(off_ns=0, wall_ns=10 * SECOND)
    timers = world.timers()
    assert timers.due() == ()
    world.wait(60 * SECOND)
    assert timers.due() == ()
    restarted = world.timers()  # and crashes meanwhile
    assert restarted.due() == ()
    world.wall_ns = off_until
    assert restarted.due() == ()
    roast = restarted.find(name="roast")[0]
    assert restarted.remaining_ms(roast) == pytest.approx(1_800_000)
    assert restarted.wakes().wall_ns == wall(2026, 11, 24, 7)


@pytest.mark.parametrize("step_ns", [-YEAR, -HOUR, -SECOND, SECOND, HOUR, YEAR])
def test_setting_the_clock_does_not_touch_timers(step_ns: int) -> None:
    world = World()
    timers = world.timers()
    timers.set_timer(60_000, "pasta")
    world.wait(20 * SECOND)
    world.wall_ns += step_ns
    assert timers.due() == ()
    assert timers.remaining_ms(timers.list()[0]) == 40_000
    successor = world.timers()
    world.wait(40 * SECOND)
    assert names(successor.due()) == ["pasta"]
    assert successor.due() == ()


def test_setting_the_clock_before_a_reboot_does_not_touch_timers() -> None:
    world = World()
    timers = world.timers()
    timers.set_timer(3_600_000)
    world.wall_ns -= YEAR
    timers.due()
    world.reboot(off_ns=60 * SECOND)
    after = world.timers()
    assert after.remaining_ms(after.list()[0]) == pytest.approx(3_540_000)


def test_alarms_follow_a_clock_that_is_set_back_a_year() -> None:
    world = World()
    timers = world.timers()
    timers.set_alarm(7, 0, name="wake", days=DAILY)
    timers.set_alarm(8, 0, name="once")
    world.wall_ns = wall(2025, 11, 23, 10)
    timers.due()
    assert timers.wakes().wall_ns == wall(2025, 11, 24, 7)
    world.wait(21 * HOUR)
    assert names(timers.due()) == ["wake"]
    world.wait(HOUR)
    assert names(timers.due()) == ["once"]


def test_alarms_follow_a_clock_that_is_set_back_while_nobody_looks() -> None:
    world = World()
    world.timers().set_alarm(7, 0, days=DAILY)
    world.wall_ns -= YEAR
    assert world.timers().wakes().wall_ns == wall(2025, 11, 24, 7)


def test_a_clock_set_forward_a_year_rings_what_it_jumped_over_once() -> None:
    world = World()
    timers = world.timers()
    timers.set_alarm(7, 0, days=DAILY)
    world.wall_ns = wall(2027, 11, 23, 10)
    (ring,) = timers.due()
    assert ring.late
    assert timers.due() == ()
    assert timers.wakes().wall_ns == wall(2027, 11, 24, 7)


def test_an_alarm_does_not_ring_twice_when_the_clock_is_set_back_after_it() -> None:
    world = World()
    timers = world.timers()
    timers.set_alarm(10, 30, days=DAILY)
    world.wait(HOUR // 2)
    assert len(timers.due()) == 1
    world.wall_ns -= HOUR // 2
    assert timers.due() == ()
    world.wait(HOUR // 2)
    assert timers.due() == ()
    world.wait(DAY)
    assert len(timers.due()) == 1


def test_what_repeats_stays_after_it_is_acknowledged_and_what_does_not_goes() -> None:
    world = World()
    timers = world.timers()
    timers.set_alarm(10, 30, name="pills", days=WORKDAYS)
    timers.set_alarm(10, 30, name="once")
    world.wait(HOUR)
    assert sorted(names(timers.due())) == ["once", "pills"]
    timers.acknowledge()
    assert [item.name for item in timers.list()] == ["pills"]
    assert [item.name for item in world.timers().list()] == ["pills"]
    assert timers.wakes().wall_ns == wall(2026, 11, 24, 10, 30)


def test_workdays_leave_the_weekend_out() -> None:
    friday = wall(2026, 11, 27, 8)
    assert timer_items.next_time(friday, (7, 0), BERLIN, days=WORKDAYS) == wall(2026, 11, 30, 7)


@pytest.mark.parametrize(
    ("after", "time_of_day", "expected"),
    [
        pytest.param(wall(2026, 3, 28, 12), (2, 30), wall(2026, 3, 29, 3, 30), id="left out"),
        pytest.param(
            wall(2026, 10, 24, 12), (2, 30), wall(2026, 10, 25, 0, 30, "UTC"), id="shown twice"
        ),
        pytest.param(wall(2026, 3, 28, 12), (7, 0), wall(2026, 3, 29, 5, 0, "UTC"), id="summer"),
        pytest.param(wall(2026, 10, 24, 12), (7, 0), wall(2026, 10, 25, 6, 0, "UTC"), id="winter"),
    ],
)
def test_the_change_to_and_from_summer_time(
    after: int, time_of_day: tuple[int, int], expected: int
) -> None:
    assert timer_items.next_time(after, time_of_day, BERLIN) == expected


def test_the_hour_that_comes_twice_rings_once() -> None:
    world = World(wall_ns=wall(2026, 10, 25, 0, 0))
    timers = world.timers()
    timers.set_alarm(2, 30, days=DAILY)
    rang = 0
    for _ in range(6 * 60):
        world.wait(60 * SECOND)
        rang += len(timers.due())
        timers.acknowledge()
    assert rang == 1


@settings(max_examples=60, deadline=None)
@given(
    start=st.integers(wall(1971, 1, 1), wall(2150, 1, 1)),
    hour=st.integers(0, 23),
    minute=st.integers(0, 59),
    zone=st.sampled_from(
        [BERLIN, "America/New_York", "Asia/Shanghai", "Australia/Lord_Howe", "UTC"]
    ),
    days=st.sets(st.integers(0, 6)),
)
def test_the_next_time_is_the_next_and_shows_that_time(
    start: int, hour: int, minute: int, zone: str, days: set[int]
) -> None:
    at = timer_items.next_time(start, (hour, minute), zone, days=days)
    place = ZoneInfo(zone)
    local = dt.datetime.fromtimestamp(at // SECOND, place)
    shown = dt.datetime.combine(local.date(), dt.time(hour, minute), place)
    exists = dt.datetime.fromtimestamp(shown.timestamp(), place).time() == dt.time(hour, minute)
    assert start < at < start + 9 * DAY
    assert not days or local.weekday() in days
    assert (local.hour, local.minute) == (hour, minute) or not exists or local.fold


@settings(max_examples=80, deadline=None)
@given(
    durations=st.lists(st.integers(1, 7_200_000), min_size=1, max_size=8),
    events=st.lists(
        st.tuples(st.sampled_from(["wait", "crash", "reboot", "set"]), st.integers(-YEAR, YEAR)),
        max_size=12,
    ),
)
def test_no_timer_is_lost_or_rings_twice_whatever_happens(
    durations: list[int], events: list[tuple[str, int]]
) -> None:
    """Waits, crashes, reboots of up to an hour, clocks set: each rings once, none too early."""
    world = World()
    timers = world.timers()
    elapsed_ns = 0
    for number, duration_ms in enumerate(durations):
        timers.set_timer(duration_ms, str(number))
    rang: dict[str, int] = {}

    def look() -> None:
        for ring in timers.due():
            assert isinstance(ring.item, Timer)
            assert ring.item.name not in rang
            rang[ring.item.name] = elapsed_ns
            timers.acknowledge([ring.item.id])

    for event, amount in events:
        span = abs(amount) % HOUR
        if event == "wait":
            world.wait(span)
            elapsed_ns += span
        elif event == "crash":
            timers = world.timers()
        elif event == "reboot":
            elapsed_ns += span
            world.reboot(off_ns=span)
            timers = world.timers()
        else:
            world.wall_ns = max(world.wall_ns + amount, wall(2000, 1, 1))
        look()
    world.wait(3 * HOUR)
    elapsed_ns += 3 * HOUR
    look()
    assert set(rang) == {str(n) for n in range(len(durations))}
    unseen_ns = 20_000_000 * len(events)  # smaller steps of the clock are not looked at
    assert all(rang[str(n)] >= d * 1_000_000 - unseen_ns for n, d in enumerate(durations))
