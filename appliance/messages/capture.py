"""What capture says of its microphones. Levels and quantities only, no audio."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from appliance.messages.base import Message


class MuteState(Message, frozen=True, kw_only=True):
    """Whether the microphones are muted; sent on change and once a second."""

    topic: ClassVar[str] = "capture.mute"
    session_id: str
    hardware: bool
    """By a switch: no software can undo that."""
    software: bool
    """By request, kept across restarts."""


class AudioGap(Message, frozen=True, kw_only=True):
    """Audio that nobody will ever hear, and how much: a restart or a lost device."""

    topic: ClassVar[str] = "capture.gap"
    session_id: str
    lost_ms: float
    reason: str


class ChannelMetrics(msgspec.Struct, frozen=True):
    """One microphone in the last second."""

    level_dbfs: float
    health: str
    """``ok``, or why the front-end leaves it out."""


class FrontEndReport(Message, frozen=True, kw_only=True):
    """What the audio front-end did in the last second. Levels and quantities only, no audio."""

    topic: ClassVar[str] = "capture.metrics"
    session_id: str
    at_ns: int
    far_end_active: bool
    erle_linear_db: float | None
    """Echo return loss enhancement of the linear canceller; None without far-end."""
    erle_final_db: float | None
    """The same with the residual suppressor."""
    delay_ms: float | None
    """Echo behind reference, as aligned; None while it is looked for."""
    drift_ppm: float | None
    """How much faster the loudspeaker's clock runs than the microphone's."""
    near_end_dbfs: float
    """Level of what goes into the mic ring."""
    far_end_dbfs: float
    """Level of what was played."""
    clipped_share: float
    """Share of microphone samples at full scale."""
    direction_deg: float | None
    beam: str
    """What the beam does: its name, or empty without one."""
    gain_db: float
    """Automatic gain."""
    block_p50_ms: float
    block_p99_ms: float
    """Processing time of a block."""
    xruns: int
    """Times since the start that microphone audio was lost or dropped."""
    faults: dict[str, int]
    """What went wrong and was repaired since the start, by name."""
    channels: tuple[ChannelMetrics, ...]
    bypassed: tuple[str, ...] = ()
    """Stages that are switched off."""
