"""Streaming recognition as the asr process does it, against hearing whole utterances.

Recorded people, each utterance by itself and many in a row without a pause long enough to end an
utterance. `SpeechContinued` comes as vad sends it; a partial is taken for each, the final at the
pause. Everything is timed in CPU time of the process, for other work shares the machine.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from rapidfuzz.distance import Levenshtein

from appliance import config as configuration
from appliance.asr.engine import create_engine
from appliance.asr.evaluation import normalise, word_error_percent
from appliance.asr.streaming import LiveUtterance
from appliance.asr.transcriber import Transcriber
from appliance.audio.blocks import RATE_HZ, Samples
from appliance.bench.recordings import Recording, all_recordings, questions
from appliance.bench.report import machine, report
from appliance.config import VadConfig
from appliance.loopback.acoustics import speech_bounds
from appliance.models.store import ensure_model
from appliance.vad.stream import CONTINUED_SAMPLES

_PAUSES_S = (0.15, 0.6)
"""Between two recordings in a row; longer ones would end the utterance."""
_LONG_S = 25.0
_NOISE = 1e-4
_LEVEL = 0.05
_REPEATS = 3
"""Each utterance by itself is heard so often, each time in other noise: a word more or less is
chance, and there are not many."""


@dataclass
class _Tally:
    """What was measured over many utterances."""

    said: list[str] = field(default_factory=list)
    full: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    streamed: list[str] = field(default_factory=list)
    final_ms: list[float] = field(default_factory=list)
    partial_ms: list[float] = field(default_factory=list)
    audio_s: float = 0.0
    retries: int = 0
    reused: int = 0
    stable_words: int = 0
    changed_words: int = 0

    def figures(self, prefix: str) -> dict[str, float]:
        """Word error rates and costs, named after ``prefix``."""
        rates = {
            f"wer_{name}_percent": word_error_percent(self.said, heard)
            for name, heard in (
                ("full", self.full),
                ("cut", self.cut),
                ("streamed", self.streamed),
            )
        }
        finals = np.percentile(self.final_ms, (50, 95, 99, 100))
        partials = np.percentile(self.partial_ms, (50, 95)) if self.partial_ms else (0.0, 0.0)
        costs = {
            "utterances": len(self.said),
            "audio_s": self.audio_s,
            "words": sum(len(text.split()) for text in self.said),
            "final_p50_ms": finals[0],
            "final_p95_ms": finals[1],
            "final_p99_ms": finals[2],
            "final_max_ms": finals[3],
            "partial_p50_ms": partials[0],
            "partial_p95_ms": partials[1],
            "partial_cpu_ms_per_s": sum(self.partial_ms) / self.audio_s,
            "finals_retried_percent": 100.0 * self.retries / len(self.said),
            "finals_reused_percent": 100.0 * self.reused / len(self.said),
            "stable_words": self.stable_words,
            "stable_words_changed_percent": 100.0 * self.changed_words / max(1, self.stable_words),
        }
        return {
            f"{prefix}_{name}": round(float(value), 2) for name, value in (rates | costs).items()
        }


def as_vad_sends(speech: Samples, vad: VadConfig, rng: np.random.Generator) -> Samples:
    """Return ``speech`` with the pre-roll before it and the pause after it, over a little noise."""
    first, last = speech_bounds(speech, RATE_HZ)
    before, after = (
        np.zeros(milliseconds * RATE_HZ // 1000) for milliseconds in (vad.preroll_ms, vad.pause_ms)
    )
    audio = np.concatenate((before, speech[first:last], after))
    noise = rng.normal(scale=_NOISE, size=len(audio))
    return np.asarray(np.add(audio, noise), np.float32)


def in_a_row(recordings: Sequence[Recording], rng: np.random.Generator) -> Iterator[Recording]:
    """Return utterances of about ``_LONG_S``, made of recordings in random order."""
    parts: list[Samples] = []
    texts: list[str] = []
    for number in rng.permutation(len(recordings)):
        recording = recordings[number]
        first, last = speech_bounds(recording.samples, RATE_HZ)
        speech = recording.samples[first:last]
        parts.append(speech * (_LEVEL / np.sqrt(np.mean(np.square(speech)))))
        parts.append(np.zeros(int(rng.uniform(*_PAUSES_S) * RATE_HZ), np.float32))
        texts.append(normalise(recording.text))
        if sum(map(len, parts)) >= (_LONG_S - 5.0) * RATE_HZ:
            yield Recording("in a row", np.concatenate(parts[:-1]), " ".join(texts))
            parts, texts = [], []


def stream(
    recordings: Sequence[Recording], fast: Transcriber, full: Transcriber, seed: int
) -> _Tally:
    """Hear every recording as it comes, and whole."""
    vad = VadConfig()
    rng = np.random.default_rng(seed)
    tally = _Tally()
    for recording in recordings:
        audio = as_vad_sends(recording.samples, vad, rng)
        tally.said.append(normalise(recording.text))
        tally.full.append(normalise(full.transcribe(audio).text))
        whole = fast.transcribe(audio)
        tally.cut.append(normalise(whole.text))
        tally.retries += whole.retries > 0
        live, stable = LiveUtterance(fast), ""
        began = (vad.preroll_ms + vad.onset_ms) * RATE_HZ // 1000
        speech_end = len(audio) - vad.pause_ms * RATE_HZ // 1000
        for end in range(began + CONTINUED_SAMPLES, speech_end, CONTINUED_SAMPLES):
            began_ns = time.process_time_ns()
            stable = live.partial(audio[:end]).stable
            tally.partial_ms.append((time.process_time_ns() - began_ns) / 1e6)
        began_ns = time.process_time_ns()
        final = live.final(audio)
        tally.final_ms.append((time.process_time_ns() - began_ns) / 1e6)
        tally.reused += final.reused
        tally.streamed.append(normalise(final.text))
        tally.audio_s += len(audio) / RATE_HZ
        words = normalise(stable).split()
        tally.stable_words += len(words)
        tally.changed_words += changed(words, normalise(final.text).split())
    return tally


def changed(stable: Sequence[str], final: Sequence[str]) -> int:
    """Return how many of the stable words the final does not have in their place."""
    edits = Levenshtein.editops(final, stable)
    return sum(edit.tag != "delete" for edit in edits)


def run(*, model: str, threads: int, seed: int) -> dict[str, object]:
    """Measure; returns the report."""
    before = machine()
    folder = ensure_model(model, root=configuration.load().models_path)
    engine = create_engine("auto", folder, threads=threads)
    fast, full = Transcriber(engine), Transcriber(engine, context="full")
    short = [*all_recordings(), *questions()]
    long = list(in_a_row(short, np.random.default_rng(seed)))
    figures = stream(short * _REPEATS, fast, full, seed).figures("short")
    figures |= stream(long, fast, full, seed).figures("long")
    return report(
        figures,
        command=f"appliance bench asr --streaming --model {model} --threads {threads} --json",
        seed=seed,
        before=before,
    )
