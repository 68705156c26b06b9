"""What every loudspeaker has in common: utterances in, blocks out, and what became of them when."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from appliance.audio.blocks import Samples
from appliance.audio.player import PlaybackEvent, PlaybackEventKind, PlaybackQueue
from appliance.audio.resample import StreamResampler
from appliance.tts.chime import Chime

_REFERENCE_BLOCKS = 500
TAIL_BLOCKS = 50
"""Silent blocks that still belong to the reference after the last audible one."""


@dataclass(frozen=True)
class PlaybackReport:
    """Something that has happened to an utterance, at the loudspeaker."""

    kind: PlaybackEventKind
    utterance_id: str
    dac_ns: int
    """When that sample was at the digital-to-analogue converter, CLOCK_MONOTONIC."""
    played_ms: float
    """How much of the utterance was played up to then."""


@dataclass(frozen=True)
class PlayedBlock:
    """What was handed to the device, after gain and fades: it will be heard."""

    first_frame: int
    """Counts since the stream was opened or last ran dry; blocks that were left out were silent."""
    dac_ns: int
    """When the first sample is at the converter, CLOCK_MONOTONIC (shortly after now)."""
    samples: Samples
    """Shape (n,), mono at the device's rate."""
    started: tuple[tuple[int, str], ...] = ()
    """(frame, utterance) of each first audible sample in it."""


@dataclass
class OutputStatistics:
    """Counts since the output was made."""

    device_underflows: int = 0
    """Times that the device had nothing to play because the callback came too late."""
    dropped_reference_blocks: int = 0
    """Played blocks that nobody fetched in time."""


class Output:
    """Plays utterances one after the other; whoever drives it asks for one block after the other.

    Any thread may enqueue (one per utterance), flush or ramp; one owner waits on `fileno` and then
    calls `reports` and `played`.

    Args:
        fade_ms: length of the fades at starts, ends and underflows.
        reference: whether `played` is wanted.
        tail_blocks: silent blocks after the last audible one that `played` still gives.
    """

    def __init__(
        self, *, fade_ms: float = 5.0, reference: bool = True, tail_blocks: int = TAIL_BLOCKS
    ) -> None:
        self.statistics = OutputStatistics()
        self._fade_ms = fade_ms
        self._lock = threading.Lock()
        self._queue: PlaybackQueue | None = None
        self._chime: Chime | None = None
        self._resamplers: dict[str, StreamResampler] = {}
        self._pending: deque[tuple[int, PlaybackEvent]] = deque()
        self._reports: deque[PlaybackReport] = deque()
        self._played: deque[PlayedBlock] | None = (
            deque(maxlen=_REFERENCE_BLOCKS) if reference else None
        )
        self._tail_blocks = self._silent_blocks = tail_blocks
        self._continuous_from = 0
        """Frame of the queue at which the stream of blocks began, or began again."""
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    @property
    def rate_hz(self) -> int:
        """Rate at which it plays and at which the reference is given."""
        return self._prepared().rate_hz

    @property
    def is_open(self) -> bool:
        """Whether something can be heard."""
        return self._queue is not None

    def progress_ms(self, utterance_id: str) -> tuple[float, float]:
        """How much of an utterance was handed to the device, and how much waits."""
        queue = self._prepared()
        with self._lock:
            played, waiting = queue.progress(utterance_id)
        return 1000 * played / queue.rate_hz, 1000 * waiting / queue.rate_hz

    @property
    def underflows(self) -> int:
        """Times that an utterance ran out of audio before its end."""
        return self._queue.underflows if self._queue is not None else 0

    def fileno(self) -> int:
        """A file descriptor that is readable while `reports` or `played` have something."""
        return self._event

    def enqueue(self, utterance_id: str, samples: Samples, rate_hz: int) -> bool:
        """Append audio to an utterance.

        Args:
            utterance_id: utterances play one after the other, in the order of their first audio.
            samples: shape (n,) within ±1; must not be changed afterwards.
            rate_hz: rate of `samples`, the same for the whole utterance.

        Returns:
            False if the utterance was flushed or finished before.
        """
        if utterance_id not in self._resamplers:
            self._resamplers[utterance_id] = StreamResampler(rate_hz, self.rate_hz)
        resampled = self._resamplers[utterance_id].push(samples)
        with self._changing() as queue:
            accepted = queue.enqueue(utterance_id, resampled)
        if not accepted:
            self._resamplers.pop(utterance_id, None)
        return accepted

    def hold(self, utterance_id: str) -> None:
        """Collect an utterance's audio, but play nothing of it before `release`."""
        with self._changing() as queue:
            queue.hold(utterance_id)

    def release(self, utterance_id: str) -> None:
        """Let a held utterance play: from the next device buffer on, if nothing else plays."""
        with self._changing() as queue:
            queue.release(utterance_id)

    def finish(self, utterance_id: str) -> None:
        """No more audio of the utterance comes: when it is played, it has drained."""
        resampler = self._resamplers.pop(utterance_id, None)
        rest = resampler.push(np.zeros(0, np.float32), last=True) if resampler else None
        with self._changing() as queue:
            if rest is not None and len(rest):
                queue.enqueue(utterance_id, rest)
            queue.finish(utterance_id)

    def pause(self, utterance_id: str) -> None:
        """Fade an utterance out and keep its rest; see `resume`."""
        with self._changing() as queue:
            queue.pause(utterance_id)

    def resume(self, utterance_id: str) -> None:
        """Let a paused utterance go on where it was."""
        with self._changing() as queue:
            queue.resume(utterance_id)

    def flush(self, utterance_id: str, fade_ms: float = 5.0) -> float:
        """Fade an utterance out at once and drop the rest of it, also what still comes.

        What the device already holds (`block_ms` × 3) is heard before the fade.

        Returns:
            How much of the utterance will have been played in the end, in milliseconds.
        """
        self._resamplers.pop(utterance_id, None)
        with self._changing() as queue:
            return 1000 * queue.flush(utterance_id, fade_ms) / queue.rate_hz

    def ramp_gain(self, gain_db: float, ramp_ms: float = 30.0) -> None:
        """Move the level of everything to `gain_db` (0 or less) without a click."""
        with self._changing() as queue:
            queue.ramp_gain(_amplitude(gain_db), ramp_ms)

    def ring(self, gain_db: float) -> None:
        """Play the alarm's chime over everything, anew if it rings already; see `Chime`."""
        with self._changing() as queue:
            if self._chime is None or self._chime.rate_hz != queue.rate_hz:
                self._chime = Chime(queue.rate_hz)
            self._chime.start(_amplitude(gain_db))

    def ramp_chime(self, gain_db: float) -> None:
        """Move the level of the chime, if it rings, to `gain_db` (0 or less)."""
        with self._changing():
            if self._chime is not None:
                self._chime.ramp(_amplitude(gain_db))

    def stop_ringing(self) -> None:
        """Silence the chime within some 15 ms and what the device already holds."""
        with self._changing():
            if self._chime is not None:
                self._chime.stop()

    def reports(self) -> list[PlaybackReport]:
        """What has been heard since the last call; an event appears once its time has passed.

        Call it when `fileno` is readable.
        """
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._event)
        return [self._reports.popleft() for _ in range(len(self._reports))]

    def played(self) -> list[PlayedBlock]:
        """The far-end reference since the last call, ahead of the air; long silence left out."""
        if self._played is None:
            return []
        return [self._played.popleft() for _ in range(len(self._played))]

    def close(self) -> None:
        """Close the file descriptor. May be called twice."""
        if self._event >= 0:
            os.close(self._event)
            self._event = -1

    def _prepared(self) -> PlaybackQueue:
        if self._queue is None:
            raise RuntimeError("prepare() or start() was not called")
        return self._queue

    @contextlib.contextmanager
    def _changing(self) -> Iterator[PlaybackQueue]:
        queue = self._prepared()
        with self._lock:
            yield queue
        self._changed()

    def _changed(self) -> None:
        """There may be something to play now."""

    def _next_block(
        self, frames: int, dac_ns: int, time_of: Callable[[int], int], now_ns: int
    ) -> Samples | None:
        """The next block, accounted for: shape (frames,), or None for silence.

        Args:
            frames: its length.
            dac_ns: when its first sample is heard.
            time_of: when a frame of the queue is heard.
            now_ns: CLOCK_MONOTONIC.
        """
        queue = self._prepared()
        first_frame = queue.frame
        with self._lock:
            block = queue.render(frames)
            events = queue.take_events()
            if self._chime is not None:
                block = self._chime.mix(block, frames)
        if events:
            self._pending.extend((time_of(event.frame), event) for event in events)
        self._report_past(now_ns)
        self._publish(first_frame, dac_ns, block, frames, events)
        return block

    def _report_past(self, now_ns: int) -> None:
        while self._pending and self._pending[0][0] <= now_ns:
            dac_ns, event = self._pending.popleft()
            played_ms = 1000 * event.played_samples / self._prepared().rate_hz
            self._reports.append(PlaybackReport(event.kind, event.utterance_id, dac_ns, played_ms))
            os.eventfd_write(self._event, 1)

    def _publish(
        self,
        first_frame: int,
        dac_ns: int,
        block: Samples | None,
        frames: int,
        events: list[PlaybackEvent],
    ) -> None:
        if self._played is None:
            return
        self._silent_blocks = 0 if block is not None else self._silent_blocks + 1
        if self._silent_blocks > self._tail_blocks:
            return
        if len(self._played) == _REFERENCE_BLOCKS:
            self.statistics.dropped_reference_blocks += 1
        samples = np.zeros(frames, np.float32) if block is None else block
        started = tuple(
            (event.frame - self._continuous_from, event.utterance_id)
            for event in events
            if event.kind is PlaybackEventKind.STARTED
        )
        first_frame -= self._continuous_from
        self._played.append(PlayedBlock(first_frame, dac_ns, samples, started))
        os.eventfd_write(self._event, 1)


def _amplitude(gain_db: float) -> float:
    return float(10 ** (min(gain_db, 0.0) / 20))
