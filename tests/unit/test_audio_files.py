"""Sound files of every kind, and one clear line for each that cannot be used."""

from __future__ import annotations

import logging
import resource
from pathlib import Path

import numpy as np
import pytest
import soundfile

from appliance.audio.files import inspect_speech, read_speech, stream_speech, write_wav
from appliance.errors import ApplianceError


def tone(rate_hz: int, seconds: float, channels: int = 1) -> np.ndarray:
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(int(rate_hz * seconds)) / rate_hz)
    return wave if channels == 1 else np.stack([wave] * channels, axis=1)


def is_tone(samples: np.ndarray) -> bool:
    middle = samples[len(samples) // 4 : len(samples) * 3 // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    peak_hz = np.argmax(spectrum) * 16_000 / len(middle)
    return abs(peak_hz - 440) < 4 and 0.45 < np.abs(middle).max() < 0.55


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE",
                                     "ULAW"])  # fmt: skip
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_encodings(tmp_path: Path, subtype: str, channels: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(44_100, 1, channels), 44_100, subtype=subtype)
    samples, info = read_speech(path)
    assert samples.dtype == np.float32
    assert samples.shape == (16_000,)
    assert is_tone(samples)
    assert (info.rate_hz, info.channels, info.encoding) == (44_100, channels, subtype)
    assert not info.truncated


@pytest.mark.parametrize("rate_hz", [8000, 11_025, 16_000, 22_050, 32_000, 48_000, 96_000, 192_000])
def test_rates(tmp_path: Path, rate_hz: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(rate_hz, 2), rate_hz)
    samples, info = read_speech(path)
    assert abs(len(samples) - 32_000) <= 1
    assert is_tone(samples)
    assert info.duration_s == pytest.approx(2)


def test_16_khz_is_untouched(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    wave = np.random.default_rng(0).integers(-32768, 32767, 40_000).astype(np.int16)
    soundfile.write(path, wave, 16_000)
    np.testing.assert_array_equal(read_speech(path)[0], wave / np.float32(32768))


def test_written_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    wave = tone(16_000, 0.5).astype(np.float32)
    write_wav(path, wave)
    np.testing.assert_allclose(read_speech(path)[0], wave, atol=1 / 32_000)


def test_blocks_are_the_same_audio(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(48_000, 2.5), 48_000)
    blocks, _ = stream_speech(path, 160)
    pieces = list(blocks)
    assert {len(piece) for piece in pieces} == {160}
    whole, _ = read_speech(path)
    np.testing.assert_array_equal(np.concatenate(pieces)[: len(whole)], whole)


def test_an_hour_stays_small_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "hour.wav"
    second = tone(8000, 1).astype(np.float32)
    with soundfile.SoundFile(path, "w", 8000, 1, "PCM_16") as file:
        for _ in range(3600):
            file.write(second)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    blocks, info = stream_speech(path, 16_000)
    count = sum(1 for _ in blocks)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
    assert info.duration_s == 3600
    assert abs(count - 3600) <= 1
    assert grown_kib < 30_000  # the audio itself would be 230 MB


def truncated(path: Path, keep_bytes: int) -> Path:
    soundfile.write(path, tone(16_000, 2), 16_000)
    path.write_bytes(path.read_bytes()[:keep_bytes])
    return path


def test_truncated_gives_what_is_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = truncated(tmp_path / "a.wav", 44 + 32_000)
    with caplog.at_level(logging.WARNING):
        samples, info = read_speech(path)
    assert info.truncated
    assert len(samples) == 16_000
    assert is_tone(samples)
    assert "cut off" in caplog.text


def test_a_streamed_header_is_not_called_truncated(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(16_000, 1), 16_000)
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    assert not inspect_speech(path).truncated


@pytest.mark.parametrize("keep_bytes", [10, 43, 44, 44 + 1000])
def test_truncated_beyond_use_is_an_error(tmp_path: Path, keep_bytes: int) -> None:
    with pytest.raises(ApplianceError) as caught:
        read_speech(truncated(tmp_path / "a.wav", keep_bytes))
    assert "\n" not in str(caught.value)
    assert "a.wav" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "is empty"), (b"#!/bin/sh\necho no sound\n" * 20, "not a sound file")],
)
def test_no_sound_file(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(ApplianceError, match=reason):
        read_speech(path)


def test_no_samples(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(0), 16_000)
    with pytest.raises(ApplianceError, match="holds no audio"):
        read_speech(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers(tmp_path: Path, value: float) -> None:
    path = tmp_path / "a.wav"
    wave = tone(48_000, 2).astype(np.float32)
    wave[70_000] = value
    soundfile.write(path, wave, 48_000, subtype="FLOAT")
    with pytest.raises(ApplianceError, match="not numbers"):
        read_speech(path)


def test_floats_beyond_full_scale_are_clipped(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, 4 * tone(16_000, 1), 16_000, subtype="FLOAT")
    assert np.abs(read_speech(path)[0]).max() == 1


def test_a_rate_that_no_recorder_has(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(4000, 1), 4000)
    with pytest.raises(ApplianceError, match="4000 Hz"):
        read_speech(path)


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ApplianceError, match="no file"):
        read_speech(tmp_path / "none.wav")
    with pytest.raises(ApplianceError, match="is a folder"):
        read_speech(tmp_path)


def test_unwritable_place(tmp_path: Path) -> None:
    with pytest.raises(ApplianceError, match="Cannot write"):
        write_wav(tmp_path / "no" / "folder.wav", np.zeros(10, np.float32))
