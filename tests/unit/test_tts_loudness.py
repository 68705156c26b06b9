import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.tts.loudness import LoudnessNormaliser, limit, loudness_lufs

RATE_HZ = 22_050
CEILING = 10 ** (-1 / 20)


def tone(seconds, *, amplitude=0.1, hz=300.0, rate_hz=RATE_HZ):
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    return (amplitude * np.sin(2 * np.pi * hz * t)).astype(np.float32)


@pytest.mark.parametrize("rate_hz", [16_000, 22_050, 48_000])
def test_the_standard_calibration_tone_reads_minus_three(rate_hz):
    """BS.1770: a 997 Hz sine at full scale in one channel is -3.01 LKFS."""
    assert loudness_lufs(tone(3, amplitude=1, hz=997, rate_hz=rate_hz), rate_hz) == pytest.approx(
        -3.01, abs=0.05
    )


def test_bass_counts_less_and_treble_more():
    reference = loudness_lufs(tone(1, hz=1000), RATE_HZ)
    assert loudness_lufs(tone(1, hz=40), RATE_HZ) < reference - 5
    assert loudness_lufs(tone(1, hz=4000), RATE_HZ) > reference + 2


def test_pauses_do_not_count():
    speech = tone(2)
    pause = np.zeros(3 * RATE_HZ, np.float32)
    with_pause = loudness_lufs(np.concatenate([speech, pause, speech]), RATE_HZ)
    assert with_pause == pytest.approx(loudness_lufs(speech, RATE_HZ), abs=0.6)


@pytest.mark.parametrize("n", [0, 1, 100, 3000, RATE_HZ])
def test_silence_of_any_length_is_minus_infinity(n):
    assert loudness_lufs(np.zeros(n, np.float32), RATE_HZ) == -np.inf


def levelled(normaliser, speech):
    """What a sentence becomes when it is spoken now."""
    out = speech * 10 ** (normaliser.gain_db / 20)
    normaliser.learn(speech)
    return out


def test_gain_reaches_the_target_from_far_below():
    normaliser = LoudnessNormaliser(RATE_HZ, target_lufs=-20)
    for _ in range(40):
        out = levelled(normaliser, tone(3, amplitude=0.03))
    assert loudness_lufs(out, RATE_HZ) == pytest.approx(-20, abs=0.3)


def test_a_quiet_sentence_stays_quieter_than_its_neighbours():
    normaliser = LoudnessNormaliser(RATE_HZ)
    loud, quiet = tone(3, amplitude=0.1), tone(1, amplitude=0.05)
    for _ in range(5):
        before = levelled(normaliser, loud)
    after = levelled(normaliser, quiet)
    difference = loudness_lufs(before, RATE_HZ) - loudness_lufs(after, RATE_HZ)
    assert difference == pytest.approx(6.02, abs=0.5)


def test_silence_does_not_change_the_gain():
    normaliser = LoudnessNormaliser(RATE_HZ)
    before = normaliser.gain_db
    normaliser.learn(np.zeros(RATE_HZ, np.float32))
    assert normaliser.gain_db == before


def test_amplification_is_bounded():
    normaliser = LoudnessNormaliser(RATE_HZ, max_gain_db=12)
    for _ in range(30):
        normaliser.learn(tone(5, amplitude=0.002))
    assert normaliser.gain_db == 12


def test_what_does_not_need_limiting_is_returned_as_it_is():
    audio = tone(0.5, amplitude=0.85)
    assert np.array_equal(limit(audio, RATE_HZ), audio)


def test_limiting_leaves_the_rest_of_the_speech_alone():
    audio = tone(1, amplitude=0.5)
    audio[10_000] = 1.6
    limited = limit(audio, RATE_HZ)
    assert np.abs(limited).max() <= CEILING + 1e-6
    far = np.abs(np.arange(audio.size) - 10_000) > RATE_HZ // 50
    assert np.allclose(limited[far], audio[far])


@given(
    st.integers(1, 4000), st.integers(0, 2**32 - 1), st.floats(0.01, 40), st.integers(8000, 48_000)
)
def test_nothing_ever_exceeds_the_ceiling(n, seed, gain, rate_hz):
    audio = (gain * np.random.default_rng(seed).standard_normal(n)).astype(np.float32)
    limited = limit(audio, rate_hz)
    assert limited.shape == audio.shape
    assert limited.dtype == np.float32
    assert np.abs(limited).max() <= CEILING + 1e-6
    assert (np.sign(limited) == np.sign(audio)).all()
