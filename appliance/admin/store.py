"""Accounts, browser sessions and API tokens: one small SQLite file, private to this user.

Nothing in it opens a door by itself: passwords are argon2 hashes, sessions and tokens SHA-256
hashes of 256 random bits.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Role = Literal["viewer", "owner"]
READ, WORDS, TALK, MUTE, CONFIGURE = "read", "words", "talk", "mute", "configure"
SCOPES = (READ, WORDS, TALK, MUTE)
"""What an API token may be given: figures; what was said; to ask and say; to mute."""
ROLE_SCOPES: dict[str, frozenset[str]] = {
    "viewer": frozenset({READ}),
    "owner": frozenset({*SCOPES, CONFIGURE}),
}
_Value = str | int | bytes
_SESSIONS_PER_USER = 32
_TOUCH_S = 3600
_SCHEMA = """
create table if not exists users (
    name text primary key, role text not null, password text not null);
create table if not exists sessions (
    hash blob primary key, user text not null references users on delete cascade,
    csrf text not null, opened_s integer not null, seen_s integer not null);
create table if not exists tokens (
    id text primary key, hash blob not null unique, name text not null, scopes text not null,
    created_s integer not null, used_s integer not null);
"""


@dataclass(frozen=True)
class Identity:
    """Who asks, and what they may do."""

    name: str
    scopes: frozenset[str]
    csrf: str = ""
    """Of a browser's session, to be sent back with every change; empty for tokens."""
    role: str = "token"

    def may(self, scope: str) -> bool:
        """Whether it is allowed."""
        return scope in self.scopes


class Accounts:
    """The file. Nothing is written before the first account is made.

    Args:
        folder: where; made when needed.
        session_days: age at which a browser's session ends.
    """

    def __init__(self, folder: Path, session_days: int = 30) -> None:
        self._path = folder / "panel.sqlite3"
        self.session_days = session_days
        """May be changed."""
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.Lock()

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path.touch(mode=0o600)
            self._connection = sqlite3.connect(self._path, check_same_thread=False, timeout=2)
            self._connection.execute("pragma foreign_keys=on")
            self._connection.executescript(_SCHEMA)
        return self._connection

    def _query(self, sql: str, *values: _Value) -> list[tuple[Any, ...]]:
        """Read; nothing when there is no file yet."""
        if self._connection is None and not self._path.exists():
            return []
        with self._lock, closing(self._open().execute(sql, values)) as cursor:
            return cursor.fetchall()

    def _change(self, sql: str, *values: _Value) -> int:
        with self._lock:
            connection = self._open()
            with connection, closing(connection.execute(sql, values)) as cursor:
                return cursor.rowcount

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # --- users ------------------------------------------------------------------------------

    def paired(self) -> bool:
        """Whether there is an owner."""
        return bool(self._query("select 1 from users where role = 'owner' limit 1"))

    def users(self) -> list[tuple[str, str]]:
        """Names and roles."""
        return [(row[0], row[1]) for row in self._query("select name, role from users order by 1")]

    def password(self, name: str) -> str | None:
        """The hash of a user's password."""
        rows = self._query("select password from users where name = ?", name)
        return str(rows[0][0]) if rows else None

    def add_user(self, name: str, role: Role, password_hash: str) -> bool:
        """Make an account; False when the name is taken."""
        sql = "insert into users values (?, ?, ?) on conflict do nothing"
        return self._change(sql, name, role, password_hash) == 1

    def set_password(self, name: str, password_hash: str) -> None:
        """Change a password and end all of the user's sessions."""
        self._change("update users set password = ? where name = ?", password_hash, name)
        self.close_sessions(name)

    def remove_viewer(self, name: str) -> bool:
        """Remove an account that is not an owner's."""
        return self._change("delete from users where name = ? and role = 'viewer'", name) == 1

    def reset(self) -> None:
        """Forget everybody: the panel must be paired again. For a lost password."""
        for table in ("sessions", "tokens", "users"):
            self._change(f"delete from {table}")  # noqa: S608 three constants

    # --- browser sessions -------------------------------------------------------------------

    def open_session(self, name: str) -> str:
        """Sign a user in; returns the cookie's value, which is stored nowhere."""
        token = secrets.token_urlsafe(32)
        now = int(time.time())
        sql = "insert into sessions values (?, ?, ?, ?, ?)"
        self._change(sql, _hash(token), name, secrets.token_urlsafe(24), now, now)
        self._change(
            "delete from sessions where user = ? and hash not in (select hash from sessions "
            "where user = ? order by seen_s desc, rowid desc limit ?)",
            name,
            name,
            _SESSIONS_PER_USER,
        )
        return token

    def session(self, token: str) -> Identity | None:
        """Who holds this cookie; None when it is not (or no longer) good."""
        rows = self._query(
            "select users.name, users.role, csrf, opened_s, seen_s from sessions "
            "join users on users.name = sessions.user where hash = ?",
            _hash(token),
        )
        now = int(time.time())
        if not rows or now - rows[0][3] > 86_400 * self.session_days:
            return None
        name, role, csrf, _, seen_s = rows[0]
        if now - seen_s > _TOUCH_S:
            self._change("update sessions set seen_s = ? where hash = ?", now, _hash(token))
        return Identity(name, ROLE_SCOPES[role], csrf, role)

    def close_session(self, token: str) -> None:
        """Sign out."""
        self._change("delete from sessions where hash = ?", _hash(token))

    def close_sessions(self, name: str) -> None:
        """Sign a user out everywhere."""
        self._change("delete from sessions where user = ?", name)

    # --- API tokens -------------------------------------------------------------------------

    def add_token(self, name: str, scopes: Iterable[str]) -> str:
        """Make a token; it is shown this once.

        Raises:
            ValueError: a scope that no token may have.
        """
        wanted = sorted(set(scopes))
        if unknown := set(wanted) - set(SCOPES):
            raise ValueError(f"no such scope: {', '.join(sorted(unknown))}")
        token = f"va_{secrets.token_urlsafe(32)}"
        row = (secrets.token_hex(4), _hash(token), name, " ".join(wanted), int(time.time()), 0)
        self._change("insert into tokens values (?, ?, ?, ?, ?, ?)", *row)
        return token

    def tokens(self) -> list[dict[str, Any]]:
        """All tokens, without what they are."""
        rows = self._query("select id, name, scopes, created_s, used_s from tokens order by 4")
        return [
            dict(zip(("id", "name", "scopes", "created_s", "used_s"), row, strict=True))
            for row in rows
        ]

    def token(self, token: str) -> Identity | None:
        """What a token may do; None when it is not good."""
        rows = self._query(
            "select id, name, scopes, used_s from tokens where hash = ?", _hash(token)
        )
        if not rows:
            return None
        token_id, name, scopes, used_s = rows[0]
        now = int(time.time())
        if now - used_s > _TOUCH_S:
            self._change("update tokens set used_s = ? where id = ?", now, token_id)
        return Identity(f"token {name}", frozenset(scopes.split()))

    def remove_token(self, token_id: str) -> bool:
        """Revoke a token."""
        return self._change("delete from tokens where id = ?", token_id) == 1


def _hash(token: str) -> bytes:
    """Fast is right here: what is hashed cannot be guessed."""
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
