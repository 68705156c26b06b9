"""Typed rows: one msgspec struct per row, stored as JSON."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

import msgspec

from appliance.mind.store.database import Database

logger = logging.getLogger(__name__)


class Record(Protocol):
    """What can be a row."""

    @property
    def id(self) -> str:
        """Identity, unique within its table."""


R = TypeVar("R", bound=Record)


class Table(Generic[R]):
    """Rows of one kind in the store.

    Args:
        database: the open store.
        name: one of its tables.
        decoder: of the struct of a row.
    """

    def __init__(self, database: Database, name: str, decoder: msgspec.json.Decoder[R]) -> None:
        self._database = database
        self._name = name
        self._decoder = decoder

    def all(self) -> list[R]:
        """Every row, oldest first. One that cannot be understood is left where it is and logged.

        Raises:
            StoreError: the store cannot be read.
        """
        records = []
        for identity, body in self._database.rows(self._name):
            try:
                records.append(self._decoder.decode(body))
            except (msgspec.DecodeError, UnicodeDecodeError):
                logger.error("%s/%s is not understood and is left alone", self._name, identity)
        return records

    def put(self, *records: R) -> None:
        """Store or replace rows: all or none, on the disk when this returns.

        Raises:
            StoreFullError: no room on the disk.
            StoreError: it could not be stored.
        """
        with self._database.transaction():
            for record in records:
                self._database.put(self._name, record.id, msgspec.json.encode(record))

    def delete(self, identities: Iterable[str]) -> None:
        """Delete rows; unknown ones are ignored.

        Raises:
            StoreError: it could not be stored.
        """
        self._database.delete(self._name, list(identities))

    def replace(self, gone: Iterable[str], *records: R) -> None:
        """Delete some and store others: all or nothing.

        Raises:
            StoreFullError: no room on the disk.
            StoreError: it could not be stored.
        """
        with self._database.transaction():
            self.delete(gone)
            self.put(*records)
