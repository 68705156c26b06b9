"""Where the microphones of an array are, which device channels they are, and how sound meets them.

Coordinates in metres, right-handed, z up, origin in the middle of the array. Azimuth in degrees
counter-clockwise from +x as seen from above; elevation in degrees above the array's plane.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from appliance.config import Config, FrontEndConfig
from appliance.errors import ApplianceError

SPEED_OF_SOUND_M_S = 343.0

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Geometry:
    """An array of microphones.

    Args:
        name: what to call it in logs and metrics.
        positions_m: (microphones, 3) positions; shape (0, 3) where they are not known.
        channels: the device's channels that are the microphones, in the order of `positions_m`;
            None where every channel of the device is a microphone.
        loopback_channel: the device's channel that carries what its loudspeaker plays, if any.
        device_channels: how many channels the array's own device has; 0 where that is not known.
    """

    name: str
    positions_m: Floats = field(default_factory=lambda: np.zeros((0, 3)))
    channels: tuple[int, ...] | None = None
    loopback_channel: int | None = None
    device_channels: int = 0

    @property
    def known(self) -> bool:
        """Whether the positions are known and there are at least two."""
        return len(self.positions_m) > 1

    @property
    def channels_to_open(self) -> int:
        """How many of a device's channels to open: all of the array's own device, 1 of any."""
        needed = len(self.positions_m) if self.channels is None else max(self.channels) + 1
        return max(1, needed, self.device_channels)

    @cached_property
    def front_back_ambiguous(self) -> bool:
        """Whether a direction and its mirror image sound alike: all microphones in one line."""
        if not self.known:
            return True
        return bool(self._extents()[1] < 1e-3)

    @cached_property
    def axis_deg(self) -> float:
        """Azimuth of the line along which the array is widest, in [0, 180)."""
        centred = self.positions_m[:, :2] - self.positions_m[:, :2].mean(axis=0)
        along = np.linalg.svd(centred)[2][0]
        return round(float(np.degrees(np.arctan2(along[1], along[0]))), 6) % 180

    def fold(self, azimuth_deg: float) -> float:
        """An azimuth in [0, 360); for a line of microphones, in the half to the left of its axis.

        A line cannot tell front from back: both of a mirrored pair are reported as the one that is
        0 to 180 degrees counter-clockwise of `axis_deg`.
        """
        if not self.front_back_ambiguous or not self.known:
            return azimuth_deg % 360
        across = (azimuth_deg - self.axis_deg) % 360
        return (min(across, 360 - across) + self.axis_deg) % 360

    def check(self, device_channels: int) -> tuple[int, ...]:
        """The device's channels that are the microphones.

        Raises:
            ApplianceError: The device has fewer channels than the array needs.
        """
        wanted = self.channels
        if wanted is None:
            count = len(self.positions_m) if self.known else device_channels
            wanted = tuple(range(count))
        if max(wanted) >= device_channels:
            raise ApplianceError(
                f"the microphone array {self.name!r} needs {max(wanted) + 1} input channels, there "
                f"are {device_channels}: choose the array that you have, or 'none'; leave "
                "[audio] input_channels at 0"
            )
        return wanted

    def steering(
        self, azimuth_deg: Floats, frequency_hz: Floats, elevation_deg: float = 0
    ) -> NDArray[np.complex64]:
        """How plane waves arrive at the microphones, relative to the origin.

        Args:
            azimuth_deg: (directions,).
            frequency_hz: (bins,).
            elevation_deg: the same for all directions.

        Returns:
            (directions, microphones, bins) factors of modulus 1.
        """
        azimuth, elevation = np.radians(azimuth_deg), np.radians(elevation_deg)
        towards = np.stack(
            [
                np.cos(azimuth) * np.cos(elevation),
                np.sin(azimuth) * np.cos(elevation),
                np.full_like(azimuth, np.sin(elevation)),
            ],
            axis=-1,
        )
        lead_s = towards @ self.positions_m.T / SPEED_OF_SOUND_M_S
        phase = 2 * np.pi * lead_s[:, :, None] * frequency_hz
        vectors: NDArray[np.complex64] = np.exp(1j * phase).astype(np.complex64)
        return vectors

    def _extents(self) -> Floats:
        """Widths of the array along its principal axes in the plane, widest first."""
        centred = self.positions_m[:, :2] - self.positions_m[:, :2].mean(axis=0)
        widths: Floats = np.linalg.svd(centred, compute_uv=False)
        return widths


def circle(microphones: int, radius_m: float, name: str = "") -> Geometry:
    """Microphones spread evenly on a circle, number k at azimuth 360 k / n."""
    if microphones < 2 or not 0.001 <= radius_m <= 2:
        raise ApplianceError(
            "a circle of microphones needs at least 2 and a radius of 0.001 to 2 metres"
        )
    angle = 2 * np.pi * np.arange(microphones) / microphones
    positions = radius_m * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    return Geometry(name or f"circle:{microphones}:{radius_m:g}", positions)


def line(microphones: int, spacing_m: float, name: str = "") -> Geometry:
    """Microphones in a line along x, number 0 at the left (-x) end."""
    if microphones < 2 or not 0.001 <= spacing_m <= 2:
        raise ApplianceError(
            "a line of microphones needs at least 2 and a spacing of 0.001 to 2 metres"
        )
    along = spacing_m * (np.arange(microphones) - (microphones - 1) / 2)
    positions = np.stack([along, 0 * along, 0 * along], axis=1)
    return Geometry(name or f"line:{microphones}:{spacing_m:g}", positions)


def explicit(
    positions_m: Sequence[Sequence[float]], channels: Sequence[int] | None = None
) -> Geometry:
    """Microphones at measured positions: rows of (x, y) or (x, y, z) metres.

    Raises:
        ApplianceError: Positions that are no positions, coincide, or do not fit the channels.
    """
    try:
        rows = np.asarray(positions_m, dtype=np.float64)
    except ValueError:
        rows = np.zeros((0, 0))
    if rows.ndim != 2 or rows.shape[1] not in (2, 3) or not np.isfinite(rows).all():
        raise ApplianceError("microphone positions are rows of x, y or x, y, z in metres")
    if len(rows) < 2 or np.abs(rows).max() > 10:
        raise ApplianceError("a microphone array needs 2 positions or more, in metres (not mm)")
    full = np.zeros((len(rows), 3))
    full[:, : rows.shape[1]] = rows
    full -= full.mean(axis=0)
    if np.linalg.svd(full[:, :2], compute_uv=False)[0] < 1e-3:
        raise ApplianceError("a vertical line of microphones has no azimuth: use 'none'")
    apart = np.linalg.norm(full[:, None] - full[None], axis=-1) + np.eye(len(full))
    if apart.min() < 1e-3:
        raise ApplianceError("two microphones are at the same position: give each its own")
    if channels is not None and len(channels) != len(full):
        raise ApplianceError(
            f"{len(full)} microphone positions but {len(channels)} channels: give as many"
        )
    return Geometry("positions", full, None if channels is None else tuple(channels))


def unknown() -> Geometry:
    """A microphone, or several, of which nothing is known: mono and stereo USB microphones."""
    return Geometry("none")


def _respeaker_usb_4mic() -> Geometry:
    # Channels and positions: respeaker/usb_4_mic_array README (6-channel firmware: 0 processed,
    # 1-4 microphones, 5 playback); introlab/odas respeaker_usb_4_mic_array.cfg (32 mm, first
    # microphone at -x, then counter-clockwise).
    plain = circle(4, 0.032)
    return Geometry("respeaker-usb-4mic", np.roll(plain.positions_m, 2, axis=0), (1, 2, 3, 4), 5, 6)


def _respeaker_linear_4mic() -> Geometry:
    # Channels: the maker's wiki (8 input channels: 0-3 microphones, 4-5 unused, 6-7 playback).
    # The maker publishes no spacing; 50 mm is what fits its 157 mm board.
    plain = line(4, 0.05)
    return Geometry("respeaker-linear-4mic", plain.positions_m, (0, 1, 2, 3), 6, 8)


def _respeaker_2mic() -> Geometry:
    # Left and right of a Pi HAT, 58 mm apart by those who measured it.
    return Geometry("respeaker-2mic", line(2, 0.058).positions_m, (0, 1))


PRESETS: dict[str, Callable[[], Geometry]] = {
    "respeaker-usb-4mic": _respeaker_usb_4mic,
    "respeaker-linear-4mic": _respeaker_linear_4mic,
    "respeaker-2mic": _respeaker_2mic,
    "none": unknown,
}


def named(text: str) -> Geometry:
    """The array that the configuration names: a preset, `circle:N:RADIUS` or `line:N:SPACING`.

    Raises:
        ApplianceError: No such array.
    """
    if text in PRESETS:
        return PRESETS[text]()
    shape, *sizes = text.split(":")
    shapes = {"circle": circle, "line": line}
    if shape in shapes and len(sizes) == 2:
        try:
            return shapes[shape](int(sizes[0]), float(sizes[1]))
        except ValueError:
            pass
    raise ApplianceError(
        f"no microphone array {text!r}: choose one of {', '.join(PRESETS)}, "
        "circle:N:RADIUS_M or line:N:SPACING_M, or give the positions"
    )


def array_of(settings: FrontEndConfig) -> Geometry:
    """The array that the configuration describes.

    Raises:
        ApplianceError: there is none of that name, or the positions are of no use.
    """
    if settings.microphones_m:
        return explicit(settings.microphones_m)
    return named(settings.array)


def input_channels(config: Config) -> int:
    """How many channels of the input device to open: as configured, or as the array needs.

    Raises:
        ApplianceError: see `array_of`.
    """
    return config.audio.input_channels or array_of(config.front_end).channels_to_open
