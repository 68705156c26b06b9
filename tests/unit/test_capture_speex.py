"""The echo canceller and the suppressor of libspeexdsp."""

import ctypes.util
import gc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from appliance.capture import speex
from appliance.capture.speex import SpeexEchoCanceller, SpeexPreprocessor, to_float, to_int16
from appliance.errors import ApplianceError

SECONDS = 6


def level_db(samples: np.ndarray) -> np.ndarray:
    return 10 * np.log10(np.mean(samples**2, axis=-1) + 1e-12)


def echo_scene(channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Microphones that hear only the loudspeaker, through a short decaying echo path each."""
    rng = np.random.default_rng(3)
    far = (0.1 * rng.standard_normal(SECONDS * 16_000)).astype(np.float32)
    paths = 0.2 * rng.standard_normal((channels, 400)) * np.exp(-np.arange(400) / 80)
    mic = np.stack([np.convolve(far, path)[: len(far)] for path in paths])
    return mic.astype(np.float32), far


def cancel(canceller: SpeexEchoCanceller, mic: np.ndarray, far: np.ndarray) -> np.ndarray:
    starts = range(0, len(far), 160)
    return np.concatenate(
        [canceller.process(mic[:, i : i + 160], far[i : i + 160]) for i in starts], axis=1
    )


def test_removes_the_echo_from_every_microphone() -> None:
    mic, far = echo_scene(3)
    error = cancel(SpeexEchoCanceller(3), mic, far)
    erle_db = level_db(mic[:, -32_000:]) - level_db(error[:, -32_000:])
    assert erle_db.min() > 25


def test_microphones_do_not_disturb_each_other() -> None:
    mic, far = echo_scene(2)
    alone = cancel(SpeexEchoCanceller(1), mic[:1], far)
    mic[1] = 1.0
    np.testing.assert_array_equal(cancel(SpeexEchoCanceller(2), mic, far)[:1], alone)


def test_reset_forgets_the_echo_path() -> None:
    mic, far = echo_scene(1)
    canceller = SpeexEchoCanceller(1)
    cancel(canceller, mic, far)
    first = cancel(SpeexEchoCanceller(1), mic, far)[:, :8000]
    canceller.reset()
    again = cancel(canceller, mic, far)[:, :8000]
    assert level_db(again) == pytest.approx(level_db(first), abs=1.0)


def test_suppressor_lowers_steady_noise_by_its_limit() -> None:
    noise = (0.02 * np.random.default_rng(1).standard_normal(96_000)).astype(np.float32)
    suppressor = SpeexPreprocessor(noise_suppress_db=-12)
    out = np.concatenate([suppressor.process(block) for block in noise.reshape(-1, 160)])
    assert level_db(noise[-32_000:]) - level_db(out[-32_000:]) == pytest.approx(12, abs=2)


def test_suppressor_delays_by_160_samples() -> None:
    click = np.zeros(16_000, np.float32)
    click[8_000] = 0.9
    suppressor = SpeexPreprocessor()
    out = np.concatenate([suppressor.process(block) for block in click.reshape(-1, 160)])
    assert np.argmax(np.abs(out)) == 8_000 + SpeexPreprocessor.LATENCY_SAMPLES


@pytest.mark.parametrize(("denoise", "removes"), [(True, True), (False, False)])
def test_residual_echo_is_suppressed_only_with_denoise(denoise: bool, removes: bool) -> None:
    mic, far = echo_scene(1)
    mic = np.tanh(8 * mic).astype(np.float32) / 8  # what no linear filter removes
    canceller = SpeexEchoCanceller(1)
    suppressor = SpeexPreprocessor(canceller, 0, denoise=denoise)
    linear, final = [], []
    for start in range(0, len(far), 160):
        error = canceller.process(mic[:, start : start + 160], far[start : start + 160])[0]
        linear.append(error)
        final.append(suppressor.process(error))
    gain_db = level_db(np.concatenate(linear[-200:])) - level_db(np.concatenate(final[-200:]))
    assert bool(gain_db > 10) is removes


def test_states_are_freed_with_their_objects_and_not_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    freed: list[str] = []
    library = speex._library()
    for name in ("speex_echo_state_destroy", "speex_preprocess_state_destroy"):
        destroy = getattr(library, name)

        def noted(pointer: object, name: str = name, destroy: object = destroy) -> None:
            freed.append(name)
            destroy(pointer)  # type: ignore[operator]

        monkeypatch.setattr(library, name, noted)
    canceller = SpeexEchoCanceller(2)
    suppressor = SpeexPreprocessor(canceller, 1)
    del canceller
    assert freed == ["speex_echo_state_destroy"]  # microphone 1 is still linked
    suppressor.process(np.zeros(160, np.float32))
    del suppressor
    gc.collect()
    assert sorted(freed) == ["speex_echo_state_destroy"] * 2 + ["speex_preprocess_state_destroy"]


def test_a_missing_library_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot_load(name: str) -> None:
        raise OSError(name)

    speex._library.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", cannot_load)
    with pytest.raises(ApplianceError, match="apt-get install libspeexdsp1"):
        SpeexEchoCanceller()


@given(
    hnp.arrays(np.float32, 160, elements=st.floats(-4, 4, width=32)),
)
def test_conversion_rounds_and_clips(samples: np.ndarray) -> None:
    integers = np.zeros(160, np.int16)
    to_int16(samples, integers)
    expected = np.clip(np.rint(samples.astype(float) * 32768), -32768, 32767)
    np.testing.assert_array_equal(integers, expected)
    inside = np.abs(samples) < 1 - 1 / 32768
    assert np.all(np.abs(to_float(integers) - samples)[inside] <= 0.5 / 32768)
