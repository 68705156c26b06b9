"""One turn state machine per session: the local one always, others as they come and go. Pure.

Models are shared, conversations are not: a message goes to the session it names, a process's
heartbeat to all of them. When a session closes, all that was known of it is forgotten.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

from appliance.conductor.checkpoint import MAX_AGE_NS, Checkpoint
from appliance.conductor.turn import TurnSettings
from appliance.conductor.turns import TurnTaker
from appliance.ipc.sessions import OpenSessions
from appliance.messages import LOCAL_SESSION, Message, ReplyChunk, Sessions, Transcript

LISTENING_GRACE_MS = 300


class Conversations:
    """Every session's state machine, and what a killed predecessor owed them.

    Args:
        settings: of the local session; a remote one needs no wake word.
        life: makes the ids of this process's life different from its predecessor's.
        owed: the turns that a predecessor left unanswered.
        now_ns: the time.
    """

    def __init__(
        self, settings: TurnSettings, *, life: int, owed: Sequence[Checkpoint] = (), now_ns: int = 0
    ) -> None:
        self._remote_settings = dataclasses.replace(settings, wake_word=False)
        self._lives = itertools.count(life)
        self._history_turns = settings.history_turns
        self._speaking: set[str] = set()
        """Sessions in which somebody has the floor."""
        self._sessions = OpenSessions()
        self.local = TurnTaker(LOCAL_SESSION, settings, life=next(self._lives))
        """Always there."""
        self._takers = {LOCAL_SESSION: self.local}
        # A turn that was still being listened to goes on by itself, unless vad told of its end
        # while nobody listened.
        listening_ns = (settings.fallback_ms + LISTENING_GRACE_MS) * 1_000_000
        self._owed = [
            (checkpoint, now_ns + (listening_ns if checkpoint.state == "listening" else 0))
            for checkpoint in owed
        ]
        """With the time from which on it is to be taken up."""

    def taker(self, session_id: str) -> TurnTaker | None:
        """The state machine of a session; None when it is not open."""
        return self._takers.get(session_id)

    def step(self, message: Message, now_ns: int) -> list[Message]:
        """Take one message; return what to publish."""
        if isinstance(message, Sessions):
            return self._follow(message, now_ns)
        session_id = getattr(message, "session_id", None)
        if session_id is None:
            steps = (taker.step(message, now_ns) for taker in self._takers.values())
            return list(itertools.chain.from_iterable(steps))
        if isinstance(message, Transcript | ReplyChunk):
            stage = "asr" if isinstance(message, Transcript) else "llm"
            for other, taker in self._takers.items():
                if other != session_id:
                    taker.waits_in_turn(stage, now_ns)
        addressed = self._takers.get(session_id)
        if addressed is None:
            return []
        return addressed.step(message, now_ns) + self._make_way(now_ns)

    def tick(self, now_ns: int) -> list[Message]:
        """Let time pass in every session."""
        out = [m for taker in self._takers.values() for m in taker.tick(now_ns)]
        if self._owed:
            out += self._take_up(now_ns)
        return out + self._make_way(now_ns)

    def due_ns(self) -> int | None:
        """When `tick` has something to decide, if that is known."""
        dues = [due for taker in self._takers.values() if (due := taker.due_ns()) is not None]
        return min(dues, default=None)

    def use_history(self, turns: int) -> None:
        """Let answers refer to so many earlier turns from now on."""
        self._history_turns = turns
        for taker in self._takers.values():
            taker.use_history(turns)

    def expect_slow_answers(self, slow: bool) -> None:
        """Whether the last answers were slow."""
        for taker in self._takers.values():
            taker.expects_slow_answer = slow

    def checkpoints(self, now_ns: int) -> tuple[Checkpoint, ...]:
        """The turns that are owed an answer, for a successor."""
        return tuple(
            Checkpoint(
                session_id=session_id,
                opened_ns=self._sessions.opened_ns(session_id),
                state=taker.state,
                spans=spans,
                saved_ns=now_ns,
            )
            for session_id, taker in self._takers.items()
            if (spans := taker.open_spans())
        )

    def _follow(self, sessions: Sessions, now_ns: int) -> list[Message]:
        out: list[Message] = []
        closed, opened = self._sessions.step(sessions)
        for session_id in closed:
            out += self._takers.pop(session_id).leave(now_ns)
        for session_id in opened:
            taker = TurnTaker(session_id, self._remote_settings, life=next(self._lives))
            taker.use_history(self._history_turns)
            self._takers[session_id] = taker
        return out

    def _make_way(self, now_ns: int) -> list[Message]:
        """Llm writes nothing that can wait while somebody waits for an answer."""
        if len(self._takers) == 1 and not self._speaking:
            return []
        speaking = {name for name, taker in self._takers.items() if taker.state != "idle"}
        if speaking == self._speaking:
            return []
        self._speaking = speaking
        return [
            message
            for name, taker in self._takers.items()
            for message in taker.others_speak(bool(speaking - {name}), now_ns)
        ]

    def _take_up(self, now_ns: int) -> Iterator[Message]:
        """Answer what a predecessor left unanswered, where who asked is still there."""
        waiting = []
        for checkpoint, from_ns in self._owed:
            taker = self._takers.get(checkpoint.session_id)
            same = checkpoint.opened_ns == self._sessions.opened_ns(checkpoint.session_id)
            if now_ns - checkpoint.saved_ns > MAX_AGE_NS:
                continue
            if taker is None or now_ns < from_ns:
                waiting.append((checkpoint, from_ns))
            elif same and taker.state == "idle":
                yield from taker.recover(checkpoint.spans, now_ns)
        self._owed = waiting
