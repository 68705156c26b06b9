"""Which audio devices exist, under which lasting names, and how one is chosen.

PortAudio numbers devices anew at each start and its names carry ALSA card numbers, which change
with the order of plugging. A USB device is therefore also known by its *stable id*:
`usb:VENDOR:PRODUCT:SERIAL`, or `usb:VENDOR:PRODUCT:port-PATH` for hardware without a serial number.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pyaudio

from appliance.errors import ApplianceError

Direction = Literal["input", "output"]

_RATES_HZ = {"input": (16_000, 48_000, 44_100, 32_000), "output": (48_000, 44_100, 16_000)}
_CARD = re.compile(r"\(hw:(\d+),\d+\)")
_SOUND = Path("/sys/class/sound")
_BY_ID = Path("/dev/snd/by-id")


class DeviceLost(ApplianceError):  # noqa: N818 - an event as much as an error
    """The device went away or stopped delivering; reopen it."""


@dataclass(frozen=True)
class AudioDevice:
    """One PortAudio device.

    `index` holds only until PortAudio is initialised again. `stable_id` is empty where the
    hardware has none (plug-ins such as `pulse`).
    """

    name: str
    index: int
    input_channels: int
    output_channels: int
    default_rate_hz: int
    host_api: str
    stable_id: str = ""
    by_id: tuple[str, ...] = ()
    """Links under /dev/snd/by-id that name the same card."""

    def channels(self, direction: Direction) -> int:
        """Most channels of that direction, 0 if it has none."""
        return self.input_channels if direction == "input" else self.output_channels


# An error handler in C that does nothing. It has to live as long as the process.
_IGNORE = ctypes.CFUNCTYPE(
    None, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p
)(lambda *_: None)
_IGNORE_JACK = ctypes.CFUNCTYPE(None, ctypes.c_char_p)(lambda _: None)


@cache
def _silence_libraries() -> None:
    """Keep ALSA's and JACK's remarks about absent devices off the standard error stream.

    PortAudio tries every device that the system's configuration mentions; each that does not
    exist would print several lines. Errors that matter come back through PortAudio anyway.
    """
    for library, setter, handler in (
        ("libasound.so.2", "snd_lib_error_set_handler", _IGNORE),
        ("libjack.so.0", "jack_set_error_function", _IGNORE_JACK),
        ("libjack.so.0", "jack_set_info_function", _IGNORE_JACK),
    ):
        try:
            function = getattr(ctypes.CDLL(library), setter)
        except (OSError, AttributeError):
            continue  # not installed, so it cannot print either
        function.restype = None
        function(handler)


@cache
def tidy_up_after_jack() -> None:
    """Remove at exit what PortAudio's search for a JACK server leaves in ``/dev/shm``.

    Nothing is removed that was there before: then somebody may really use JACK.
    """
    traces = Path(f"/dev/shm/jack_db-{os.getuid()}")
    if not traces.exists():
        atexit.register(shutil.rmtree, traces, ignore_errors=True)


def open_portaudio() -> pyaudio.PyAudio:
    """Initialise PortAudio silently. The list of devices is as of this moment.

    Every instance must be terminated before a new one sees newly plugged devices.

    Raises:
        ApplianceError: ALSA's configuration is missing.
    """
    tidy_up_after_jack()
    configuration = os.environ.get("ALSA_CONFIG_PATH")
    if configuration and not Path(configuration).is_file():  # PortAudio would abort the process
        raise ApplianceError(
            f"ALSA_CONFIG_PATH names {configuration}, which does not exist. "
            "Start the loopback again, or unset the variable."
        )
    _silence_libraries()
    os.environ.setdefault("JACK_NO_START_SERVER", "1")  # looking for devices starts no daemon
    return pyaudio.PyAudio()


def list_devices(portaudio: pyaudio.PyAudio) -> list[AudioDevice]:
    """All devices that PortAudio sees, in its order."""
    devices = []
    for index in range(portaudio.get_device_count()):
        info: dict[str, Any] = portaudio.get_device_info_by_index(index)
        card = _CARD.search(info["name"])
        devices.append(
            AudioDevice(
                name=info["name"],
                index=index,
                input_channels=info["maxInputChannels"],
                output_channels=info["maxOutputChannels"],
                default_rate_hz=int(info["defaultSampleRate"]),
                host_api=portaudio.get_host_api_info_by_index(info["hostApi"])["name"],
                stable_id=stable_id(int(card[1])) if card else "",
                by_id=_links_by_id(int(card[1])) if card else (),
            )
        )
    return devices


def stable_id(card: int, sound: Path = _SOUND) -> str:
    """A name for an ALSA card that survives replugging and restarts.

    Args:
        card: ALSA's card number.
        sound: the kernel's sound class, another one in tests.

    Returns:
        `usb:VENDOR:PRODUCT:SERIAL-or-port`, else `alsa:ID` for a card on board, else "".
    """
    directory = sound / f"card{card}"
    interface = (directory / "device").resolve()
    for node in (interface, *interface.parents):
        if (node / "idVendor").exists() and (node / "idProduct").exists():
            last = _text(node / "serial") or f"port-{node.name}"
            return f"usb:{_text(node / 'idVendor')}:{_text(node / 'idProduct')}:{last}"
    identifier = _text(directory / "id")
    return f"alsa:{identifier}" if identifier else ""


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _links_by_id(card: int) -> tuple[str, ...]:
    try:
        links = sorted(_BY_ID.iterdir())
    except OSError:
        return ()
    return tuple(link.name for link in links if link.resolve().name == f"controlC{card}")


def select_device(
    devices: Sequence[AudioDevice],
    selector: str,
    direction: Direction,
    channels: int = 1,
    default_index: int | None = None,
) -> AudioDevice:
    """Choose one device.

    Args:
        devices: what `list_devices` gave.
        selector: an exact name, a stable id, a part of a name (any case), a name under
            /dev/snd/by-id, `default` (what the system prefers) or `auto` (a USB sound card with
            enough channels if there is one, else `default`).
        direction: what it must be able to do.
        channels: how many channels it must have at least.
        default_index: PortAudio's default device of that direction.

    Raises:
        ApplianceError: nothing fits; the message lists what there is.
    """
    able = [device for device in devices if device.channels(direction) >= channels]
    wanted = selector.strip().lower()
    if wanted in ("auto", "default"):
        usb = [device for device in able if device.stable_id.startswith("usb:")]
        if wanted == "auto" and usb:
            return usb[0]
        for device in able:
            if device.index == default_index:
                return device
        if wanted == "auto" and able:
            return able[0]
    else:
        for matches in (
            [device for device in able if device.name.lower() == wanted],
            [device for device in able if device.stable_id.lower() == wanted],
            [device for device in able if wanted in map(str.lower, device.by_id)],
            [device for device in able if wanted in device.name.lower()],
        ):
            if matches:
                return matches[0]
    raise ApplianceError(_nothing_fits(devices, selector, direction, channels))


def _nothing_fits(
    devices: Sequence[AudioDevice], selector: str, direction: Direction, channels: int
) -> str:
    listed = [
        f"{device.name!r}"
        + (f" = {device.stable_id}" if device.stable_id else "")
        + f" ({device.channels(direction)} ch)"
        for device in devices
        if device.channels(direction)
    ]
    wanted = f"No audio {direction} device {selector!r} with {channels} channel(s)"
    if not listed:
        return f"{wanted}: there is no {direction} device at all. Plug one in or use the loopback."
    fewer = ", or an array of fewer channels" if channels > 1 and direction == "input" else ""
    return f"{wanted}. Set one of these in the configuration{fewer}: {'; '.join(listed)}."


def find_device(
    portaudio: pyaudio.PyAudio, selector: str, direction: Direction, channels: int = 1
) -> AudioDevice:
    """`select_device` among what PortAudio sees, with its own default."""
    try:
        default = (
            portaudio.get_default_input_device_info()
            if direction == "input"
            else portaudio.get_default_output_device_info()
        )
        default_index: int | None = default["index"]
    except OSError:
        default_index = None
    return select_device(list_devices(portaudio), selector, direction, channels, default_index)


def choose_rate(
    portaudio: pyaudio.PyAudio, device: AudioDevice, direction: Direction, channels: int
) -> int:
    """The rate at which to open a device, in Hz.

    Hardware that can capture at 16 kHz needs no resampling here. A plug-in takes any rate and
    resamples by itself, worse and slower than soxr, so it is opened at the 48 kHz that lie behind.
    """
    plugin = _CARD.search(device.name) is None
    candidates = (48_000,) if plugin else (*_RATES_HZ[direction], device.default_rate_hz)
    for rate_hz in candidates:
        try:
            if portaudio.is_format_supported(
                rate_hz,
                **{
                    f"{direction}_device": device.index,
                    f"{direction}_channels": channels,
                    f"{direction}_format": pyaudio.paInt16,
                },
            ):
                return rate_hz
        except ValueError:
            continue
    return device.default_rate_hz
