"""From transcripts to intents without any language model: see docs/mind-understanding.md."""

from appliance.mind.understanding.answers import day_of, next_time, spoken_date, spoken_time
from appliance.mind.understanding.grammar import IntentsError
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
    "language_of",
    "load",
    "next_time",
    "spoken_date",
    "spoken_time",
]
