"""Noise suppressors: what comes out, and exactly how late."""

from pathlib import Path

import numpy as np
import pytest

from appliance.capture.denoise import NoiseSuppressor, SpeexSuppressor, create_suppressor
from appliance.capture.gtcrn import GtcrnSuppressor
from appliance.errors import ApplianceError
from appliance.models.store import ensure_model


def noise(seconds: float, level: float = 0.02) -> np.ndarray:
    samples = np.random.default_rng(5).standard_normal(int(seconds * 100) * 160)
    return (level * samples).astype(np.float32)


def run(suppressor: NoiseSuppressor, samples: np.ndarray) -> np.ndarray:
    return np.concatenate([suppressor.process(block) for block in samples.reshape(-1, 160)])


def level_db(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(samples**2) + 1e-12))


@pytest.fixture(scope="module")
def gtcrn_dir() -> Path:
    return ensure_model("gtcrn")


def test_speex_lowers_noise_by_what_it_was_told(tmp_path: Path) -> None:
    suppressor = create_suppressor("speex", depth_db=9, models_path=tmp_path, dry_mix=0.0)
    samples = noise(4)
    out = run(suppressor, samples)
    assert level_db(samples[-16_000:]) - level_db(out[-16_000:]) == pytest.approx(9, abs=2)


def test_speex_is_late_by_its_latency() -> None:
    suppressor = SpeexSuppressor()
    click = np.zeros(16_000, np.float32)
    click[7_000] = 0.9
    assert np.argmax(run(suppressor, click)) == 7_000 + suppressor.latency_samples


@pytest.mark.models
def test_gtcrn_passes_what_is_dry_unchanged_and_late_by_its_latency(gtcrn_dir: Path) -> None:
    suppressor = GtcrnSuppressor(gtcrn_dir, dry_mix=1.0)
    samples = noise(0.5)
    out = run(suppressor, samples)
    late = suppressor.latency_samples
    assert np.abs(out[:late]).max() < 1e-6
    np.testing.assert_allclose(out[late:], samples[:-late], atol=1e-6)


@pytest.mark.models
def test_gtcrn_lowers_noise_down_to_the_dry_mix(gtcrn_dir: Path) -> None:
    samples = noise(2)
    suppressor = create_suppressor("gtcrn", depth_db=0, models_path=gtcrn_dir.parent, dry_mix=0.12)
    out = run(suppressor, samples)
    assert level_db(samples[-16_000:]) - level_db(out[-16_000:]) == pytest.approx(18.4, abs=2)


@pytest.mark.models
def test_gtcrn_keeps_speech(gtcrn_dir: Path) -> None:
    """A buzz with moving formants is speech to the network; two thirds of its level remain."""
    time_s = np.arange(32_000) / 16_000
    pulses = (np.diff(np.floor(130 * time_s), prepend=0) > 0).astype(float)
    syllables = np.clip(np.sin(2 * np.pi * 3 * time_s), 0, 1)
    voice = np.convolve(
        pulses * syllables, np.exp(-np.arange(400) / 40) * np.cos(np.arange(400) * 0.25)
    )
    samples = (0.1 * voice[:32_000]).astype(np.float32)
    out = run(GtcrnSuppressor(gtcrn_dir, dry_mix=0.0), samples)
    assert level_db(out[8_000:]) > level_db(samples[8_000:]) - 3.5


@pytest.mark.models
def test_gtcrn_goes_on_after_a_block_that_is_not_a_number(gtcrn_dir: Path) -> None:
    samples = noise(1)
    spoilt = samples.copy()
    spoilt[8_000:8_160] = np.nan
    out = run(GtcrnSuppressor(gtcrn_dir), spoilt)
    assert np.isfinite(out[-6_400:]).all()


@pytest.mark.models
def test_gtcrn_reset_begins_another_stream(gtcrn_dir: Path) -> None:
    samples = noise(0.5)
    suppressor = GtcrnSuppressor(gtcrn_dir)
    first = run(suppressor, samples)
    suppressor.reset()
    np.testing.assert_array_equal(run(suppressor, samples), first)


def test_gtcrn_without_its_model_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ApplianceError, match="appliance models fetch gtcrn"):
        create_suppressor("gtcrn", depth_db=0, models_path=tmp_path, dry_mix=0.1)
    (tmp_path / "gtcrn_simple.onnx").write_bytes(b"not a model")
    with pytest.raises(ApplianceError, match="appliance models fetch gtcrn"):
        GtcrnSuppressor(tmp_path)
