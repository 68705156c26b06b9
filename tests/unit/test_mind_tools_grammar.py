"""The grammar: text or one valid call. Judged by llama.cpp itself where a model is at hand."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from test_mind_tools import World

from appliance.mind.tools import grammar, offer, parse

MODELS = Path(__file__).parents[2] / "models"

VALID = [
    '{"name": "clock", "arguments": {}}',
    '{"name": "timer_set", "arguments": {"minutes": 5}}',
    '{"name": "timer_set", "arguments": {"hours": 1, "name": "eggs \\"n\\" ham"}}',
    '{"name": "alarm_set", "arguments": {"hour": 7, "repeat": "workdays"}}',
    '{"name": "note_delete", "arguments": {"about": "牛奶"}}',
    '{"name": "note_add", "arguments": {"text": "' + "x" * 120 + '"}}',
    '{"name": "timer_set", "arguments": {"minutes": 999, "seconds": 0}}',
    "It is seven o'clock, and 2 + 2 = 4.",
    "意大利的首都是罗马。",
]
INVALID = [
    '{"name": "rm_rf", "arguments": {}}',
    '{"name": "clock", "arguments": {"zone": "x"}}',
    '{"name": "alarm_set", "arguments": {}}',
    '{"name": "alarm_set", "arguments": {"hour": "seven"}}',
    '{"name": "alarm_set", "arguments": {"hour": 7, "repeat": "yearly"}}',
    '{"name": "clock", "arguments": {}} and text',
    '{"name": "clock", "arguments": {}}{"name": "clock", "arguments": {}}',
    '{"name": "clock"}',
    '{"name": "alarm_set", "arguments": {"hour": 24}}',
    '{"name": "alarm_set", "arguments": {"hour": -1}}',
    '{"name": "timer_set", "arguments": {"minutes": 1000}}',
    '{"name": "note_add", "arguments": {"text": "' + "x" * 121 + '"}}',
    '{"name": "note_add", "arguments": {"text": "a\nb"}}',
    'Sure: {"name": "clock", "arguments": {}}',
    '```json\n{"name": "clock", "arguments": {}}\n```',
    "<tool_call>",
    "",
]


def test_the_grammar_has_every_tool_and_bounded_size() -> None:
    text = grammar(World().registry.granted(("timers", "notes")))
    assert text.startswith("root ::= call | text\n")
    for name in ("timer_set", "note_delete", "calculator"):
        assert f'\\"{name}\\"' in text
    assert len(text) < 20_000
    assert "call" not in grammar([])


def test_an_offer_shows_how_to_call_and_ends_with_the_question() -> None:
    tools = World().registry.granted(("timers",))
    text = offer(tools, "Which timers run?")
    assert all(f"- {tool.name}: {tool.description}" in text for tool in tools)
    form = text[text.index("{") : text.index("}}") + 2]
    assert parse(form) is not None
    assert text.endswith("Which timers run?")


def test_a_tool_that_is_not_granted_is_not_in_the_grammar() -> None:
    assert "note_add" not in grammar(World().registry.granted(("timers",)))


def test_calls_are_told_from_text() -> None:
    call = parse(' {"name": "timer_set", "arguments": {"minutes": 5}}\n')
    assert call is not None
    assert (call.name, bytes(call.arguments)) == ("timer_set", b'{"minutes": 5}')
    for text in ("hello", "", "[1]", '{"name": 5, "arguments": {}}', '{"name": "x"}', "{" * 10**5):
        assert parse(text) is None


@pytest.fixture(scope="module")
def accepts() -> Iterator[Callable[[str, str], bool]]:
    """Whether llama.cpp's sampler lets a model write exactly this text and end."""
    found = sorted(MODELS.glob("**/*qwen*0.5b*.gguf"))
    if not found:
        pytest.skip("needs the model files that scripts/test fetches")
    import llama_cpp.llama_cpp as lib

    parameters = lib.llama_model_default_params()
    parameters.vocab_only = True
    model = lib.llama_model_load_from_file(str(found[0]).encode(), parameters)
    vocab = lib.llama_model_get_vocab(model)
    end = lib.llama_vocab_eos(vocab)

    def run(rules: str, text: str) -> bool:
        sampler = lib.llama_sampler_init_grammar(vocab, rules.encode(), b"root")
        assert sampler, "llama.cpp refuses the grammar"
        data = text.encode()
        tokens = (lib.llama_token * (len(data) + 8))()
        count = lib.llama_tokenize(vocab, data, len(data), tokens, len(tokens), False, False)
        try:
            for token in [*tokens[:count], end]:
                one = (lib.llama_token_data * 1)(lib.llama_token_data(token, 0.0, 0.0))
                array = lib.llama_token_data_array(one, 1, -1, False)
                lib.llama_sampler_apply(sampler, ctypes.byref(array))
                if one[0].logit == float("-inf"):
                    return False
                lib.llama_sampler_accept(sampler, token)
            return True
        finally:
            lib.llama_sampler_free(sampler)

    yield run
    lib.llama_model_free(model)


@pytest.mark.models
def test_llama_cpp_accepts_valid_calls_and_text_and_nothing_else(
    accepts: Callable[[str, str], bool],
) -> None:
    rules = grammar(World().registry.granted(("timers", "notes")))
    assert [text for text in VALID if not accepts(rules, text)] == []
    assert [text for text in INVALID if accepts(rules, text)] == []


@pytest.mark.models
def test_without_tools_only_text_can_be_written(accepts: Callable[[str, str], bool]) -> None:
    rules = grammar([])
    assert accepts(rules, "It is seven.")
    assert not accepts(rules, VALID[0])
