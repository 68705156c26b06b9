"""Browsers as sessions: who has which slot, its rings, its captions, and when it is over."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from appliance.errors import ApplianceError
from appliance.gateway.captions import Captions
from appliance.gateway.offer import NoRoomError, OfferError
from appliance.ipc.audio_ring import RingReader, RingWriter, mic_format, speaker_format
from appliance.ipc.bus import Bus
from appliance.messages import BlocksReady, Message, OpenSession, Sessions
from appliance.processes import REMOTE_SESSIONS

if TYPE_CHECKING:
    from appliance.gateway.microphone import HeardBlock
    from appliance.gateway.peer import Peer

logger = logging.getLogger(__name__)

CONNECT_WITHIN_NS = 15_000_000_000
SILENT_FOR_NS = 5_000_000_000
"""A browser that sends nothing for so long has gone, even where nobody said so."""
_ENDED = ("failed", "closed")
_SPEAKER_REWIND_BLOCKS = 20
_ECHO_NS = 300_000_000
"""After the last block was sent, the browser still plays what it holds, and the room echoes."""


@dataclass
class _Session:
    """One browser's."""

    session_id: str
    key: str
    peer: Peer
    captions: Captions
    since_ns: int = field(default_factory=time.monotonic_ns)
    opened_ns: int = 0
    """When audio could flow; 0 before."""
    writer: RingWriter | None = None
    reader: RingReader | None = None
    playing_ns: int = 0


class SessionTable:
    """The open sessions.

    Args:
        bus: to announce blocks and sessions on.
        shm_prefix: of the rings.
    """

    def __init__(self, bus: Bus, shm_prefix: str) -> None:
        self._bus = bus
        self._shm_prefix = shm_prefix
        self._sessions: dict[str, _Session] = {}
        self._endings: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._sessions)

    async def offer(self, key: str, sdp: str, address: str) -> tuple[str, str]:
        """Take a browser's offer; one of the same browser takes the earlier one's place.

        Returns:
            The session's id and the answer.

        Raises:
            OfferError: it cannot be taken.
            NoRoomError: all slots are in use.
        """
        from appliance.gateway.peer import Peer  # some 55 MB, only where somebody comes

        if before := self._of(key):
            self._end(before, "offered anew")
        session_id = next((name for name in REMOTE_SESSIONS if name not in self._sessions), "")
        if not session_id:
            raise NoRoomError("all sessions are taken")
        captions = Captions(session_id)
        peer = Peer(
            heard=lambda blocks: self._hear(session, blocks),
            changed=lambda: self._changed(session),
        )
        session = _Session(session_id, key, peer, captions)
        peer.on_channel = lambda: peer.tell(captions.now())
        self._sessions[session_id] = session
        try:
            answer = await peer.answer(sdp, address)
        except OfferError:
            self._end(session, "its offer cannot be taken")
            raise
        return session_id, answer

    async def add_candidate(self, key: str, candidate: str, mid: str) -> None:
        """Another address of a browser."""
        if session := self._of(key):
            await session.peer.add_candidate(candidate, mid)

    def close(self, key: str) -> None:
        """A browser has gone."""
        if session := self._of(key):
            self._end(session, "it left")

    async def close_all(self) -> None:
        """End every session."""
        for session in list(self._sessions.values()):
            self._end(session, "gateway stops")
        if self._endings:
            await asyncio.wait(self._endings, timeout=1.5)

    def take(self, message: Message) -> None:
        """A message of the bus: something to play, or to show."""
        if isinstance(message, BlocksReady):
            for session in self._sessions.values():
                if session.reader and message.ring == speaker_format(session.session_id).name:
                    self._play(session, session.reader, message)
            return
        for session in self._sessions.values():
            for event in session.captions.step(message):
                session.peer.tell(event)

    def look_after(self, now_ns: int) -> None:
        """End what is over though nobody said so, and tell who is there; once a second or so."""
        for session in list(self._sessions.values()):
            if not session.opened_ns and now_ns - session.since_ns > CONNECT_WITHIN_NS:
                self._end(session, "it did not connect")
            elif session.opened_ns and now_ns - session.peer.last_packet_ns > SILENT_FOR_NS:
                self._end(session, "nothing comes any more")
            elif excess := session.peer.excess():
                self._end(session, excess)
        self.tell()

    def tell(self) -> None:
        """Publish who is there."""
        opened = [s for s in self._sessions.values() if s.opened_ns]
        self._bus.rings = {s.writer.format.name: s.writer.epoch for s in opened if s.writer}
        self._bus.counters = {
            "sessions": len(opened),
            **{
                f"{session.session_id}.{name}": value
                for session in opened
                for name, value in session.peer.counters().items()
            },
        }
        sessions = tuple(OpenSession(s.session_id, s.opened_ns) for s in opened)
        self._bus.publish(Sessions(open=sessions))

    def _of(self, key: str) -> _Session | None:
        return next((s for s in self._sessions.values() if s.key == key), None)

    def _is_current(self, session: _Session) -> bool:
        return self._sessions.get(session.session_id) is session

    def _changed(self, session: _Session) -> None:
        if not self._is_current(session):
            return
        if session.peer.state in _ENDED:
            self._end(session, "the connection ended")
        elif session.peer.state == "connected" and not session.opened_ns:
            name = session.session_id
            try:
                session.writer = RingWriter(self._shm_prefix, mic_format(name))
            except ApplianceError as error:  # no room in /dev/shm
                logger.error("%s", error)
                self._end(session, "there is no room for its audio")
                return
            session.reader = RingReader(self._shm_prefix, speaker_format(name).name)
            session.opened_ns = session.peer.last_packet_ns = time.monotonic_ns()
            logger.info("%s: a browser talks", name)
            self.tell()

    def _hear(self, session: _Session, blocks: list[HeardBlock]) -> None:
        writer = session.writer
        if writer is None or not self._is_current(session):
            return
        now_ns = time.monotonic_ns()
        if session.peer.is_playing:
            session.playing_ns = now_ns
        for block in blocks:
            announcement = writer.write(block.samples, block.captured_ns)
        echo = bool(session.playing_ns) and now_ns - session.playing_ns < _ECHO_NS
        self._bus.publish(msgspec.structs.replace(announcement, far_end_active=echo))

    def _play(self, session: _Session, reader: RingReader, message: BlocksReady) -> None:
        reader.announced(message, rewind_blocks=_SPEAKER_REWIND_BLOCKS)
        blocks = reader.read()
        if blocks:
            session.peer.play([block.samples for block in blocks])

    def _end(self, session: _Session, why: str) -> None:
        if not self._is_current(session):
            return
        del self._sessions[session.session_id]
        if session.opened_ns:
            logger.info("%s: the browser has gone: %s", session.session_id, why)
            self.tell()
        if session.writer:
            session.writer.close()
        if session.reader:
            session.reader.close()
        task = asyncio.get_running_loop().create_task(session.peer.close())
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)
