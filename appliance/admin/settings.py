"""What the panel needs to be told: where it listens, where its accounts are, what it tolerates."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

from pydantic import Field

from appliance.config import Config, Section

_ENV_STATE_DIR = "STATE_DIRECTORY"
"""Set by systemd for units with a ``StateDirectory=``."""


class PanelSettings(Section):
    """The panel. Keys that ``[admin]`` of the configuration has are taken from there."""

    port: int = Field(default=8642, ge=1, le=65535)
    """Port of the panel and its API on 127.0.0.1."""
    host: str = "127.0.0.1"
    """Address to answer others on, such as ``0.0.0.0``. Needs ``tls_certificate`` and ``tls_key``,
    and is opened only once the panel is paired."""
    names: tuple[str, ...] = ()
    """Further names that browsers may use for this machine, such as ``box.local``."""
    tls_port: int = Field(default=8643, ge=1, le=65535)
    """Port on ``host``, encrypted; ``port`` is on 127.0.0.1 always."""
    tls_certificate: str = ""
    """PEM file with the certificate and its chain."""
    tls_key: str = ""
    """PEM file with its private key."""
    data_dir: str = ""
    """Accounts and the audit log; empty picks the system's place."""
    session_days: int = Field(default=30, ge=1, le=365)
    """So long a browser stays signed in."""
    watchers: int = Field(default=100, ge=1, le=1000)
    """Live connections at once."""

    @classmethod
    def of(cls, config: Config) -> PanelSettings:
        """The keys of ``[admin]`` that are known here."""
        given = config.admin.model_dump()
        return cls.model_validate({key: given[key] for key in cls.model_fields if key in given})

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)

    def data_path(self, config: Config) -> Path:
        """Folder that outlives a reboot; made when the first account is."""
        if self.data_dir:
            return Path(self.data_dir).expanduser().absolute()
        if named := os.environ.get(_ENV_STATE_DIR, "").partition(":")[0]:
            return Path(named)
        base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
        return base / "voice-appliance" / config.shm_prefix.strip("-")

    def allowed_hosts(self) -> frozenset[str]:
        """Names under which it answers. All others are refused: DNS rebinding ends here."""
        names = {"127.0.0.1", "localhost", "[::1]", *(name.lower() for name in self.names)}
        if not self.is_local and not ipaddress.ip_address(self.host).is_unspecified:
            names.add(f"[{self.host}]" if ":" in self.host else self.host.lower())
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
