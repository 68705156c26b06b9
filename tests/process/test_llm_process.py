"""The llm process itself: questions on the bus, chunks come back, whatever became of its model."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance.config import PROJECT_ROOT
from appliance.ipc.bus import Bus, Subscription, subscribe
from appliance.messages import (
    LOCAL_SESSION,
    ChatMessage,
    Generate,
    Heartbeat,
    Message,
    OpenSession,
    QuestionRead,
    ReplyChunk,
    ServiceLevel,
    Sessions,
    heartbeat_topic,
)
from appliance.mind.tools import parse
from appliance.models.manifest import MANIFEST_NAME
from appliance.models.store import models_dir

pytestmark = pytest.mark.models

_DEADLINE_S = 60
_MODEL, _WANTED = "smollm2-135m", "qwen2.5-coder-0.5b"
_QUESTION = "What is the capital of Italy?"
_CALL = 'root ::= "{\\"name\\": \\"clock\\", \\"arguments\\": {}}"'


class Llm:
    """The process, and the conductor."""

    def __init__(self, conductor: Bus, gateway: Bus, ear: Subscription) -> None:
        self._conductor, self._gateway, self._ear = conductor, gateway, ear
        self._asked = 0
        self.opinions: list[QuestionRead] = []
        """Of the question that was asked last, as far as they came before its answer."""

    def hear(self, wanted: Callable[[Message], bool], within_s: float = _DEADLINE_S) -> Message:
        """Wait for a message."""
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            for bus in (self._conductor, self._gateway):
                bus.beat()
            if (message := self._ear.receive(100)) is not None and wanted(message):
                return message
        raise AssertionError("not heard in time")

    def state(self, state: str) -> str:
        """Wait for a state; returns the heartbeat's detail."""
        beat = self.hear(lambda m: isinstance(m, Heartbeat) and m.state == state)
        assert isinstance(beat, Heartbeat)
        return beat.detail

    def use(self, model: str) -> None:
        """As the optimiser does."""
        level = ServiceLevel(
            session_id=LOCAL_SESSION,
            level=1,
            asr_model="",
            llm_model=model,
            history_turns=4,
            first_clause_words=0,
            reason="test",
            since_ns=0,
        )
        self._conductor.publish(level)

    def open(self, session_id: str, opened_ns: int) -> None:
        """As the gateway does, and wait until it was heard: both have sockets of their own."""
        self._gateway.publish(Sessions(open=(OpenSession(session_id, opened_ns),)))
        for _ in range(2):  # the first one may have been on its way before
            self.hear(lambda m: isinstance(m, Heartbeat))

    def ask(
        self, *texts: str, session_id: str = LOCAL_SESSION, grammar: str = "", within_s: float = 30
    ) -> list[ReplyChunk]:
        """All chunks of the answer."""
        self._asked += 1
        roles = ("user", "assistant")
        request = Generate(
            session_id=session_id,
            request_id=f"r{self._asked}",
            messages=tuple(ChatMessage(roles[n % 2], text) for n, text in enumerate(texts)),  # type: ignore[arg-type]
            max_tokens=40,
            grammar=grammar,
        )
        self._conductor.publish(request)
        chunks: list[ReplyChunk] = []
        self.opinions = []

        def is_last(message: Message) -> bool:
            if isinstance(message, ReplyChunk) and message.request_id == request.request_id:
                chunks.append(message)
            elif isinstance(message, QuestionRead) and not chunks:
                self.opinions.append(message)
            return bool(chunks and chunks[-1].last)

        self.hear(is_last, within_s)
        assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
        assert all(chunk.session_id == session_id for chunk in chunks)
        return chunks


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A models folder with nothing in it but the manifest."""
    root = tmp_path / "models"
    root.mkdir()
    shutil.copy(PROJECT_ROOT / "models" / MANIFEST_NAME, root)
    return root


def provide(models: Path, name: str, *, damaged: bool = False) -> None:
    """Put a model into the folder, whole or with one byte of it changed."""
    (models / name).mkdir(exist_ok=True)
    (original,) = (models_dir() / name).glob("*.gguf")
    new = models / name / "new"
    if damaged:
        shutil.copyfile(original, new)
        with new.open("r+b") as file:
            file.seek(1_000)
            file.write(b"damaged")
    else:
        new.symlink_to(original)
    new.rename(models / name / original.name)


@contextmanager
def running(place: Any, models: Path, model: str) -> Iterator[Llm]:
    config = models.parent / "appliance.toml"
    config.write_text(f'[llm]\nmodel = "{model}"\ncontext_tokens = 512\n')
    process = subprocess.Popen(
        [sys.executable, "-m", "appliance.ipc.process", "llm"],
        env={
            **os.environ,
            "APPLIANCE_RUNTIME_DIR": str(place.runtime_dir),
            "APPLIANCE_MODELS_DIR": str(models),
            "APPLIANCE_CONFIG": str(config),
        },
        stdout=subprocess.DEVNULL,
    )
    conductor, gateway = (
        Bus(runtime_dir=place.runtime_dir, process=name) for name in ("conductor", "gateway")
    )
    ear = subscribe(
        place.runtime_dir, [ReplyChunk.topic, QuestionRead.topic, heartbeat_topic("llm")]
    )
    try:
        yield Llm(conductor, gateway, ear)
    finally:
        process.terminate()
        status = process.wait(10)
        ear.close()
        conductor.close()
        gateway.close()
        place.forget_sockets()
    assert status == 0


@pytest.mark.slow
def test_it_answers_several_sessions_and_calls_tools(place: Any, models: Path) -> None:
    provide(models, _MODEL)
    with running(place, models, _MODEL) as llm:
        assert llm.state("ready") == _MODEL
        first = llm.ask(_QUESTION)
        assert "Rome" in "".join(chunk.text for chunk in first)
        assert all(not chunk.error and not chunk.call for chunk in first)
        history = ("I have a dog. " * 9, "That is nice.")
        llm.ask(*history, _QUESTION, session_id="remote.1")
        llm.ask("Something else. " * 9, "I see.", _QUESTION, session_id="remote.2")
        (back, *_) = llm.ask(*history, _QUESTION, session_id="remote.1")
        assert back.prompt_tokens - back.cached_tokens < 15
        llm.open("remote.1", opened_ns=1)
        (back, *_) = llm.ask(*history, _QUESTION, session_id="remote.1")
        assert back.prompt_tokens - back.cached_tokens < 15
        llm.ask("Something else. " * 9, "I see.", _QUESTION, session_id="remote.2")
        llm.open("remote.1", opened_ns=2)  # by somebody else
        (back, *_) = llm.ask(*history, _QUESTION, session_id="remote.1")
        assert back.prompt_tokens - back.cached_tokens > 30, "nothing of it was kept"
        (call,) = llm.ask(_QUESTION, grammar=_CALL)
        assert (call.text, call.error) == ("", "")
        parsed = parse(call.call)
        assert parsed is not None
        assert parsed.name == "clock"
        (half,) = llm.ask(_QUESTION, grammar=_CALL.replace("{}}", "{"))
        assert (half.text, half.call, half.error, half.last) == ("", "", "", True)
        (wrong,) = llm.ask(_QUESTION, grammar="root ::= (")
        assert "grammar" in wrong.error
        assert "Rome" in "".join(chunk.text for chunk in llm.ask(_QUESTION))


def test_its_opinion_of_a_question_comes_before_the_answer(place: Any, models: Path) -> None:
    provide(models, _MODEL)
    with running(place, models, _MODEL) as llm:
        llm.state("ready")
        llm.ask("What is the")
        (unfinished,) = llm.opinions
        llm.ask(_QUESTION)
        (complete,) = llm.opinions
    assert unfinished.session_id == complete.session_id == LOCAL_SESSION
    assert unfinished.complete < complete.complete


def test_without_a_model_every_question_gets_an_error_until_there_is_one(
    place: Any, models: Path
) -> None:
    provide(models, _MODEL, damaged=True)
    with running(place, models, _MODEL) as llm:
        detail = llm.state("degraded")
        assert "damaged" in detail
        assert f"appliance models fetch {_MODEL}" in detail
        for _ in range(3):
            (chunk,) = llm.ask(_QUESTION, within_s=2)
            assert (chunk.text, chunk.last, chunk.error) == ("", True, detail)
        provide(models, _MODEL)
        assert llm.state("ready") == _MODEL
        assert "Rome" in "".join(chunk.text for chunk in llm.ask(_QUESTION))


@pytest.mark.slow
def test_a_smaller_model_stands_in_and_makes_room_again(place: Any, models: Path) -> None:
    provide(models, _WANTED, damaged=True)
    provide(models, _MODEL)
    with running(place, models, _WANTED) as llm:
        detail = llm.state("degraded")
        assert detail.startswith(f"{_MODEL} answers instead: ")
        assert "damaged" in detail
        assert "Rome" in "".join(chunk.text for chunk in llm.ask(_QUESTION))
        provide(models, _WANTED)
        assert llm.state("ready") == _WANTED
        llm.use(_MODEL)
        llm.hear(lambda m: isinstance(m, Heartbeat) and m.detail == _MODEL)
        llm.use("no-such-model")
        assert llm.state("degraded").startswith(f"{_WANTED} answers instead: ")
        assert "Rome" in "".join(chunk.text for chunk in llm.ask(_QUESTION))
