"""What a model has read of several conversations, kept so that none is read twice. Pure.

A model's context holds one conversation. When another one goes on, what was read of the first is
set aside; when that one comes back it is put in again, which takes milliseconds where reading it
takes seconds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliance.processes import REMOTE_SESSIONS

MOST_CONVERSATIONS = 1 + len(REMOTE_SESSIONS)
"""Kept at a time, the one in the context included; with the 1.5B model 28 kB for each token. One
fewer than there are sessions would keep none of them, when all take turns."""


@dataclass(frozen=True)
class Read:
    """What was read of a conversation."""

    tokens: tuple[int, ...]
    state: NDArray[np.uint8]
    """The library's keys and values of these tokens."""


class Conversations:
    """Those that are set aside; the one not needed for longest goes first.

    Args:
        most: how many are kept, the one in the context included.
    """

    def __init__(self, most: int = MOST_CONVERSATIONS) -> None:
        self._most = most
        self._aside: OrderedDict[str, Read] = OrderedDict()

    @property
    def size_bytes(self) -> int:
        """Memory that is used."""
        return sum(read.state.nbytes for read in self._aside.values())

    def set_aside(self, session_id: str, read: Read) -> None:
        """Keep what was read of a conversation that leaves the context."""
        self._aside[session_id] = read
        self._aside.move_to_end(session_id)
        while len(self._aside) > self._most - 1:
            self._aside.popitem(last=False)

    def take(self, session_id: str) -> Read | None:
        """What is kept of a conversation that comes into the context, and is not kept here now."""
        return self._aside.pop(session_id, None)

    def keep_only(self, session_ids: Collection[str]) -> None:
        """Forget all others."""
        for session_id in [name for name in self._aside if name not in session_ids]:
            del self._aside[session_id]


def in_common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two texts begin with alike."""
    for count, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return count
    return min(len(first), len(second))
