"""What the panel needs to be told: where it listens, where its accounts are, what it tolerates."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Mapping
from pathlib import Path

from appliance.config import AdminConfig, Config

_ENV_STATE_DIR = "STATE_DIRECTORY"
"""Set by systemd for units with a ``StateDirectory=``."""


class PanelSettings(AdminConfig):
    """``[admin]`` of the configuration, and what follows from it."""

    @classmethod
    def of(cls, config: Config) -> PanelSettings:
        """What the configuration says."""
        return cls.model_validate(config.admin.model_dump())

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)

    def data_path(self, config: Config, variables: Mapping[str, str] = os.environ) -> Path:
        """Folder that outlives a reboot; made when the first account is.

        Args:
            config: the whole of it.
            variables: of the environment of the process whose folder it is.
        """
        if self.data_dir:
            return Path(self.data_dir).expanduser().absolute()
        if named := variables.get(_ENV_STATE_DIR, "").partition(":")[0]:
            return Path(named)
        base = Path(variables.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
        return base / "voice-appliance" / config.shm_prefix.strip("-")

    def allowed_hosts(self) -> frozenset[str]:
        """Names under which it answers. All others are refused: DNS rebinding ends here."""
        names = {"127.0.0.1", "localhost", "[::1]", *(name.lower() for name in self.names)}
        if not self.is_local and not ipaddress.ip_address(self.host).is_unspecified:
            names.add(f"[{self.host}]" if ":" in self.host else self.host.lower())
        if not self.is_local:  # what its own certificate names
            host = socket.gethostname().lower().partition(".")[0]
            names |= {host, f"{host}.local"}
        return frozenset(names)


def is_loopback(address: str) -> bool:
    """Whether an address is this machine's own; False for whatever is no address."""
    if address == "localhost":
        return True
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return bool((mapped or parsed).is_loopback)
