"""Synthesis in a worker thread, one stretch of one phrase at a time.

So the loop decides anew every few ten milliseconds what is most urgent, and can take it back.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from appliance.ipc.worker import Cancelled, Emit, Job, Worker
from appliance.tts.cache import CachedEngine
from appliance.tts.engine import Audio, Rendered, TtsEngine
from appliance.tts.loudness import LoudnessNormaliser
from appliance.tts.progress import SpokenWord
from appliance.tts.speech import SentenceShaper, going_on, pause_after_ms
from appliance.tts.text import Phrase, phrases
from appliance.tts.utterance import Task, Utterance
from appliance.tts.words import characters

_STEP_BOUND_MS = 20_000

Play = Callable[[str, Audio, int], object]
"""(utterance, samples, rate in Hz): takes audio for the loudspeaker, from the worker's thread."""


@dataclass(frozen=True)
class Stretch:
    """What one step made."""

    samples: Audio
    """To be played after what came before; possibly none."""
    words: tuple[SpokenWord, ...]
    """Words that have become known, those of earlier stretches included."""
    last: bool
    """Nothing more comes."""


class Synthesis:
    """Renders a phrase and makes it ready to play.

    Args:
        engine: the voice.
        loudness: its running loudness.
        task: what to say.
        start_ms: where in its utterance it begins.
        speed: see `TtsEngine.synthesise`.
        cancelled: asked before each stretch; once True there is none.
    """

    def __init__(
        self,
        engine: TtsEngine,
        loudness: LoudnessNormaliser,
        task: Task,
        start_ms: float,
        *,
        speed: float,
        cancelled: Callable[[], bool],
    ) -> None:
        self._rate_hz = engine.rate_hz
        self._loudness = loudness
        text = going_on(task.phrase.text) if task.goes_on else task.phrase.text
        self._rendered: Iterator[Rendered] = engine.synthesise(
            text, cancelled=cancelled, speed=speed
        )
        self._words = iter(task.phrase.words)
        self._shaper: SentenceShaper | None = None
        # of the sentence in hand
        self._pause_ms = task.pause_ms
        self._start_ms = start_ms
        self._given = 0
        self._said_ms = start_ms + task.pause_ms
        """Where the newest word that is known ends."""

    def step(self) -> Stretch:
        """Render the next stretch: some ten milliseconds of work.

        Raises:
            TtsError: the engine failed.
        """
        rendered = next(self._rendered, None)
        if rendered is None:
            return Stretch(np.zeros(0, np.float32), words=(), last=True)
        shaper = self._shaper or SentenceShaper(
            self._rate_hz, self._loudness, pause_ms=self._pause_ms
        )
        samples = shaper.push(rendered.samples, last=rendered.ends_sentence)
        words: list[SpokenWord] = []
        for end, word in zip(rendered.word_ends, self._words, strict=False):
            end_ms = self._start_ms + self._ms(shaper.position(end))
            parts = characters(word, self._said_ms, end_ms)
            words += [
                SpokenWord(part, at_ms, joined=n > 0) for n, (part, at_ms) in enumerate(parts)
            ]
            self._said_ms = end_ms
        self._shaper = shaper
        self._given += len(samples)
        if rendered.ends_sentence:
            self._shaper = None
            self._pause_ms = pause_after_ms(".")  # an engine ends a sentence where a full stop is
            self._start_ms += self._ms(self._given)
            self._given = 0
        return Stretch(samples, tuple(words), last=False)

    def _ms(self, samples: int) -> float:
        return 1000 * samples / self._rate_hz


@dataclass(frozen=True)
class Stepped:
    """A step is done and its audio handed over."""

    utterance_id: str
    duration_ms: float
    words: tuple[SpokenWord, ...]
    last: bool
    """The phrase is complete."""
    at_ns: int


@dataclass(frozen=True)
class Failed:
    """A phrase could not be synthesised."""

    utterance_id: str
    error: str


@dataclass(frozen=True)
class _Prepared:
    done: bool


class Synthesiser:
    """Runs one step after the other in a thread of its own.

    Args:
        engine: the voice.
        play: where the audio goes.
        prepared: texts to have ready before they are asked for.
    """

    def __init__(self, engine: CachedEngine, play: Play, prepared: Iterable[str] = ()) -> None:
        self.language = engine.language
        self._engine = engine
        self._play = play
        self._loudness: dict[str, LoudnessNormaliser] = {}
        """Of each voice, by its language."""
        self._unprepared = deque(
            phrase.text for text in prepared for phrase in phrases(text, engine.language)
        )
        self._begun: dict[str, Synthesis] = {}
        """Phrases under way, by utterance."""
        self._in_hand: Utterance | None = None
        self._preparing = False
        self._stopped = False
        self.worker = Worker("synthesise")

    @property
    def problem(self) -> str:
        """See `TtsEngine.problem`."""
        return self._engine.problem

    @property
    def is_free(self) -> bool:
        """Whether it waits for `step` or `prepare`."""
        return self._in_hand is None and not self._preparing

    def step(self, utterance: Utterance, start_ms: float) -> None:
        """Go on with an utterance's first task.

        Args:
            utterance: one that has a task.
            start_ms: audio of it so far.
        """
        synthesis = self._begun.get(utterance.id) or Synthesis(
            self._engine,
            self._loudness_of(utterance.tasks[0].phrase),
            utterance.tasks[0],
            start_ms,
            speed=utterance.speed,
            cancelled=lambda: utterance.cancelled,
        )
        self._begun[utterance.id] = synthesis
        self._in_hand = utterance
        utterance_id, rate_hz = utterance.id, self._engine.rate_hz

        def step(emit: Emit, _cancelled: Cancelled) -> None:
            stretch = synthesis.step()
            if stretch.samples.size and not utterance.cancelled:
                self._play(utterance_id, stretch.samples, rate_hz)
            duration_ms = 1000 * len(stretch.samples) / rate_hz
            now_ns = time.monotonic_ns()
            emit(Stepped(utterance_id, duration_ms, stretch.words, stretch.last, now_ns))

        self._submit(step, lambda text: Failed(utterance_id, text))

    def prepare(self) -> None:
        """With nothing better to do, get one of the prepared texts ready."""
        if not self._unprepared:
            return
        self._preparing, self._stopped = True, False
        text = self._unprepared[0]

        def prepare(emit: Emit, _cancelled: Cancelled) -> None:
            emit(_Prepared(self._engine.prepare(text, cancelled=lambda: self._stopped)))

        self._submit(prepare, lambda _text: _Prepared(done=True))  # it would not go better again

    def stop_preparing(self) -> None:
        """Something better is there to do."""
        if self._preparing:
            self._stopped = True
            self._engine.interrupt()

    def cancel(self, utterance: Utterance) -> None:
        """Drop an utterance's synthesis, at once if it is in hand."""
        utterance.cancel()
        self._begun.pop(utterance.id, None)
        if self._in_hand is utterance:
            self._engine.interrupt()

    def events(self) -> Iterator[Stepped | Failed]:
        """What has been done since the last call; nothing of utterances that were cancelled."""
        for event in self.worker.messages():
            utterance, self._in_hand, self._preparing = self._in_hand, None, False
            match event:
                case _Prepared(done=True):
                    self._unprepared.popleft()
                case Stepped() | Failed() if utterance and not utterance.cancelled:
                    if isinstance(event, Failed) or event.last:
                        del self._begun[event.utterance_id]
                    yield event

    def _loudness_of(self, phrase: Phrase) -> LoudnessNormaliser:
        normaliser = LoudnessNormaliser(self._engine.rate_hz)
        return self._loudness.setdefault(phrase.language, normaliser)

    def _submit(self, job: Job, on_error: Callable[[str], object]) -> None:
        self.worker.submit("step", job, bound_ms=_STEP_BOUND_MS, on_error=on_error)
