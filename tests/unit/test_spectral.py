import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from appliance.capture.spectral import BINS, LATENCY_SAMPLES, Analysis, Synthesis


@given(seed=st.integers(0, 2**32 - 1), channels=st.integers(1, 4))
def test_synthesis_gives_back_what_was_analysed(seed, channels):
    signal = np.random.default_rng(seed).uniform(-1, 1, (channels, 10 * 160)).astype(np.float32)
    analysis, synthesis = Analysis(channels), [Synthesis() for _ in range(channels)]
    out = []
    for at in range(0, signal.shape[1], 160):
        spectra = analysis.process(signal[:, at : at + 160])
        assert spectra.shape == (channels, BINS)
        assert spectra.dtype == np.complex64
        out.append([part.process(one) for part, one in zip(synthesis, spectra, strict=True)])
    result = np.concatenate(out, axis=1)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result[:, LATENCY_SAMPLES:], signal[:, :-LATENCY_SAMPLES], atol=2e-6)


def test_a_tone_lies_in_its_bin():
    tone = np.sin(2 * np.pi * 1000 * np.arange(320) / 16_000).astype(np.float32)
    analysis = Analysis(1)
    analysis.process(tone[None, :160])
    power = np.abs(analysis.process(tone[None, 160:])[0])
    assert np.argmax(power) == 20
    assert power[40:].max() < power[20] / 100
