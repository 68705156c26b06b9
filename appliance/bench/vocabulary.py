"""The vocabulary: how many misheard entries it recovers, how many correct words it damages.

Sentences with rare and invented words, several synthetic voices, noise; the whole list is in the
vocabulary at once, at the usual boost. Damage is counted there and on recordings of people, none
of whom says an entry: once with that list, once with names that sound like ordinary words.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from rapidfuzz.distance import Levenshtein

from appliance import config as configuration
from appliance.asr.correction import USUAL_BOOST
from appliance.asr.engine import create_engine
from appliance.asr.evaluation import normalise
from appliance.asr.transcriber import Transcriber
from appliance.asr.vocabulary import ContextVocabulary, load_vocabulary
from appliance.asr.words import text_of
from appliance.audio.blocks import RATE_HZ
from appliance.bench.recordings import all_recordings
from appliance.bench.report import machine, report
from appliance.bench.vocabulary_speech import Spoken, speak
from appliance.bench.vocabulary_words import (
    LOOK_ALIKES,
    LOOK_ALIKES_DEVELOPMENT,
    WordSet,
    development,
    held_out,
)
from appliance.models.store import ensure_model

Part = Literal["development", "held-out"]
_NOISE_CLIPS = 40


@dataclass
class Tally:
    """Counts over utterances."""

    entries: int = 0
    missed: int = 0
    """Entries that plain decoding got wrong."""
    recovered: int = 0
    intruders: int = 0
    """Entries that were written and not said."""
    right: int = 0
    """Other words that plain decoding got right."""
    damaged: int = 0
    """Of those, how many are wrong afterwards."""
    cost_ms: list[float] = field(default_factory=list)
    """CPU time of each correction."""

    def add(
        self, said: str, entry: str, plain: str, corrected: str, written: Sequence[str]
    ) -> None:
        """Count one utterance; ``written`` are the entries that corrections wrote."""
        if entry:
            self.entries += 1
            missed = not holds(plain, entry)
            self.missed += missed
            self.recovered += missed and holds(corrected, entry)
        self.intruders += sum(normalise(other) != normalise(entry) for other in written)
        before, after = right_words(said, plain), right_words(said, corrected)
        self.right += len(before)
        self.damaged += len(before - after)

    def figures(self, prefix: str) -> dict[str, float]:
        """Return what was counted, in percent."""
        result = {f"{prefix}_damaged_percent": percent(self.damaged, self.right)}
        result[f"{prefix}_right_words"] = self.right
        result[f"{prefix}_intruders"] = self.intruders
        if self.entries:
            result[f"{prefix}_plain_right_percent"] = percent(
                self.entries - self.missed, self.entries
            )
            result[f"{prefix}_missed"] = self.missed
            result[f"{prefix}_recovered_percent"] = percent(self.recovered, self.missed)
        result[f"{prefix}_cost_p50_ms"] = round(statistics.median(self.cost_ms), 1)
        result[f"{prefix}_cost_p95_ms"] = round(float(np.percentile(self.cost_ms, 95)), 1)
        return result


def holds(text: str, entry: str) -> bool:
    """Return whether the words of ``entry`` stand in ``text``, however they are written."""
    return f" {normalise(entry)} " in f" {normalise(text)} "


def right_words(said: str, heard: str) -> set[int]:
    """Return the positions of the words of ``said`` that ``heard`` has, in the best alignment."""
    left, right = normalise(said).split(), normalise(heard).split()
    return {
        position
        for step in Levenshtein.opcodes(left, right)
        if step.tag == "equal"
        for position in range(step.src_start, step.src_end)
    }


def percent(part: int, whole: int) -> float:
    """Return a share, 0 of nothing."""
    return round(100.0 * part / whole, 2) if whole else 0.0


def measure(
    transcriber: Transcriber, utterances: Iterable[Spoken], vocabulary: ContextVocabulary
) -> dict[str, Tally]:
    """Return tallies with the audio asked again ("asked"), without it ("unasked"), by voice."""
    tallies: dict[str, Tally] = {"asked": Tally(), "unasked": Tally()}
    for spoken in utterances:
        words = transcriber.transcribe(spoken.samples, words=True).words
        plain = text_of(words)
        family = spoken.voice.partition("@")[0].partition(":")[0]
        for name in ("asked", "unasked"):
            began_ns = time.process_time_ns()
            acoustics = transcriber.acoustics(spoken.samples) if name == "asked" else None
            corrected = vocabulary.correct(words, "", acoustics)
            cost_ms = (time.process_time_ns() - began_ns) / 1e6
            written = [entry for _, entry in corrected.corrections]
            keys = (name, family, f"{spoken.snr_db:g}_db") if name == "asked" else (name,)
            for key in keys:
                tally = tallies.setdefault(key, Tally())
                tally.add(spoken.text, spoken.entry, plain, corrected.text, written)
                tally.cost_ms.append(cost_ms)
    return tallies


def people(
    transcriber: Transcriber,
    load: Callable[[Iterable[str]], ContextVocabulary],
    entries: Iterable[str],
) -> Tally:
    """Return the damage to recordings of people, who say none of ``entries`` that are loaded."""
    recordings = [recording for recording in all_recordings() if recording.text]
    unsaid = [entry for entry in entries if not any(holds(r.text, entry) for r in recordings)]
    utterances = (Spoken(r.text, "", "people", np.inf, r.samples) for r in recordings)
    return measure(transcriber, utterances, load(unsaid))["asked"]


def said_to_noise(transcriber: Transcriber, prompt: str, seed: int) -> int:
    """Return in how many clips of noise words are heard when ``prompt`` is given at once."""
    rng = np.random.default_rng(seed)
    clips = (
        (0.01 * rng.standard_normal(round(RATE_HZ * seconds))).astype(np.float32)
        for seconds in rng.uniform(0.7, 3.0, _NOISE_CLIPS)
    )
    return sum(bool(transcriber.transcribe(clip, prompt=prompt).text) for clip in clips)


def run(
    *,
    part: Part = "held-out",
    model: str = "whisper-tiny.en",
    repeats: int = 3,
    seed: int = 1,
    threads: int = 1,
) -> dict[str, object]:
    """Measure one half of the material, ``repeats`` sentences for each entry."""
    before = machine()
    settings = configuration.load()
    folder = ensure_model(model, root=settings.models_path)
    transcriber = Transcriber(create_engine("auto", folder, threads=threads))

    def load(entries: Iterable[str]) -> ContextVocabulary:
        boosts = dict.fromkeys(entries, USUAL_BOOST)
        return load_vocabulary(boosts, language="en", model_dir=folder)

    words: WordSet = development() if part == "development" else held_out(seed)
    entries = list(words.entries)
    utterances = speak(words, repeats=repeats, seed=seed)
    figures: dict[str, float] = {"entries": len(entries)}
    for name, tally in measure(transcriber, utterances, load(entries)).items():
        figures |= tally.figures(name)
    figures |= people(transcriber, load, entries).figures("people")
    alike = LOOK_ALIKES_DEVELOPMENT if part == "development" else LOOK_ALIKES
    figures |= people(transcriber, load, alike).figures("people_look_alikes")
    prompt = ", ".join(entries) + "."
    figures["noise_clips"] = _NOISE_CLIPS
    figures["noise_said_plain"] = said_to_noise(transcriber, "", seed)
    figures["noise_said_prompted"] = said_to_noise(transcriber, prompt, seed)
    return report(
        figures,
        command=f"appliance bench vocabulary --part {part} --model {model} "
        f"--repeats {repeats} --seed {seed} --threads {threads} --json",
        seed=seed,
        before=before,
    )
