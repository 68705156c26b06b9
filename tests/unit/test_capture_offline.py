"""The front-end over recordings: any file in, aligned output, nothing half written."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.capture.chain import FrontEnd
from appliance.capture.offline import AHEAD_SAMPLES, Files, filter_recording
from appliance.config import FrontEndConfig
from appliance.errors import ApplianceError


@dataclass
class Out:
    samples: np.ndarray


class FakeChain:
    """Gives microphone 0, less the far-end that is given early, after its latency."""

    def __init__(self, channels: int, latency_samples: int = 230) -> None:
        self.channels, self.latency_samples = channels, latency_samples
        self.held = np.zeros(latency_samples, np.float32)
        self.seen: list[tuple[np.ndarray, np.ndarray | None]] = []
        self.learnt = np.zeros(3)
        self.drift_ppm = 0.0
        self.far = np.zeros(AHEAD_SAMPLES, np.float32)
        """Given, but not used yet."""

    def process(self, mic: np.ndarray, far: np.ndarray | None) -> Out:
        assert mic.shape == (self.channels, 160)
        self.seen.append((mic, far))
        self.far = np.concatenate([self.far, np.zeros(160, np.float32) if far is None else far])
        now = np.pad(self.far[:160], (0, max(0, 160 - len(self.far))))
        held = np.concatenate([self.held, mic[0] - now])
        self.far = self.far[160:]
        self.held = held[160:]
        return Out(held[:160])

    def metrics(self) -> dict[str, object]:
        number = len(self.seen)
        return {
            "erle_final_db": np.float32(number),
            "erle_linear_db": None,
            "delay_ms": float("nan"),
            "faults": {"nan_samples": 1, "clipped_samples": 2},
        }

    def state(self) -> dict[str, np.ndarray]:
        return {"learnt": self.learnt + len(self.seen)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.learnt = state["learnt"]


class Created:
    """Remembers the chain that was made."""

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments
        self.chain: FakeChain

    def __call__(self, channels: int) -> FakeChain:
        self.chain = FakeChain(channels, **self.arguments)
        return self.chain


def noise(samples: int, channels: int = 1, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (samples, channels)).astype(np.float32)


def tone(rate_hz: int, seconds: float, hz: float = 440.0) -> np.ndarray:
    time_s = np.arange(round(rate_hz * seconds)) / rate_hz
    return (0.4 * np.sin(2 * np.pi * hz * time_s)).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate_hz: int = 16_000, subtype: str = "FLOAT") -> Path:
    soundfile.write(path, samples, rate_hz, subtype=subtype)
    return path


def read(path: Path) -> np.ndarray:
    samples, _ = soundfile.read(path, dtype="float32")
    return samples


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., Files]:
    def make(mic: np.ndarray, far: np.ndarray | None = None, **more: Any) -> Files:
        return Files(
            mic=write(tmp_path / "mic.wav", mic, more.pop("rate_hz", 16_000)),
            reference=None if far is None else write(tmp_path / "far.wav", far),
            out=tmp_path / "out.wav",
            **more,
        )

    return make


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(length=st.integers(1, 1200), latency=st.integers(0, 500))
def test_output_is_aligned_and_as_long(
    files: Callable[..., Files], length: int, latency: int
) -> None:
    samples = noise(length)
    chosen = files(samples)
    metrics = filter_recording(chosen, Created(latency_samples=latency))
    np.testing.assert_allclose(read(chosen.out), samples[:, 0], atol=2 / 32768)
    assert metrics["latency_samples"] == latency
    assert metrics["out"]["samples"] == length


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 16_000, 44_100, 48_000, 96_000])
def test_any_rate_stays_aligned(files: Callable[..., Files], rate_hz: int) -> None:
    chosen = files(tone(rate_hz, 1.5), rate_hz=rate_hz)
    filter_recording(chosen, Created())
    out, expected = read(chosen.out), tone(16_000, 1.5)
    assert abs(len(out) - len(expected)) <= 1  # 1.5 s are not whole samples at 11025 Hz
    np.testing.assert_allclose(out[400:23_600], expected[400:23_600], atol=2e-3)


@pytest.mark.parametrize("rate_hz", [8_000, 44_100, 48_000])
def test_output_at_the_rate_of_the_input_has_as_many_samples(
    files: Callable[..., Files], rate_hz: int
) -> None:
    samples = tone(rate_hz, 0.7321)
    chosen = files(samples, rate_hz=rate_hz)
    filter_recording(chosen, Created(), out_rate_hz=rate_hz)
    out = read(chosen.out)
    assert len(out) == len(samples)
    assert soundfile.info(chosen.out).samplerate == rate_hz
    np.testing.assert_allclose(out[400:-400], samples[400:-400], atol=2e-3)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT", "DOUBLE"])
def test_any_sample_format(tmp_path: Path, subtype: str) -> None:
    mic = write(tmp_path / "mic.wav", noise(1000), subtype=subtype)
    chosen = Files(mic=mic, reference=None, out=tmp_path / "out.wav")
    metrics = filter_recording(chosen, Created())
    np.testing.assert_allclose(read(chosen.out), read(mic), atol=1 / 100)
    assert metrics["mic"]["encoding"] == subtype


@pytest.mark.parametrize("far_length", [1, 1234, 4000, 9000])
def test_reference_is_followed_by_silence_or_cut(
    files: Callable[..., Files], far_length: int
) -> None:
    mic, far = noise(4000), noise(far_length, seed=2)
    chosen = files(mic, far)
    filter_recording(chosen, Created())
    padded = np.zeros(4000)
    padded[: min(far_length, 4000)] = far[:4000, 0]
    np.testing.assert_allclose(read(chosen.out), mic[:, 0] - padded, atol=2 / 32768)


def test_stereo_reference_is_averaged_and_resampled(tmp_path: Path) -> None:
    far = tone(44_100, 1.0)
    write(tmp_path / "far.wav", np.stack([far, 0 * far], axis=1), 44_100)
    chosen = Files(
        mic=write(tmp_path / "mic.wav", 0.5 * tone(16_000, 1.0)),
        reference=tmp_path / "far.wav",
        out=tmp_path / "out.wav",
    )
    filter_recording(chosen, Created())
    assert np.abs(read(chosen.out)[400:-400]).max() < 2e-3


def test_without_a_reference_the_chain_is_told_so(files: Callable[..., Files]) -> None:
    created = Created()
    filter_recording(files(noise(500)), created)
    assert all(far is None for _, far in created.chain.seen)


def test_channel_map_chooses_and_orders(files: Callable[..., Files]) -> None:
    mic = noise(800, channels=64)
    created = Created()
    chosen = files(mic)
    filter_recording(chosen, created, channel_map=[40, 3])
    seen = np.concatenate([block for block, _ in created.chain.seen], axis=1)[:, :800]
    np.testing.assert_allclose(seen, mic[:, [40, 3]].T)


@pytest.mark.parametrize(("channel_map", "words"), [([], "at most 16"), ([1, 64], "no channel 64")])
def test_channels_that_cannot_be(
    files: Callable[..., Files], channel_map: list[int], words: str
) -> None:
    with pytest.raises(ApplianceError, match=words):
        filter_recording(files(noise(800, channels=64)), Created(), channel_map=channel_map)


@pytest.mark.parametrize("rate_hz", [16_000, 48_000])
def test_what_is_not_a_number_is_counted_and_does_not_spread(
    files: Callable[..., Files], rate_hz: int
) -> None:
    mic = noise(9600, channels=2)
    mic[3000, 1], mic[3001, 1] = np.nan, np.inf
    created = Created()
    metrics = filter_recording(files(mic, rate_hz=rate_hz), created)
    bad = sum(int(np.count_nonzero(~np.isfinite(block))) for block, _ in created.chain.seen)
    # at 16 kHz it is for the chain to deal with (this one says 1, whatever comes)
    assert (bad, metrics["summary"]["faults"]["nan_samples"]) == (
        (2, 1) if rate_hz == 16_000 else (0, 3)
    )


def test_metrics(files: Callable[..., Files], tmp_path: Path) -> None:
    chosen = files(noise(40_000), metrics=tmp_path / "m.json")
    told: list[float] = []
    metrics = filter_recording(chosen, Created(), advance=told.append)
    stored = json.loads((tmp_path / "m.json").read_text())
    assert [row["at_s"] for row in stored["rows"]] == [1.0, 2.0, 2.52]
    assert stored["rows"][0]["erle_final_db"] == 100
    assert stored["rows"][0]["delay_ms"] is None  # it was not a number
    assert sum(told) == pytest.approx(2.52)
    summary = metrics["summary"]
    assert summary["erle_final_db"] == 200
    assert summary["erle_linear_db"] is None
    assert summary["faults"] == {"nan_samples": 1, "clipped_samples": 2}
    assert 0 < summary["real_time_factor"] < 1
    assert 0 < summary["block_p50_ms"] <= summary["block_p99_ms"]
    assert metrics["latency_ms"] == 230 / 16


def test_state_is_loaded_if_there_is_one_and_saved(
    files: Callable[..., Files], tmp_path: Path
) -> None:
    chosen = files(noise(1600), state=tmp_path / "room.npz")
    for _ in range(2):
        created = Created(latency_samples=0)
        filter_recording(chosen, created)
    np.testing.assert_array_equal(created.chain.learnt, [10, 10, 10])


@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04broken"])
def test_a_state_that_is_none(files: Callable[..., Files], tmp_path: Path, content: bytes) -> None:
    (tmp_path / "room.npz").write_bytes(content)
    chosen = files(noise(1600), state=tmp_path / "room.npz")
    with pytest.raises(ApplianceError, match="Remove it to start cold"):
        filter_recording(chosen, Created())
    assert (tmp_path / "room.npz").read_bytes() == content
    assert not chosen.out.exists()


def test_nothing_is_written_over_its_source(files: Callable[..., Files], tmp_path: Path) -> None:
    chosen = files(noise(100), noise(100))
    (tmp_path / "link.wav").symlink_to(chosen.mic)
    for out in (chosen.mic, chosen.reference, tmp_path / "link.wav"):
        with pytest.raises(ApplianceError, match="named twice"):
            filter_recording(Files(mic=chosen.mic, reference=chosen.reference, out=out), Created())
    with pytest.raises(ApplianceError, match="named twice"):
        filter_recording(files(noise(100), metrics=tmp_path / "out.wav"), Created())


@pytest.mark.parametrize(
    ("out", "words"),
    [("/dev/null", "not a file"), ("/nowhere/out.wav", "no folder"), ("/tmp", "not a file")],
)
def test_places_that_cannot_be_written(tmp_path: Path, out: str, words: str) -> None:
    mic = write(tmp_path / "mic.wav", noise(100))
    with pytest.raises(ApplianceError, match=words):
        filter_recording(Files(mic=mic, reference=None, out=Path(out)), Created())


def test_a_failure_leaves_the_old_output_and_no_temporary(
    files: Callable[..., Files], tmp_path: Path
) -> None:
    class Broken(FakeChain):
        def process(self, mic: np.ndarray, far: np.ndarray | None) -> Out:
            raise RuntimeError("broken")

    chosen = files(noise(5000))
    chosen.out.write_text("old")
    with pytest.raises(RuntimeError):
        filter_recording(chosen, Broken)
    assert chosen.out.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mic.wav", "out.wav"]


@pytest.mark.parametrize("content", [b"", b"RIFF", b"no sound at all" * 10])
def test_files_that_hold_no_sound(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mic.wav").write_bytes(content)
    with pytest.raises(ApplianceError):
        filter_recording(
            Files(mic=tmp_path / "mic.wav", reference=None, out=tmp_path / "out.wav"), Created()
        )
    with pytest.raises(ApplianceError, match="holds no audio"):
        filter_recording(
            Files(
                mic=write(tmp_path / "none.wav", noise(0)),
                reference=None,
                out=tmp_path / "out.wav",
            ),
            Created(),
        )


@pytest.mark.parametrize("drift_ppm", [0.0, 2_000.0, -2_000.0])
def test_the_reference_is_ahead_and_follows_the_drift(
    files: Callable[..., Files], drift_ppm: float
) -> None:
    created = Created(latency_samples=0)

    def create(channels: int) -> FakeChain:
        chain = created(channels)
        chain.drift_ppm = drift_ppm
        chain.metrics = lambda: {"delay_ms": np.float32(50), "faults": {}}  # type: ignore[method-assign]
        return chain

    mic, far = noise(32_000), noise(33_000, seed=2)
    metrics = filter_recording(files(mic, far), create)
    given = np.concatenate([far for _, far in created.chain.seen if far is not None])
    heard = np.concatenate([mic for mic, _ in created.chain.seen], axis=1)[0]
    np.testing.assert_array_equal(heard[AHEAD_SAMPLES:][:32_000], mic[:, 0])
    assert len(given) == pytest.approx(len(heard) * (1 + drift_ppm * 1e-6), abs=1)
    np.testing.assert_array_equal(given[:32_000], far[: len(given[:32_000]), 0])
    # the chain counts from what it is given, the metrics from where the recordings begin
    assert metrics["rows"][-1]["delay_ms"] == pytest.approx(46 - 2 * drift_ppm * 1e-3, abs=0.1)


def test_an_echo_without_delay_that_comes_earlier_and_earlier_is_cancelled(
    files: Callable[..., Files],
) -> None:
    rng = np.random.default_rng(7)
    length = 14 * 16_000
    syllables = np.interp(np.arange(length) / 2_000, np.arange(113), rng.uniform(0, 0.2, 113))
    far = syllables * rng.standard_normal(length)
    path = 0.3 * rng.standard_normal(1_600) * np.exp(-np.arange(1_600) / 250)
    path[0] = 1
    echo = soxr.resample(np.convolve(far, path), 16_000 * (1 + 300e-6), 16_000, "VHQ")[:length]
    mic = 0.5 * echo + 1e-4 * rng.standard_normal(length)
    chosen = files(mic[:, None], far[:, None])
    plain = FrontEndConfig(noise_suppressor="off", automatic_gain=False)
    metrics = filter_recording(chosen, lambda channels: FrontEnd(plain, channels))
    left = read(chosen.out)[-4 * 16_000 :]
    assert np.mean(mic[-4 * 16_000 :] ** 2) > 10**3 * np.mean(left**2)
    assert metrics["summary"]["drift_ppm"] == pytest.approx(300, abs=2)
    assert metrics["rows"][-2]["delay_ms"] == pytest.approx(-4.2, abs=0.2)
