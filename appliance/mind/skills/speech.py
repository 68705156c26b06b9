"""How the appliance speaks and listens: volume, speed, repeating, mute; and how it is."""

from __future__ import annotations

from appliance.mind.sayings import phrase
from appliance.mind.skills.plans import Outcome, Plan, Said, Skills

_VOLUME_STEP = 15
_LEAST_VOLUME = 10
_SPEED_STEP = 1.2
_SPEEDS = (0.5, 2.0)


def status(skills: Skills, said: Said) -> Plan:
    """Tell whether everything works."""
    return Plan(skills.tool("system_status", said.language).reply)


def language(skills: Skills, said: Said) -> Plan:
    """Tell which languages are spoken and understood."""
    return Plan(phrase("speaks" if "zh" in skills.listens else "speaks_not", said.language))


def repeat(_skills: Skills, said: Said) -> Plan:
    """Say the last answer again."""
    return Plan(said.last_reply or phrase("nothing_to_repeat", said.language))


def mute(_skills: Skills, said: Said) -> Plan:
    """Have the microphones muted."""
    outcome = Outcome(
        phrase("muted", said.language), if_not_muted=phrase("cannot_mute", said.language)
    )
    return Plan(outcome.reply, lambda: outcome)


def unmute(_skills: Skills, said: Said) -> Plan:
    """Muted, it hears nobody in the room: words that come all the same come from elsewhere."""
    return Plan(phrase("unmute_how", said.language))


def set_volume(_skills: Skills, said: Said) -> Plan:
    """Speak louder or softer."""
    percent = said.slots.get("percent")
    if said.understood.intent != "volume_set" or not isinstance(percent, int | float):
        step = percent if isinstance(percent, int | float) else _VOLUME_STEP
        step = step if said.understood.intent == "volume_up" else -step
        percent = max(_LEAST_VOLUME, said.voice.volume_percent + step)  # silence is asked for
    wanted = min(100, max(0, round(percent)))
    reply = phrase("volume", said.language, percent=wanted)
    return Plan(reply, lambda: Outcome(reply, volume_percent=wanted))


def set_speed(_skills: Skills, said: Said) -> Plan:
    """Speak slower or faster, and say the last answer again so."""
    factor = _SPEED_STEP if said.understood.intent == "faster" else 1 / _SPEED_STEP
    speed = min(_SPEEDS[1], max(_SPEEDS[0], round(said.voice.speed * factor, 3)))
    reply = said.last_reply or phrase("okay", said.language)
    return Plan(act=lambda: Outcome(reply, speed=speed))  # not to be synthesised before
