"""The whole configuration, and the folders that follow from it."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from pydantic import model_validator

from appliance.config.places import ENV_RUNTIME_DIR, PROJECT_ROOT
from appliance.config.sections import (
    AdminConfig,
    AsrConfig,
    AudioConfig,
    ConductorConfig,
    FrontEndConfig,
    LlmConfig,
    LoggingConfig,
    MindConfig,
    Section,
    TtsConfig,
    VadConfig,
)
from appliance.errors import ApplianceError


class Config(Section):
    """The whole configuration."""

    profile: str = "auto"
    """A file in ``config/profiles``; ``auto`` picks by the machine."""
    models_dir: str = "models"
    """Where the model files are, relative to the project's root."""
    runtime_dir: str = ""
    """Sockets and locks, on a memory file system; empty picks the system's place."""
    audio: AudioConfig = AudioConfig()
    front_end: FrontEndConfig = FrontEndConfig()
    vad: VadConfig = VadConfig()
    asr: AsrConfig = AsrConfig()
    llm: LlmConfig = LlmConfig()
    tts: TtsConfig = TtsConfig()
    mind: MindConfig = MindConfig()
    conductor: ConductorConfig = ConductorConfig()
    admin: AdminConfig = AdminConfig()
    logging: LoggingConfig = LoggingConfig()

    @model_validator(mode="after")
    def _callable(self) -> Config:
        if self.conductor.attention == "wake-word" and not self.vad.wake_word:
            raise ValueError("conductor.attention is wake-word, but vad.wake_word is empty")
        return self

    @property
    def models_path(self) -> Path:
        """Absolute path of the models folder."""
        return (PROJECT_ROOT / self.models_dir).resolve()

    @property
    def runtime_path(self) -> Path:
        """Absolute path of the folder with sockets and locks."""
        if self.runtime_dir:
            return Path(self.runtime_dir).expanduser().absolute()
        if os.getuid() == 0:
            return Path("/run/voice-appliance")
        if base := os.environ.get("XDG_RUNTIME_DIR"):
            return Path(base) / "voice-appliance"
        return Path(tempfile.gettempdir()) / f"voice-appliance-{os.getuid()}"

    @property
    def state_path(self) -> Path:
        """Absolute path of the folder for what outlives a reboot: systemd's, or the user's."""
        if named := os.environ.get("STATE_DIRECTORY", "").partition(":")[0]:
            return Path(named)
        base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
        return base / "voice-appliance" / self.shm_prefix.strip("-")

    @property
    def mind_path(self) -> Path:
        """Absolute path of the folder with timers, notes and facts."""
        if self.mind.data_dir:
            return Path(self.mind.data_dir).expanduser().absolute()
        return self.state_path

    @property
    def shm_prefix(self) -> str:
        """Prefix of this appliance's names in ``/dev/shm``: one per runtime folder."""
        digest = hashlib.sha256(str(self.runtime_path).encode()).hexdigest()[:8]
        return f"va-{digest}-"

    def prepare_runtime_dir(self) -> Path:
        """Create the folder for sockets, private to this user.

        Raises:
            ApplianceError: it can't be created, is not ours, or its path is too long for a socket.
        """
        path = self.runtime_path
        if len(os.fsencode(path)) > 80:  # sun_path holds 108 bytes, the socket's name included
            raise ApplianceError(
                f"The runtime folder's path is too long for sockets: {path}. "
                f"Set a shorter one in {ENV_RUNTIME_DIR}."
            )
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            owner = path.stat().st_uid
            if owner == os.getuid() and stat.S_IMODE(path.stat().st_mode) & 0o077:
                path.chmod(0o700)
        except OSError as error:
            raise ApplianceError(
                f"Cannot create the runtime folder {path}: {error.strerror}. "
                f"Set another one in {ENV_RUNTIME_DIR}."
            ) from error
        if owner != os.getuid():
            raise ApplianceError(
                f"The runtime folder {path} belongs to another user. "
                f"Set another one in {ENV_RUNTIME_DIR}."
            )
        return path
