"""Which skill answers which intent."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from appliance.mind.skills import clocks, facts, notes, speech
from appliance.mind.skills.plans import Plan, Said, Skills, Voice
from appliance.mind.tools.registry import Language
from appliance.mind.understanding import Understood

_SKILLS: Mapping[str, Callable[[Skills, Said], Plan | None]] = {
    "timer_set": clocks.set_timer,
    "timer_add": clocks.extend_timer,
    "alarm_set": clocks.set_alarm,
    "snooze": clocks.snooze,
    "timer_cancel": clocks.cancel,
    "alarm_cancel": clocks.cancel,
    "reminder_cancel": clocks.cancel,
    "timer_left": clocks.list_timers,
    "timer_list": clocks.list_timers,
    "alarm_list": clocks.list_timers,
    "stop": clocks.stop,
    "remember": facts.remember,
    "forget": facts.forget,
    "recall": facts.recall,
    "note_add": notes.add_note,
    "note_read": notes.read_notes,
    "note_delete": notes.delete_notes,
    "volume_up": speech.set_volume,
    "volume_down": speech.set_volume,
    "volume_set": speech.set_volume,
    "slower": speech.set_speed,
    "faster": speech.set_speed,
    "repeat": speech.repeat,
    "mute": speech.mute,
    "unmute": speech.unmute,
    "language": speech.language,
    "status": speech.status,
}
"""Whatever is not here needs nothing but a clock."""


def plan_of(
    skills: Skills,
    understood: Understood,
    voice: Voice,
    last_reply: str,
    undo: Callable[[], object] | None = None,
) -> Plan | None:
    """What to do, or None when it is for the language model after all.

    Args:
        skills: what to do it with.
        understood: the intent.
        voice: how answers are spoken in this session.
        last_reply: the last answer that was heard in it.
        undo: takes back what was done in the turn before.
    """
    language: Language = "zh" if understood.language == "zh" else "en"
    said = Said(understood, understood.slots, language, voice, last_reply, undo)
    if make := _SKILLS.get(understood.intent):
        return make(skills, said)
    reply = skills.understandings[understood.language].answer(understood, skills.now())
    return None if reply is None else Plan(reply)
