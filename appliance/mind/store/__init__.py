"""What outlives a restart: facts, timers and notes in one SQLite file on the data folder."""

from appliance.mind.store.database import (
    Database,
    SetAside,
    StoreCorruptError,
    StoreError,
    StoreFullError,
)
from appliance.mind.store.sealing import StoreKeyError, credential_key, read_key
from appliance.mind.store.table import Table

__all__ = [
    "Database",
    "SetAside",
    "StoreCorruptError",
    "StoreError",
    "StoreFullError",
    "StoreKeyError",
    "Table",
    "credential_key",
    "read_key",
]
