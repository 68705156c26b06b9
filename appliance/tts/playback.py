"""The loudspeaker: an output stream that never closes, and what it really played, and when."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyaudio

from appliance.audio.blocks import BLOCK_MS, Samples
from appliance.audio.clock import SampleClock
from appliance.audio.devices import AudioDevice
from appliance.audio.player import PlaybackEvent, PlaybackEventKind, PlaybackQueue
from appliance.audio.resample import StreamResampler
from appliance.audio.stream import DeviceStream

_CLOCK_GAIN = 0.02
_STEP_NS, _STEP_BLOCKS = 20_000_000, 8
"""Playback that is so far off for so many blocks has stood still unnoticed."""
_REFERENCE_BLOCKS = 500
_TAIL_BLOCKS = 50
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
class LoudspeakerStatistics:
    """Counts since the loudspeaker object was made."""

    device_underflows: int = 0
    """Times that the device had nothing to play because the callback came too late."""
    dropped_reference_blocks: int = 0
    """Played blocks that nobody fetched in time."""


class Loudspeaker:
    """Plays utterances through a PortAudio callback that stays open and plays silence between.

    Any thread may enqueue (one per utterance), flush or ramp; one owner waits on `fileno` and then
    calls `reports` and `played`.

    Args:
        selector: see `appliance.audio.devices.select_device`.
        rate_hz: device rate, or None for the best one (see `choose_rate`).
        block_ms: length of a device buffer; three of them lie between the queue and the air.
        fade_ms: length of the fades at starts, ends and underflows.
        hidden_delay_ms: delay behind the device that PortAudio does not know of (an amplifier, a
            Bluetooth link), added to every time.
        reference: whether `played` is wanted.
    """

    def __init__(
        self,
        selector: str = "auto",
        *,
        rate_hz: int | None = None,
        block_ms: int = BLOCK_MS,
        fade_ms: float = 5.0,
        hidden_delay_ms: float = 0.0,
        reference: bool = True,
    ) -> None:
        self.statistics = LoudspeakerStatistics()
        self._fade_ms = fade_ms
        self._hidden_delay_ns = round(hidden_delay_ms * 1e6)
        self._lock = threading.Lock()
        self._queue: PlaybackQueue | None = None
        self._resamplers: dict[str, StreamResampler] = {}
        self._clock: SampleClock | None = None
        self._pending: deque[tuple[int, PlaybackEvent]] = deque()
        self._reports: deque[PlaybackReport] = deque()
        self._played: deque[PlayedBlock] | None = (
            deque(maxlen=_REFERENCE_BLOCKS) if reference else None
        )
        self._silent_blocks = _TAIL_BLOCKS
        self._continuous_from = 0
        """Frame of the queue at which the device's stream began, or began again."""
        self._last_dac_ns = 0
        self._silence = b""
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stream = DeviceStream(
            "output",
            selector,
            channels=1,
            rate_hz=rate_hz,
            block_ms=block_ms,
            callback=self._on_block,
        )

    @property
    def device(self) -> AudioDevice:
        """The device found by `prepare`."""
        return self._stream.device

    @property
    def rate_hz(self) -> int:
        """The device's rate, at which the reference is given; known after `prepare`."""
        return self._stream.rate_hz

    @property
    def is_open(self) -> bool:
        """Whether something can be heard."""
        return self._stream.is_open

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

    def prepare(self) -> AudioDevice:
        """Initialise PortAudio and find the device, without opening it; see `DeviceStream`."""
        device = self._stream.prepare()
        if self._queue is None or self._queue.rate_hz != self._stream.rate_hz:
            self._queue = PlaybackQueue(self._stream.rate_hz, self._fade_ms)
        return device

    def start(self) -> None:
        """Open the device; from now on it plays silence or what is enqueued.

        Raises:
            ApplianceError: there is no such device or it cannot be opened so.
        """
        self.prepare()
        self._clock = SampleClock(self.rate_hz, _CLOCK_GAIN, _CLOCK_GAIN, _STEP_NS, _STEP_BLOCKS)
        self._continuous_from = self._prepared().frame
        self._stream.start()

    def enqueue(self, utterance_id: str, samples: Samples, rate_hz: int) -> bool:
        """Append audio to an utterance.

        Args:
            utterance_id: utterances play one after the other, in the order of their first audio.
            samples: shape (n,) within ±1; must not be changed afterwards.
            rate_hz: rate of `samples`, the same for the whole utterance.

        Returns:
            False if the utterance was flushed or finished before.
        """
        queue = self._prepared()
        if utterance_id not in self._resamplers:
            self._resamplers[utterance_id] = StreamResampler(rate_hz, queue.rate_hz)
        resampled = self._resamplers[utterance_id].push(samples)
        with self._lock:
            accepted = queue.enqueue(utterance_id, resampled)
        if not accepted:
            self._resamplers.pop(utterance_id, None)
        return accepted

    def hold(self, utterance_id: str) -> None:
        """Collect an utterance's audio, but play nothing of it before `release`."""
        queue = self._prepared()
        with self._lock:
            queue.hold(utterance_id)

    def release(self, utterance_id: str) -> None:
        """Let a held utterance play: from the next device buffer on, if nothing else plays."""
        queue = self._prepared()
        with self._lock:
            queue.release(utterance_id)

    def finish(self, utterance_id: str) -> None:
        """No more audio of the utterance comes: when it is played, it has drained."""
        queue = self._prepared()
        resampler = self._resamplers.pop(utterance_id, None)
        rest = resampler.push(np.zeros(0, np.float32), last=True) if resampler else None
        with self._lock:
            if rest is not None and len(rest):
                queue.enqueue(utterance_id, rest)
            queue.finish(utterance_id)

    def pause(self, utterance_id: str) -> None:
        """Fade an utterance out and keep its rest; see `resume`."""
        queue = self._prepared()
        with self._lock:
            queue.pause(utterance_id)

    def resume(self, utterance_id: str) -> None:
        """Let a paused utterance go on where it was."""
        queue = self._prepared()
        with self._lock:
            queue.resume(utterance_id)

    def flush(self, utterance_id: str, fade_ms: float = 5.0) -> float:
        """Fade an utterance out at once and drop the rest of it, also what still comes.

        What the device already holds (`block_ms` × 3) is heard before the fade.

        Returns:
            How much of the utterance will have been played in the end, in milliseconds.
        """
        queue = self._prepared()
        self._resamplers.pop(utterance_id, None)
        with self._lock:
            return 1000 * queue.flush(utterance_id, fade_ms) / queue.rate_hz

    def ramp_gain(self, gain_db: float, ramp_ms: float = 30.0) -> None:
        """Move the level of everything to `gain_db` (0 or less) without a click."""
        queue = self._prepared()
        with self._lock:
            queue.ramp_gain(10 ** (min(gain_db, 0.0) / 20), ramp_ms)

    def reports(self) -> list[PlaybackReport]:
        """What has been heard since the last call; an event appears once its time has passed.

        Call it when `fileno` is readable and at least every 500 ms.

        Raises:
            DeviceLost: the device stopped taking audio. What waits is kept; go on with
                `reopen_if_due`.
        """
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._event)
        reports = [self._reports.popleft() for _ in range(len(self._reports))]
        if not reports:
            self._stream.check()
        return reports

    def played(self) -> list[PlayedBlock]:
        """The far-end reference since the last call, ahead of the air.

        Silence longer than 0.5 s is left out.
        """
        if self._played is None:
            return []
        return [self._played.popleft() for _ in range(len(self._played))]

    def reopen_if_due(self) -> bool:
        """After `DeviceLost`: try to take up the device again and go on; see `DeviceStream`."""
        if self._stream.is_open:
            return True
        if self._clock is not None:
            self._clock.reset()
            self._continuous_from = self._prepared().frame
        return self._stream.reopen_if_due()

    def close(self) -> None:
        """Close the device and the file descriptor. May be called twice."""
        self._stream.close()
        if self._event >= 0:
            os.close(self._event)
            self._event = -1

    def _prepared(self) -> PlaybackQueue:
        if self._queue is None:
            raise RuntimeError("prepare() or start() was not called")
        return self._queue

    def _on_block(
        self, _data: bytes | None, frames: int, times: Mapping[str, float], status: int
    ) -> bytes:
        now_ns = time.monotonic_ns()
        queue, clock = self._queue, self._clock
        if queue is None or clock is None:
            return bytes(4 * frames * self._stream.channels)
        if status & pyaudio.paOutputUnderflow:
            self.statistics.device_underflows += 1
            clock.reset()
            self._continuous_from = queue.frame
        delay_ns = round((times["output_buffer_dac_time"] - times["current_time"]) * 1e9)
        first_frame = queue.frame
        dac_ns = clock.observe(first_frame, now_ns + delay_ns + self._hidden_delay_ns)
        block_ns = frames * 1_000_000_000 // self._stream.rate_hz
        if abs(dac_ns - self._last_dac_ns - block_ns) > _STEP_NS // 2:
            self._continuous_from = first_frame
        self._last_dac_ns = dac_ns
        with self._lock:
            block = queue.render(frames)
            events = queue.take_events()
        self._pending.extend((clock.time_of(event.frame), event) for event in events)
        self._report_past(now_ns)
        self._publish(first_frame, dac_ns, block, frames, events)
        if block is None:
            if len(self._silence) != 4 * frames * self._stream.channels:
                self._silence = bytes(4 * frames * self._stream.channels)
            return self._silence
        return np.repeat(block, self._stream.channels).tobytes()

    def _report_past(self, now_ns: int) -> None:
        while self._pending and self._pending[0][0] <= now_ns:
            dac_ns, event = self._pending.popleft()
            played_ms = 1000 * event.played_samples / self._stream.rate_hz
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
        if self._silent_blocks > _TAIL_BLOCKS:
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
