"""Who speaks from afar: follows `Sessions`. Pure."""

from __future__ import annotations

from appliance.messages import Sessions
from appliance.processes import REMOTE_SESSIONS


class OpenSessions:
    """The remote sessions that are open, as last told."""

    def __init__(self) -> None:
        self._opened_ns: dict[str, int] = {}

    def __contains__(self, session_id: object) -> bool:
        return session_id in self._opened_ns

    def opened_ns(self, session_id: str) -> int:
        """When a session was opened, which tells it from another one in its slot; 0: it is not."""
        return self._opened_ns.get(session_id, 0)

    def step(self, message: Sessions) -> tuple[list[str], list[str]]:
        """Take the news.

        Returns:
            Sessions that have closed since, and sessions that have opened. A slot that has
            changed hands is both.
        """
        now = {s.session_id: s.opened_ns for s in message.open if s.session_id in REMOTE_SESSIONS}
        before, self._opened_ns = self._opened_ns, now
        closed = [name for name, at_ns in before.items() if now.get(name) != at_ns]
        opened = [name for name, at_ns in now.items() if before.get(name) != at_ns]
        return closed, opened
