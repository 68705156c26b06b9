"""The peer baseline: a plain sequential pipeline of the same models, on the same questions.

What it does, one step after the other, nothing ahead of time and nothing at the same time:

1. Silero on frames of 32 ms; the turn is over after 700 ms of silence (speech from a probability of
   0.5 on, silence below 0.35, as in Silero's own `VADIterator`).
2. Whisper on the whole utterance with its full context of 30 s, by the configured engine, model and
   number of threads, without anything decoded before.
3. The configured LLM until its first whole sentence is written. The system prompt is in its prefix
   cache, as it is in any server from the second question on; there is no history.
4. The configured voice until that whole sentence is synthesised.
5. The loudspeaker: the latency of the appliance's own device, plus the silence that the voice puts
   before its first sound.

The times of 2 to 4 are measured, 1 follows from the audio: what the virtual room's microphone
hears, with its reverberation and noise. In favour of the baseline it has the machine to itself (no
virtual room, no other process), its VAD costs nothing and its microphone has no latency.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import soxr

from appliance.asr.engine import create_engine
from appliance.audio.blocks import RATE_HZ, Samples
from appliance.audio.player import AUDIBLE
from appliance.bench.dialogues import Saying
from appliance.bench.rendering import render
from appliance.config import Config
from appliance.llm.engine import LlmEngine, create_llm_engine
from appliance.llm.prompt import opening
from appliance.loopback.acoustics import Acoustics, speech_bounds
from appliance.messages import ChatMessage
from appliance.models.store import ensure_model
from appliance.speech_text.sentences import SentenceSplitter
from appliance.speech_text.stream import speakable
from appliance.tts.main import load_engine
from appliance.vad.engine import FRAME_SAMPLES, SileroDetector

SILENCE_MS = 700.0
_SPEECH, _SILENCE = 0.5, 0.35
_PREROLL = RATE_HZ // 4
"""Kept from before the first frame of speech."""
_LEAD_IN_MS, _AFTER_MS = 500, 2_500
_FRAME_MS = FRAME_SAMPLES * 1000 / RATE_HZ
_NOISE_SEED = 1


@dataclass(frozen=True)
class SequentialTurn:
    """One question and where the time to the first sound of its answer went."""

    name: str
    transcript: str
    sentence: str
    contributions_ms: dict[str, float]

    @property
    def voice_to_voice_ms(self) -> float:
        """From the end of the last word to the first audible sample."""
        return sum(self.contributions_ms.values())


class SequentialPipeline:
    """All models loaded in this process.

    Args:
        config: which models, engines and threads.
        acoustics: the room in which the questions are asked; its first microphone is used.
        device_latency_ms: from the hand-over of a sound to the loudspeaker.

    Raises:
        ApplianceError: a model is missing.
    """

    def __init__(self, config: Config, acoustics: Acoustics, device_latency_ms: float) -> None:
        root = config.models_path
        self._acoustics = acoustics
        self._device_latency_ms = device_latency_ms
        self._vad = SileroDetector(ensure_model("silero-vad", root=root))
        self._asr = create_engine(
            config.asr.engine,
            ensure_model(config.asr.model, root=root),
            threads=config.asr.threads,
            figures_ms=config.asr.figures_ms,
        )
        self._language = config.asr.language
        self._llm = _load_llm(config)
        self._opening = opening(config.llm.system_prompt, config.llm.model)
        self._max_tokens = config.llm.max_tokens
        self._tts = load_engine(config)
        self._llm.warm(self._opening)

    def __enter__(self) -> SequentialPipeline:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._llm.close()
        self._tts.close()

    def answer(self, saying: Saying) -> SequentialTurn | None:
        """Answer a question; None when no speech, no words or no answer came of it."""
        heard, speech_end_ms = at_microphone(saying, self._acoustics)
        self._vad.reset()
        ended = end_of_turn(heard, self._vad.probability)
        if ended is None:
            return None
        first, decided = ended
        started = time.perf_counter()
        transcript = self._asr.transcribe(
            heard[max(0, first - _PREROLL) : decided], language=self._language, context="full"
        ).text.strip()
        transcribed = time.perf_counter()
        if not transcript:
            return None
        sentence = self._first_sentence(transcript)
        written = time.perf_counter()
        spoken = render(self._tts, sentence)
        synthesised = time.perf_counter()
        audible = np.flatnonzero(np.abs(spoken) > AUDIBLE)
        if not len(audible):
            return None
        contributions = {
            "end_of_turn_delay": decided * 1000 / RATE_HZ - speech_end_ms,
            "transcription": (transcribed - started) * 1000,
            "llm_first_sentence": (written - transcribed) * 1000,
            "tts_first_sentence": (synthesised - written) * 1000,
            "leading_silence": int(audible[0]) * 1000 / self._tts.rate_hz,
            "playback_latency": self._device_latency_ms,
        }
        return SequentialTurn(saying.name, transcript, sentence, contributions)

    def _first_sentence(self, question: str) -> str:
        pieces = self._llm.generate(
            [*self._opening, ChatMessage("user", question)],
            max_tokens=self._max_tokens,
            cancelled=lambda: False,
        )
        return first_sentence(pieces)


def first_sentence(pieces: Iterator[str]) -> str:
    """The first whole sentence of a stream of tokens; the stream is read no further."""
    splitter = SentenceSplitter(first_clause_words=0, first_phrase_words=0, pieces_are_tokens=True)
    for piece in pieces:
        for text in splitter.push(piece):
            if spoken := speakable(text):
                return spoken
    return next((spoken for text in splitter.flush() if (spoken := speakable(text))), "")


def end_of_turn(
    samples: Samples, probability: Callable[[Samples], float]
) -> tuple[int, int] | None:
    """Where speech begins and where 700 ms of silence have passed: (first, decided) samples.

    Args:
        samples: shape (n,), 16 kHz.
        probability: of speech in a frame of 512 samples, asked for each in order.

    Returns:
        None when nobody speaks or the silence does not come.
    """
    first: int | None = None
    quiet: int | None = None
    for frame in range(len(samples) // FRAME_SAMPLES):
        begin = frame * FRAME_SAMPLES
        likely = probability(samples[begin : begin + FRAME_SAMPLES])
        if likely >= _SPEECH:
            first, quiet = begin if first is None else first, None
        elif likely < _SILENCE and first is not None and quiet is None:
            quiet = frame
        if (
            first is not None
            and quiet is not None
            and (frame + 1 - quiet) * _FRAME_MS >= SILENCE_MS
        ):
            return first, begin + FRAME_SAMPLES
    return None


def at_microphone(saying: Saying, acoustics: Acoustics) -> tuple[Samples, float]:
    """What the first microphone hears, 16 kHz, and when the last word ends in it, ms."""
    rate_hz = acoustics.rate_hz
    dry = np.asarray(soxr.resample(saying.samples, RATE_HZ, rate_hz), np.float32)
    lead_in, after = (rate_hz * length // 1000 for length in (_LEAD_IN_MS, _AFTER_MS))
    heard = np.pad(acoustics.near_end(dry)[:, 0], (lead_in, after))
    noise = acoustics.noise(len(heard) / rate_hz, _NOISE_SEED)
    if noise is not None:
        heard = heard + noise[: len(heard), 0]
    _, last = speech_bounds(dry, rate_hz)
    speech_end_ms = (lead_in + acoustics.direct_path + last) * 1000 / rate_hz
    return np.asarray(soxr.resample(heard, rate_hz, RATE_HZ), np.float32), speech_end_ms


def _load_llm(config: Config) -> LlmEngine:
    folder = ensure_model(config.llm.model, root=config.models_path)
    return create_llm_engine(
        next(folder.glob("*.gguf")),
        config.llm.model,
        n_ctx=config.llm.context_tokens,
        n_threads=config.llm.threads,
        n_threads_batch=config.llm.threads,
    )
