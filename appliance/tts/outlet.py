"""One session's way to be heard: its loudspeaker, how loud that is now, and what rings there."""

from __future__ import annotations

import math
from collections.abc import Iterable

from appliance.ipc.audio_ring import RingWriter
from appliance.messages import BlocksReady
from appliance.tts.duck import RAMP_DOWN_MS, RAMP_UP_MS, Duck
from appliance.tts.output import Output
from appliance.tts.reference import FarEnd

_AT_ONCE_MS = 1.0
_VOLUME_RAMP_MS = 100.0
_SILENT_DB = -60.0
_CHIME_DUCK_DB = -18.0
_CHIME_LEAST_DB = -20.0
"""An alarm is heard although answers were turned down for the night."""
_CHIME_QUIET_NS = 1_500_000_000
"""From the end of a question to its answer the chime stays low, too."""
_CHIME_BOUND_NS = 10_000_000_000


def volume_db(percent: int) -> float:
    """What a volume means: half of it sounds about half as loud, at -12 dB; 0 is -60 dB."""
    share = min(max(percent, 0), 100) / 100
    return max(_SILENT_DB, 40 * math.log10(share)) if share else _SILENT_DB


class Outlet:
    """Everything of a session that is no utterance.

    Args:
        session_id: whose it is.
        output: its loudspeaker.
        writer: of its speaker ring.
        gain_db: level of everything.
        duck_db: added to it while someone speaks over an answer; 0 leaves the level alone.
    """

    def __init__(
        self,
        session_id: str,
        output: Output,
        writer: RingWriter,
        *,
        gain_db: float,
        duck_db: float,
    ) -> None:
        self.session_id = session_id
        self.output = output
        self.writer = writer
        self.has_opened = False
        """Before the loudspeaker was there once, there is nowhere to put audio."""
        self._gain_db, self._duck_db = gain_db, duck_db
        self._volume_db = 0.0
        self._far_end = FarEnd(writer)
        self._duck = Duck()
        self._lowered = False
        """Whether the loudspeaker was told to be."""
        self._untold = False
        """Whether nobody knows yet that it was lowered."""
        self._playing = False
        self._ringing: frozenset[str] = frozenset()
        self._chime_duck = Duck(_CHIME_QUIET_NS, _CHIME_BOUND_NS)
        self._chime_lowered = False

    @property
    def deadline_ns(self) -> int | None:
        """When `follow` is due, if nothing happens before."""
        deadlines = (self._duck.deadline_ns, self._chime_duck.deadline_ns)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    @property
    def onset_ns(self) -> int:
        """Of the near-end sound that lowered it last."""
        return self._duck.onset_ns

    def opened(self) -> None:
        """The loudspeaker is there, or there again."""
        self.has_opened = True
        self._lowered = self._untold = False
        self._set_level(_AT_ONCE_MS)
        if self._ringing:
            self.output.ring(self._chime_db)

    def near_end(self, active: bool, onset_ns: int, now_ns: int) -> None:
        """Someone perhaps begins to speak at the session's microphone, or has stopped."""
        if self._duck_db < 0:
            self._duck.near_end(active, onset_ns, now_ns)
        self._chime_duck.near_end(active, onset_ns, now_ns)

    def restore(self) -> None:
        """It was no interruption."""
        self._duck.restore()

    def set_volume(self, percent: int) -> None:
        """0 to 100; what changes nothing does nothing."""
        wanted_db = volume_db(percent)
        if wanted_db == self._volume_db:
            return
        self._volume_db = wanted_db
        if self.has_opened:
            self._set_level(_VOLUME_RAMP_MS)
            self.output.ramp_chime(self._chime_db)

    def ring(self, ids: Iterable[str], now_ns: int) -> None:
        """These timers and alarms ring; none: silence. Their repetition changes nothing."""
        wanted = frozenset(ids)
        if wanted == self._ringing:
            return
        self._ringing = wanted
        self._chime_lowered = self._is_chime_low(now_ns)  # from its first note on
        if not self.has_opened:
            return
        if wanted:
            self.output.ring(self._chime_db)
        else:
            self.output.stop_ringing()

    def follow(self, *, playing: bool, now_ns: int) -> None:
        """Set the levels: at once downwards, gently back.

        Args:
            playing: whether an utterance is heard or about to be.
            now_ns: CLOCK_MONOTONIC.
        """
        self._duck.playing(playing, now_ns)
        self._duck.tick(now_ns)
        if self._duck.lowered != self._lowered:
            self._lowered = self._untold = self._duck.lowered
            back_ms = RAMP_UP_MS if playing else _AT_ONCE_MS
            self._set_level(RAMP_DOWN_MS if self._lowered else back_ms)
        self._playing = playing
        chime_lowered = self._is_chime_low(now_ns)
        if chime_lowered != self._chime_lowered:
            self._chime_lowered = chime_lowered
            if self.has_opened:
                self.output.ramp_chime(self._chime_db)

    def tell_lowered(self) -> bool:
        """A level was reached: whether that is news, and the reflex's doing. True once."""
        untold, self._untold = self._untold, False
        return untold

    def take_played(self) -> BlocksReady | None:
        """Write what was handed to the loudspeaker into the ring; returns what to publish."""
        played = self.output.played()
        return self._far_end.take(played, self.output.rate_hz) if played else None

    def close(self) -> None:
        """Close the loudspeaker and take the ring away."""
        self.output.close()
        self.writer.close()

    @property
    def _chime_db(self) -> float:
        low_db = _CHIME_DUCK_DB if self._chime_lowered else 0.0
        return self._gain_db + max(self._volume_db, _CHIME_LEAST_DB) + low_db

    def _is_chime_low(self, now_ns: int) -> bool:
        is_ringing = bool(self._ringing)
        self._chime_duck.playing(is_ringing, now_ns)
        self._chime_duck.tick(now_ns)
        return is_ringing and (self._playing or self._chime_duck.lowered)

    def _set_level(self, ramp_ms: float) -> None:
        duck_db = self._duck_db if self._lowered else 0.0
        self.output.ramp_gain(self._gain_db + self._volume_db + duck_db, ramp_ms)
