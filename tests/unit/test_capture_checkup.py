"""The doctor's sounding: what a busy machine spoils is done again before it is reported."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from appliance.audio.blocks import RATE_HZ, Samples
from appliance.capture import checkup, sounding
from appliance.capture.sounding import AudioLostError, play_and_record
from appliance.config import AudioConfig, Config
from appliance.errors import ApplianceError

SOUND = np.zeros(RATE_HZ, np.float32)
Recording = tuple[Samples, Samples]


class Attempts:
    """Stands in for the devices: fails as often as it is told to."""

    def __init__(self, *errors: ApplianceError) -> None:
        self.errors = list(errors)
        self.blocks_ms: list[int] = []

    def __call__(
        self, audio: AudioConfig, channels: int, sound: Samples, block_ms: int
    ) -> Recording:
        self.blocks_ms.append(block_ms)
        if self.errors:
            raise self.errors.pop(0)
        return sound, np.tile(sound, (channels, 1))


def test_lost_audio_is_recorded_again_with_larger_buffers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempts = Attempts(AudioLostError("lost"), AudioLostError("lost"))
    monkeypatch.setattr(sounding, "_attempt", attempts)
    _, mic = play_and_record(AudioConfig(), 2, SOUND)
    assert mic.shape == (2, RATE_HZ)
    assert attempts.blocks_ms == sorted(set(attempts.blocks_ms))
    assert len(attempts.blocks_ms) == 3


def test_audio_that_is_always_lost_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sounding, "_attempt", Attempts(*[AudioLostError("lost")] * 9))
    with pytest.raises(AudioLostError):
        play_and_record(AudioConfig(), 1, SOUND)


def test_a_device_that_cannot_be_opened_is_reported_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempts = Attempts(ApplianceError("no such device"))
    monkeypatch.setattr(sounding, "_attempt", attempts)
    with pytest.raises(ApplianceError, match="no such device"):
        play_and_record(AudioConfig(), 1, SOUND)
    assert len(attempts.blocks_ms) == 1


def examined(
    monkeypatch: pytest.MonkeyPatch, hear: Callable[[int, Samples], Samples]
) -> tuple[dict[str, str], int]:
    """The verdicts, and how many soundings they took; `hear` makes the microphone of the sound."""
    calls = 0

    def play(audio: AudioConfig, channels: int, sound: Samples) -> Recording:
        nonlocal calls
        calls += 1
        far = np.concatenate([np.zeros(RATE_HZ // 2, np.float32), sound, SOUND[: RATE_HZ // 2]])
        return far, hear(calls, far)[None]

    monkeypatch.setattr(checkup, "wants_loopback", lambda config: False)
    monkeypatch.setattr(checkup, "play_and_record", play)
    findings = checkup.examine_echo(Config())
    return {finding.check: finding.verdict for finding in findings}, calls


def echo(far: Samples) -> Samples:
    hiss = 1e-4 * np.random.default_rng(1).standard_normal(len(far)).astype(np.float32)
    return 0.3 * np.concatenate([np.zeros(400, np.float32), far])[: len(far)] + hiss


def test_a_good_sounding_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts, calls = examined(monkeypatch, lambda call, far: echo(far))
    assert verdicts["echo cancellation"] == "ok"
    assert calls == 1


def test_a_poor_sounding_is_repeated_and_the_better_one_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def hear(call: int, far: Samples) -> Samples:
        heard = echo(far)
        if call == 1:  # the machine stood still
            heard[-5 * RATE_HZ :: RATE_HZ // 2] = 0.9
            heard[-5 * RATE_HZ :] = np.roll(heard[-5 * RATE_HZ :], 700) * np.linspace(
                -1, 1, 5 * RATE_HZ, dtype=np.float32
            )
        return heard

    verdicts, calls = examined(monkeypatch, hear)
    assert calls == 2
    assert verdicts["echo cancellation"] == "ok"


def test_a_deaf_microphone_is_reported_after_one_sounding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verdicts, calls = examined(monkeypatch, lambda call, far: np.zeros_like(far))
    assert verdicts == {"microphone 0": "error"}
    assert calls == 1
