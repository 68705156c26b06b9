"""The real processes mind and llm without the others; the caller is their conductor."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from appliance import config as configuration
from appliance.errors import ApplianceError
from appliance.ipc.bus import Bus, Client, subscribe
from appliance.messages import (
    LOCAL_SESSION,
    ChatMessage,
    Commit,
    Consider,
    Considered,
    Done,
    Generate,
    Heartbeat,
    Message,
    Outcome,
    ReplyChunk,
    Request,
    Ringing,
    SpeechSettings,
    TurnRecord,
    heartbeat_topic,
)

START_BOUND_S = 60.0
ANSWER_BOUND_S = 10.0
GENERATE_BOUND_S = 120.0
_EAR_MS = 100
_FIRST_ANSWER_S = 0.5
_M = TypeVar("_M", bound=Message)


class MindProcess:
    """Starts, kills and talks to ``python -m appliance.ipc.process mind``, and llm beside it.

    Args:
        runtime_dir: with a path short enough for sockets; of this process alone.
        data_dir: where mind keeps what it keeps.
        environment: further variables.
    """

    def __init__(
        self, runtime_dir: Path, data_dir: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.runtime_dir = runtime_dir
        self._environment = {
            **os.environ,
            configuration.ENV_RUNTIME_DIR: str(runtime_dir),
            "APPLIANCE_MIND__DATA_DIR": str(data_dir),
            **(environment or {}),
        }
        self._conductor = Bus(runtime_dir=runtime_dir, process="conductor")
        topics = [kind.topic for kind in (Considered, Done, ReplyChunk, Ringing, SpeechSettings)]
        beats = [heartbeat_topic(name) for name in ("mind", "llm")]
        self._ear = subscribe(runtime_dir, [*topics, *beats])
        self._process: subprocess.Popen[bytes] | None = None
        self._llm: subprocess.Popen[bytes] | None = None
        self._ids = (f"q{n}" for n in itertools.count(1))
        self._life = 0
        self.beat: Heartbeat | None = None
        """The last one heard."""
        self.rung: list[tuple[int, Ringing]] = []
        """What was told to ring, and when it was heard: monotonic nanoseconds."""
        self._rung_taken = 0

    def __enter__(self) -> MindProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        if self._llm is not None:
            self._llm.terminate()
            self._llm.wait(10)
        self._ear.close()
        self._conductor.close()

    # --- its life ----------------------------------------------------------------------------

    def start(self, environment: Mapping[str, str] | None = None) -> Heartbeat:
        """Start it and wait until it takes questions; returns the heartbeat that says so.

        Args:
            environment: variables of this life only.
        """
        self._process = self._start("mind", environment)
        old = self._life
        beat = self._hear_ready("mind", old)
        self._life = beat.life
        self._be_heard()
        return beat

    def _be_heard(self) -> None:
        """Until the first answer a question may be lost: sockets connect in their own time."""
        until = time.monotonic() + ANSWER_BOUND_S
        while True:
            try:
                self.consider("", within_s=_FIRST_ANSWER_S)
            except ApplianceError:
                if time.monotonic() > until:
                    raise
            else:
                return

    def start_llm(self) -> Heartbeat:
        """Start llm too, with the configured model."""
        self._llm = self._start("llm", None)
        return self._hear_ready("llm", 0)

    def _start(self, name: str, environment: Mapping[str, str] | None) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "appliance.ipc.process", name],
            env={**self._environment, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _hear_ready(self, name: str, old_life: int) -> Heartbeat:
        def ready(message: Message) -> bool:
            return (
                isinstance(message, Heartbeat)
                and message.process == name
                and message.life != old_life
                and message.state != "starting"
            )

        beat = self.hear(ready, START_BOUND_S)
        assert isinstance(beat, Heartbeat)
        return beat

    def kill(self) -> None:
        """As a crash does: nothing is put away."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """As the supervisor does; returns the exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(how)
        return process.wait(10)

    def loop_cpu_ns(self) -> int:
        """Processor time of its loop so far: what other programs do is not in it (schedstat)."""
        assert self._process is not None
        path = Path(f"/proc/{self._process.pid}/schedstat")  # of the first thread alone
        return int(path.read_text(encoding="ascii").split()[0])

    # --- talking to it -----------------------------------------------------------------------

    def hear(self, wanted: Callable[[Message], bool], within_s: float) -> Message:
        """Wait for a message.

        Raises:
            ApplianceError: it does not come in time.
        """
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            self._conductor.receive(0)  # beats
            message = self._ear.receive(_EAR_MS)
            if isinstance(message, Ringing):
                self.rung.append((time.monotonic_ns(), message))
            elif isinstance(message, Heartbeat) and message.process == "mind":
                self.beat = message
            if message is not None and wanted(message):
                return message
        raise ApplianceError(f"mind did not say what was waited for within {within_s:g} s")

    def hear_ringing(self, within_s: float, *, ids: int = 1) -> tuple[int, Ringing]:
        """Wait until so many ring, unless that was heard already; when, and what."""
        return self._next_ringing(lambda ringing: len(ringing.ids) == ids, within_s)

    def hear_any_ringing(self, within_s: float) -> tuple[int, Ringing]:
        """The same, whatever rings."""
        return self._next_ringing(lambda ringing: bool(ringing.ids), within_s)

    def _next_ringing(
        self, wanted: Callable[[Ringing], bool], within_s: float
    ) -> tuple[int, Ringing]:
        while True:
            while self._rung_taken < len(self.rung):
                at_ns, ringing = self.rung[self._rung_taken]
                self._rung_taken += 1
                if wanted(ringing):
                    return at_ns, ringing
            self.hear(lambda m: isinstance(m, Ringing), within_s)

    def consider(
        self,
        text: str,
        *,
        session_id: str = LOCAL_SESSION,
        in_dialogue: bool = False,
        within_s: float = ANSWER_BOUND_S,
    ) -> Considered:
        """What mind says of a question."""
        request_id = self.ask(text, session_id=session_id, in_dialogue=in_dialogue)
        answer = self.hear(
            lambda m: isinstance(m, Considered) and m.request_id == request_id, within_s
        )
        assert isinstance(answer, Considered)
        return answer

    def ask(self, text: str, *, session_id: str = LOCAL_SESSION, in_dialogue: bool = False) -> str:
        """Put a question without waiting for the answer; returns its number."""
        request_id = next(self._ids)
        self._conductor.publish(
            Consider(
                session_id=session_id, request_id=request_id, text=text, in_dialogue=in_dialogue
            )
        )
        return request_id

    def commit(self, considered: Considered, call: str = "") -> str | None:
        """The turn is over; what became of it, where something was to be done."""
        self.tell(considered, call)
        if not (considered.acts or call):
            return None
        request_id = considered.request_id
        done = self.hear(
            lambda m: isinstance(m, Done) and m.request_id == request_id, ANSWER_BOUND_S
        )
        assert isinstance(done, Done)
        return done.reply

    def tell(self, considered: Considered, call: str = "") -> None:
        """The turn is over, whatever becomes of it."""
        self._conductor.publish(
            Commit(session_id=considered.session_id, request_id=considered.request_id, call=call)
        )

    def say(self, text: str, llm: str = "I see.", *, in_dialogue: bool = False) -> str:
        """A whole turn; what was said in it, by mind or in llm's place."""
        considered = self.consider(text, in_dialogue=in_dialogue)
        done = self.commit(considered)
        reply = done if done is not None else considered.reply or llm
        self.record(text, reply, considered.intent)
        return reply

    def record(
        self, text: str, reply: str, mark: str = "", *, outcome: Outcome = "answered"
    ) -> None:
        """Tell, as the conductor does, how a turn ended."""
        now_ns = time.monotonic_ns()
        self._conductor.publish(
            TurnRecord(
                session_id=LOCAL_SESSION,
                turn_id=next(self._ids),
                source="speech",
                outcome=outcome,
                transcript=text,
                reply=reply,
                utterance_ids=(),
                speech_end_ns=now_ns,
                audible_ns=now_ns,
                voice_to_voice_ms=0.0,
                contributions_ms={},
                marks=(mark,) if mark else (),
            )
        )

    def generate(
        self, messages: Sequence[ChatMessage], *, max_tokens: int, grammar: str = ""
    ) -> tuple[str, str]:
        """What llm writes, as it would be spoken, and the call if it is one.

        Raises:
            ApplianceError: it cannot answer.
        """
        request_id = next(self._ids)
        self._conductor.publish(
            Generate(
                session_id=LOCAL_SESSION,
                request_id=request_id,
                messages=tuple(messages),
                max_tokens=max_tokens,
                grammar=grammar,
            )
        )
        chunks: list[ReplyChunk] = []

        def last(message: Message) -> bool:
            if isinstance(message, ReplyChunk) and message.request_id == request_id:
                chunks.append(message)
            return bool(chunks) and chunks[-1].last

        self.hear(last, GENERATE_BOUND_S)
        if chunks[-1].error:
            raise ApplianceError(f"llm cannot answer: {chunks[-1].error}")
        text = " ".join(chunk.text.strip() for chunk in chunks if chunk.text)
        return text, chunks[-1].call

    def request(self, request: Request, kind: type[_M]) -> _M:
        """Send a request as the panel does; returns its answer.

        Raises:
            ApplianceError: no answer, or one of another kind.
        """
        client = Client(self.runtime_dir, "mind")
        try:
            client.send(request)
            answer = None
            until = time.monotonic() + ANSWER_BOUND_S
            while answer is None and time.monotonic() < until:
                self._conductor.receive(0)
                answer = client.receive(_EAR_MS)
        finally:
            client.close()
        if not isinstance(answer, kind):
            raise ApplianceError(f"mind answered {answer!r}")
        return answer
