"""What the model is told, and how much of a conversation it is given. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from appliance.messages import ChatMessage

DEFAULT_SYSTEM_PROMPT = (
    "You are a voice assistant in a home. Your words are spoken aloud, so answer in one or two "
    "short, plain sentences: no lists, no markdown, no code, no emoji. Answer the question first. "
    "You run on a small box without internet: you cannot know the time, the weather or the news, "
    "and you cannot control any device. If you do not know something, say so; never make it up."
)
"""Static, so that its evaluation stays in the prefix cache for every turn of every session."""

EXAMPLES = (
    ChatMessage("user", "Where is the Eiffel Tower?"),
    ChatMessage("assistant", "In Paris. It stands on the Champ de Mars."),
    ChatMessage("user", "Why is the sea salty?"),
    ChatMessage(
        "assistant",
        "Because of rocks. Rain washes minerals out of them, and rivers carry these to the sea.",
    ),
    ChatMessage("user", "How many sides does a hexagon have?"),
    ChatMessage("assistant", "Six. They are all equal in a regular one."),
    ChatMessage("user", "Can you explain what a glacier is?"),
    ChatMessage(
        "assistant",
        "A river of ice. It forms where more snow falls than melts, and moves slowly downhill.",
    ),
)
"""Show what the instructions do not bring a small model to do: begin with the few words that
answer the question. They can be spoken while the rest is still being written. With one example the
first phrase has 7 tokens in the median, with four 4 (the 1.5B model, 40 other questions)."""

CHINESE_SYSTEM_PROMPT = (
    "你是家里的语音助手。你的回答会被读出来，所以请用中文，用一两句简短的话回答：不要列表，不要格式符号，"
    "不要代码，不要表情。先回答问题。你运行在一个没有联网的小盒子上：你不知道时间、天气和新闻，也不能控制"
    "任何设备。不知道的就说不知道，绝不编造。"
)
CHINESE_EXAMPLES = (
    ChatMessage("user", "埃菲尔铁塔在哪里？"),
    ChatMessage("assistant", "在巴黎。它矗立在战神广场上。"),
    ChatMessage("user", "海水为什么是咸的？"),
    ChatMessage("assistant", "因为岩石。雨水把岩石里的矿物质冲进河流，再带到海里。"),
    ChatMessage("user", "六边形有几条边？"),
    ChatMessage("assistant", "六条。正六边形的每条边都一样长。"),
)

_CONFUSED_BY_EXAMPLES = frozenset({"smollm2-135m"})


def opening(system_prompt: str, model: str, language: str = "en") -> tuple[ChatMessage, ...]:
    """What every conversation begins with.

    Args:
        system_prompt: the owner's own instructions, which come without our example; or empty.
        model: the smallest models answer the example instead of the question.
        language: in which is spoken.
    """
    default = CHINESE_SYSTEM_PROMPT if language == "zh" else DEFAULT_SYSTEM_PROMPT
    if system_prompt or model in _CONFUSED_BY_EXAMPLES:
        return (ChatMessage("system", system_prompt or default),)
    examples = CHINESE_EXAMPLES if language == "zh" else EXAMPLES
    return (ChatMessage("system", default), *examples)


def before_question(messages: Sequence[ChatMessage], question: str = "") -> tuple[ChatMessage, ...]:
    """The messages with the opening of a question, which the whole question will begin with."""
    return *messages, ChatMessage("user", question)


def begins_with(messages: Sequence[ChatMessage], read: Sequence[ChatMessage]) -> bool:
    """Whether reading `read` is part of reading `messages`: then it is no time lost."""
    *before, last = read or (ChatMessage("user", ""),)
    if len(messages) <= len(before) or list(messages[: len(before)]) != before:
        return False
    following = messages[len(before)]
    return following.role == last.role and following.text.startswith(last.text)


TRIM_STEP = 4
"""Messages dropped at a time: a prompt that lost one each turn would never hit the cache."""


def conversation(
    history: Sequence[ChatMessage], question: str, *, system_prompt: str = DEFAULT_SYSTEM_PROMPT
) -> list[ChatMessage]:
    """The messages of one turn: system prompt, earlier messages as they were played, question."""
    return [
        ChatMessage("system", system_prompt),
        *history,
        ChatMessage("user", question),
    ]


def trim_history(
    messages: Sequence[ChatMessage],
    fits: Callable[[Sequence[ChatMessage]], bool],
    opening: int = 0,
) -> list[ChatMessage] | None:
    """Drop the oldest messages between the opening and the newest one until `fits` agrees.

    They go `TRIM_STEP` at a time, so that as a conversation grows its start, which the prefix
    cache holds, moves only once in a while.

    Args:
        messages: a conversation.
        fits: whether so much can be sent.
        opening: how many messages at the beginning always stay; a system prompt does anyway.

    Returns:
        The messages to send, or None when not even the opening and the newest message fit.
    """
    head = list(messages[: opening or int(messages[0].role == "system")])
    body = list(messages[len(head) :])
    while body:
        kept = [*head, *body]
        if fits(kept):
            return kept
        if len(body) == 1:
            return None
        del body[: min(TRIM_STEP, len(body) - 1)]
    return head if fits(head) else None
