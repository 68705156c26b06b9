"""Streaming resampling: seamless, prompt, in time."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.audio.resample import StreamResampler


def sine(rate_hz: int, frequency_hz: float, seconds: float) -> np.ndarray:
    return np.sin(2 * np.pi * frequency_hz * np.arange(int(rate_hz * seconds)) / rate_hz).astype(
        np.float32
    )


def level_db(samples: np.ndarray) -> float:
    return float(20 * np.log10(np.sqrt(2 * np.mean(np.square(samples, dtype=np.float64))) + 1e-9))


def push_blocks(resampler: StreamResampler, stream: np.ndarray, block: int) -> list[np.ndarray]:
    return [resampler.push(stream[i : i + block]) for i in range(0, len(stream), block)]


@pytest.mark.parametrize("rate_hz", [8000, 11025, 22050, 32000, 44100, 48000, 96000, 192000])
def test_tone_survives_and_comes_promptly(rate_hz: int) -> None:
    resampler = StreamResampler(rate_hz, 16_000)
    blocks = push_blocks(resampler, sine(rate_hz, 1000, 2), rate_hz // 100)
    output = np.concatenate(blocks)
    middle = output[8000:24000]
    assert level_db(middle) == pytest.approx(0, abs=0.1)
    expected = np.fft.rfft(middle * np.hanning(len(middle)))
    assert np.argmax(np.abs(expected)) == round(1000 * len(middle) / 16_000)
    # At least half a block comes out for each block that goes in, after the first few.
    assert min(map(len, blocks[4:-1])) >= 80
    assert resampler.held_ms < 31


def test_it_is_one_stream_whatever_the_chunks() -> None:
    noise = np.random.default_rng(3).uniform(-0.5, 0.5, 48_000).astype(np.float32)
    whole = np.concatenate(push_blocks(StreamResampler(48_000, 16_000), noise, 480))
    pieces = np.concatenate(push_blocks(StreamResampler(48_000, 16_000), noise, 333))
    common = min(len(whole), len(pieces))
    np.testing.assert_allclose(whole[:common], pieces[:common], atol=1e-5)


def test_what_cannot_be_represented_is_removed_not_folded() -> None:
    output = np.concatenate(
        push_blocks(StreamResampler(48_000, 16_000), sine(48_000, 11_000, 1), 480)
    )
    assert level_db(output[4000:]) < -90


def test_impulse_keeps_its_place() -> None:
    impulse = np.zeros(48_000, np.float32)
    impulse[24_000] = 1
    output = np.concatenate(push_blocks(StreamResampler(48_000, 16_000), impulse, 480))
    assert abs(int(np.argmax(np.abs(output))) - 8000) <= 2  # 0.125 ms


def test_last_gives_the_rest() -> None:
    resampler = StreamResampler(22_050, 48_000)
    first = resampler.push(sine(22_050, 440, 0.5))
    rest = resampler.push(np.zeros(0, np.float32), last=True)
    assert len(first) + len(rest) == pytest.approx(24_000, abs=2)


def test_channels_stay_apart() -> None:
    frames = np.stack([sine(48_000, 500, 0.5), np.zeros(24_000, np.float32)], axis=1)
    output = np.concatenate(push_blocks(StreamResampler(48_000, 16_000, 2), frames, 480))
    assert output.shape[1] == 2
    assert level_db(output[2000:, 0]) == pytest.approx(0, abs=0.1)
    assert not output[:, 1].any()


def test_equal_rates_are_free() -> None:
    chunk = np.ones(160, np.float32)
    resampler = StreamResampler(16_000, 16_000)
    assert resampler.push(chunk) is chunk
    assert resampler.held_ms == 0
