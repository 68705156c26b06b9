"""A loudspeaker that is somewhere else: a clock takes its blocks, a ring carries them on."""

from __future__ import annotations

import threading
import time

from appliance.audio.blocks import BLOCK_NS, BLOCK_SAMPLES, RATE_HZ
from appliance.audio.player import PlaybackQueue
from appliance.tts.output import Output

_LEAD_NS = 20_000_000
"""So far ahead of its time a block is given: a packet of 20 ms is complete when it is due."""
_TAIL_BLOCKS = 10
_LATE_NS = 100_000_000
"""A clock that was held up for longer than this does not catch up: it begins anew."""


class RemoteLoudspeaker(Output):
    """Plays at 16 kHz by the system's clock, and only while there is something to play.

    Its times are those at which a listener without any network would hear it.

    Args:
        session_id: whose it is.
    """

    def __init__(self, session_id: str) -> None:
        super().__init__(tail_blocks=_TAIL_BLOCKS)
        self._queue = PlaybackQueue(RATE_HZ, self._fade_ms)
        self._is_playing = False
        self._start_ns = 0
        """When the frame `_continuous_from` is heard."""
        self._wanted = threading.Event()
        self._closed = False
        self._thread = threading.Thread(
            target=self._run, name=f"loudspeaker of {session_id}", daemon=True
        )
        self._thread.start()

    def advance(self, now_ns: int) -> int | None:
        """Give the blocks that are due; the first ones at once.

        Returns:
            When the next one is due, or None when there is nothing to play.
        """
        queue = self._prepared()
        if not self._is_playing or now_ns - self._time_of(queue.frame) > _LATE_NS:
            self._is_playing = True
            self._start_ns, self._continuous_from = now_ns, queue.frame
        while (dac_ns := self._time_of(queue.frame)) - _LEAD_NS <= now_ns:
            block = self._next_block(BLOCK_SAMPLES, dac_ns, self._time_of, now_ns)
            self._is_playing = (
                block is not None
                or self._silent_blocks <= self._tail_blocks
                or bool(self._pending)
                or queue.gain_is_moving
            )
            if not self._is_playing:
                return None
        return dac_ns - _LEAD_NS

    def close(self) -> None:
        """Stop the clock and close the file descriptor. May be called twice."""
        self._closed = True
        self._wanted.set()
        self._thread.join()
        super().close()

    def _changed(self) -> None:
        self._wanted.set()

    def _time_of(self, frame: int) -> int:
        return self._start_ns + (frame - self._continuous_from) * BLOCK_NS // BLOCK_SAMPLES

    def _run(self) -> None:
        while not self._closed:
            self._wanted.clear()
            due_ns = self.advance(time.monotonic_ns())
            if due_ns is None:
                self._wanted.wait()
            else:
                time.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
