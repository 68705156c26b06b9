"""The audio front-end: from the microphones and what was played to one clean channel. Pure.

Order: sanitise, align the far-end reference, cancel the echo of each microphone, find the
direction, form a beam, suppress residual echo, suppress noise, set the level, guard.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from appliance.audio.blocks import BLOCK_SAMPLES, Samples
from appliance.capture.agc import AutomaticGain
from appliance.capture.alignment import ReferenceAligner
from appliance.capture.aside import AsideGauge
from appliance.capture.beam import Beamformer
from appliance.capture.channels import ChannelMonitor, OrderMonitor
from appliance.capture.denoise import NoiseGauge, NoiseSuppressor, create_suppressor
from appliance.capture.doa import Doa
from appliance.capture.echo_path import EchoStage
from appliance.capture.geometry import array_of
from appliance.capture.limits import OutputGuard, Sanitizer
from appliance.capture.look import LookDirection
from appliance.capture.moments import Moments
from appliance.capture.residual import ResidualSuppressor
from appliance.capture.spectral import BINS, LATENCY_SAMPLES, Analysis, Spectra, Synthesis
from appliance.config import FrontEndConfig
from appliance.errors import ApplianceError

logger = logging.getLogger(__name__)

STAGES = ("alignment", "echo", "beam", "residual", "noise", "gain")
"""What can be bypassed."""
_DC_CUTOFF_HZ = 0.5
"""Only offset goes: already a corner of 10 Hz turns the phase of low voices audibly for a metric
(10 to 25 dB SDR); rumble is left to the noise suppressor."""
_HEARD = 0.5
"""Belief in the near-end from which on a direction is taken for the user's."""
_SILENCE = np.zeros(BLOCK_SAMPLES, np.float32)
_NO_POWER = np.zeros(BINS, np.float32)

State = dict[str, NDArray[Any]]


class FrontEndBlock(NamedTuple):
    """What comes of one block."""

    samples: Samples
    """(160,), `FrontEnd.latency_samples` late."""
    direction_deg: float | None
    """Where speech comes from, if it is known."""
    far_end_active: bool
    """Whether the loudspeaker plays, or its echo still lasts."""
    near_end: float
    """Belief that the user speaks over the loudspeaker, 0 to 1; 1 while nothing is played, 0 until
    the canceller has shown that it cancels: for two seconds and a half at most."""
    aside: bool = False
    """Only others than the partner are heard, see `FrontEnd.attend`."""


@dataclass(frozen=True, kw_only=True)
class FrontEndMetrics:
    """What the front-end did since the last call; None where there was nothing to measure."""

    far_end_active: bool
    erle_linear_db: float | None
    """Echo return loss enhancement of the linear canceller while only the far-end spoke."""
    erle_final_db: float | None
    """The same of the whole chain, without its gain."""
    delay_ms: float | None
    drift_ppm: float | None
    locked: bool
    near_end_dbfs: float
    far_end_dbfs: float
    clipped_share: float
    direction_deg: float | None
    beam: str
    gain_db: float
    block_p50_ms: float
    block_p99_ms: float
    faults: dict[str, int]
    channel_dbfs: tuple[float, ...]
    channel_health: tuple[str, ...]


@dataclass
class _Sums:
    """Over the blocks since the last metrics."""

    mic: list[NDArray[np.float64]] = field(default_factory=list)
    far: float = 0.0
    out: float = 0.0
    echo: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    """Energies of microphone, linear error and output, in far-end single talk."""
    times_ms: list[float] = field(default_factory=list)
    active: bool = False


class FrontEnd:
    """The whole chain.

    Args:
        settings: see `FrontEndConfig`.
        channels: microphones, in the order of the array's positions.
        models_path: where a neural noise suppressor's model is.

    Raises:
        ApplianceError: the array has another number of microphones, or a library or a model is
            missing.
    """

    def __init__(
        self,
        settings: FrontEndConfig,
        channels: int,
        *,
        models_path: Path | None = None,
    ) -> None:
        self.bypass: frozenset[str] = frozenset()
        """Stages that are left out, see `STAGES`; may be changed at any time."""
        self._settings = settings
        self._channels = channels
        self.geometry = array_of(settings)
        if self.geometry.known and len(self.geometry.positions_m) != channels:
            raise ApplianceError(
                f"The array {self.geometry.name} has {len(self.geometry.positions_m)} microphones, "
                f"not {channels}: correct front_end.array or the channels."
            )
        self._monitor = ChannelMonitor(channels)
        self._sanitizer = Sanitizer(channels, cutoff_hz=_DC_CUTOFF_HZ)
        self._far_sanitizer = Sanitizer(1, cutoff_hz=_DC_CUTOFF_HZ)
        self._aligner = ReferenceAligner()
        self._echo = EchoStage(settings, channels)
        self._analysis = Analysis(channels)
        self._echo_analysis = Analysis(channels)
        self._doa = Doa(self.geometry) if self.geometry.known else None
        self._order = OrderMonitor(self.geometry) if self.geometry.known else None
        self._look = LookDirection(settings.look_direction_deg)
        self._moments = Moments()
        self._partner_deg: float | None = None
        self._partner_only = False
        self._aside = AsideGauge()
        self._beam = Beamformer(self.geometry, channels, settings.beam)
        self._microphones = np.repeat(np.eye(channels, dtype=np.complex64)[:, :, None], BINS, 2)
        """For each microphone, the factors that take it alone."""
        self._residual = ResidualSuppressor()
        self._gains = np.ones(BINS, np.float32)
        self._synthesis = Synthesis()
        self._suppressor: NoiseSuppressor | None = None
        if settings.noise_suppressor != "off":
            self._suppressor = create_suppressor(
                settings.noise_suppressor,
                depth_db=settings.noise_depth_db,
                models_path=models_path or Path(),
                dry_mix=0.12,
            )
        self._gauge = NoiseGauge()
        self._gain = AutomaticGain(max_gain_db=settings.max_gain_db)
        self._guard = OutputGuard(settings.max_gain_db)
        self._sums = _Sums()
        self._clipped_before = 0
        self._direction_deg: float | None = None
        self._noise_delay = 0 if self._suppressor is None else self._suppressor.latency_samples
        self._delayed = np.zeros(self._noise_delay, np.float32)
        self.latency_samples = LATENCY_SAMPLES + self._noise_delay
        """How much later than its input the output is, whatever is bypassed."""

    def process(self, mic: Samples, far: Samples | None) -> FrontEndBlock:
        """Take a block of every microphone (channels, 160) and what was played meanwhile (160,).

        Args:
            mic: any numbers; what is not finite or beyond full scale is repaired and counted.
            far: likewise; None for 160 samples of silence. Some more or fewer where the playback's
                stream is brought back in step with the microphones'.
        """
        started_ns = time.perf_counter_ns()
        usable = self._monitor.process(mic)
        reference_mic = int(usable.argmax())
        mic = self._sanitizer.process(mic)
        far = _SILENCE if far is None else self._repaired(far)
        aligned = None
        if "alignment" in self.bypass:
            reference = np.pad(far[:BLOCK_SAMPLES], (0, max(0, BLOCK_SAMPLES - len(far))))
        else:
            aligned = self._aligner.process(far, mic[reference_mic])
            reference = aligned.samples
        reference = self._far_sanitizer.process(reference[None])[0]
        if "echo" in self.bypass:
            error, echo, uncancelled_power, active = mic, None, _NO_POWER, False
        else:
            error, echo, uncancelled_power, active = self._echo.process(mic, reference, aligned)
            if self._echo.lost:
                self._aligner.doubt()
        spectra = self._analysis.process(error)
        weights = self._steer(spectra, active, usable)
        spectrum = (weights * spectra).sum(axis=0)
        if echo is not None and active and "residual" not in self.bypass:
            echo_spectra = self._echo_analysis.process(echo)
            echo_spectrum = (weights * echo_spectra).sum(axis=0)
            self._gains = self._residual.process(
                spectrum,
                echo_spectrum,
                uncancelled_power,
                known=self._echo.known,
                trusted=self._echo.trusted,
                placed=self._echo.placed,
            )
            spectrum = spectrum * self._gains
        elif not active:
            self._residual.listen(spectrum)
        near_end = self._near_end(active)
        clean = self._synthesis.process(spectrum)
        self._gauge.process(self._residual.noise_power, float(np.vdot(spectrum, spectrum).real))
        samples = self._suppress_noise(clean)
        if self._settings.automatic_gain and "gain" not in self.bypass:
            samples = self._gain.process(samples, hold=active and near_end < 0.5)
        samples = self._guard.process(samples, mic)
        self._note(mic, far, samples)
        if active and near_end < 0.5:
            single = mic[reference_mic], error[reference_mic], clean
            self._sums.echo += [_power(signal) for signal in single]
        self._sums.active |= active
        self._sums.times_ms.append((time.perf_counter_ns() - started_ns) / 1e6)
        return FrontEndBlock(
            samples, self._direction_deg, active, near_end, aside=self._aside.aside
        )

    def attend(self, partner_deg: float | None, *, only: bool = False) -> None:
        """Look at the partner as soon as they are heard, and tell when only others are.

        Args:
            partner_deg: where the partner is; None to treat all alike.
            only: whether to look at nobody else meanwhile.
        """
        if partner_deg is None or self._partner_deg is None:
            self._aside.reset()
        self._partner_deg, self._partner_only = partner_deg, only
        self._look.keep(partner_deg)

    @property
    def drift_ppm(self) -> float:
        """How much faster the playback's clock is taken to run than the microphones'."""
        return self._aligner.drift_ppm

    def metrics(self) -> FrontEndMetrics:
        """Figures since the last call, to be taken once a second."""
        sums, self._sums = self._sums, _Sums()
        blocks = max(1, len(sums.times_ms))
        power = np.mean(sums.mic, axis=0) if sums.mic else np.zeros(self._channels)
        faults = self._sanitizer.faults
        clipped = faults.clipped_samples - self._clipped_before
        self._clipped_before = faults.clipped_samples
        times_ms = sums.times_ms or [0.0]
        measured = sums.echo[0] > 0
        return FrontEndMetrics(
            far_end_active=sums.active,
            erle_linear_db=_decibels(sums.echo[0], sums.echo[1]) if measured else None,
            erle_final_db=_decibels(sums.echo[0], sums.echo[2]) if measured else None,
            delay_ms=self._aligner.delay_ms if self._aligner.locked else None,
            drift_ppm=self._aligner.drift_ppm if self._aligner.locked else None,
            locked=self._aligner.locked,
            near_end_dbfs=_decibels(sums.out / blocks, 1.0),
            far_end_dbfs=_decibels(sums.far / blocks, 1.0),
            clipped_share=clipped / (blocks * BLOCK_SAMPLES * self._channels),
            direction_deg=self._direction_deg,
            beam="" if "beam" in self.bypass else self._beam.name,
            gain_db=self._gain.gain_db,
            block_p50_ms=float(np.percentile(times_ms, 50)),
            block_p99_ms=float(np.percentile(times_ms, 99)),
            faults={
                "nan_samples": faults.nan_samples + self._far_sanitizer.faults.nan_samples,
                "excess_samples": faults.excess_samples,
                "clipped_samples": faults.clipped_samples,
                "dc_blocks": faults.dc_blocks,
                "guarded_blocks": self._guard.guarded_blocks,
                **{f"microphone_{reason}": n for reason, n in self._monitor.counts.items()},
                "microphones_in_another_order": int(
                    self._order is not None and self._order.suspicion is not None
                ),
                "relocks": self._aligner.relocks,
                "divergences": self._echo.divergences,
            },
            channel_dbfs=tuple(_decibels(float(p), 1.0) for p in power),
            channel_health=self._monitor.reasons,
        )

    def state(self) -> State:
        """What was learnt of devices and room: filters, delay, drift. No audio."""
        return {
            f"{stage}.{name}": array
            for stage, part in self._stateful()
            for name, array in part.state().items()
        }

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Start from an earlier `state`; what does not fit is left out."""
        for stage, part in self._stateful():
            prefix = f"{stage}."
            own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            try:
                if own:
                    part.restore(own)
            except (KeyError, TypeError, ValueError) as error:
                logger.warning("what was kept of %s is of no use: %r", stage, error)

    def rewrite(self, past: Samples) -> None:
        """What was played lately (n,), whole blocks, in the place of what was given."""
        self._aligner.rewrite(self._repaired(past))

    def doubt(self) -> None:
        """One of the streams was interrupted: the echo may come a little sooner or later."""
        self._aligner.doubt()
        self._echo.doubt()

    def _stateful(self) -> list[tuple[str, Any]]:
        return [
            ("alignment", self._aligner),
            ("residual", self._residual),
            ("gain", self._gain),
            ("echo", self._echo),
        ]

    def _repaired(self, far: Samples) -> Samples:
        """The far-end, finite and within full scale."""
        if np.abs(far).max(initial=0.0) <= 1.0:  # not so either when it is not a number
            return far
        finite = np.isfinite(far)
        self._far_sanitizer.faults.nan_samples += far.size - int(np.count_nonzero(finite))
        return np.where(finite, far, np.float32(0)).clip(-1.0, 1.0)

    def _near_end(self, active: bool) -> float:
        """See `FrontEndBlock.near_end`."""
        if not active:
            return 1.0
        return self._residual.near_end if self._echo.trusted else 0.0

    def _steer(
        self, spectra: Spectra, active: bool, usable: NDArray[np.bool_]
    ) -> NDArray[np.complex64]:
        """Find the direction; give the factors (channels, 161) that make one channel of all."""
        near_end = self._near_end(active)
        look_deg = self._settings.look_direction_deg
        if self._doa is not None and self._order is not None:
            found = self._doa.process(spectra, self._gains if active else None, usable=usable)
            self._direction_deg = None if found is None else found.azimuth_deg
            self._order.process(self._doa)
            self._heed_partner()
            look_deg = self._look.process(found if near_end > _HEARD else None)
        reference_mic = int(usable.argmax())
        if "beam" in self.bypass or self._channels == 1:
            alone: NDArray[np.complex64] = self._microphones[reference_mic]
            return alone
        moment = self._moments.process(
            spectra[reference_mic],
            self._doa,
            look_deg,
            far_end_active=active,
            near_end=near_end,
        )
        weights = self._beam.process(
            spectra,
            moment,
            look_deg=look_deg,
            far_end_active=active,
            noisy=self._gauge.need,
            usable=usable,
        )
        factors: NDArray[np.complex64] = weights.conj()
        return factors

    def _heed_partner(self) -> None:
        """Look at the partner if they are heard, even where somebody else is louder."""
        partner_deg = self._partner_deg
        if self._doa is None or partner_deg is None:
            return
        if self._aside.process(self._doa.contrast(partner_deg)):
            self._look.keep(partner_deg if self._partner_only else None)
        else:
            self._look.keep(partner_deg)
            self._direction_deg = partner_deg

    def _suppress_noise(self, clean: Samples) -> Samples:
        """Less noise, as far as the room needs it, or the same delay without."""
        if self._suppressor is None:
            return clean
        joined = np.concatenate([self._delayed, clean])
        self._delayed = joined[BLOCK_SAMPLES:]
        dry = joined[:BLOCK_SAMPLES]
        if "noise" in self.bypass:
            return dry
        quiet = self._suppressor.process(clean)
        mixed: Samples = dry + np.float32(self._gauge.need) * (quiet - dry)
        return mixed

    def _note(self, mic: Samples, far: Samples, out: Samples) -> None:
        sums = self._sums
        sums.mic.append(np.einsum("ij,ij->i", mic, mic) / BLOCK_SAMPLES)
        sums.far += _power(far)
        sums.out += _power(out)


def _power(samples: Samples) -> float:
    return float(np.dot(samples, samples)) / BLOCK_SAMPLES


def _decibels(power: float, reference: float) -> float:
    return round(float(10 * np.log10((power + 1e-12) / (reference + 1e-12))), 1)
