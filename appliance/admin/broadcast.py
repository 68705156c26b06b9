"""From the bus loop to many browsers: bounded, latest wins, and nobody waits for anybody.

A topic has one slot, per watcher and on the way to the web server's loop. A newer update takes the
place of one that was not collected: a slow browser misses updates, and costs nobody anything.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator


class Watcher:
    """One browser's slots. Lives in the web server's loop."""

    def __init__(self, *, words: bool) -> None:
        self.words = words
        self.replaced = 0
        """Updates that a newer one overtook."""
        self._slots: dict[str, bytes] = {}
        self._news = asyncio.Event()
        self._closed = False

    def offer(self, topic: str, payload: bytes) -> None:
        """Leave an update; takes the place of an older one."""
        if topic in self._slots:
            self.replaced += 1
        self._slots[topic] = payload
        self._news.set()

    def close(self) -> None:
        """End ``updates``."""
        self._closed = True
        self._news.set()

    async def updates(self, idle_s: float) -> AsyncIterator[dict[str, bytes]]:
        """What is new, by topic; empty after ``idle_s`` without news. Ends when closed."""
        while not self._closed:
            try:
                await asyncio.wait_for(self._news.wait(), idle_s)
            except asyncio.TimeoutError:
                yield {}
                continue
            self._news.clear()
            slots, self._slots = self._slots, {}
            if slots:
                yield slots


class Broadcaster:
    """All watchers. ``publish`` is for the bus loop, everything else for the web server's."""

    def __init__(self) -> None:
        self._watchers: set[Watcher] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._pending: dict[str, tuple[bytes, bool]] = {}
        self.replaced = 0
        """Updates that slow watchers who have gone by now did not get."""

    def __len__(self) -> int:
        return len(self._watchers)

    @property
    def watched(self) -> bool:
        """Whether anybody watches; without, the bus loop need not even make an update."""
        return bool(self._watchers)

    def watch(self, *, words: bool) -> Watcher:
        """A new watcher, to be given back to ``leave``."""
        self._loop = asyncio.get_running_loop()
        watcher = Watcher(words=words)
        self._watchers = self._watchers | {watcher}  # the bus loop may be looking at the old set
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """Forget a watcher."""
        self._watchers = self._watchers - {watcher}
        self.replaced += watcher.replaced

    def end(self) -> None:
        """End every watcher's updates; from any thread."""
        loop = self._loop
        for watcher in self._watchers:
            if loop is not None and not loop.is_closed():
                loop.call_soon_threadsafe(watcher.close)

    def publish(self, topic: str, payload: bytes, *, words: bool = False) -> None:
        """Send to all watchers; from any thread, never waits.

        Args:
            topic: a newer update of a topic replaces one that is still on its way.
            payload: JSON.
            words: only for watchers who may read what was said.
        """
        loop = self._loop
        if loop is None or not self._watchers:
            return
        with self._lock:
            scheduled = bool(self._pending)
            self._pending[topic] = (payload, words)
        if not scheduled and not loop.is_closed():
            loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        with self._lock:
            pending, self._pending = self._pending, {}
        for watcher in self._watchers:
            for topic, (payload, words) in pending.items():
                if watcher.words or not words:
                    watcher.offer(topic, payload)
