from hypothesis import given
from hypothesis import strategies as st

from appliance.llm.prompt import DEFAULT_SYSTEM_PROMPT, conversation, trim_history
from appliance.messages import ChatMessage


def turns(n):
    return [ChatMessage("user" if i % 2 == 0 else "assistant", str(i)) for i in range(n)]


def test_a_conversation_begins_with_the_static_prompt_and_ends_with_the_question():
    messages = conversation(turns(2), "And now?")
    assert messages[0] == ChatMessage("system", DEFAULT_SYSTEM_PROMPT)
    assert messages[1:3] == turns(2)
    assert messages[-1] == ChatMessage("user", "And now?")


@given(st.integers(0, 30), st.integers(0, 32))
def test_trimming_keeps_the_system_prompt_and_the_newest_messages(n_history, room):
    messages = conversation(turns(n_history), "now")
    kept = trim_history(messages, lambda some: len(some) <= room)
    if room < 2:
        assert kept is None
        return
    assert len(kept) <= room
    assert kept[0] == messages[0]
    assert kept[1:] == messages[len(messages) - len(kept) + 1 :]


def test_the_start_moves_only_once_in_a_while():
    starts = set()
    for n_history in range(20, 40, 2):
        kept = trim_history(conversation(turns(n_history), "now"), lambda some: len(some) <= 12)
        starts.add(kept[1].text)
    assert len(starts) <= 6


def test_without_a_system_prompt_the_newest_message_is_still_needed():
    assert trim_history(turns(3), lambda some: len(some) <= 1) == turns(3)[-1:]
    assert trim_history(turns(3), lambda some: False) is None
