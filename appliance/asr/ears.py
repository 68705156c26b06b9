"""One ear per session: its ring, what was heard of it, what was said to it. Models are shared."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from appliance.asr.hearings import Hearing, Hearings
from appliance.asr.streaming import LiveUtterance
from appliance.ipc.audio_ring import RingReader
from appliance.ipc.sessions import OpenSessions
from appliance.messages import LOCAL_SESSION, Sessions, Span
from appliance.processes import REMOTE_SESSIONS

_DIALOGUE_TURNS = 3


class Ear:
    """What one session's speech is read from, and understood with."""

    def __init__(self, reader: RingReader, begin: Callable[[], LiveUtterance]) -> None:
        """``begin`` makes what hears a new utterance."""
        self.reader = reader
        self._hearings = Hearings(reader.read_span, begin)
        self._dialogue: list[str] = []

    def hear(self, utterance_id: str, spans: Sequence[Span]) -> Hearing:
        """Return the utterance with the audio of ``spans``, copied from the ring."""
        for span in spans:
            self.reader.attach(span.epoch)
        return self._hearings.extend(utterance_id, spans)

    def remember(self, text: str) -> None:
        """Keep what was just said by the appliance."""
        self._dialogue = [*self._dialogue, " ".join(text.split())][-_DIALOGUE_TURNS:]

    @property
    def dialogue(self) -> str:
        """What was said last, a turn a line."""
        return "\n".join(self._dialogue)

    def begin_anew(self) -> None:
        """Let what is under way be heard from its beginning, by another model."""
        self._hearings.forget()


class Ears:
    """Every session's ear, there when first needed, gone with the session.

    A request may come before the news of its session: whoever asks knows that it is open.
    """

    def __init__(self, make: Callable[[str], Ear]) -> None:
        """``make`` gives the ear of a session."""
        self._make = make
        self._sessions = OpenSessions()
        self._ears = {LOCAL_SESSION: make(LOCAL_SESSION)}
        self._lost_before = 0

    @property
    def local(self) -> Ear:
        """The box's own."""
        return self._ears[LOCAL_SESSION]

    def of(self, session_id: str) -> Ear | None:
        """A session's ear; None when there is no such slot."""
        if session_id not in self._ears and session_id in REMOTE_SESSIONS:
            self._ears[session_id] = self._make(session_id)
        return self._ears.get(session_id)

    def follow(self, message: Sessions) -> list[str]:
        """Forget the sessions that have closed; return them."""
        closed, _ = self._sessions.step(message)
        gone = [
            session_id
            for session_id in self._ears
            if session_id in closed
            or (session_id != LOCAL_SESSION and session_id not in self._sessions)
        ]
        for session_id in gone:
            ear = self._ears.pop(session_id)
            self._lost_before += ear.reader.lost_blocks
            ear.reader.close()
        return gone

    def begin_anew(self) -> None:
        """Let all that is under way be heard by another model."""
        for ear in self._ears.values():
            ear.begin_anew()

    @property
    def lost_blocks(self) -> int:
        """Blocks that could not be read, of all sessions so far."""
        return self._lost_before + sum(ear.reader.lost_blocks for ear in self._ears.values())

    def close(self) -> None:
        """Let go of all rings."""
        for ear in self._ears.values():
            ear.reader.close()
