"""What all messages are, and the version of their schema."""

from __future__ import annotations

from typing import ClassVar

import msgspec

SCHEMA_VERSION = 4


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all messages."""

    topic: ClassVar[str] = ""
