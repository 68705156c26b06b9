"""The mind process: understands, remembers and does what needs no language model."""

from __future__ import annotations

from appliance.config import Config
from appliance.ipc.bus import Bus
from appliance.messages import Commit, Consider

TOPICS = (Consider.topic, Commit.topic)


def main(config: Config, bus: Bus) -> None:
    """Run until the bus says stop."""
    bus.ready()
    while bus.running:
        bus.receive()
