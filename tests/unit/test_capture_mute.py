"""Mute: two reasons, kept over restarts; in doubt muted."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.capture.mute import Mute, MuteFile, MuteKeys

SWITCH, KEY = 0x05, 0x01
MICMUTE, MUTE_DEVICE = 248, 0x0E


def test_a_request_mutes_and_unmutes() -> None:
    mute = Mute()
    assert mute.request(True) == ""
    assert mute.muted
    assert mute.request(False) == ""
    assert not mute.muted


def test_no_request_undoes_the_switch() -> None:
    mute = Mute()
    mute.take([(SWITCH, 1)])
    assert "switch" in mute.request(False)
    assert mute.muted
    mute.request(True)
    mute.take([(SWITCH, 0)])
    assert mute.muted, "what was asked for still holds"
    mute.request(False)
    assert not mute.muted


def test_a_key_changes_its_mind_at_each_press_and_not_at_its_release() -> None:
    mute = Mute()
    mute.take([(KEY, 1), (KEY, 0), (KEY, 2)])
    assert mute.hardware
    mute.take([(KEY, 1)])
    assert not mute.hardware


@given(
    st.lists(
        st.one_of(
            st.booleans(),
            st.tuples(st.sampled_from([SWITCH, KEY]), st.integers(0, 2)),
        )
    )
)
def test_software_never_undoes_hardware(actions: list[bool | tuple[int, int]]) -> None:
    mute = Mute()
    for action in actions:
        if isinstance(action, bool):
            before = mute.hardware
            mute.request(action)
            assert mute.hardware == before
        else:
            mute.take([action])
        assert mute.muted or not mute.hardware


@pytest.mark.parametrize("software", [True, False])
@pytest.mark.parametrize("hardware", [True, False])
def test_it_outlives_a_restart(tmp_path: Path, software: bool, hardware: bool) -> None:
    MuteFile(tmp_path).save(Mute(software, hardware))
    assert MuteFile(tmp_path).load() == Mute(software, hardware)


def test_at_first_it_is_not_muted(tmp_path: Path) -> None:
    assert not MuteFile(tmp_path).load().muted


@pytest.mark.parametrize("content", [b"", b"maybe", b"\xff\xfe\x00", b"software maybe"])
def test_a_damaged_file_means_muted(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "muted").write_bytes(content)
    assert MuteFile(tmp_path).load().muted
    assert "appliance mute off" in caplog.text


def test_a_full_disk_does_not_stop_muting(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    MuteFile(tmp_path / "missing").save(Mute(software=True))
    assert "will not outlive" in caplog.text


def test_events_of_the_kernel_are_understood(tmp_path: Path) -> None:
    keys = MuteKeys(tmp_path)
    assert keys.descriptors == []
    reader, writer = os.pipe2(os.O_NONBLOCK)
    keys.descriptors.append(reader)
    assert keys.read() == []
    for kind, code, value in [
        (SWITCH, MUTE_DEVICE, 1),
        (KEY, MICMUTE, 1),
        (KEY, 30, 1),
        (0, 0, 0),
        (SWITCH, MUTE_DEVICE, 0),
    ]:
        os.write(writer, struct.pack("llHHi", 1, 2, kind, code, value))
    assert keys.read() == [(SWITCH, 1), (KEY, 1), (SWITCH, 0)]
    keys.close()
    os.close(writer)


def test_what_is_no_input_device_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "event0").write_bytes(b"nothing")
    assert MuteKeys(tmp_path).descriptors == []
