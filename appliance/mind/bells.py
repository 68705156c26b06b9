"""Watches the clocks, and has what is due ring until somebody has heard it."""

from __future__ import annotations

import time
from collections.abc import Callable

from appliance.messages import LOCAL_SESSION, Message, Ringing
from appliance.mind.belongings import Belongings
from appliance.mind.clocks import WakeUp
from appliance.mind.errands import Errands, Then
from appliance.mind.skills import rings
from appliance.mind.timer_items import Wakes
from appliance.mind.tools.registry import Language

_RINGS_NS = 10 * 60 * 1_000_000_000
"""Whoever has not come by then is not there."""


class Bells:
    """What rings, and the descriptor that wakes the loop when something is due.

    Args:
        things: the timers.
        errands: a thread that waits for the disk, and for no tool.
        publish: tells everybody.
        language: of what is said.
    """

    def __init__(
        self,
        things: Belongings,
        errands: Errands,
        publish: Callable[[Message], object],
        language: Language,
    ) -> None:
        self._things = things
        self._errands = errands
        self._publish = publish
        self._language = language
        self._wake_up = WakeUp()
        self.descriptor = self._wake_up.descriptor
        """Readable when something is due: then call `step`."""
        self._ringing = Ringing(session_id=LOCAL_SESSION, ids=(), text="")
        self._rang_ns = 0

    def step(self, now_ns: int) -> None:
        """Look where the clocks say so; end what has rung for long enough."""
        if self._wake_up.woken():
            self.look()
        if now_ns - self._rang_ns > _RINGS_NS:
            self.silence()

    def look(self) -> None:
        """Let what is due ring, and know what is next; after a deed too, which may change it."""
        self._wake_up.arm(None, None)
        self._errands.run("due", self._due)

    def silence(self) -> None:
        """End what rings."""
        if self._ringing.ids:
            self._ring((), "")
            self._errands.run("silence", self._acknowledge)

    def repeat(self) -> None:
        """Whoever was not there yet must hear of what rings too."""
        if self._ringing.ids:
            self._publish(self._ringing)

    def close(self) -> None:
        """Close the descriptor."""
        self._wake_up.close()

    def _due(self) -> Then:
        timers = self._things.timers
        text = rings(timers.due(), self._things.now(), self._language)
        ids, wakes = tuple(item.id for item in timers.ringing()), timers.wakes()
        return lambda: self._looked(text, ids, wakes)

    def _looked(self, text: str, ids: tuple[str, ...], wakes: Wakes) -> None:
        if text:
            self._rang_ns = time.monotonic_ns()
        if text or self._ringing.ids:  # else it was silenced since
            self._ring(ids, text)
        self._wake_up.arm(wakes.boot_ns, wakes.wall_ns)

    def _ring(self, ids: tuple[str, ...], text: str) -> None:
        if ids != self._ringing.ids:
            self._ringing = Ringing(session_id=LOCAL_SESSION, ids=ids, text=text)
            self._publish(self._ringing)

    def _acknowledge(self) -> Then:
        self._things.timers.acknowledge()
        return self.look
