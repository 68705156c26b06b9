"""The audio rings: naming blocks of audio, announcing new ones."""

from __future__ import annotations

import msgspec

from appliance.messages.base import Message


class Span(msgspec.Struct, frozen=True, array_like=True):
    """Names audio: blocks ``first`` to ``last`` (both included) of one life of a ring's writer."""

    epoch: int
    first: int
    last: int


class BlocksReady(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Blocks up to ``sequence`` of ``epoch`` can be read. Cumulative: a lost one loses nothing."""

    ring: str
    epoch: int
    sequence: int
    direction_deg: float | None = None
    """Mic ring: where the sound of the newest blocks came from, when that is known."""
    far_end_active: bool = False
    """Mic ring: whether the loudspeaker was playing meanwhile, or its echo still lasted."""
    aside: bool = False
    """Mic ring: whether only others than the partner (`Company`) were heard."""
