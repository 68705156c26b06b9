"""Notes: short texts that are kept until they are deleted."""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from appliance.mind.recall import Index
from appliance.mind.sayings import clean
from appliance.mind.tools.registry import ToolError

MAX_NOTES = 500
MAX_LENGTH = 500
_MEANT = 0.5


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """One note."""

    id: str
    text: str
    owner: str
    made_wall_ms: int


NOTE_DECODER = msgspec.json.Decoder(Note)
"""For the store's table ``notes``."""


class Store(Protocol):
    """Where notes outlive a restart: `appliance.mind.store.Table`."""

    def all(self) -> list[Note]:
        """What is stored, oldest first."""

    def put(self, *records: Note) -> None:
        """Store or replace, all or none."""

    def delete(self, identities: Iterable[str]) -> None:
        """Delete."""


class Notes:
    """All notes. Threads may share it.

    Args:
        store: where they are kept.
        wall_ms: the wall clock, milliseconds since 1970 UTC.
        scrub: called after deletions, so that nothing stays on the disk.
    """

    def __init__(
        self, store: Store, wall_ms: Callable[[], int], scrub: Callable[[], None] = lambda: None
    ) -> None:
        self._store = store
        self._wall_ms = wall_ms
        self._scrub = scrub
        self._lock = threading.Lock()
        """Of writers. Readers wait for nobody: what is held is replaced, never changed."""
        self._notes = {note.id: note for note in store.all()}

    def add(self, text: str, owner: str) -> Note:
        """Store a note; it is on the disk when this returns.

        Raises:
            ToolError: nothing to note, too long, or too many.
            StoreError: it could not be stored.
        """
        if len(text) > MAX_LENGTH:
            raise ToolError("that is too long for a note")
        if not re.search(r"\w", text):
            raise ToolError("there was nothing to note")
        note = Note(
            id=uuid.uuid4().hex,
            text=clean(text, MAX_LENGTH),
            owner=owner,
            made_wall_ms=self._wall_ms(),
        )
        with self._lock:
            if len(self._notes) >= MAX_NOTES:
                raise ToolError("there are too many notes: delete some first")
            self._store.put(note)
            self._notes = {**self._notes, note.id: note}
        return note

    def find(self, about: str, owner: str) -> tuple[Note, ...]:
        """Those about something, best first; without a subject all, oldest first."""
        mine = [note for note in self._notes.values() if note.owner == owner]
        if not about.strip():
            return tuple(mine)
        index = Index()
        index.add((row, note.text, owner) for row, note in enumerate(mine))
        hits = [hit for hit in index.search(about, (owner,)) if hit.coverage >= _MEANT]
        return tuple(mine[hit.row] for hit in hits if hit.coverage == hits[0].coverage)

    def delete(self, notes: Iterable[Note]) -> None:
        """Delete them for good.

        Raises:
            StoreError: it could not be stored; nothing was deleted.
        """
        gone = {note.id for note in notes}
        with self._lock:
            self._store.delete(gone)
            self._notes = {i: note for i, note in self._notes.items() if i not in gone}
        self._scrub()
