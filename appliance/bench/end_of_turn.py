"""How well the end of a turn is told from a pause inside it, and how soon the reflex hears a voice.

Sayings of many voices, whole and with pauses of 0.3 to 1.2 s in them, arrive in a room at the
microphone and pass the detector as they do in the vad process. Each pause is judged by its sound
and by its words; then policies are compared by what they would have done.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from appliance import config as configuration
from appliance.asr.engine import create_engine
from appliance.asr.transcriber import Transcriber
from appliance.audio.blocks import BLOCK_MS, BLOCK_NS, BLOCK_SAMPLES, RATE_HZ, Samples
from appliance.bench.dialogues import Saying, complete_questions, paused_questions, with_pause
from appliance.bench.reflex import reflex_figures
from appliance.bench.report import machine, report
from appliance.conductor.endpointing import EndpointingSettings, finished_odds, silence_needed_ms
from appliance.ipc.audio_ring import Block
from appliance.llm.engine import LlmEngine
from appliance.llm.main import load_engine
from appliance.llm.prompt import conversation
from appliance.loopback.acoustics import Acoustics, shoebox
from appliance.messages import Message, SpeechPaused, SpeechResumed, SpeechStarted
from appliance.models.store import ensure_model
from appliance.vad.detector import SpeechDetector
from appliance.vad.end_of_turn import SmartTurn
from appliance.vad.engine import SileroDetector
from appliance.vad.stream import SpeechStream

_LEAD_IN = RATE_HZ // 2
_SILENCE = 2 * RATE_HZ
_NOISE_DBFS = -72.0
_NEAR_MS = 250.0
"""A pause belongs to the place that it was put at when it begins this near."""
_THRESHOLDS = (0.5, 0.9, 0.97)
AUDIBLE_MS = 500.0
"""An answer is heard so long after the last word at the earliest: before that nobody is cut off."""


@dataclass(frozen=True, kw_only=True)
class Pause:
    """A silence after speech, as the appliance noticed it."""

    inside: bool
    """The speaker goes on."""
    sound: float
    words: float | None
    noticed_ms: float
    """From the last word until it was noticed that they go on; infinite if they do not."""


def run(*, count: int, llm: str, seed: int) -> dict[str, object]:
    """Measure with `count` sayings of each kind; returns the report."""
    before = machine()
    settings = configuration.load()
    judge = _Judge(settings, llm)
    room = shoebox(RATE_HZ, 1, rt60_s=0.3)
    sayings = [*complete_questions(count, seed), *paused_questions(count, seed)]
    rng = np.random.default_rng(seed)
    # the same sentences, torn where nobody would pause: the hardest case
    torn = [
        replace(with_pause(saying, float(ms)), kind="torn")
        for saying, ms in zip(sayings[:count], rng.uniform(300, 1200, count), strict=True)
    ]
    pauses: dict[str, list[Pause]] = {"question": [], "pause": [], "torn": []}
    for number, saying in enumerate([*sayings, *torn]):
        found = judge.pause_of(saying, room, noise_seed=seed + number)
        if found is not None:
            pauses[saying.kind].append(found)
    figures = {f"{kind}_found": float(len(found)) for kind, found in pauses.items()}
    for kind, of_kind in pauses.items():
        for threshold in _THRESHOLDS:
            above = [pause.sound >= threshold for pause in of_kind]
            figures[f"sound_above_{threshold:g}_{kind}_percent"] = _percent(above)
    for name, policy in policies(settings).items():
        figures |= {f"{name}_{key}": value for key, value in outcome(policy, pauses).items()}
    figures["smart_turn_cpu_ms"] = round(float(np.median(judge.cpu_ms)), 1)
    figures |= reflex_figures(scenes=max(2, count // 10), first_seed=1000 + seed)
    command = f"appliance bench end-of-turn --count {count} --llm {llm} --seed {seed} --json"
    return report(figures, command=command, seed=seed, before=before)


Policy = Callable[[Pause], float]


def policies(settings: configuration.Config) -> dict[str, Policy]:
    """Silence in ms after which each would end the turn."""
    configured = EndpointingSettings(
        end_of_turn_ms=settings.conductor.end_of_turn_ms,
        fallback_ms=settings.vad.fallback_ms,
        threshold=settings.conductor.end_of_turn_probability,
    )

    def weighed(sound: float | None, words: float | None) -> float:
        return silence_needed_ms(finished_odds(sound, words), configured)

    return {
        "silence_only": lambda _: configured.fallback_ms,
        "sound_threshold": lambda pause: (
            configured.end_of_turn_ms if pause.sound >= 0.5 else configured.fallback_ms
        ),
        "sound": lambda pause: weighed(pause.sound, None),
        "words": lambda pause: weighed(None, pause.words),
        "both": lambda pause: weighed(pause.sound, pause.words),
    }


def outcome(policy: Policy, pauses: Mapping[str, Sequence[Pause]]) -> dict[str, float]:
    """What a policy does: who is cut off, and for how long the others wait."""
    result = {}
    for kind in ("pause", "torn"):
        cut = [max(AUDIBLE_MS, policy(pause)) < pause.noticed_ms for pause in pauses[kind]]
        result[f"cut_off_{kind}_percent"] = _percent(cut)
    waits = [policy(pause) for pause in pauses["question"]]
    result["delay_p50_ms"] = float(np.median(waits))
    result["delay_p90_ms"] = float(np.percentile(waits, 90))
    result["taken_within_300_ms_percent"] = _percent([wait <= 300 for wait in waits])
    return {key: round(value, 1) for key, value in result.items()}


class _Judge:
    """The models, and the pauses that they judge."""

    def __init__(self, settings: configuration.Config, llm: str) -> None:
        root = settings.models_path
        self._voice = SileroDetector(ensure_model("silero-vad", root=root))
        self._smart_turn = SmartTurn(ensure_model("smart-turn", root=root))
        self._transcriber = Transcriber(
            create_engine("ctranslate2", ensure_model(settings.asr.model, root=root), threads=1)
        )
        self._llm: LlmEngine = load_engine(settings, llm)
        self.cpu_ms: list[float] = []

    def pause_of(self, saying: Saying, room: Acoustics, *, noise_seed: int) -> Pause | None:
        """The pause put into a saying, or the silence after it; None if it was not noticed."""
        sound = np.concatenate([np.zeros(_LEAD_IN), saying.samples, np.zeros(_SILENCE)])
        arrived = room.near_end(sound.astype(np.float32))[: len(sound), 0]
        noise = np.random.default_rng(noise_seed).standard_normal(len(arrived), np.float32)
        arrived = arrived + noise * np.float32(10 ** (_NOISE_DBFS / 20))
        inside = saying.pause_ms > 0
        last_word = _LEAD_IN + room.direct_path + len(saying.samples)
        if inside:
            last_word += saying.resumes_at - len(saying.samples)
            last_word -= round(saying.pause_ms * RATE_HZ / 1000)
        due_ms = last_word * 1000 / RATE_HZ
        self._voice.reset()
        stream = SpeechStream("bench", SpeechDetector(), self._voice)
        ended_ms = heard = None
        for now_ms, message in _through(stream, arrived):
            match message:
                case SpeechPaused(speech_end_ns=end_ns) if abs(end_ns / 1e6 - due_ms) < _NEAR_MS:
                    ended_ms, heard = end_ns / 1e6, stream.turn_so_far()
                case SpeechResumed() | SpeechStarted() if ended_ms is not None and inside:
                    assert heard is not None
                    return self._judged(heard, inside, now_ms - ended_ms)
        if heard is None or inside:
            return None
        return self._judged(heard, inside, float("inf"))

    def _judged(self, heard: Samples, inside: bool, noticed_ms: float) -> Pause:
        started = time.thread_time()
        sound = self._smart_turn.probability(heard)
        self.cpu_ms.append((time.thread_time() - started) * 1000)
        text = self._transcriber.transcribe(heard).text
        for _ in self._llm.generate(conversation([], text), max_tokens=1, cancelled=lambda: False):
            break
        words = self._llm.stats.question_complete
        return Pause(inside=inside, sound=sound, words=words, noticed_ms=noticed_ms)


def _through(stream: SpeechStream, samples: Samples) -> Iterator[tuple[float, Message]]:
    """What the detector says, each with the time it was said at in ms; the clock begins at 0."""
    for number in itertools.count():
        block = samples[number * BLOCK_SAMPLES : (number + 1) * BLOCK_SAMPLES]
        if len(block) < BLOCK_SAMPLES:
            return
        for message in stream.step([Block(1, number, number * BLOCK_NS, 0, block)]):
            yield (number + 1) * BLOCK_MS, message


def _percent(outcomes: Sequence[bool]) -> float:
    return round(100 * float(np.mean(outcomes)), 1) if outcomes else 0.0
