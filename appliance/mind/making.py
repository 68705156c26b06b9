"""Puts the mind together: skills, tools, memory and cache, as configured."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from appliance.config import PROJECT_ROOT, Config
from appliance.mind.belongings import Belongings
from appliance.mind.cache import ResponseCache
from appliance.mind.mind import Mind
from appliance.mind.skills import OWNER, Skills
from appliance.mind.tools import Registry, note_tools, places_tool, status_tool, timer_tools
from appliance.mind.understanding import Understanding

INTENTS = PROJECT_ROOT / "config" / "intents"
LANGUAGES = ("en", "zh")


def make_mind(
    config: Config,
    things: Belongings,
    understandings: Mapping[str, Understanding],
    states: Callable[[], Mapping[str, str]],
) -> Mind:
    """Everything that considers a question.

    Args:
        config: the whole configuration.
        things: what is kept.
        understandings: by language.
        states: of the other processes, by name.
    """
    registry = Registry(
        (
            *timer_tools(things.timers, OWNER),
            *note_tools(things.notes, OWNER),
            status_tool(states),
            places_tool(config.mind.rooms, config.mind.devices),
        )
    )
    skills = Skills(
        understandings,
        things.timers,
        things.notes,
        things.memory,
        registry,
        things.who,
        things.now,
        listens=LANGUAGES if not config.asr.model.endswith(".en") else ("en",),
    )
    mind = Mind(
        skills,
        understandings,
        things.memory,
        things.who,
        ResponseCache(config.mind.cache_mb << 20),
        persona=f"{config.llm.system_prompt}\0{config.llm.max_tokens}",
        model=config.llm.model,
        registry=registry,
    )
    mind.session(OWNER).voice = things.voice()
    return mind
