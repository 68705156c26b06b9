"""The sessions that are heard: who has a loudspeaker, and how loud and fast each wants it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from appliance.errors import ApplianceError
from appliance.ipc.audio_ring import RingWriter
from appliance.ipc.bus import Bus
from appliance.messages import LOCAL_SESSION, Sessions, SpeechSettings
from appliance.processes import REMOTE_SESSIONS
from appliance.tts.outlet import Outlet
from appliance.tts.playback import Loudspeaker
from appliance.tts.remote import RemoteLoudspeaker

logger = logging.getLogger(__name__)


class Outlets:
    """One outlet for the local session, and one for each remote session that is in use.

    Args:
        bus: to be woken by them, and to name their rings in the heartbeat.
        loudspeaker: of the local session, not yet open.
        open_ring: makes the speaker ring of a session; may raise `ApplianceError`.
        gain_db: level of everything at the local loudspeaker.
        duck_db: see `Outlet`.
    """

    def __init__(
        self,
        bus: Bus,
        loudspeaker: Loudspeaker,
        open_ring: Callable[[str], RingWriter],
        *,
        gain_db: float,
        duck_db: float,
    ) -> None:
        self._bus = bus
        self._open_ring = open_ring
        self._duck_db = duck_db
        self._opened_ns: dict[str, int] = {}
        """Since when the remote sessions are whose they are."""
        self._settings: dict[str, SpeechSettings] = {}
        self._outlets: dict[str, Outlet] = {}
        self.local = Outlet(
            LOCAL_SESSION, loudspeaker, open_ring(LOCAL_SESSION), gain_db=gain_db, duck_db=duck_db
        )
        self._add(self.local)

    def __iter__(self) -> Iterator[Outlet]:
        """All of them."""
        return iter(self._outlets.values())

    def __getitem__(self, session_id: str) -> Outlet:
        """Of a session that is known to have one."""
        return self._outlets[session_id]

    def find(self, session_id: str) -> Outlet | None:
        """A session's outlet, if it has one."""
        return self._outlets.get(session_id)

    def find_or_open(self, session_id: str) -> Outlet | None:
        """A session's outlet, made now if need be; None if that can't be."""
        if (outlet := self._outlets.get(session_id)) or session_id not in REMOTE_SESSIONS:
            return outlet
        try:
            writer = self._open_ring(session_id)
        except ApplianceError as error:
            logger.error("%s", error)
            return None
        outlet = Outlet(
            session_id,
            RemoteLoudspeaker(session_id),
            writer,
            gain_db=0.0,  # how loud a remote loudspeaker is, its owner sets there
            duck_db=self._duck_db,
        )
        if settings := self._settings.get(session_id):
            outlet.set_volume(settings.volume_percent)
        outlet.opened()
        self._add(outlet)
        return outlet

    def close(self, session_id: str) -> None:
        """Let go of a remote session."""
        outlet = self._outlets.pop(session_id)
        self._settings.pop(session_id, None)
        self._bus.forget(outlet.output.fileno())
        outlet.close()
        self._tell_rings()

    def close_all(self) -> None:
        """Close the loudspeakers and take the rings away."""
        for outlet in self._outlets.values():
            outlet.close()

    def speed(self, session_id: str) -> float:
        """How fast a session wants answers to be said; 1 is the voice's own."""
        settings = self._settings.get(session_id)
        return settings.speed if settings else 1.0

    def set(self, settings: SpeechSettings) -> None:
        """What a session wants; what changes nothing does nothing."""
        session_id = settings.session_id
        if session_id != LOCAL_SESSION and session_id not in REMOTE_SESSIONS:
            return
        if settings != self._settings.get(session_id):
            self._settings[session_id] = settings
            if outlet := self._outlets.get(session_id):
                outlet.set_volume(settings.volume_percent)

    def gone(self, sessions: Sessions) -> list[str]:
        """Those that have an outlet and are over, or are somebody else's by now."""
        opened_ns = {session.session_id: session.opened_ns for session in sessions.open}
        gone = []
        for session_id in self._outlets:
            if session_id == LOCAL_SESSION:
                continue
            at_ns = opened_ns.get(session_id)
            if at_ns is None or self._opened_ns.get(session_id, at_ns) != at_ns:
                gone.append(session_id)
        self._opened_ns = opened_ns
        return gone

    def _add(self, outlet: Outlet) -> None:
        self._outlets[outlet.session_id] = outlet
        self._bus.wake_on(outlet.output.fileno())
        self._tell_rings()

    def _tell_rings(self) -> None:
        writers = [outlet.writer for outlet in self._outlets.values()]
        self._bus.rings = {writer.format.name: writer.epoch for writer in writers}
