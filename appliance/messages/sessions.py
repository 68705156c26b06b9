"""Sessions: who speaks from afar."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from appliance.messages.base import Message


class OpenSession(msgspec.Struct, frozen=True, array_like=True):
    """Somebody speaks from afar, through the rings of this session's slot."""

    session_id: str
    opened_ns: int
    """Another value means somebody else: nothing of who was there before is kept."""


class Sessions(Message, frozen=True, kw_only=True):
    """The remote sessions that are open; sent on every change and once a second, so that a
    process that was restarted knows them. The local session is always open and never listed."""

    topic: ClassVar[str] = "gateway.sessions"
    open: tuple[OpenSession, ...] = ()
