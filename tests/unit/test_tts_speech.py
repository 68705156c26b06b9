import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.tts.speech import AUDIBLE, SpeechShaper, fade, going_on, pause_after_ms, trim

RATE_HZ = 22_050


def rendered(lead_ms=100, voiced_ms=500, tail_ms=200, noise=1e-5, amplitude=0.2):
    """A tone between near-silence, the way an engine renders a word."""
    rng = np.random.default_rng(1)
    lead, voiced, tail = (RATE_HZ * ms // 1000 for ms in (lead_ms, voiced_ms, tail_ms))
    audio = noise * rng.standard_normal(lead + voiced + tail)
    audio[lead : lead + voiced] += amplitude * np.sin(np.arange(voiced) * 0.1 + 0.3)
    return audio.astype(np.float32)


def test_near_silence_is_cut_at_both_ends():
    trimmed = trim(rendered(lead_ms=150, voiced_ms=500, tail_ms=300), RATE_HZ)
    assert 500 <= trimmed.size / RATE_HZ * 1000 <= 500 + 8 + 40 + 2 * 5


def test_speech_that_starts_at_once_is_kept_whole():
    audio = rendered(lead_ms=0, tail_ms=0)
    assert np.array_equal(trim(audio, RATE_HZ), audio)


def test_a_soft_consonant_before_a_loud_vowel_is_kept():
    audio = rendered(lead_ms=100, amplitude=0.5)
    start = RATE_HZ * 40 // 1000
    consonant = 0.01 * np.sin(np.arange(RATE_HZ // 20) * 1.9)
    audio[start : start + consonant.size] += consonant.astype(np.float32)
    kept_ms = trim(audio, RATE_HZ).size / RATE_HZ * 1000
    assert kept_ms >= 60 + 500  # the consonant began 60 ms before the vowel


@pytest.mark.parametrize("n", [0, 1, 50, 110, 5000])
def test_silence_is_not_speech(n):
    assert trim(np.zeros(n, np.float32), RATE_HZ).size == 0
    assert SpeechShaper(RATE_HZ).shape(np.zeros(n, np.float32), pause_ms=100) is None


def test_edges_fade_to_zero_and_the_middle_is_untouched():
    audio = np.full(4410, 0.5, np.float32)
    faded = fade(audio, RATE_HZ)
    assert faded[0] == 0
    assert faded[-1] == 0
    assert np.abs(np.diff(faded)).max() < 0.5 * 0.05
    assert np.array_equal(
        faded[RATE_HZ // 500 : -RATE_HZ // 100], audio[RATE_HZ // 500 : -RATE_HZ // 100]
    )
    assert audio[0] == 0.5


@pytest.mark.parametrize("pause_ms", [0, 120, 250])
def test_first_audible_sample_is_exact_and_early(pause_ms):
    speech = SpeechShaper(RATE_HZ).shape(rendered(lead_ms=180), pause_ms=pause_ms)
    loud = np.abs(speech.samples) >= AUDIBLE
    assert loud[speech.first_audible]
    assert not loud[: speech.first_audible].any()
    first_ms = speech.first_audible / RATE_HZ * 1000
    assert pause_ms <= first_ms <= pause_ms + 8 + 5


@given(st.lists(st.integers(20, 400), min_size=1, max_size=5))
def test_joined_chunks_have_no_click(voiced_ms):
    """Each begins and ends in the middle of a tone, which would step by half its amplitude."""
    shaper = SpeechShaper(RATE_HZ)
    chunks = [rendered(lead_ms=0, voiced_ms=ms, tail_ms=0) for ms in voiced_ms]
    joined = np.concatenate([shaper.shape(chunk).samples for chunk in chunks])
    steps = np.abs(np.diff(np.concatenate([[0], joined, [0]])))
    assert steps.max() <= 0.12 * np.abs(joined).max()  # the tone's own 0.1, and the fade's


@pytest.mark.parametrize(
    ("text", "pause_ms"),
    [
        ("Rome.", 250),
        ('"Rome."', 250),
        ("Rome?", 250),
        ("你好。", 250),
        ("In Rome,", 120),
        ("These:", 120),
        ("and", 40),
        ("", 40),
    ],
)
def test_pause_follows_the_punctuation(text, pause_ms):
    assert pause_after_ms(text) == pause_ms


def test_a_chunk_that_breaks_off_is_spoken_as_going_on():
    assert going_on("I am here to help you") == "I am here to help you,"
    assert going_on("Rome.") == "Rome."
    assert going_on("") == ""
