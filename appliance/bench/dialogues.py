"""The scripts of the talkers: what they say to the appliance, over it and beside it.

Everything is synthesised or read before the appliance starts. Texts and voices are drawn by a seed;
every talker has the same active level, that of somebody two metres away.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import cycle

import numpy as np
import soxr
from scipy.signal import butter, sosfilt

from appliance import config as configuration
from appliance.audio.blocks import RATE_HZ, Samples
from appliance.bench import recordings
from appliance.bench.dialogue_texts import (
    BACKCHANNELS,
    FURTHER_QUESTIONS,
    INTERRUPTIONS,
    LONG_QUESTIONS,
    UNFINISHED,
)
from appliance.bench.metrics import active_rms
from appliance.bench.recordings import FLITE_VOICES, QUESTIONS, Recording
from appliance.bench.rendering import render
from appliance.loopback.acoustics import speech_bounds
from appliance.models.store import ensure_model
from appliance.tts.engine import create_tts_engine

USER_DBFS = -36.0
"""Active level of a talker at the first microphone."""
PAUSES_MS = (300.0, 1200.0)
_FRAME = RATE_HZ // 100
_QUIET_DB = 26.0
_EDGE_SHARE = 0.15
"""So much at each end of an utterance is no place for a pause."""
_FADE = RATE_HZ // 100
_LONGEST_COMPLETE_GAP_MS = 250.0


@dataclass(frozen=True, eq=False)
class Saying:
    """Something that is said, or a sound that somebody makes."""

    name: str
    samples: Samples
    """Shape (n,), 16 kHz."""
    text: str = ""
    kind: str = "question"
    """``question``, ``pause``, ``stop``, ``redirect``, ``backchannel``, ``noise`` and so on."""
    resumes_at: int = 0
    """With a pause in it: the sample at which the speaker goes on."""
    pause_ms: float = 0.0


@dataclass(frozen=True)
class Voice:
    """A talker who can say anything."""

    name: str
    speak: Callable[[str], Samples]


def voices() -> tuple[Voice, ...]:
    """Eleven synthetic talkers.

    Four of flite, four of espeak-ng, and three that the appliance's own Piper voice becomes when it
    is played faster or slower (pitch and speed change together).
    """
    return (
        *(Voice(f"flite {name}", partial(_flite, name)) for name in FLITE_VOICES),
        *(
            Voice(f"espeak {name}", partial(_espeak, name))
            for name in ("en-us+f3", "en-gb+m3", "en-gb-scotland+f2", "en-us+m7")
        ),
        *(Voice(f"piper x{speed}", partial(_piper, speed)) for speed in (0.9, 1.1, 1.25)),
    )


def complete_questions(count: int, seed: int) -> list[Saying]:
    """Questions without a pause: three of four by synthetic voices, the others by people recorded.

    The people's are sentences and commands rather than questions; an answer is due to them too.
    """
    texts = [*QUESTIONS, *FURTHER_QUESTIONS]
    people = [
        Saying(recording.name, levelled(recording.samples), recording.text)
        for recording in recordings.all_recordings()
        if is_complete(recording)
    ]
    rng = random.Random(seed)  # noqa: S311 - a bench, not a secret
    rng.shuffle(people)
    recorded = cycle(people)
    spoken = _spoken(texts, rng)
    return [next(recorded) if number % 4 == 3 else next(spoken) for number in range(count)]


def paused_questions(count: int, seed: int) -> list[Saying]:
    """Questions with a pause of 0.3 to 1.2 s in the middle, a third of them after an "um".

    The pause is put where the talker has a gap already, so that the melody before it is that of
    somebody who has not finished. Every fifth is a recorded sentence.
    """
    rng = random.Random(seed)  # noqa: S311 - a bench, not a secret
    people = [
        Saying(recording.name, levelled(recording.samples), recording.text)
        for recording in recordings.librivox()
    ]
    rng.shuffle(people)
    recorded = cycle(people)
    spoken = _spoken(UNFINISHED, rng)
    lengths = list(np.linspace(*PAUSES_MS, count))
    rng.shuffle(lengths)
    return [
        with_pause(next(recorded) if number % 5 == 4 else next(spoken), float(length))
        for number, length in enumerate(lengths)
    ]


def interruptions(count: int, seed: int) -> list[Saying]:
    """Words that shall end an answer; `kind` is ``stop``, or ``redirect`` with a new question."""
    rng = random.Random(seed)  # noqa: S311 - a bench, not a secret
    spoken = {aim: _spoken(texts, rng, aim) for aim, texts in INTERRUPTIONS.items()}
    return [next(spoken["redirect" if number % 2 else "stop"]) for number in range(count)]


def long_questions(count: int, seed: int) -> list[Saying]:
    """Questions that a language model answers at length."""
    spoken = _spoken(LONG_QUESTIONS, random.Random(seed))  # noqa: S311 - a bench, not a secret
    return [next(spoken) for _ in range(count)]


def passing_sounds(count: int, seed: int) -> list[Saying]:
    """What shall not end an answer: two of three are words of assent, the others noises."""
    rng = random.Random(seed)  # noqa: S311 - a bench, not a secret
    assent = _spoken(BACKCHANNELS, rng, "backchannel")
    noises = cycle((cough, door_slam))
    return [
        next(noises)(rng.randrange(2**31)) if number % 3 == 2 else next(assent)
        for number in range(count)
    ]


def television(seconds: float, seed: int) -> Saying:
    """Somebody reads announcements without end, a second apart at most: speech, music-free."""
    pieces: list[Samples] = []
    programme = recordings.announcements()
    random.Random(seed).shuffle(programme)  # noqa: S311 - a bench, not a secret
    for recording in programme:
        pieces += [levelled(recording.samples), np.zeros(RATE_HZ // 3, np.float32)]
    samples = np.concatenate(pieces)[: round(seconds * RATE_HZ)]
    return Saying("television", samples, " ".join(r.text for r in programme), "television")


def monologue(seconds: float, seed: int) -> Saying:
    """One person who talks on and on, without a pause of more than a breath."""
    rng = random.Random(seed)  # noqa: S311 - a bench, not a secret
    sayings = _spoken([*QUESTIONS, *FURTHER_QUESTIONS, *LONG_QUESTIONS], rng, one_voice=True)
    pieces: list[Samples] = []
    texts: list[str] = []
    length = 0
    while length < seconds * RATE_HZ:
        saying = next(sayings)
        pieces += [saying.samples, np.zeros(RATE_HZ // 8, np.float32)]
        texts.append(saying.text)
        length += len(pieces[-2]) + len(pieces[-1])
    return Saying("monologue", np.concatenate(pieces), " ".join(texts), "monologue")


def music(seconds: float, seed: int) -> Saying:
    """Chords of decaying harmonics on a beat: tonal, rhythmic, nobody sings."""
    rng = np.random.default_rng(seed)
    beat = RATE_HZ // 2
    time_s = np.arange(beat) / RATE_HZ
    samples = np.zeros(0, np.float32)
    while len(samples) < seconds * RATE_HZ:
        root_hz = 110 * 2 ** (rng.choice([0, 3, 5, 7, 10]) / 12)
        chord = sum(
            np.sin(2 * np.pi * root_hz * 2 ** (step / 12) * harmonic * time_s) / harmonic
            for step in (0, 4, 7, 12)
            for harmonic in (1, 2, 3, 4)
        )
        samples = np.concatenate([samples, (chord * np.exp(-3 * time_s)).astype(np.float32)])
    return Saying("music", levelled(samples), kind="music")


def stuck(seconds: float) -> Saying:
    """What a broken microphone gives: a constant, and a click at its beginning and end."""
    return Saying("stuck microphone", np.full(round(seconds * RATE_HZ), 0.3, np.float32), kind="dc")


def cough(seed: int) -> Saying:
    """Two bursts of noise between 300 Hz and 4 kHz, 200 ms each, loud as coughs are."""
    rng = np.random.default_rng(seed)
    bursts = []
    for length_ms in rng.integers(140, 240, 2):
        time_s = np.arange(length_ms * RATE_HZ // 1000) / RATE_HZ
        shape = np.minimum(1, time_s / 0.008) * np.exp(-time_s / 0.07)
        bursts += [rng.standard_normal(len(time_s)) * shape, np.zeros(RATE_HZ // 8)]
    band = butter(2, (300, 4000), "bandpass", fs=RATE_HZ, output="sos")
    sound = sosfilt(band, np.concatenate(bursts))
    return Saying("cough", levelled(np.asarray(sound, np.float32), 6.0), kind="noise")


def door_slam(seed: int) -> Saying:
    """A blow: 5 ms of rise, low frequencies that ring for half a second."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(RATE_HZ * 6 // 10) / RATE_HZ
    shape = np.minimum(1, time_s / 0.005) * np.exp(-time_s / 0.1)
    low = butter(2, 400, fs=RATE_HZ, output="sos")
    sound = sosfilt(low, rng.standard_normal(len(time_s))) * shape
    return Saying("door slam", levelled(np.asarray(sound, np.float32), 12.0), kind="noise")


def levelled(samples: Samples, above_db: float = 0.0) -> Samples:
    """Without the silence around it, at the level of a talker."""
    first, last = speech_bounds(samples, RATE_HZ)
    speech = samples[first:last]
    gain = 10 ** ((USER_DBFS + above_db) / 20) / (active_rms(speech) or 1.0)
    return np.asarray(gain * speech, np.float32)


def gaps(samples: Samples) -> list[tuple[int, int]]:
    """The quiet stretches inside speech, (first, last + 1) samples, to 10 ms."""
    whole = len(samples) // _FRAME * _FRAME
    power = np.square(samples[:whole].reshape(-1, _FRAME)).mean(axis=1)
    loud = float(np.percentile(power, 95))
    quiet = np.concatenate([[0], power < loud * 10 ** (-_QUIET_DB / 10), [0]])
    edges = np.flatnonzero(np.diff(quiet)) * _FRAME
    return [
        (int(begin), int(end))
        for begin, end in zip(edges[::2], edges[1::2], strict=True)
        if begin > 0 and end < whole
    ]


def with_pause(saying: Saying, pause_ms: float) -> Saying:
    """The same with its longest inner gap widened to a pause; longer gaps stay as they are."""
    samples = saying.samples
    edge = round(_EDGE_SHARE * len(samples))
    inner = [gap for gap in gaps(samples) if gap[0] >= edge and gap[1] <= len(samples) - edge]
    begin, end = max(inner, key=lambda gap: gap[1] - gap[0], default=(0, 0))
    if not inner:  # speech without any gap: where it is quietest
        power = np.convolve(np.square(samples), np.ones(2 * _FADE), mode="same")
        begin = end = edge + int(np.argmin(power[edge:-edge]))
    middle = (begin + end) // 2
    missing = max(0, round(pause_ms * RATE_HZ / 1000) - (end - begin))
    fade = np.linspace(1, 0, _FADE, dtype=np.float32)
    first, second = samples[:middle].copy(), samples[middle:].copy()
    first[-_FADE:] *= fade
    second[:_FADE] *= fade[::-1]
    return Saying(
        saying.name,
        np.concatenate([first, np.zeros(missing, np.float32), second]),
        saying.text,
        "pause",
        resumes_at=end + missing,
        pause_ms=(end - begin + missing) * 1000 / RATE_HZ,
    )


def is_complete(recording: Recording) -> bool:
    """Whether it is one sentence of 1 to 5 s that nobody could take for over before its end."""
    longest = max((end - begin for begin, end in gaps(recording.samples)), default=0)
    one_sentence = bool(recording.text) and "." not in recording.text.rstrip(".")
    return (
        one_sentence
        and 1.0 <= recording.seconds <= 5.0
        and longest * 1000 / RATE_HZ <= _LONGEST_COMPLETE_GAP_MS
    )


def _spoken(
    texts: Sequence[str], rng: random.Random, kind: str = "question", *, one_voice: bool = False
) -> Iterator[Saying]:
    """Every text in random order by every voice in turn, without end."""
    order, talkers = list(texts), list(voices())
    rng.shuffle(order)
    rng.shuffle(talkers)
    for text, voice in zip(cycle(order), cycle(talkers[:1] if one_voice else talkers)):
        yield Saying(f"{voice.name}: {text}", levelled(voice.speak(text)), text, kind)


def _flite(voice: str, text: str) -> Samples:
    return recordings.synthesised(text, voice).samples


@cache
def _espeak(voice: str, text: str) -> Samples:
    engine = create_tts_engine("espeak", voice=voice)
    spoken = render(engine, text)
    return np.asarray(soxr.resample(spoken, engine.rate_hz, RATE_HZ), np.float32)


@cache
def _piper(speed: float, text: str) -> Samples:
    import onnxruntime as ort

    settings = configuration.load()
    name = settings.tts.model
    weights = next(ensure_model(name, root=settings.models_path).glob("*.onnx"))
    ort.set_seed(1)  # the voice is random in its details
    engine = create_tts_engine("piper", model_path=weights, model_name=name)
    spoken = render(engine, text)
    rate_hz = engine.rate_hz
    engine.close()
    return np.asarray(soxr.resample(spoken, rate_hz * speed, RATE_HZ), np.float32)
