"""The recorded speech that other tests rely on is all there."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from appliance.bench import recordings
from appliance.errors import ApplianceError


def test_every_set_is_speech_with_its_words() -> None:
    found = recordings.all_recordings()
    assert len(found) == len({recording.name for recording in found}) >= 35
    for recording in found:
        assert recording.samples.dtype == np.float32
        assert 1 < recording.seconds < 10, recording.name
        assert 0.02 < np.abs(recording.samples).max() <= 1, recording.name
        assert recording.text.strip()


def test_one_by_name() -> None:
    assert recordings.recording("0880").text == "he was not an ill disposed young man"


def test_other_voices_speak_for_minutes() -> None:
    for voice in get_args(recordings.PromptVoice):
        spoken = recordings.prompts(voice)
        assert sum(recording.seconds for recording in spoken) > 300
        assert all(2 <= recording.seconds <= 8.1 for recording in spoken)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "_SPHINX", recordings._SPHINX / "absent")
    with pytest.raises(ApplianceError, match="apt-get install pocketsphinx-testdata"):
        recordings.librivox()
    monkeypatch.setattr(recordings, "_ASTERISK", recordings._ASTERISK / "absent")
    with pytest.raises(ApplianceError, match="apt-get install asterisk-core-sounds-it-g722"):
        recordings.prompts("it_IT_m_Carlo")
