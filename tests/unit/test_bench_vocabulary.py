"""What the vocabulary bench says and counts."""

import numpy as np
import pytest

from appliance.asr.phonetics import sound
from appliance.bench.vocabulary import Tally, holds, right_words
from appliance.bench.vocabulary_speech import in_noise, sentences
from appliance.bench.vocabulary_words import development, held_out, invented_names


def test_development_and_held_out_material_share_nothing():
    one, two = development(), held_out(1)
    assert not {entry.lower() for entry in one.entries} & {entry.lower() for entry in two.entries}
    assert not set(one.voices) & set(two.voices)
    assert not set(one.plain) & set(two.plain)
    for kind, carriers in one.carriers.items():
        assert not set(carriers) & set(two.carriers[kind])


@pytest.mark.parametrize("words", [development(), held_out(1)])
def test_every_entry_is_said_in_its_own_sentences(words):
    said = list(sentences(words, 2))
    assert len(said) == 2 * len(words.entries) + len(words.plain)
    assert all(entry in text for text, entry in said)
    assert len({text for text, entry in said if entry}) == 2 * len(words.entries)
    assert all(sound(entry) for entry in words.entries)


def test_invented_names_are_the_same_for_a_seed_and_all_different():
    names = invented_names(200, seed=3)
    assert names == invented_names(200, seed=3)
    assert names != invented_names(200, seed=4)
    assert len(set(names)) == 200


def test_noise_is_as_far_below_speech_as_asked():
    rng = np.random.default_rng(0)
    speech = np.sin(np.arange(16_000) / 5).astype(np.float32)
    quiet = in_noise(speech, 30.0, np.random.default_rng(1))
    loud = in_noise(speech, 10.0, np.random.default_rng(1))
    edges = np.r_[0:4000, -4000:0]  # only noise
    drop_db = 20 * np.log10(np.std(loud[edges]) / np.std(quiet[edges]))
    assert drop_db == pytest.approx(20.0, abs=0.1)
    assert np.std(in_noise(speech, 100.0, rng)[6000:-6000]) == pytest.approx(0.05, rel=0.1)


def test_right_words_are_those_of_the_alignment():
    assert right_words("call the doctor now", "Call a doctor, now!") == {0, 2, 3}
    assert right_words("twelve apples", "12 apples") == {0, 1}
    assert right_words("call", "") == set()


def test_an_entry_is_held_however_it_is_written():
    assert holds("Call doctor okonkwo, please", "Doctor Okonkwo")
    assert holds("Dr. Okonkwo?", "Doctor Okonkwo")
    assert not holds("Okonkwos", "Okonkwo")


def test_recovery_damage_and_intruders_are_counted():
    tally = Tally(cost_ms=[1.0])
    tally.add("Call Tado now", "Tado", "Call title now", "Call Tado now", ["Tado"])
    tally.add("Call Tado now", "Tado", "Call title now", "Tadhg now", ["Tadhg"])
    tally.add("Call Tado now", "Tado", "Call Tado now", "Call Tado now", [])
    figures = tally.figures("x")
    assert figures["x_missed"] == 2
    assert figures["x_recovered_percent"] == 50.0
    assert figures["x_plain_right_percent"] == pytest.approx(33.33)
    assert figures["x_intruders"] == 1
    assert figures["x_right_words"] == 7
    assert figures["x_damaged_percent"] == pytest.approx(14.29)
