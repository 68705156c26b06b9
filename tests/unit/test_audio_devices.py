"""Which device is chosen, and what is said when none fits."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.audio.devices import AudioDevice, select_device, stable_id
from appliance.errors import ApplianceError

ARRAY = AudioDevice(
    "ReSpeaker 4 Mic Array: USB Audio (hw:2,0)", 3, 6, 0, 16_000, "ALSA",
    "usb:2886:0018:port-1-1.2", ("usb-SEEED_ReSpeaker_4_Mic_Array-00",),
)  # fmt: skip
ONBOARD = AudioDevice("HDA Intel PCH: ALC (hw:0,0)", 0, 2, 2, 48_000, "ALSA", "alsa:PCH")
HEADSET = AudioDevice("USB Headset: Audio (hw:1,0)", 1, 1, 2, 48_000, "ALSA", "usb:1:2:A1")
DEFAULT = AudioDevice("default", 4, 32, 32, 48_000, "ALSA")
DEVICES = [ONBOARD, HEADSET, ARRAY, DEFAULT]


@pytest.mark.parametrize(
    ("selector", "channels", "expected"),
    [
        ("ReSpeaker", 4, ARRAY),
        ("usb:2886:0018:port-1-1.2", 4, ARRAY),
        ("usb-SEEED_ReSpeaker_4_Mic_Array-00", 1, ARRAY),
        ("default", 1, DEFAULT),
        ("auto", 1, HEADSET),
        ("auto", 4, ARRAY),
        ("hda intel pch: alc (hw:0,0)", 2, ONBOARD),
    ],
)
def test_selection(selector: str, channels: int, expected: AudioDevice) -> None:
    assert select_device(DEVICES, selector, "input", channels, DEFAULT.index) is expected


def test_an_exact_name_wins_over_a_part_of_another() -> None:
    first = AudioDevice("default: mirror", 7, 1, 0, 48_000, "ALSA")
    exact = AudioDevice("mirror", 8, 1, 0, 48_000, "ALSA")
    assert select_device([first, exact], "mirror", "input") is exact


def test_auto_without_default_takes_what_there_is() -> None:
    assert select_device([ONBOARD], "auto", "input") is ONBOARD


def test_error_lists_what_exists() -> None:
    with pytest.raises(ApplianceError) as caught:
        select_device(DEVICES, "Jabra", "input", 1, DEFAULT.index)
    message = str(caught.value)
    assert "'Jabra'" in message
    assert "usb:2886:0018:port-1-1.2" in message
    assert "\n" not in message


def test_too_few_channels_is_an_error() -> None:
    with pytest.raises(ApplianceError, match="with 8 channel"):
        select_device([ONBOARD, ARRAY], "ReSpeaker", "input", 8)


def test_a_machine_without_devices_is_told_so() -> None:
    with pytest.raises(ApplianceError, match="no input device at all"):
        select_device([], "auto", "input")


def sound_card(root: Path, serial: str | None) -> Path:
    """A sysfs tree of one USB card on port 1-1.2."""
    usb = root / "devices" / "usb1" / "1-1" / "1-1.2"
    interface = usb / "1-1.2:1.0"
    interface.mkdir(parents=True)
    (usb / "idVendor").write_text("2886\n")
    (usb / "idProduct").write_text("0018\n")
    if serial is not None:
        (usb / "serial").write_text(serial + "\n")
    card = root / "class" / "card2"
    card.mkdir(parents=True)
    (card / "device").symlink_to(interface)
    (card / "id").write_text("Array\n")
    return root / "class"


@pytest.mark.parametrize(
    ("serial", "expected"),
    [("S9", "usb:2886:0018:S9"), (None, "usb:2886:0018:port-1-1.2")],
)
def test_stable_id_of_usb(tmp_path: Path, serial: str | None, expected: str) -> None:
    assert stable_id(2, sound_card(tmp_path, serial)) == expected


def test_stable_id_of_a_card_on_board(tmp_path: Path) -> None:
    (tmp_path / "card0").mkdir()
    (tmp_path / "card0" / "id").write_text("PCH\n")
    assert stable_id(0, tmp_path) == "alsa:PCH"
    assert stable_id(5, tmp_path) == ""
