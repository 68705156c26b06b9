"""The echo stage of the front-end: a canceller, and whether it may be believed. Pure.

A path that was learnt fits again wherever the reference is put back to its place: after a jump of
the delay, after a takeover. It is kept for that, and left untouched as long as the place is in
doubt. Whenever the path may be wrong, what is left of the echo may sound like the user; until the
canceller has shown that it cancels, nothing that is heard is taken for the user's voice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from appliance.audio.blocks import BLOCK_MS, BLOCK_SAMPLES, Samples
from appliance.capture.aec import EchoCanceller, EchoCancellerSettings, State
from appliance.capture.alignment import Aligned
from appliance.capture.spectral import BINS
from appliance.capture.speex import SpeexEchoCanceller
from appliance.config import FrontEndConfig

_FAR_SILENCE = 1e-7
_KEEP_BLOCKS = 200
_PROOF = 16.0
"""By how much the echo's power has to fall (12 dB) ..."""
_PROOF_BLOCKS = 30
"""... over so many blocks in which the far-end plays ..."""
_FIRST_PROOF_BLOCKS = 20
_INCOHERENT = 0.12
"""A known path is right too where it explains no more of what is left than that ..."""
_LONGEST_PROBATION_BLOCKS = 250
"""... and after so many it must do: an echo that is no louder than the noise does not fall."""
_ALARM, _ALARM_BLOCKS = 1.4, 8
"""A path that was right and now adds so much over so many blocks, is in the wrong place."""
_NO_POWER = np.zeros(BINS, np.float32)


class EchoBlock(NamedTuple):
    """What comes of one block."""

    error: Samples
    """The microphones without the echo, (channels, 160)."""
    echo: Samples | None
    """The echo as it was estimated, likewise; None without a canceller."""
    uncancelled_power: NDArray[np.float32]
    """See `appliance.capture.aec.Cancelled`."""
    active: bool
    """Whether there may be an echo at all."""


class EchoStage:
    """Cancels the echo of every microphone and takes the path along when the reference jumps.

    Args:
        settings: which canceller, and its length.
        channels: microphones.
    """

    def __init__(self, settings: FrontEndConfig, channels: int) -> None:
        self._tail_blocks = settings.echo_tail_ms // BLOCK_MS
        self._canceller: EchoCanceller | SpeexEchoCanceller | None = None
        if settings.echo_canceller == "kalman":
            kalman = EchoCancellerSettings(tail_ms=settings.echo_tail_ms)
            self._canceller = EchoCanceller(channels, kalman)
        elif settings.echo_canceller == "speex":
            self._canceller = SpeexEchoCanceller(channels, settings.echo_tail_ms)
        self._quiet_blocks = self._tail_blocks + 1
        self._kept: tuple[State, State] = ({}, {})
        """The path of some seconds ago."""
        self._since_kept = 0
        self._probation = _Probation()
        self._mic_power = self._error_power = 0.0
        self.lost = False
        """The echo has left its place: see `doubt`."""
        self.placed = True
        """Whether the reference is where the path was learnt, as far as is known."""

    @property
    def known(self) -> bool:
        """Whether the path is known, be it from before."""
        return not isinstance(self._canceller, EchoCanceller) or self._canceller.settled

    @property
    def trusted(self) -> bool:
        """Whether the echo is cancelled so well that what is left may be the user."""
        speex = not isinstance(self._canceller, EchoCanceller)
        return speex or (self.known and self._probation.passed)

    @property
    def divergences(self) -> int:
        """How often the path was thrown away because it added echo."""
        return getattr(self._canceller, "divergences", 0)

    def doubt(self) -> None:
        """The reference may have moved: keep the path for when it is found again."""
        if isinstance(self._canceller, EchoCanceller):
            if self.trusted and (path := self._canceller.state()):
                self._keep(path)
            self._probation.begin()

    def process(self, mic: Samples, reference: Samples, aligned: Aligned | None) -> EchoBlock:
        """Take a block of the microphones (channels, 160) and of the reference (160,).

        Args:
            mic: finite.
            reference: likewise.
            aligned: how the reference has moved; None where it is not aligned.
        """
        canceller = self._canceller
        if canceller is None:
            return EchoBlock(mic, None, _NO_POWER, False)
        if isinstance(canceller, SpeexEchoCanceller):
            error = canceller.process(mic, reference)
            self._quiet_blocks = 0 if _power(reference) > _FAR_SILENCE else self._quiet_blocks + 1
            active = self._quiet_blocks <= self._tail_blocks
            return EchoBlock(error, mic - error, _NO_POWER, active)
        self.placed = aligned is None or aligned.placed
        self.lost = False
        if aligned is not None:
            self._follow(canceller, aligned)
        before = canceller.divergences
        known = canceller.settled
        cancelled = canceller.process(mic, reference, hold=not self.placed)
        if canceller.divergences > before:
            self._probation.begin()
        if canceller.sounding:
            self._listen_for_loss(mic, cancelled.error)
            explained = canceller.explained if known else 1.0
            self._probation.process(mic, cancelled.error, explained, proving=self.placed)
        self._since_kept += 1
        if self._since_kept >= _KEEP_BLOCKS and self.trusted and canceller.converged:
            self._since_kept = 0
            self._kept = self._kept[1], canceller.state()
        return EchoBlock(*cancelled, canceller.active)

    def _listen_for_loss(self, mic: Samples, error: Samples) -> None:
        self._mic_power += (float(np.vdot(mic, mic)) - self._mic_power) / _ALARM_BLOCKS
        self._error_power += (float(np.vdot(error, error)) - self._error_power) / _ALARM_BLOCKS
        self.lost = self.trusted and self._error_power > _ALARM * self._mic_power
        if self.lost:
            self._probation.begin()

    def state(self) -> State:
        """The path as far as it is known."""
        return self._canceller.state() if isinstance(self._canceller, EchoCanceller) else {}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Start from the path of an earlier `state`, once the reference is where it was."""
        if isinstance(self._canceller, EchoCanceller):
            self._canceller.restore(state)
            self._keep(self._canceller.state())
            self._probation.begin()

    def _keep(self, path: State) -> None:
        self._kept, self._since_kept = (path, path), 0

    def _follow(self, canceller: EchoCanceller, aligned: Aligned) -> None:
        """Take the canceller along when the reference jumps."""
        path = self._kept[0] or self._kept[1]
        if aligned.relocked and path:  # the path before the jump fits again
            canceller.restore(path)
        if aligned.shift_samples:
            canceller.shift(aligned.shift_samples)
            if aligned.relocked:
                self._keep(canceller.state())
        if aligned.past is not None:
            canceller.rewrite(aligned.past)
            self._probation.begin()


class _Probation:
    """From any doubt until the echo was seen to fall."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Nothing is proven any more."""
        self.passed = False
        self._waited = self._proven = 0
        self._before = self._after = 0.0

    def process(self, mic: Samples, error: Samples, explained: float, *, proving: bool) -> None:
        """Take a block in which the far-end plays.

        Args:
            mic: before the canceller.
            error: after it.
            explained: see `EchoCanceller.explained`; 1 for a path that is not known.
            proving: whether this block can prove anything.
        """
        if self.passed:
            return
        self._waited += 1
        if proving:
            self._proven += 1
            self._before += (float(np.vdot(mic, mic)) - self._before) / _PROOF_BLOCKS
            self._after += (float(np.vdot(error, error)) - self._after) / _PROOF_BLOCKS
        falls = self._before > _PROOF * self._after or explained < _INCOHERENT
        shown = self._proven >= _FIRST_PROOF_BLOCKS and falls
        self.passed = shown or self._waited >= _LONGEST_PROBATION_BLOCKS


def _power(samples: Samples) -> float:
    return float(np.dot(samples, samples)) / BLOCK_SAMPLES
