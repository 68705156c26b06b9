"""What the appliance says about itself when something went wrong, in English and Chinese."""

ONE_MOMENT = "Sorry, one moment."
WHERE_WAS_I = "Sorry, I was cut off."
CANNOT_HEAR = "Sorry, I could not make out what you said. Please say it again."
NOT_CAUGHT = "Sorry, I did not catch that."
CANNOT_THINK = "Sorry, I can't think of an answer right now. Please ask again in a moment."
NO_ANSWER = "Sorry, I have no answer to that."
LET_ME_SEE = "Let me see."
NOT_SURE = "Sorry, I am not sure whether that was done."

_CHINESE = {
    ONE_MOMENT: "抱歉，请稍等。",
    WHERE_WAS_I: "抱歉，刚才被打断了。",
    CANNOT_HEAR: "抱歉，我没听清，请再说一遍。",
    NOT_CAUGHT: "抱歉，我没听清楚。",
    CANNOT_THINK: "抱歉，我现在想不出答案，请过一会儿再问。",
    NO_ANSWER: "抱歉，这个我答不上来。",
    LET_ME_SEE: "让我想想。",
    NOT_SURE: "抱歉，我不确定有没有做成。",
}


def said(phrase: str, language: str) -> str:
    """A phrase in the language of the conversation, if it is known in it."""
    return _CHINESE.get(phrase, phrase) if language == "zh" else phrase


def all_said(language: str) -> list[str]:
    """Every phrase, to be synthesised before it is needed."""
    return [said(phrase, language) for phrase in _CHINESE]
