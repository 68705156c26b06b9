"""Two browsers and the room ask the running appliance in the same moment."""

from __future__ import annotations

import asyncio
import time
from difflib import SequenceMatcher

import pytest
from hearing import overlap, words

from appliance.asr.engine import create_engine
from appliance.asr.transcriber import Transcriber
from appliance.bench.recordings import synthesised
from appliance.bench.sessions import Heard, Scene, open_scene
from appliance.messages import LOCAL_SESSION
from appliance.models.store import ensure_model

pytestmark = [pytest.mark.loopback, pytest.mark.models, pytest.mark.timeout(240)]

ASKED = {
    LOCAL_SESSION: ("What is the capital of Italy?", "rome"),
    "remote.1": ("What is the capital of France?", "paris"),
    "remote.2": ("What is the capital of Japan?", "tokyo"),
}

_MISHEARD = 0.6


def closest(heard: str) -> str:
    """Whose answer it was: of a single word on its own a letter may be misheard."""

    def alike(answer: str) -> float:
        ratios = (SequenceMatcher(None, word, answer).ratio() for word in words(heard))
        return max(ratios, default=0.0)

    answers = [answer for _, answer in ASKED.values()]
    found = max(answers, key=alike)
    return found if alike(found) >= _MISHEARD else ""


async def ask_all(scene: Scene) -> tuple[list[Heard], dict[str, str]]:
    """The turns, and what each browser heard, as text."""
    ears = Transcriber(create_engine("ctranslate2", ensure_model("whisper-tiny.en"), threads=1))
    await scene.connect(2)
    try:
        await scene.idle()
        asked = {name: synthesised(question, "slt") for name, (question, _) in ASKED.items()}
        begin_ns = time.monotonic_ns()
        turns = await scene.ask(asked)
        heard = {
            name: ears.transcribe(browser.heard(begin_ns)).text
            for name, browser in scene.browsers.items()
        }
    finally:
        await scene.close()
    return turns, heard


def test_everyone_who_asks_at_once_hears_the_answer_to_his_own_question() -> None:
    with open_scene("qwen2.5-coder-0.5b", 1) as scene:
        turns, heard = asyncio.run(ask_all(scene))
        log = scene.rig.log[-3000:]
    assert {turn.session_id for turn in turns} == ASKED.keys()
    for turn in turns:
        question, answer = ASKED[turn.session_id]
        others = {word for name, (_, word) in ASKED.items() if name != turn.session_id}
        assert turn.record is not None, log
        assert turn.answered, log
        assert turn.sum_right, turn.record
        assert not turn.mixed_up
        assert overlap(question, turn.record.transcript) > 0.8, turn.record.transcript
        assert answer in words(turn.record.reply)
        assert not others.intersection(words(turn.record.reply))
        if turn.session_id != LOCAL_SESSION:
            assert closest(heard[turn.session_id]) == answer, heard
    # one model answers them all: who came later waited, and the ledger says for what
    assert sum(turn.queue_ms > 0 for turn in turns) >= len(turns) - 1
    assert max(turn.queue_ms for turn in turns) > 50
