"""What the front-end has learnt about a pair of devices, kept from one life to the next.

It holds filters and delays, no audio. Whoever takes over, after a crash or after a night, cancels
the echo from the first syllable on.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

State = Mapping[str, NDArray[Any]]
_ENV_STATE_DIR = "STATE_DIRECTORY"
"""Set by systemd for units with a ``StateDirectory=``."""


def state_dir(runtime_dir: Path) -> Path:
    """Where it is kept: systemd's state folder; else the runtime folder, until the next boot."""
    named = os.environ.get(_ENV_STATE_DIR, "").partition(":")[0]
    return Path(named) if named else runtime_dir


class WarmStart:
    """One file per pair of devices, replaced as a whole, written in a thread of its own.

    Args:
        folder: see `state_dir`.
        *identity: whatever makes the state unfit when it changes: devices, channels.
    """

    def __init__(self, folder: Path, *identity: object) -> None:
        digest = hashlib.sha256(repr(identity).encode()).hexdigest()[:12]
        self.path = folder / f"front-end-{digest}.npz"
        self._thread: threading.Thread | None = None

    def load(self) -> dict[str, NDArray[Any]] | None:
        """What was saved last; None when there is nothing or it cannot be read."""
        try:
            with np.load(self.path, allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            logger.warning("%s is of no use, the front-end learns anew: %s", self.path, error)
            return None

    def save(self, state: State) -> bool:
        """Write it in the background. False when the write before is not done yet.

        Args:
            state: copied before this returns.
        """
        if self._thread is not None and self._thread.is_alive():
            return False
        copy = {name: np.array(array) for name, array in state.items()}
        self._thread = threading.Thread(
            target=self._write, args=(copy,), name="warm-start", daemon=True
        )
        self._thread.start()
        return True

    def close(self) -> None:
        """Wait for the last write."""
        if self._thread is not None:
            self._thread.join()

    def _write(self, state: State) -> None:
        try:
            temporary = self.path.with_suffix(".tmp.npz")
            arrays: dict[str, Any] = dict(state)
            np.savez(temporary, **arrays)
            temporary.replace(self.path)
        except OSError as error:
            logger.warning("%s cannot be written: %s", self.path, error.strerror or error)
