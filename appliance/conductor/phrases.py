"""What the appliance says about itself when something went wrong."""

ONE_MOMENT = "Sorry, one moment."
WHERE_WAS_I = "Sorry, I was cut off."
CANNOT_HEAR = "Sorry, I could not make out what you said. Please say it again."
NOT_CAUGHT = "Sorry, I did not catch that."
CANNOT_THINK = "Sorry, I can't think of an answer right now. Please ask again in a moment."
NO_ANSWER = "Sorry, I have no answer to that."
LET_ME_SEE = "Let me see."
