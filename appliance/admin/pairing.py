"""First start: whoever reads the code off the console, or hears it, becomes the owner.

The code is eight digits, good for five attempts, then another one is printed. It is kept in the
runtime folder too, which only this user can read, for ``appliance pair``.
"""

from __future__ import annotations

import hmac
import logging
import secrets
from pathlib import Path

logger = logging.getLogger(__name__)

_DIGITS = 8
_ATTEMPTS = 5
_FILE = "pairing-code"


class Pairing:
    """The code in force.

    Args:
        runtime_dir: private folder where the code is put for the command line.
        address: of the page to enter it on, for the log.
    """

    def __init__(self, runtime_dir: Path, address: str) -> None:
        self._path = runtime_dir / _FILE
        self._address = address
        self._code = ""
        self._attempts = 0

    def offer(self) -> str:
        """The code; a new one is made and printed where there is none."""
        if not self._code:
            self._code = f"{secrets.randbelow(10**_DIGITS):0{_DIGITS}d}"
            self._attempts = _ATTEMPTS
            self._path.unlink(missing_ok=True)
            self._path.touch(mode=0o600)
            self._path.write_text(self._code, encoding="ascii")
            logger.warning(
                "the panel has no owner yet: open %s and enter the code %s %s",
                self._address,
                self._code[:4],
                self._code[4:],
            )
        return self._code

    def redeem(self, code: str) -> bool:
        """Whether it is the code. After too many wrong ones another code is printed."""
        digits = "".join(character for character in code if character in "0123456789")
        right = hmac.compare_digest(digits, self.offer())
        self._attempts -= 1
        if not right and self._attempts <= 0:
            self._code = ""
            self.offer()
        return right

    def done(self) -> None:
        """There is an owner: no code opens anything any more."""
        self._code = ""
        self._path.unlink(missing_ok=True)


def read_code(runtime_dir: Path) -> str | None:
    """The code that a running panel waits for; None when it has an owner or does not run."""
    try:
        return (runtime_dir / _FILE).read_text(encoding="ascii")
    except OSError:
        return None
