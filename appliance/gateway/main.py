"""The gateway process: browsers as microphones and loudspeakers."""

from __future__ import annotations

import time

from appliance.config import Config
from appliance.ipc.bus import Bus
from appliance.messages import Refused, Sessions

TOPICS: tuple[str, ...] = ()
_TELL_NS = 1_000_000_000


def main(config: Config, bus: Bus) -> None:
    """Run until the bus says stop."""
    bus.ready()
    told_ns = 0
    while bus.running:
        bus.receive()
        now_ns = time.monotonic_ns()
        if now_ns - told_ns >= _TELL_NS:
            told_ns = now_ns
            bus.publish(Sessions())
        for client, _ in bus.requests():
            bus.reply(client, Refused(reason="browsers cannot be connected yet"))
