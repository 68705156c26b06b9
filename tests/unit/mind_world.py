"""A mind with its store, and somebody who talks to it."""

from __future__ import annotations

import functools
from pathlib import Path

import msgspec

from appliance.config import Config, MindConfig
from appliance.messages import Commit, Consider, Considered, TurnRecord
from appliance.mind.belongings import Belongings
from appliance.mind.making import INTENTS, LANGUAGES, make_mind
from appliance.mind.mind import Mind
from appliance.mind.tools import Tool, typed_tool
from appliance.mind.tools.registry import Arguments
from appliance.mind.understanding import Understanding, load


@functools.cache
def understandings() -> dict[str, Understanding]:
    """Loaded once: they hold no state."""
    return {language: load(INTENTS, language) for language in LANGUAGES}


class World:
    """A mind with its store, and somebody who talks to it."""

    def __init__(self, folder: Path, *, memory: bool = True) -> None:
        config = Config(mind=MindConfig(data_dir=str(folder), memory=memory, time_zone="UTC"))
        self.things = Belongings.open(config)
        self.mind: Mind = make_mind(config, self.things, understandings(), lambda: {"llm": "ready"})
        self.asked = 0

    def consider(self, text: str, session: str = "local", **more: bool | str) -> Considered:
        self.asked += 1
        message = Consider(
            session_id=session, request_id=f"r{self.asked}", text=text, in_dialogue=False
        )
        return self.mind.consider(msgspec.structs.replace(message, **more))

    def say(
        self, text: str, session: str = "local", llm: str = "I see.", **more: bool | str
    ) -> str:
        """A whole turn; what was said in it."""
        considered = self.consider(text, session, **more)
        commit = Commit(session_id=session, request_id=considered.request_id)
        reply = considered.reply or llm
        if (act := self.mind.commit(commit)) is not None:
            outcome = act()
            self.mind.done(session, outcome)
            reply = outcome.reply
        self.heard(text, reply, session, (considered.intent,))
        return reply

    def heard(self, text: str, reply: str, session: str, marks: tuple[str, ...] = ()) -> None:
        self.mind.heard(
            TurnRecord(
                session_id=session,
                turn_id="t",
                source="speech",
                outcome="answered",
                transcript=text,
                reply=reply,
                utterance_ids=(),
                speech_end_ns=0,
                audible_ns=1,
                voice_to_voice_ms=1.0,
                contributions_ms={},
                marks=marks,
            )
        )


class Switch(Arguments, frozen=True):
    """Switches the lamp on or off."""

    on: bool


def lamp(done: list[bool], *, confirm: bool = False) -> Tool[Switch]:
    """Another program's lamp; ``done`` is what was switched."""

    def run(asked: Switch) -> dict[str, bool]:
        done.append(asked.on)
        return {"on": asked.on}

    return typed_tool(
        Switch,
        name="lamp_switch",
        run=run,
        say=lambda value, _language: f"The lamp is {'on' if value['on'] else 'off'}.",
        label={"en": "the lamp", "zh": "灯"},
        permission="mcp:home",
        confirm=(lambda _asked, _language: "Shall I?") if confirm else None,
    )


def offered(world: World, done: list[bool], *, confirm: bool = False) -> None:
    """Let llm call for it."""
    world.mind.offer([lamp(done, confirm=confirm)], lambda tools: f"{len(list(tools))} tools")
