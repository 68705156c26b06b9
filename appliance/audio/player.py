"""What is played next: utterances in a queue, without clicks and exactly accounted for.

Pure: no device, no clock, no lock. Times are frames of the output stream; `rate_hz` of them make a
second. Each sample of an utterance ends in exactly one of three ways: played, flushed or refused.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from appliance.audio.blocks import Samples

AUDIBLE = 0.001
"""Amplitude from which a sample counts as heard (-60 dBFS)."""
_REMEMBERED = 64
"""Utterances that have ended, remembered so that nothing late is played."""


class PlaybackEventKind(Enum):
    """What can happen to an utterance."""

    STARTED = "started"
    """Its first audible sample."""
    UNDERFLOW = "underflow"
    """Its audio ran out although more was promised; it goes on when more comes."""
    FLUSHED = "flushed"
    """Faded out and dropped on request; nothing of it is heard after this."""
    DRAINED = "drained"
    """Played to its end; nothing of it is heard after this."""
    GAIN_REACHED = "gain_reached"
    """From here on the gain that was last asked for is in force."""


@dataclass(frozen=True)
class PlaybackEvent:
    """An event of an utterance, at a frame of the output stream."""

    kind: PlaybackEventKind
    utterance_id: str
    frame: int
    played_samples: int
    """How much of the utterance was played up to here, in samples at the device's rate."""


@dataclass(eq=False)
class _Utterance:
    utterance_id: str
    parts: deque[Samples] = field(default_factory=deque)
    queued: int = 0
    played: int = 0
    level: float = 0.0
    """Envelope at the last sample given, 0 to 1."""
    fade_out_per_sample: float = 0.0
    """Slope of the envelope towards the end, once the end is known."""
    held: bool = False
    paused: bool = False
    heard: bool = False
    starving: bool = False
    finished: bool = False
    flushed: bool = False

    def take(self, count: int) -> Samples:
        """Remove `count` samples from the front of the queue."""
        pieces = []
        while count:
            part = self.parts[0]
            if len(part) <= count:
                pieces.append(self.parts.popleft())
            else:
                pieces.append(part[:count])
                self.parts[0] = part[count:]
            count -= len(pieces[-1])
            self.queued -= len(pieces[-1])
            self.played += len(pieces[-1])
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def truncate(self, count: int) -> None:
        """Keep only the first `count` queued samples."""
        kept: deque[Samples] = deque()
        for part in self.parts:
            if count <= 0:
                break
            kept.append(part[:count])
            count -= len(kept[-1])
        self.parts = kept
        self.queued = sum(map(len, kept))


class PlaybackQueue:
    """A queue of utterances that is rendered block by block.

    Utterances play in the order in which they were first named, one after the other; one that is
    held plays after those that wait when it is released. At the
    start, the end, a flush and an underflow of an utterance a short linear envelope keeps the
    output free of clicks. To be able to fade when the audio runs out unannounced, the last
    `fade_ms` of an unfinished utterance are held back.

    Args:
        rate_hz: rate of everything that goes in and out.
        fade_ms: length of the fades.
    """

    def __init__(self, rate_hz: int, fade_ms: float = 5.0) -> None:
        self.rate_hz = rate_hz
        self.frame = 0
        """Frames rendered so far."""
        self.underflows = 0
        self._fade = max(1, round(rate_hz * fade_ms / 1000))
        self._utterances: deque[_Utterance] = deque()
        self._ended: dict[str, int] = {}  # how much of them was played
        self._events: list[PlaybackEvent] = []
        self._gain = self._gain_target = 1.0
        self._gain_step = 0.0
        self._gain_steps = 0

    def enqueue(self, utterance_id: str, samples: Samples) -> bool:
        """Append audio of shape (n,) to an utterance; it must not be changed afterwards.

        Returns:
            False if it was refused because the utterance was flushed or finished before.
        """
        utterance = self._find_or_begin(utterance_id)
        if utterance is None or utterance.finished:
            return False
        if len(samples):
            utterance.parts.append(samples)
            utterance.queued += len(samples)
        return True

    def hold(self, utterance_id: str) -> None:
        """Collect an utterance's audio, but play nothing of it before `release`."""
        utterance = self._find_or_begin(utterance_id)
        if utterance is not None and utterance.played == 0:
            utterance.held = True

    def release(self, utterance_id: str) -> None:
        """Let a held utterance play, after those that may play already."""
        utterance = self._find(utterance_id)
        if utterance is not None and utterance.held:
            utterance.held = False
            self._utterances.remove(utterance)
            self._utterances.append(utterance)

    def pause(self, utterance_id: str) -> None:
        """Fade an utterance out and keep the rest of it for `resume`; what comes after it waits."""
        utterance = self._find(utterance_id)
        if utterance is not None and not utterance.flushed:
            utterance.paused = True

    def resume(self, utterance_id: str) -> None:
        """Let a paused utterance go on where it was."""
        utterance = self._find(utterance_id)
        if utterance is not None:
            utterance.paused = False

    def finish(self, utterance_id: str) -> None:
        """Promise that no more audio of the utterance comes. One without any drains in its turn."""
        utterance = self._find_or_begin(utterance_id)
        if utterance is not None:
            utterance.finished = True

    def flush(self, utterance_id: str, fade_ms: float = 5.0) -> int:
        """Fade an utterance out and drop the rest, also what would still be enqueued.

        Returns:
            How many of its samples will have been played in the end, the fade included.
        """
        utterance = self._find(utterance_id)
        if utterance is None:
            return self._remember(utterance_id, self._ended.get(utterance_id, 0))
        if utterance.level == 0 or not utterance.queued:
            self._utterances.remove(utterance)
            self._note(PlaybackEventKind.FLUSHED, utterance, 0)
            return self._remember(utterance_id, utterance.played)
        if not utterance.flushed:
            utterance.truncate(max(1, round(self.rate_hz * fade_ms / 1000)))
            utterance.fade_out_per_sample = utterance.level / utterance.queued
            utterance.flushed = utterance.finished = True
        return utterance.played + utterance.queued

    def ramp_gain(self, gain: float, ramp_ms: float) -> None:
        """Move the gain of everything linearly to `gain` (0 to 1) within `ramp_ms`."""
        self._gain_target = gain
        self._gain_steps = max(1, round(self.rate_hz * ramp_ms / 1000))
        self._gain_step = (gain - self._gain) / self._gain_steps

    def progress(self, utterance_id: str) -> tuple[int, int]:
        """How many samples of an utterance were rendered, and how many wait."""
        utterance = self._find(utterance_id)
        if utterance is None:
            return self._ended.get(utterance_id, 0), 0
        return utterance.played, utterance.queued

    @property
    def queued_samples(self) -> int:
        """Samples that wait, of all utterances."""
        return sum(utterance.queued for utterance in self._utterances)

    @property
    def gain_is_moving(self) -> bool:
        """Whether `ramp_gain` has not yet reached its target."""
        return self._gain_steps > 0

    @property
    def is_idle(self) -> bool:
        """No utterance is playing or waiting."""
        return not self._utterances

    def render(self, frames: int) -> Samples | None:
        """The next block, of shape (frames,), or None for pure silence."""
        gains = self._advance_gain(frames)
        output: Samples | None = None
        position = 0
        while position < frames and (utterance := self._current()) is not None:
            count = self._available(utterance, frames - position)
            if count:
                if output is None:
                    output = np.zeros(frames, np.float32)
                span = slice(position, position + count)
                gain = gains if isinstance(gains, float) else gains[span]
                shaped = self._shaped(utterance, count)
                output[span] = shaped * gain
                # before the gain: at whatever volume it plays, it has begun
                self._note_started(utterance, shaped, position)
                position += count
            if utterance.queued == 0 and utterance.finished:
                self._utterances.remove(utterance)
                ended = (
                    PlaybackEventKind.FLUSHED if utterance.flushed else PlaybackEventKind.DRAINED
                )
                self._note(ended, utterance, position)
                self._remember(utterance.utterance_id, utterance.played)
            elif utterance.queued == 0 and utterance.starving:
                utterance.starving = False
                self.underflows += 1
                self._note(PlaybackEventKind.UNDERFLOW, utterance, position)
                break
            elif count == 0:
                break
        self.frame += frames
        return output

    def take_events(self) -> list[PlaybackEvent]:
        """The events since the last call, in order."""
        events, self._events = self._events, []
        return sorted(events, key=lambda event: event.frame)

    def _current(self) -> _Utterance | None:
        return next((u for u in self._utterances if not u.held), None)

    def _find(self, utterance_id: str) -> _Utterance | None:
        for utterance in self._utterances:
            if utterance.utterance_id == utterance_id:
                return utterance
        return None

    def _find_or_begin(self, utterance_id: str) -> _Utterance | None:
        """None for an utterance that has ended."""
        if utterance_id in self._ended:
            return None
        utterance = self._find(utterance_id)
        if utterance is None:
            utterance = _Utterance(utterance_id)
            self._utterances.append(utterance)
        return utterance

    def _remember(self, utterance_id: str, played: int) -> int:
        self._ended[utterance_id] = played
        if len(self._ended) > _REMEMBERED:
            del self._ended[next(iter(self._ended))]
        return played

    def _available(self, utterance: _Utterance, wanted: int) -> int:
        """How many samples to play now; notes when the utterance begins to starve."""
        if utterance.paused and not utterance.flushed:
            return min(wanted, utterance.queued, math.ceil(utterance.level * self._fade))
        if not utterance.finished:
            if utterance.queued >= wanted + self._fade:
                utterance.starving = False
                return wanted
            if utterance.level == 0:
                return 0  # not begun, or after an underflow: wait for enough
            utterance.starving = True
        return min(wanted, utterance.queued)

    def _shaped(self, utterance: _Utterance, count: int) -> Samples:
        """Take samples and put the envelope on them."""
        ending = utterance.finished or utterance.starving
        left = utterance.queued - count
        samples = utterance.take(count)
        steps = np.arange(1, count + 1, dtype=np.float32)
        if utterance.paused and not utterance.flushed:
            envelope = np.maximum(utterance.level - steps / self._fade, 0.0)
            utterance.level = float(envelope[-1])
            return samples * envelope
        if utterance.level >= 1 and not (ending and left < self._fade) and not utterance.flushed:
            return samples
        envelope = np.minimum(utterance.level + steps / self._fade, 1.0)
        if ending:
            slope = utterance.fade_out_per_sample or 1 / self._fade
            envelope = np.minimum(envelope, (left + count - steps) * slope)
        utterance.level = float(envelope[-1])
        return samples * envelope

    def _advance_gain(self, frames: int) -> float | Samples:
        """The gain over the next block: one number unless it is moving."""
        if not self._gain_steps:
            return self._gain
        left = self._gain_steps - np.arange(1, frames + 1, dtype=np.float32)
        ramp = self._gain_target - np.maximum(left, 0) * self._gain_step
        if self._gain_steps <= frames:
            utterance_id = current.utterance_id if (current := self._current()) else ""
            played = current.played if current else 0
            self._events.append(
                PlaybackEvent(
                    PlaybackEventKind.GAIN_REACHED,
                    utterance_id,
                    self.frame + self._gain_steps,
                    played,
                )
            )
        self._gain_steps = max(0, self._gain_steps - frames)
        self._gain = float(ramp[-1]) if self._gain_steps else self._gain_target
        return ramp.astype(np.float32)

    def _note_started(self, utterance: _Utterance, played: Samples, position: int) -> None:
        if utterance.heard:
            return
        audible = np.flatnonzero(np.abs(played) > AUDIBLE)
        if len(audible):
            utterance.heard = True
            before = utterance.played - len(played) + int(audible[0])
            self._events.append(
                PlaybackEvent(
                    PlaybackEventKind.STARTED,
                    utterance.utterance_id,
                    self.frame + position + int(audible[0]),
                    before,
                )
            )

    def _note(self, kind: PlaybackEventKind, utterance: _Utterance, position: int) -> None:
        self._events.append(
            PlaybackEvent(kind, utterance.utterance_id, self.frame + position, utterance.played)
        )
