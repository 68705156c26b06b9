"""A process with timers in a store, to be killed by the tests: says what it set and what rang."""

import select
import sys
import time
from pathlib import Path

from appliance.mind.clocks import SystemClock, WakeUp
from appliance.mind.store import Database, Table
from appliance.mind.timer_items import DECODER
from appliance.mind.timers import Timers


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def main() -> None:
    folder, durations_ms = Path(sys.argv[1]), sys.argv[2:]
    timers = Timers(Table(Database(folder), "timers", DECODER), SystemClock(), "Europe/Berlin")
    wake_up = WakeUp()
    for number, duration_ms in enumerate(durations_ms):
        timer = timers.set_timer(int(duration_ms), str(number))
        say("set", timer.name, timer.due_boot_ns)
    while timers.list():
        wakes = timers.wakes()
        wake_up.arm(wakes.boot_ns, wakes.wall_ns)
        select.select([wake_up.descriptor], [], [])
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        for ring in timers.due():
            say("rang", ring.item.name, now_ns)
            timers.acknowledge([ring.item.id])
    wake_up.close()


if __name__ == "__main__":
    main()
