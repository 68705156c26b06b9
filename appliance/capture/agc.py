"""Automatic gain: a far or soft voice reaches the recogniser as loud as a near one.

The gain controller of WebRTC (AGC2) listens and says which gain the speech wants; it is applied
between turns only: a gain that moves within one bends the words for whoever recognises them.
Source: `modules/audio_processing/agc2` of WebRTC, bound by the package `pywebrtc-audio`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pywebrtc_audio import GainController

from appliance.audio.blocks import BLOCK_SAMPLES, RATE_HZ, Samples

_HIGHEST_START_DB = 15.0  # where the controller begins by itself, whatever its largest gain
_SETTLING_BLOCKS = 400
_SETTLING_MARGIN_DB = 2.0
_GAP_BLOCKS = 80
"""A turn is over after 0.8 s without speech."""
_SPEECH = 0.5
_STEP_DB = 0.5
"""Per block, between turns."""
_HIGHEST_PEAK = np.float32(0.98)

_OVER_FLOOR = 2.0
"""How much louder than the room at its quietest a block is in which somebody may speak."""
_FLOOR_BLOCKS = 100
_STILL_BLOCKS = 100
"""So long after one it is still listened to."""

_RAMP = np.linspace(0, 1, BLOCK_SAMPLES, dtype=np.float32)


class AutomaticGain:
    """Gain for one stream, without latency: 20 µs of CPU per block, 6 where nobody can be speaking.

    Args:
        max_gain_db: never more than this.
        headroom_db: how far below full scale the peaks of speech are aimed.
        max_noise_dbfs: noise is never raised above this, so a gain is only as large as the room is
            quiet.
        slew_db_per_s: how fast the gain moves.
        initial_gain_db: where it starts (15 at most).
    """

    def __init__(
        self,
        *,
        max_gain_db: float = 18.0,
        headroom_db: float = 10.0,
        max_noise_dbfs: float = -50.0,
        slew_db_per_s: float = 6.0,
        initial_gain_db: float = 0.0,
    ) -> None:
        self._controller = GainController(
            RATE_HZ,
            max_gain_db=max_gain_db,
            headroom_db=headroom_db,
            max_gain_change_db_per_second=slew_db_per_s,
            max_output_noise_level_dbfs=max_noise_dbfs,
        )
        self._max_gain_db = max_gain_db
        self._max_noise_dbfs = max_noise_dbfs
        self._quiet_blocks = 0
        self._smooth = 0.0
        self._floor = [np.inf, np.inf]
        self._blocks = self._still_blocks = 0
        self._gain_db = 0.0
        self._settle(initial_gain_db)

    @property
    def gain_db(self) -> float:
        """The gain at the end of the last block."""
        return self._gain_db

    def process(self, block: Samples, *, hold: bool = False) -> Samples:
        """Return the block (160,), finite, with the gain applied, within ±1.

        Speech that would clip lowers the gain at once.

        Args:
            block: finite samples.
            hold: nothing in it counts as speech, so that it cannot raise the gain: for blocks in
                which what sounds like speech may be left over from the loudspeaker.
        """
        controller = self._controller
        unheard = hold or not self._may_speak(block)
        controller.process(np.ascontiguousarray(block, np.float32), 0.0 if unheard else None)
        speech = not unheard and controller.speech_probability > _SPEECH
        self._quiet_blocks = 0 if speech else self._quiet_blocks + 1
        before_db = self._gain_db
        if self._quiet_blocks >= _GAP_BLOCKS:
            change_db = controller.gain_db - before_db
            self._gain_db = before_db + max(-_STEP_DB, min(_STEP_DB, change_db))
        gain = 10 ** (before_db / 20)
        result: Samples = block * np.float32(gain)
        if self._gain_db != before_db:
            result *= 1 + (10 ** (self._gain_db / 20) / gain - 1) * _RAMP
        peak = np.abs(result).max()
        if peak > _HIGHEST_PEAK:
            result *= _HIGHEST_PEAK / peak
            self._gain_db = max(0.0, self._gain_db + 20 * float(np.log10(_HIGHEST_PEAK / peak)))
        return result

    def _may_speak(self, block: Samples) -> bool:
        """Whether a block is worth the speech detector, which takes most of the time."""
        emphasised = block[1:] - block[:-1]  # a room's rumble comes and goes
        energy = float(np.dot(emphasised, emphasised))
        self._smooth += 0.2 * (energy - self._smooth)
        self._blocks += 1
        if self._blocks % _FLOOR_BLOCKS == 0:
            self._floor = [self._floor[1], np.inf]
        self._floor[1] = min(self._floor[1], self._smooth)
        loud = self._smooth > _OVER_FLOOR * min(self._floor)
        self._still_blocks = _STILL_BLOCKS if loud else self._still_blocks - 1
        return self._still_blocks > 0

    def state(self) -> dict[str, NDArray[np.float64]]:
        """The gain, to start from another time."""
        return {"gain_db": np.array(self.gain_db)}

    def restore(self, state: Mapping[str, NDArray[np.float64]]) -> None:
        """Start anew from the gain of an earlier `state`."""
        self._settle(float(state["gain_db"]))

    def _settle(self, gain_db: float) -> None:
        """Bring the controller to a gain.

        It cannot be told one, and begins at 15 dB, even where less is the most allowed. Noise just
        so loud that no larger gain is allowed leads it there in 1.5 ms.
        """
        gain_db = max(0.0, min(gain_db, self._max_gain_db, _HIGHEST_START_DB))
        self._gain_db = gain_db
        level_db = self._max_noise_dbfs - gain_db + _SETTLING_MARGIN_DB
        noise = np.random.default_rng(0).standard_normal(_SETTLING_BLOCKS * BLOCK_SAMPLES)
        self._controller.reset()
        self._controller.process((noise * 10 ** (level_db / 20)).astype(np.float32), 0.0)
