"""Who speaks in a simulated scene: people recorded, and the appliance's own voice.

Development and held-out scenes have different people and different sentences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import soxr

from appliance import config as configuration
from appliance.audio.blocks import RATE_HZ, Samples
from appliance.bench import recordings
from appliance.bench.metrics import active_rms
from appliance.bench.recordings import Recording
from appliance.loopback.acoustics import speech_bounds
from appliance.models.store import ensure_model

FIRST_HELD_OUT_SEED = 1000

_ANSWERS_DEVELOPMENT = (
    "The kettle takes about four minutes, and I will tell you when the water is hot.",
    "Your next appointment is on Thursday at half past nine, in the old building.",
    "Tomorrow will be cloudy in the morning, with some rain late in the afternoon.",
    "To make the sauce, melt the butter slowly and stir in two spoons of flour.",
    "The museum opens at ten, and the last visitors are let in at five o'clock.",
    "I have added bread, apples and washing powder to your shopping list.",
)
_ANSWERS_HELD_OUT = (
    "Rome is the capital of Italy, and it is also the largest city of the country.",
    "A spider has eight legs, which is how you can tell it from an insect.",
    "There are eleven lights on at the moment. Shall I switch off those in the garden?",
    "The train to the coast leaves every twenty minutes until a quarter to midnight.",
    "Bees visit the flowers to collect nectar, and they carry the pollen home with it.",
    "Put the dough in a warm place and let it rise for an hour before you bake it.",
)


@dataclass(frozen=True)
class Talker:
    """One voice and all that it says here."""

    name: str
    load: Callable[[], Sequence[Recording]]
    english: bool = False
    """Whether the words of what it says are known, for word error rates."""

    def utterances(self) -> tuple[Recording, ...]:
        """Without the silence around them, at equal active level (RMS 1)."""
        return _levelled(self)


@cache
def _levelled(talker: Talker) -> tuple[Recording, ...]:
    result = []
    for recording in talker.load():
        first, last = speech_bounds(recording.samples, RATE_HZ)
        speech = recording.samples[first:last]
        result.append(Recording(recording.name, speech / active_rms(speech), recording.text))
    return tuple(result)


@cache
def _synthesise(texts: tuple[str, ...]) -> tuple[Recording, ...]:
    import onnxruntime as ort

    from appliance.tts.piper import PiperEngine

    settings = configuration.load()
    name = settings.tts.model
    folder = ensure_model(name, root=settings.models_path)
    ort.set_seed(1)  # the voice is random in its details, and a seed's scene must be the same
    engine = PiperEngine(next(folder.glob("*.onnx")), name)
    result = []
    for text in texts:
        rendered = engine.synthesise(text, cancelled=lambda: False)
        spoken = np.concatenate([stretch.samples for stretch in rendered])
        samples: Samples = soxr.resample(spoken, engine.rate_hz, RATE_HZ)
        result.append(Recording(text, samples, text))
    engine.close()
    return tuple(result)


_JUNE = Talker("June (fr)", lambda: recordings.prompts("fr_CA_f_June"))
_IVRVOICE = Talker("Ivrvoice (ru)", lambda: recordings.prompts("ru_RU_f_IvrvoiceRU"))
_CARLO = Talker("Carlo (it)", lambda: recordings.prompts("it_IT_m_Carlo"))
_ALLISON_ES = Talker("Allison (es)", lambda: recordings.prompts("es_MX_f_Allison"))
_ALLISON = Talker("Allison", recordings.announcements, english=True)
_LIBRIVOX = Talker("librivox", recordings.librivox, english=True)
_CARDS = Talker("cards", recordings.cards, english=True)
_COMMANDS = Talker("commands", recordings.short_utterances, english=True)

_DEVELOPMENT = (_JUNE, _CARDS, _IVRVOICE, _COMMANDS)
_HELD_OUT = (_LIBRIVOX, _CARLO, _ALLISON, _ALLISON_ES)


def people(seed: int, *, english: bool = False) -> tuple[Talker, ...]:
    """Recorded people for scenes of this seed; with `english`, those whose words are known."""
    group = _HELD_OUT if seed >= FIRST_HELD_OUT_SEED else _DEVELOPMENT
    return tuple(talker for talker in group if talker.english or not english)


def other_people(seed: int, talker: Talker) -> tuple[Talker, ...]:
    """People of this seed's group who are not `talker` in another language."""
    person = talker.name.split(" ")[0]
    return tuple(other for other in people(seed) if other.name.split(" ")[0] != person)


def appliance_voice(seed: int) -> Talker:
    """The synthetic voice that the appliance answers with.

    Raises:
        ModelError: the voice's files are missing or damaged.
    """
    texts = _ANSWERS_HELD_OUT if seed >= FIRST_HELD_OUT_SEED else _ANSWERS_DEVELOPMENT
    return Talker(
        f"appliance {'held-out' if texts is _ANSWERS_HELD_OUT else 'development'}",
        lambda: _synthesise(texts),
    )
