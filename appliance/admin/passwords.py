"""Passwords: slow to guess, and yet no way to keep the processor busy.

argon2id by RFC 9106, with the parameters of OWASP's password storage cheat sheet for little memory.
One hash is worked out at a time, in a thread; attempts are counted before, not after.
"""

from __future__ import annotations

import asyncio
import ctypes
import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from argon2 import PasswordHasher

_T = TypeVar("_T")
SHORTEST, LONGEST = 10, 128
"""Characters of a password."""
_MEMORY_KIB, _PASSES, _LANES = 19_456, 2, 1
_FREE_ATTEMPTS = 5
_FIRST_LOCK_S, _LONGEST_LOCK_S = 30.0, 900.0
_ADDRESSES_KEPT = 1024
_WAITING_MOST = 4
_REFILL_PER_S, _BURST = 0.5, 10.0


class BusyError(Exception):
    """Too many attempts are waiting."""


class Passwords:
    """Makes and checks hashes, one at a time."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._nobody = ""
        """Hash of no password: checking an unknown user takes as long as a known one."""

    async def hash(self, password: str) -> str:
        """The hash of a password.

        Raises:
            BusyError: too many are waiting.
        """
        return await self._alone(lambda: _hasher().hash(password))

    async def verify(self, hashed: str | None, password: str) -> bool:
        """Whether it is the password; takes as long without a hash to compare with.

        Raises:
            BusyError: too many are waiting.
        """
        if hashed is None and not self._nobody:
            self._nobody = await self.hash("nobody has this one")
        against = hashed or self._nobody
        return await self._alone(lambda: _matches(against, password)) and hashed is not None

    async def _alone(self, work: Callable[[], _T]) -> _T:
        if self._waiting >= _WAITING_MOST:
            raise BusyError
        self._waiting += 1
        try:
            async with self._turn:
                return await asyncio.to_thread(work)
        finally:
            self._waiting -= 1


@cache
def _return_large_blocks() -> None:
    """Have the C library give a hash's 19 MiB back to the system each time (``mallopt(3)``).

    It would otherwise learn from the first that such blocks are wanted, and keep one per thread.
    """
    m_mmap_threshold, bytes_ = -3, 4 << 20
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(m_mmap_threshold, bytes_)


def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher

    _return_large_blocks()
    return PasswordHasher(time_cost=_PASSES, memory_cost=_MEMORY_KIB, parallelism=_LANES)


def _matches(hashed: str, password: str) -> bool:
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        return _hasher().verify(hashed, password)
    except (VerificationError, InvalidHashError):
        return False


@dataclass
class _Attempts:
    failed: int = 0
    locked_until_s: float = 0.0


class AttemptLimiter:
    """Who may try a password now. Pure; bounded in memory however many try.

    An address has five attempts, then it is locked out for 30 s, and twice as long after each
    further one. All addresses together have one attempt in two seconds: whoever has a thousand
    addresses gains nothing.
    """

    def __init__(self) -> None:
        self._by_address: OrderedDict[str, _Attempts] = OrderedDict()
        self._tokens, self._refilled_s = _BURST, 0.0

    def attempt(self, address: str, now_s: float) -> float:
        """Count an attempt that is about to be made.

        Args:
            address: of the client; an IPv6 network of 64 bits counts as one.
            now_s: CLOCK_MONOTONIC.

        Returns:
            0 when it may be made; else seconds to wait, and nothing was counted.
        """
        entry = self._by_address.setdefault(_network(address), _Attempts())
        self._by_address.move_to_end(_network(address))
        if len(self._by_address) > _ADDRESSES_KEPT:
            self._by_address.popitem(last=False)
        if now_s < entry.locked_until_s:
            return entry.locked_until_s - now_s
        self._tokens += (now_s - self._refilled_s) * _REFILL_PER_S
        self._tokens, self._refilled_s = min(_BURST, self._tokens), now_s
        if self._tokens < 1:
            return (1 - self._tokens) / _REFILL_PER_S
        self._tokens -= 1
        entry.failed += 1
        if (over := entry.failed - _FREE_ATTEMPTS) >= 0:
            entry.locked_until_s = now_s + min(_LONGEST_LOCK_S, _FIRST_LOCK_S * 2.0 ** min(over, 9))
        return 0.0

    def succeeded(self, address: str) -> None:
        """It was the right password: forget the attempts before."""
        self._by_address.pop(_network(address), None)
        self._tokens = min(_BURST, self._tokens + 1)


def _network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address


def acceptable(password: str) -> bool:
    """Whether a new password is long enough to be one."""
    return SHORTEST <= len(password) <= LONGEST
