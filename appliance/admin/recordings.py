"""What was heard in a turn, kept for the owner who wants that: off by default, bounded in time.

Nothing is read or written unless ``admin.keep_audio_days`` is set. The audio is read from the mic
ring when the turn is over, and sealed where systemd gives this process the credential that also
seals the mind's store.
"""

from __future__ import annotations

import hashlib
import io
import logging
import time
import wave
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.errors import ApplianceError
from appliance.messages import Span, Transcribe, TurnRecord
from appliance.processes import mic_ring

if TYPE_CHECKING:
    from appliance.mind.store.sealing import Sealer

logger = logging.getLogger(__name__)

_FOLDER = "audio"
_DAY_S = 86_400
_PURGE_EVERY_S = 3_600.0
_UTTERANCES_KEPT = 16
_SESSIONS_KEPT = 8
_WAITING_MOST = 8
"""Turns that wait to be written; beyond, the newest are left out."""


class Recordings:
    """The recordings of turns.

    Args:
        folder: of the panel's data.
        shm_prefix: of the rings.
        days: how long they are kept; 0: none are made, and those that there are, deleted.
    """

    def __init__(self, folder: Path, shm_prefix: str, days: int) -> None:
        self._folder = folder / _FOLDER
        self._prefix = shm_prefix
        self.days = days
        self._heard: dict[str, dict[str, tuple[Span, ...]]] = {}
        """By session, the utterances since its last turn."""
        self._worker = ThreadPoolExecutor(1, "recordings")
        self._waiting = 0
        self._purged_s = 0.0
        self._sealer: Sealer | None = None

    # --- the bus loop's side ----------------------------------------------------------------

    def note(self, message: object) -> None:
        """Take a message of the bus; never waits."""
        now_s = time.monotonic()
        if now_s - self._purged_s >= _PURGE_EVERY_S or not self._purged_s:
            self._purged_s = now_s
            self._worker.submit(self._purge)
        if not self.days:
            return
        match message:
            # what asr is given, and no more: other sounds are part of no turn
            case Transcribe(session_id=session, utterance_id=utterance, spans=spans, quick=False):
                heard = self._heard.setdefault(session, {})
                heard[utterance] = spans
                if len(heard) > _UTTERANCES_KEPT:
                    del heard[next(iter(heard))]
                if len(self._heard) > _SESSIONS_KEPT:
                    del self._heard[next(iter(self._heard))]
            case TurnRecord(session_id=session, turn_id=turn):
                spans = tuple(s for part in self._heard.pop(session, {}).values() for s in part)
                if spans and message.source == "speech" and self._waiting < _WAITING_MOST:
                    self._waiting += 1
                    self._worker.submit(self._keep, session, turn, spans)

    def close(self) -> None:
        """Write what waits."""
        self._worker.shutdown(wait=True)

    # --- the worker's side ------------------------------------------------------------------

    def _keep(self, session_id: str, turn_id: str, spans: Sequence[Span]) -> None:
        try:
            sound = _read(self._prefix, session_id, spans)
            sealed = self._seal().seal(sound, turn_id)
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self._path(turn_id)
            draft = path.with_suffix(".draft")
            draft.touch(mode=0o600)
            draft.write_bytes(sealed)
            draft.replace(path)  # nobody is to hear half of it
        except (OSError, ValueError, ApplianceError) as error:
            logger.error("a recording could not be kept: %s", error)
        finally:
            self._waiting -= 1

    def _purge(self) -> None:
        oldest_s = time.time() - self.days * _DAY_S
        for path in self._folder.glob("*"):
            with suppress(OSError):
                if not self.days or path.stat().st_mtime < oldest_s:
                    path.unlink()

    # --- the web server's side --------------------------------------------------------------

    def has(self, turn_id: str) -> bool:
        """Whether there is a recording of a turn."""
        return self._path(turn_id).exists()

    def sound(self, turn_id: str) -> bytes | None:
        """A recording as a WAV file; None when there is none.

        Raises:
            ApplianceError: it was sealed with another key.
        """
        try:
            return self._seal().open(self._path(turn_id).read_bytes(), turn_id)
        except OSError:
            return None

    def count(self) -> int:
        """How many there are."""
        return sum(1 for _ in self._folder.glob("*.wav"))

    def erase(self) -> int:
        """Delete all, those that wait to be written included; returns how many there were."""
        return self._worker.submit(self._erase).result()

    def _erase(self) -> int:
        paths = list(self._folder.glob("*"))
        for path in paths:
            path.unlink(missing_ok=True)
        return len(paths)

    def _path(self, turn_id: str) -> Path:
        return self._folder / f"{hashlib.sha256(turn_id.encode()).hexdigest()[:32]}.wav"

    def _seal(self) -> Sealer:
        if self._sealer is None:
            from appliance.mind.store.sealing import AesGcm, Clear, credential_key

            secret = credential_key()
            self._sealer = Clear() if secret is None else AesGcm(secret)
        return self._sealer


def _read(prefix: str, session_id: str, spans: Sequence[Span]) -> bytes:
    """The audio of some spans as a WAV file."""
    import numpy as np

    from appliance.ipc.audio_ring import MIC_RING, RingReader

    reader = RingReader(prefix, mic_ring(session_id))
    try:
        samples, _ = reader.read_span(spans)
    finally:
        reader.close()
    if not len(samples):
        raise ValueError("its audio has gone from the ring")
    mono = samples if samples.ndim == 1 else samples[:, 0]
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(MIC_RING.rate_hz)
        file.writeframes((np.clip(mono, -1, 1) * 32767).astype("<i2").tobytes())
    return stream.getvalue()
