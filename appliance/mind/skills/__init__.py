"""Everything that can be done without a language model: a plan for each intent."""

from appliance.mind.skills.clocks import rings
from appliance.mind.skills.intents import plan_of
from appliance.mind.skills.plans import OWNER, VOICE_DECODER, Act, Outcome, Plan, Skills, Voice

__all__ = [
    "OWNER",
    "VOICE_DECODER",
    "Act",
    "Outcome",
    "Plan",
    "Skills",
    "Voice",
    "plan_of",
    "rings",
]
