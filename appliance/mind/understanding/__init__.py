"""From transcripts to intents without any language model: see docs/mind-understanding.md."""

from appliance.mind.understanding.answers import (
    day_of,
    next_time,
    spoken_date,
    spoken_time,
    spoken_when,
)
from appliance.mind.understanding.grammar import IntentsError
from appliance.mind.understanding.numbers import in_figures
from appliance.mind.understanding.tokens import language_of
from appliance.mind.understanding.topic import Topic
from appliance.mind.understanding.understanding import (
    LAST_RESORT,
    Understanding,
    Understood,
    load,
)

__all__ = [
    "LAST_RESORT",
    "IntentsError",
    "Topic",
    "Understanding",
    "Understood",
    "day_of",
    "in_figures",
    "language_of",
    "load",
    "next_time",
    "spoken_date",
    "spoken_time",
    "spoken_when",
]
