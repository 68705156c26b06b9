"""Everything that can be done without a language model: a plan for each intent."""

from appliance.mind.skills.clocks import names_running, rings
from appliance.mind.skills.intents import plan_of
from appliance.mind.skills.plans import (
    OWNER,
    VOICE_DECODER,
    Act,
    Choice,
    Choices,
    Outcome,
    Plan,
    Skills,
    Voice,
)

__all__ = [
    "OWNER",
    "VOICE_DECODER",
    "Act",
    "Choice",
    "Choices",
    "Outcome",
    "Plan",
    "Skills",
    "Voice",
    "names_running",
    "plan_of",
    "rings",
]
