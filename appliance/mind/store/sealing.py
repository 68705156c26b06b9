"""Encryption of what is stored, with a key that the caller's credentials hold.

AES-256-GCM of the library ``cryptography``; see docs/decisions/0015-storage.md. The library is
imported only when there is a key: without one it costs nothing.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Protocol

from appliance.errors import ApplianceError

CREDENTIAL = "mind-key"
"""Name of the key among systemd's credentials (``LoadCredential=mind-key:...``)."""
_MIN_KEY_BYTES = 32
_MAX_KEY_BYTES = 4096
_NONCE_BYTES = 12


class StoreKeyError(ApplianceError):
    """The key is missing, unusable, or not the one that the store was sealed with."""


class Sealer(Protocol):
    """Turns what shall be stored into what lies on the disk, and back."""

    def seal(self, clear: bytes, place: str) -> bytes:
        """Bytes to store. ``place`` (table and row) is bound to them: they open nowhere else."""

    def open(self, stored: bytes, place: str) -> bytes:
        """The bytes that were sealed.

        Raises:
            StoreKeyError: not sealed with this key, or altered, or moved from another place.
        """


class Clear:
    """No encryption."""

    def seal(self, clear: bytes, place: str) -> bytes:
        """The bytes as they are."""
        return clear

    def open(self, stored: bytes, place: str) -> bytes:
        """The bytes as they are."""
        return stored


class AesGcm:
    """AES-256-GCM with a random nonce before each text.

    Args:
        secret: the content of the key file; any 32 random bytes or more.
    """

    def __init__(self, secret: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        key = hashlib.blake2b(secret, digest_size=32, person=b"appliance mind").digest()
        self._cipher = AESGCM(key)

    def seal(self, clear: bytes, place: str) -> bytes:
        """Nonce and ciphertext."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, clear, place.encode())

    def open(self, stored: bytes, place: str) -> bytes:
        """The bytes that were sealed.

        Raises:
            StoreKeyError: not sealed with this key, or altered, or moved from another place.
        """
        from cryptography.exceptions import InvalidTag

        nonce, text = stored[:_NONCE_BYTES], stored[_NONCE_BYTES:]
        try:
            return self._cipher.decrypt(nonce, text, place.encode())
        except (InvalidTag, ValueError):
            raise StoreKeyError(
                "what is stored cannot be opened with this key: put the right key back, or move "
                "the data folder away to start afresh"
            ) from None


def read_key(path: Path) -> bytes:
    """The content of a key file.

    Raises:
        StoreKeyError: there is none, or it is too short or too long to be a key.
    """
    try:
        with path.open("rb") as file:
            secret = file.read(_MAX_KEY_BYTES + 1)
    except OSError as error:
        raise StoreKeyError(
            f"key file {path}: {error.strerror}; check its path and owner"
        ) from None
    if not _MIN_KEY_BYTES <= len(secret) <= _MAX_KEY_BYTES:
        raise StoreKeyError(
            f"key file {path}: {len(secret)} bytes are no key; make one with "
            f"'head -c 32 /dev/urandom > {path}'"
        )
    return secret


def credential_key() -> bytes | None:
    """The key among the credentials that systemd gave this process; None when it gave none.

    Raises:
        StoreKeyError: there is one, but it is no key.
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder or not (path := Path(folder, CREDENTIAL)).exists():
        return None
    return read_key(path)
