"""The engines in a row, with faults put into the middle of a voice."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.audio.files import read_speech
from appliance.capture.agc import AutomaticGain
from appliance.capture.denoise import SpeexSuppressor
from appliance.capture.limits import OutputGuard, Sanitizer
from appliance.capture.speex import SpeexEchoCanceller
from appliance.run import QUESTION

MAX_GAIN_DB = 12.0
FAULT = slice(150, 200)
"""Half a second of 10 ms blocks."""

Fault = Callable[[np.ndarray], np.ndarray]


def _square(block: np.ndarray) -> np.ndarray:
    return np.broadcast_to(np.where(np.arange(160) // 20 % 2, 1.0, -1.0), block.shape)


def _unplugged(block: np.ndarray) -> np.ndarray:
    return np.stack([block[0], np.zeros(160)])


FAULTS: dict[str, Fault] = {
    "nan": lambda block: np.full_like(block, np.nan),
    "infinity": lambda block: np.full_like(block, -np.inf),
    "absurd": lambda block: 1e30 * block,
    "silence": np.zeros_like,
    "dc": lambda block: block + 0.8,
    "square wave": _square,
    "unplugged": _unplugged,
}


class Stages:
    """All but alignment, Kalman filter and beam: two microphones in, one channel out."""

    def __init__(self) -> None:
        self.sanitizer, self.far_sanitizer = Sanitizer(2), Sanitizer(1)
        self.canceller = SpeexEchoCanceller(2)
        self.suppressor = SpeexSuppressor()
        self.gain = AutomaticGain(max_gain_db=MAX_GAIN_DB)
        self.guard = OutputGuard(MAX_GAIN_DB)

    def process(self, mic: np.ndarray, far: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The output, and the cleaned microphones."""
        mic = self.sanitizer.process(mic)
        far = self.far_sanitizer.process(far)[0]
        mono = self.canceller.process(mic, far).mean(axis=0)
        return self.guard.process(self.gain.process(self.suppressor.process(mono)), mic), mic


@cache
def scene() -> tuple[np.ndarray, np.ndarray]:
    """A question of 4 s while the loudspeaker plays noise; (blocks, 2, 160), (blocks, 1, 160)."""
    samples, _ = read_speech(QUESTION)
    rng = np.random.default_rng(2)
    near = np.resize(samples, 400 * 160) * (0.1 / np.std(samples))
    far = 0.03 * rng.standard_normal(len(near))
    echo = np.convolve(far, 0.3 * np.exp(-np.arange(200) / 40))[: len(near)]
    mic = (near + echo + 1e-4 * rng.standard_normal((2, len(near)))).astype(np.float32)
    return (
        np.ascontiguousarray(mic.reshape(2, -1, 160).swapaxes(0, 1)),
        far.astype(np.float32).reshape(-1, 1, 160),
    )


def run(mic: np.ndarray, far: np.ndarray) -> tuple[np.ndarray, Stages]:
    stages = Stages()
    out = np.empty((len(mic), 160), np.float32)
    heard = 25 * [0.0]
    for number in range(len(mic)):
        out[number], clean = stages.process(mic[number], far[number])
        heard.append(float(np.square(clean).mean(axis=1).max()))
        allowed = 10 ** (MAX_GAIN_DB / 10) * max(heard[-25:]) + 1e-8
        assert np.square(out[number]).mean() <= allowed * 1.001
    assert np.isfinite(out).all()
    assert np.abs(out).max() <= 1.0
    return out, stages


@cache
def undisturbed() -> np.ndarray:
    """The output without a fault."""
    return run(*scene())[0]


def level_db(blocks: np.ndarray) -> float:
    return float(10 * np.log10(np.square(blocks, dtype=float).mean() + 1e-12))


@pytest.mark.parametrize(
    ("where", "fault"),
    [
        *(("mic", fault) for fault in FAULTS),
        *(("far", fault) for fault in sorted(FAULTS.keys() - {"unplugged"})),
    ],
)
def test_recovers_from_half_a_second_of(where: str, fault: str) -> None:
    mic, far = scene()
    expected = undisturbed()
    spoilt = {"mic": mic.copy(), "far": far.copy()}
    for block in spoilt[where][FAULT]:
        with np.errstate(over="ignore"):
            block[:] = FAULTS[fault](block)
    out, _ = run(spoilt["mic"], spoilt["far"])
    np.testing.assert_array_equal(out[: FAULT.start], expected[: FAULT.start])
    after = slice(FAULT.stop + 100, None)  # one second later
    assert level_db(out[after]) == pytest.approx(level_db(expected[after]), abs=2)


@settings(max_examples=8, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(FAULTS)), st.integers(0, 399), st.integers(1, 60)),
        max_size=6,
    )
)
def test_any_sequence_of_faults_stays_bounded(faults: list[tuple[str, int, int]]) -> None:
    mic, far = (blocks.copy() for blocks in scene())
    for name, start, length in faults:
        for block in mic[start : start + length]:
            with np.errstate(all="ignore"):
                block[:] = FAULTS[name](block)
    run(mic, far)


def test_each_kind_is_counted() -> None:
    mic, far = (blocks.copy() for blocks in scene())
    mic[100:110, 0, :7] = np.nan
    mic[120, 1, :5] = 3.0
    mic[130:180, 1] = 1.0
    _, stages = run(mic, far)
    faults = stages.sanitizer.faults
    assert (faults.nan_samples, faults.excess_samples, faults.clipped_samples) == (70, 5, 8000)
    assert faults.dc_blocks >= 45
