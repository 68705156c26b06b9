"""``appliance doctor --chirp``: what loudspeaker, room and microphones do to a sound."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from appliance.audio.blocks import BLOCK_SAMPLES, RATE_HZ, Samples
from appliance.audio.files import read_speech
from appliance.capture import chirp
from appliance.capture.chain import FrontEnd, FrontEndMetrics
from appliance.capture.chirp import ChirpReport, MicrophoneReport
from appliance.capture.geometry import array_of, input_channels
from appliance.capture.sounding import play_and_record
from appliance.config import Config
from appliance.doctor import Finding
from appliance.errors import ApplianceError
from appliance.run import QUESTION, wants_loopback

_REPETITIONS = 2
"""Of a sounding that shows something wrong: a machine that stood still for a moment may have."""
_SPEECH_S = 8.0
_LEARNING_S = 4.0
_AUDIBLE = 1e-3
_LATE_MS = 400.0
"""The reference can be aligned up to 500 ms."""
_FAST_CLOCK_PPM = 300.0
_REVERBERANT_S = 0.7
_DISTORTED_PERCENT = 10.0
_GOOD_ERLE_DB, _POOR_ERLE_DB = 25.0, 15.0


def examine_echo(config: Config) -> Iterator[Finding]:
    """Play a chirp and some speech through the configured devices and say what came back."""
    try:
        yield from _examine(config)
    except ApplianceError as error:
        yield Finding("chirp", "error", str(error))


def _examine(config: Config) -> Iterator[Finding]:
    if wants_loopback(config):
        yield Finding(
            "chirp",
            "warning",
            "no sound card: there is nothing to play a chirp with",
            "plug in a microphone and a loudspeaker, then ask again",
        )
        return
    measured = _measure(config)
    for _ in range(_REPETITIONS):
        if measured.good or not measured.heard:
            break
        measured = max(measured, _measure(config), key=lambda m: m.erle_db)
    yield from _microphones(measured.report)
    if measured.heard and measured.metrics is not None:
        yield _path(measured.report, measured.heard)
        yield _room(measured.heard)
        yield _echo(measured.metrics)


@dataclass(frozen=True)
class _Measured:
    """One sounding."""

    report: ChirpReport
    metrics: FrontEndMetrics | None

    @property
    def heard(self) -> list[MicrophoneReport]:
        """The microphones that heard the loudspeaker."""
        return [m for m in self.report.microphones if m.delay_ms is not None]

    @property
    def erle_db(self) -> float:
        """How far the echo was removed; 0 where it was not found."""
        return (self.metrics and self.metrics.erle_final_db) or 0.0

    @property
    def good(self) -> bool:
        """Nothing to complain of that another sounding could show in another light."""
        drift_ppm = self.report.drift_ppm
        steady = drift_ppm is not None and abs(drift_ppm) <= _FAST_CLOCK_PPM
        return steady and self.erle_db > _GOOD_ERLE_DB


def _measure(config: Config) -> _Measured:
    speech = _speech()
    sound = np.concatenate([chirp.sound(), speech])
    far, mic = play_and_record(config.audio, input_channels(config), sound)
    speech_at = int(np.argmax(np.abs(far) > _AUDIBLE)) + len(chirp.sound())
    mic = mic[list(array_of(config.front_end).check(len(mic)))]
    report = chirp.analyse(far[:speech_at], mic[:, :speech_at])
    measured = _Measured(report, None)
    if not measured.heard:
        return measured
    return _Measured(report, _cancel(config, far[speech_at:], mic[:, speech_at:]))


def _speech() -> Samples:
    """A few seconds of the sort of sound that the loudspeaker is for."""
    question, _ = read_speech(QUESTION)
    repeated: Samples = np.resize(question * np.float32(0.5), round(_SPEECH_S * RATE_HZ))
    return repeated


def _cancel(config: Config, far: Samples, mic: Samples) -> FrontEndMetrics:
    """Figures of the front-end over the end of the recording, when it had time to learn."""
    front_end = FrontEnd(config.front_end, len(mic), models_path=config.models_path)
    learnt = round(_LEARNING_S * RATE_HZ)
    for start in range(0, len(far) - BLOCK_SAMPLES + 1, BLOCK_SAMPLES):
        if start == learnt:
            front_end.metrics()
        block = slice(start, start + BLOCK_SAMPLES)
        front_end.process(np.ascontiguousarray(mic[:, block]), far[block])
    return front_end.metrics()


def _microphones(report: ChirpReport) -> Iterator[Finding]:
    for number, microphone in enumerate(report.microphones):
        detail = f"{microphone.condition}, {microphone.level_dbfs:.0f} dBFS"
        match microphone.condition:
            case "works":
                yield Finding(
                    f"microphone {number}",
                    "ok",
                    f"{detail}, {microphone.snr_db:.0f} dB above the noise",
                )
            case "clipped":
                yield Finding(
                    f"microphone {number}",
                    "warning",
                    detail,
                    "lower the microphone's gain (alsamixer) or [audio] output_gain_db",
                )
            case "dead":
                yield Finding(
                    f"microphone {number}",
                    "error",
                    f"{detail}: it does not hear the loudspeaker",
                    "check plug and volume; if it is always so, leave the channel out of the array",
                )


def _path(report: ChirpReport, heard: list[MicrophoneReport]) -> Finding:
    delay_ms = min(m.delay_ms for m in heard if m.delay_ms is not None)
    drift_ppm = report.drift_ppm
    late = delay_ms > _LATE_MS
    fast = drift_ppm is None or abs(drift_ppm) > _FAST_CLOCK_PPM
    clocks = "not measurable" if drift_ppm is None else f"{drift_ppm:+.0f} ppm"
    return Finding(
        "echo path",
        "warning" if late or fast else "ok",
        f"the echo comes after {delay_ms:.1f} ms; loudspeaker's clock against microphone's: "
        f"{clocks}",
        "a wireless loudspeaker is too late for the echo canceller: use a wired one"
        if late
        else "audio was lost or the clocks are poor: close other programs, use one sound card"
        if fast
        else "",
    )


def _room(heard: list[MicrophoneReport]) -> Finding:
    rt60_s = [m.rt60_s for m in heard if m.rt60_s is not None]
    distortion = [m.distortion_percent for m in heard if m.distortion_percent is not None]
    reverberant = bool(rt60_s) and float(np.median(rt60_s)) > _REVERBERANT_S
    distorted = bool(distortion) and float(np.median(distortion)) > _DISTORTED_PERCENT
    parts = [
        f"reverberation {np.median(rt60_s):.2f} s" if rt60_s else "reverberation not measurable",
        f"loudspeaker's distortion {np.median(distortion):.1f} %" if distortion else "",
    ]
    return Finding(
        "room",
        "warning" if reverberant or distorted else "ok",
        ", ".join(filter(None, parts)),
        "turn the loudspeaker down ([audio] output_gain_db)"
        if distorted
        else "raise [front_end] echo_tail_ms"
        if reverberant
        else "",
    )


def _echo(metrics: FrontEndMetrics) -> Finding:
    final_db = metrics.erle_final_db
    if final_db is None or metrics.erle_linear_db is None:
        return Finding(
            "echo cancellation",
            "warning",
            "the echo was not found in what the microphones heard",
            "ask again in a quieter moment; raise the loudspeaker's volume",
        )
    return Finding(
        "echo cancellation",
        "ok" if final_db > _GOOD_ERLE_DB else "warning" if final_db > _POOR_ERLE_DB else "error",
        f"{final_db:.0f} dB of the echo removed ({metrics.erle_linear_db:.0f} dB by the linear "
        f"filter) after {_LEARNING_S:.0f} s",
        ""
        if final_db > _GOOD_ERLE_DB
        else "move the loudspeaker away from the microphones or turn it down",
    )
