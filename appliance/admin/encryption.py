"""Encryption of the address by which others come: with the owner's certificate, or with one that
the box's own authority signs and renews."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.admin.settings import PanelSettings

if TYPE_CHECKING:
    from appliance.admin.authority import Authority, Reach

logger = logging.getLogger(__name__)

_FOLDER = "tls"
_FINGERPRINT_FILE = "ca-fingerprint"
_LOOK_EVERY_S = 60.0


class Encryption:
    """Certificates in use.

    Args:
        settings: of the panel.
        data_path: where the authority is kept.
        runtime_dir: private folder where the command line finds the fingerprint.
    """

    look_every_s = _LOOK_EVERY_S

    def __init__(self, settings: PanelSettings, data_path: Path, runtime_dir: Path) -> None:
        self._settings = settings
        self._folder = data_path / _FOLDER
        self._runtime_dir = runtime_dir
        self._context: ssl.SSLContext | None = None
        self._left_out: list[str] = []

    @property
    def is_complete(self) -> bool:
        """Whether it is clear what to encrypt with: a certificate with its key, or neither."""
        return bool(self._settings.tls_certificate) == bool(self._settings.tls_key)

    @property
    def uses_authority(self) -> bool:
        """Whether the box vouches for itself."""
        settings = self._settings
        return not settings.is_local and not settings.tls_certificate and not settings.tls_key

    def authority(self) -> Authority:
        """The box's own authority, made or not."""
        from appliance.admin.authority import Authority  # its library is loaded by who needs it

        return Authority(self._folder)

    def reach(self) -> Reach:
        """Under what the machine is called now."""
        from appliance.admin.authority import Reach

        return Reach.now(self._settings.names)

    def prepare(self) -> None:
        """Make the authority, if it is to be used and there is none yet; renew what is due.

        Raises:
            OSError, ValueError: its folder cannot be written, or holds something else.
        """
        if not self.uses_authority:
            return
        authority = self.authority()
        is_new = not authority.exists
        left_out = authority.ensure(self.reach())
        if is_new:
            logger.info("made a certificate authority for this box: %s", authority.fingerprint())
        if left_out and left_out != self._left_out:
            logger.warning(
                "the box's certificate authority may not vouch for %s; to change that, remove %s "
                "and set up every phone and laptop anew",
                ", ".join(left_out),
                self._folder,
            )
        self._left_out = left_out
        write_fingerprint(self._runtime_dir, authority.fingerprint())

    def context(self) -> ssl.SSLContext:
        """What to listen with.

        Raises:
            OSError, ValueError: there is no usable certificate.
        """
        self.prepare()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._load(self._context)
        return self._context

    async def keep_current(self) -> None:
        """Renew the certificate before its end, and when the machine gets another address. Whoever
        connects from then on sees the new one; nothing is restarted."""
        while self._context is not None:
            await asyncio.sleep(self.look_every_s)
            try:
                await asyncio.to_thread(self.prepare)
                self._load(self._context)
            except (OSError, ValueError) as error:
                logger.error("the panel's certificate cannot be renewed: %s", error)

    def _load(self, context: ssl.SSLContext) -> None:
        if self.uses_authority:
            authority = self.authority()
            context.load_cert_chain(authority.server_certificate_file, authority.server_key_file)
        else:
            context.load_cert_chain(self._settings.tls_certificate, self._settings.tls_key)


def write_fingerprint(runtime_dir: Path, fingerprint: str) -> None:
    """Leave the authority's fingerprint for the command line; it is no secret."""
    path = runtime_dir / _FINGERPRINT_FILE
    if read_fingerprint(runtime_dir) != fingerprint:
        path.write_text(fingerprint, encoding="ascii")


def read_fingerprint(runtime_dir: Path) -> str:
    """The fingerprint of the running box's own authority; empty when it uses none."""
    try:
        return (runtime_dir / _FINGERPRINT_FILE).read_text(encoding="ascii")
    except OSError:
        return ""
