"""The one SQLite file of facts, timers and notes: checked, migrated, set aside when corrupt.

Every commit is on the disk before it returns (WAL with ``synchronous=FULL``). Deleted text is
overwritten (``secure_delete``) and leaves the write-ahead log with `Database.scrub`. One connection
that threads share, one after the other.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import ApplianceError
from appliance.mind.store.sealing import AesGcm, Clear, Sealer, StoreKeyError

logger = logging.getLogger(__name__)

FILE_NAME = "mind.db"
_FIRST_TABLES = ("facts", "timers", "notes")
TABLES = (*_FIRST_TABLES, "voices")
_COMPANIONS = ("", "-wal", "-shm")
_BUSY_TIMEOUT_S = 2.0
_KEY_CHECK = "key_check"
_KEY_CHECK_TEXT = b"voice appliance"
_TABLE = "CREATE TABLE {} (id TEXT PRIMARY KEY, body BLOB NOT NULL);"
_MIGRATIONS = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;"
    + "".join(map(_TABLE.format, _FIRST_TABLES)),
    _TABLE.format("voices"),
)
"""Each takes the file from its index to the next ``user_version``."""


class StoreError(ApplianceError):
    """The store cannot be opened, read or written."""


class StoreFullError(StoreError):
    """The disk is full: nothing of the change was stored."""


class StoreCorruptError(StoreError):
    """The file was damaged while it was open: opening it again sets it aside."""


@dataclass(frozen=True)
class SetAside:
    """The file could not be read and was put out of the way; the store began afresh."""

    path: Path
    """Where the damaged file lies now."""
    reason: str
    """SQLite's words."""


class Database:
    """The open store.

    Args:
        folder: data folder; made (mode 0700) when it is missing.
        secret: content of the key file; None: not encrypted.

    Raises:
        StoreKeyError: the store was sealed with another key, or with one where none is given; the
            file is left as it is.
        StoreFullError: no room on the disk.
        StoreError: the folder cannot be used, or the file is a newer version's (left as it is).
    """

    def __init__(self, folder: Path, secret: bytes | None = None) -> None:
        self.path = folder / FILE_NAME
        self.set_aside: SetAside | None = None
        """What was put out of the way at this start, for the owner to be told."""
        self._lock = threading.RLock()
        self._sealer: Sealer = Clear() if secret is None else AesGcm(secret)
        _make_private(folder, self.path)
        with _told(self.path):
            try:
                self._connection = self._open()
            except sqlite3.DatabaseError as error:
                if not _is_corruption(error):
                    raise
                self.set_aside = _put_aside(self.path, str(error))
                _make_private(folder, self.path)
                self._connection = self._open()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of what is done inside is stored, or nothing.

        Raises:
            StoreFullError: no room on the disk.
            StoreCorruptError: the file is damaged.
            StoreError: it could not be stored.
        """
        with self._lock, _told(self.path), _atomic(self._connection):
            yield self._connection

    def rows(self, table: str) -> list[tuple[str, bytes]]:
        """Every row as identity and opened body, in the order in which they were stored first.

        A row that was altered or moved, so that the key does not open it, is left out and logged.
        """
        rows = []
        with self._lock, _told(self.path):
            found = self._connection.execute(f"SELECT id, body FROM {table} ORDER BY rowid")  # noqa: S608
            for identity, body in found:
                try:
                    rows.append((identity, self._sealer.open(body, f"{table}/{identity}")))
                except StoreKeyError:
                    logger.error("%s/%s does not open and is left alone", table, identity)
        return rows

    def put(self, table: str, identity: str, body: bytes) -> None:
        """Store or replace a row. See `transaction` for what is raised."""
        with self.transaction() as connection:
            connection.execute(
                f"INSERT INTO {table} VALUES (?, ?) "  # noqa: S608
                "ON CONFLICT (id) DO UPDATE SET body = excluded.body",
                (identity, self._sealer.seal(body, f"{table}/{identity}")),
            )

    def delete(self, table: str, identities: list[str]) -> None:
        """Delete rows; unknown ones are ignored. See `transaction` for what is raised."""
        with self.transaction() as connection:
            connection.executemany(
                f"DELETE FROM {table} WHERE id = ?",  # noqa: S608
                [(identity,) for identity in identities],
            )

    def scrub(self) -> None:
        """Let nothing of what was deleted remain in the write-ahead log."""
        with self._lock, _told(self.path):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the file; nothing is lost without it."""
        with self._lock:
            self._connection.close()

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("PRAGMA temp_store = MEMORY")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version > len(_MIGRATIONS):
                raise StoreError(
                    f"{self.path} was written by a newer version of the appliance: "
                    "update it, or move the file away"
                )
            problems = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if problems != "ok":
                raise sqlite3.DatabaseError(f"malformed: {problems}")
            if version:
                self._check_key(connection)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            self._migrate(connection, version)
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_key(self, connection: sqlite3.Connection) -> None:
        row = connection.execute("SELECT value FROM meta WHERE name = ?", (_KEY_CHECK,)).fetchone()
        if row is not None and isinstance(self._sealer, Clear):
            raise StoreKeyError(
                f"{self.path} is encrypted and there is no key: give the key file back, or move "
                "the file away to start afresh"
            )
        if row is not None:
            self._sealer.open(row[0], _KEY_CHECK)

    def _migrate(self, connection: sqlite3.Connection, version: int) -> None:
        """Bring the file to the newest version, and seal what was stored before there was a key."""
        with _atomic(connection):
            for script in _MIGRATIONS[version:]:
                for statement in script.rstrip(";").split(";"):
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")
            sealed = connection.execute("SELECT 1 FROM meta WHERE name = ?", (_KEY_CHECK,))
            if isinstance(self._sealer, Clear) or sealed.fetchone():
                return
            value = self._sealer.seal(_KEY_CHECK_TEXT, _KEY_CHECK)
            connection.execute("INSERT INTO meta VALUES (?, ?)", (_KEY_CHECK, value))
            for table in TABLES:
                for i, body in connection.execute(f"SELECT id, body FROM {table}").fetchall():  # noqa: S608
                    connection.execute(
                        f"UPDATE {table} SET body = ? WHERE id = ?",  # noqa: S608
                        (self._sealer.seal(body, f"{table}/{i}"), i),
                    )
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@contextmanager
def _atomic(connection: sqlite3.Connection) -> Iterator[None]:
    if connection.in_transaction:  # part of an outer one
        yield
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # SQLite has rolled back by itself when the disk is full
            connection.execute("ROLLBACK")
        raise


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ones that say what to do."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        text = str(error)
        if "full" in text:
            raise StoreFullError(
                f"no room on the disk for {path}: free some; nothing was stored"
            ) from error
        if _is_corruption(error):
            raise StoreCorruptError(
                f"{path} is damaged ({text}): restart to set it aside"
            ) from error
        if "locked" in text:
            raise StoreError(f"{path} is in use by another process: end that first") from error
        raise StoreError(f"{path}: {text}; check the disk and the folder's owner") from error


def _is_corruption(error: sqlite3.DatabaseError) -> bool:
    return "malformed" in str(error) or "not a database" in str(error)


def _make_private(folder: Path, path: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        for companion in _COMPANIONS:
            with suppress(FileNotFoundError):
                Path(f"{path}{companion}").chmod(0o600)
    except OSError as error:
        raise StoreError(
            f"data folder {folder}: {error.strerror}; give it to the user that runs the appliance"
        ) from None


def _put_aside(path: Path, reason: str) -> SetAside:
    """Rename the damaged file and its companions after the date, keeping what is there already."""
    stamp = time.strftime("%Y%m%dT%H%M%S")
    number = 0
    while (target := Path(f"{path}.corrupt-{stamp}" + (f"-{number}" if number else ""))).exists():
        number += 1
    for companion in _COMPANIONS:
        with suppress(FileNotFoundError):
            Path(f"{path}{companion}").rename(f"{target}{companion}")
    logger.error("%s is damaged (%s): set aside as %s, begun afresh", path, reason, target.name)
    return SetAside(target, reason)
