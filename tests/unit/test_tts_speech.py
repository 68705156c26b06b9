import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.tts.loudness import LoudnessNormaliser
from appliance.tts.speech import SentenceShaper, going_on, pause_after_ms

RATE_HZ = 22_050


def rendered(lead_ms=100, voiced_ms=500, tail_ms=200, noise=1e-5, amplitude=0.2):
    """A tone between near-silence, the way an engine renders a word."""
    rng = np.random.default_rng(1)
    lead, voiced, tail = (RATE_HZ * ms // 1000 for ms in (lead_ms, voiced_ms, tail_ms))
    audio = noise * rng.standard_normal(lead + voiced + tail)
    audio[lead : lead + voiced] += amplitude * np.sin(np.arange(voiced) * 0.1 + 0.3)
    return audio.astype(np.float32)


def shaped(audio, pause_ms=0, stretches=1):
    """The whole sentence, pushed in equal stretches."""
    shaper = SentenceShaper(RATE_HZ, LoudnessNormaliser(RATE_HZ), pause_ms=pause_ms)
    parts = np.array_split(audio, stretches)
    return np.concatenate([shaper.push(p, last=n == stretches) for n, p in enumerate(parts, 1)])


@pytest.mark.parametrize("stretches", [1, 2, 7])
def test_near_silence_is_cut_at_both_ends(stretches):
    speech = shaped(rendered(lead_ms=150, voiced_ms=500, tail_ms=300), stretches=stretches)
    assert 500 <= speech.size / RATE_HZ * 1000 <= 500 + 8 + 40 + 2 * 5


def test_speech_that_starts_at_once_is_kept_whole():
    audio = rendered(lead_ms=0, tail_ms=0)
    assert shaped(audio).size == audio.size


@pytest.mark.parametrize("stretches", [1, 5])
def test_a_soft_consonant_before_a_loud_vowel_is_kept(stretches):
    audio = rendered(lead_ms=100, amplitude=0.5)
    start = RATE_HZ * 40 // 1000
    consonant = 0.01 * np.sin(np.arange(RATE_HZ // 20) * 1.9)
    audio[start : start + consonant.size] += consonant.astype(np.float32)
    kept_ms = shaped(audio, stretches=stretches).size / RATE_HZ * 1000
    assert kept_ms >= 60 + 500  # the consonant began 60 ms before the vowel


@pytest.mark.parametrize("n", [0, 1, 50, 110, 5000])
def test_silence_is_not_speech(n):
    assert shaped(np.zeros(n, np.float32), pause_ms=100, stretches=3).size == 0


def test_edges_fade_to_zero_and_the_middle_has_one_gain():
    audio = np.full(4410, 0.05, np.float32)
    speech = shaped(audio)
    assert speech[0] == 0
    assert speech[-1] == 0
    assert np.abs(np.diff(speech)).max() < speech.max() * 0.05
    middle = speech[RATE_HZ // 500 : -RATE_HZ // 100]
    assert middle.min() == pytest.approx(middle.max())


@pytest.mark.parametrize("pause_ms", [0, 120, 250])
def test_first_audible_sample_is_early(pause_ms):
    loud = np.flatnonzero(np.abs(shaped(rendered(lead_ms=180), pause_ms=pause_ms)) >= 0.003)
    assert pause_ms <= loud[0] / RATE_HZ * 1000 <= pause_ms + 8 + 5


@given(st.lists(st.integers(20, 400), min_size=1, max_size=5))
def test_joined_sentences_have_no_click(voiced_ms):
    """Each begins and ends in the middle of a tone, which would step by half its amplitude."""
    sentences = [shaped(rendered(lead_ms=0, voiced_ms=ms, tail_ms=0)) for ms in voiced_ms]
    joined = np.concatenate(sentences)
    steps = np.abs(np.diff(np.concatenate([[0], joined, [0]])))
    assert steps.max() <= 0.12 * np.abs(joined).max()  # the tone's own 0.1, and the fade's


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 1e-3, 0.2, 1.5]), st.integers(1, 6000)), max_size=8),
    st.lists(st.integers(0, 40_000), max_size=9),
)
def test_in_stretches_it_sounds_as_in_one(sections, cuts):
    """Silence, soft and loud sections, peaks above full scale among them, cut anywhere."""
    audio = np.concatenate(
        [level * np.sin(np.arange(n) * 0.3) for level, n in [(0.2, 300), *sections]]
    ).astype(np.float32)
    shaper = SentenceShaper(RATE_HZ, LoudnessNormaliser(RATE_HZ))
    parts = np.split(audio, sorted(min(cut, audio.size) for cut in cuts))
    speech = np.concatenate([shaper.push(p, last=n == len(parts)) for n, p in enumerate(parts, 1)])
    np.testing.assert_allclose(speech, shaped(audio), atol=1e-6)
    assert np.abs(speech).max() <= 10 ** (-1 / 20)


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
