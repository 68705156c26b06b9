"""The store on a real disk: killed, corrupted, full, encrypted."""

from __future__ import annotations

import os
import resource
import select
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from appliance.mind.clocks import SystemClock, WakeUp, local_zone_name
from appliance.mind.memory import FACT_DECODER, Memory, Who
from appliance.mind.store import (
    Database,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreKeyError,
    Table,
    credential_key,
    read_key,
)
from appliance.mind.timer_items import DECODER, check_zone
from appliance.mind.timers import Timers

CHILD = Path(__file__).with_name("mind_timers_child.py")
KEY = bytes(range(32))
SECRET_WORDS = ("swordfish", "pasta", "Ljubljana")
WHO = Who("anna")


class Row(msgspec.Struct, frozen=True):
    id: str
    text: str


def notes(database: Database) -> Table[Row]:
    return Table(database, "notes", msgspec.json.Decoder(Row))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "data"


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


def run_child(folder: Path, *durations_ms: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(CHILD), str(folder), *map(str, durations_ms)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


def test_killed_in_the_middle_every_timer_rings_once_and_in_time(folder: Path) -> None:
    durations_ms = [3000 + 25 * n for n in range(40)]
    first = run_child(folder, *durations_ms)
    assert first.stdout is not None
    due_ns: dict[str, int] = {}
    for line in first.stdout:  # killed while it is still setting timers
        _, name, at = line.split()
        due_ns[name] = int(at)
        if len(due_ns) == 30:
            break
    first.send_signal(signal.SIGKILL)
    first.wait()
    rest = first.stdout.read()
    first.stdout.close()
    for line in rest.splitlines():
        if line.startswith("set") and len(line.split()) == 3:
            due_ns[line.split()[1]] = int(line.split()[2])
    second = run_child(folder)
    out, _ = second.communicate(timeout=60)
    rang = [line.split() for line in out.splitlines() if line.startswith("rang")]
    names = [name for _, name, _ in rang]
    late_ms = {name: (int(at) - due_ns[name]) / 1e6 for _, name, at in rang if name in due_ns}
    assert len(names) == len(set(names)), "rang twice"
    assert set(due_ns) <= set(names), "confirmed, but lost"
    assert min(late_ms.values()) >= 0
    assert max(late_ms.values()) <= 100, late_ms


def test_the_descriptor_wakes_at_the_moment_and_not_before() -> None:
    wake_up = WakeUp()
    try:
        start_ns = SystemClock().now().boot_ns
        wake_up.arm(None, None)
        assert select.select([wake_up.descriptor], [], [], 0.0)[0] == []
        wake_up.arm(start_ns + 50_000_000, None)
        select.select([wake_up.descriptor], [], [], 5.0)
        assert SystemClock().now().boot_ns >= start_ns + 50_000_000
        wake_up.arm(None, time.time_ns() + 50_000_000)
        assert select.select([wake_up.descriptor], [], [], 5.0)[0]
        wake_up.arm(None, 1)
        assert select.select([wake_up.descriptor], [], [], 5.0)[0], "long overdue"
    finally:
        wake_up.close()


def test_the_local_zone_is_one() -> None:
    check_zone(local_zone_name())


def test_only_the_owner_can_read_it(folder: Path) -> None:
    database = Database(folder)
    notes(database).put(Row("a", "b"))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(p.stat().st_mode) for p in folder.iterdir()} == {0o600}
    database.close()


@pytest.mark.parametrize("damage", ["header", "middle", "truncated", "not a database"])
def test_a_corrupt_file_is_set_aside_told_and_begun_afresh(folder: Path, damage: str) -> None:
    database = Database(folder)
    notes(database).put(*(Row(str(n), "x" * 200) for n in range(200)))
    database.close()
    (folder / "other.txt").write_text("kept")
    path = database.path
    data = bytearray(path.read_bytes())
    if damage == "header":
        data[:64] = b"\xff" * 64
    elif damage == "middle":
        data[4096 * 2 : 4096 * 6] = os.urandom(4096 * 4)
    elif damage == "truncated":
        del data[len(data) // 2 :]
    else:
        data[:] = b"hello " * 1000
    path.write_bytes(data)
    again = Database(folder)
    assert again.set_aside is not None
    assert again.set_aside.path.read_bytes() == bytes(data)
    assert again.set_aside.path.name.startswith("mind.db.corrupt-2")
    assert notes(again).all() == []
    notes(again).put(Row("new", "works"))
    again.close()
    third = Database(folder)
    assert third.set_aside is None
    assert notes(third).all() == [Row("new", "works")]
    assert (folder / "other.txt").read_text() == "kept"
    third.close()


def test_corruption_while_it_is_open_is_told(folder: Path) -> None:
    database = Database(folder)
    notes(database).put(*(Row(str(n), "x" * 500) for n in range(400)))
    database.scrub()
    with database.path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(database.path.stat().st_size - 4096))
    other = sqlite3.connect(database.path)  # makes the open connection read its pages again
    other.execute("PRAGMA user_version = 2")
    other.commit()
    other.close()
    with pytest.raises(StoreCorruptError, match="restart"):
        notes(database).all()
    database.close()


def test_what_one_row_holds_does_not_hide_the_others(folder: Path) -> None:
    database = Database(folder)
    database.put("notes", "bad", b"\xff not json")
    database.put("notes", "worse", b'{"id": 5}')
    notes(database).put(Row("good", "text"))
    assert notes(database).all() == [Row("good", "text")]
    database.close()


def test_a_full_disk_stores_nothing_by_halves(folder: Path) -> None:
    """In a process of its own that may not write files beyond a size."""
    script = f"""
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from pathlib import Path
import msgspec
from appliance.mind.store import Database, StoreError, Table
class Row(msgspec.Struct, frozen=True):
    id: str
    text: str
database = Database(Path({str(folder)!r}))
table = Table(database, "notes", msgspec.json.Decoder(Row))
table.put(Row("first", "kept"))
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    table.put(*(Row(str(n), "x" * 5000) for n in range(200)))
except StoreError as error:
    print("refused", error)
table.put(Row("after", "small"))
"""
    result = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert result.stdout.startswith("refused"), result
    database = Database(folder)
    assert {row.id for row in notes(database).all()} >= {"first"}
    assert not any(row.id.isdigit() for row in notes(database).all())
    database.close()
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 200_000


def test_a_full_database_says_so(folder: Path) -> None:
    database = Database(folder)
    with database.transaction() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
    database._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StoreFullError, match="nothing was stored"):
        notes(database).put(*(Row(str(n), "x" * 1000) for n in range(100)))
    assert notes(database).all() == []
    database.close()


def test_a_newer_versions_file_is_left_alone(folder: Path) -> None:
    Database(folder).close()
    raw = sqlite3.connect(folder / "mind.db")
    raw.execute("PRAGMA user_version = 99")
    raw.close()
    with pytest.raises(StoreError, match="newer"):
        Database(folder)
    raw = sqlite3.connect(folder / "mind.db")
    assert raw.execute("PRAGMA user_version").fetchone() == (99,)
    raw.close()


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="data folder"):
        Database(tmp_path / "file" / "data")


def fill(folder: Path, secret: bytes | None) -> Database:
    database = Database(folder, secret)
    memory = Memory(Table(database, "facts", FACT_DECODER), lambda: 0, database.scrub)
    memory.remember("my password is swordfish", WHO)
    Timers(Table(database, "timers", DECODER), SystemClock(), "UTC").set_timer(10**6, "pasta")
    notes(database).put(Row("n", "fly to Ljubljana"))
    return database


def test_with_a_key_nothing_in_clear_lies_on_the_disk(folder: Path) -> None:
    database = fill(folder, KEY)
    while_open = bytes_of(folder)
    database.close()
    after = bytes_of(folder)
    clear = fill(folder.with_name("clear"), None)
    for word in SECRET_WORDS:
        assert word.encode() not in while_open
        assert word.encode() not in after
        assert word.encode() in bytes_of(folder.with_name("clear")), "the test sees nothing"
    clear.close()
    again = Database(folder, KEY)
    memory = Memory(Table(again, "facts", FACT_DECODER), lambda: 0)
    assert memory.relevant("what is my password?", WHO)[0].text == "my password is swordfish"
    assert notes(again).all() == [Row("n", "fly to Ljubljana")]
    again.close()


def test_a_key_given_later_seals_what_was_in_clear(folder: Path) -> None:
    fill(folder, None).close()
    database = Database(folder, KEY)
    assert notes(database).all() == [Row("n", "fly to Ljubljana")]
    for word in SECRET_WORDS:
        assert word.encode() not in bytes_of(folder)
    database.close()


def test_without_a_key_what_is_forgotten_is_gone_from_the_disk(folder: Path) -> None:
    database = fill(folder, None)
    memory = Memory(Table(database, "facts", FACT_DECODER), lambda: 0, database.scrub)
    memory.erase()
    assert b"swordfish" not in bytes_of(folder)
    database.close()


@pytest.mark.parametrize("secret", [None, bytes(32)])
def test_the_wrong_key_or_none_touches_nothing(folder: Path, secret: bytes | None) -> None:
    fill(folder, KEY).close()
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(StoreKeyError, match="key"):
        Database(folder, secret)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    Database(folder, KEY).close()


def test_a_row_that_was_altered_or_moved_is_left_out(folder: Path) -> None:
    database = Database(folder, KEY)
    notes(database).put(Row("a", "one"), Row("b", "two"), Row("c", "three"))
    with database.transaction() as raw:
        raw.execute(
            "UPDATE notes SET body = (SELECT body FROM notes WHERE id = 'b') WHERE id = 'a'"
        )
        raw.execute("UPDATE notes SET body = x'00' WHERE id = 'c'")
    assert notes(database).all() == [Row("b", "two")]
    database.close()


def test_key_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert credential_key() is None
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert credential_key() is None
    (tmp_path / "mind-key").write_bytes(KEY)
    assert credential_key() == KEY
    (tmp_path / "mind-key").write_bytes(b"short")
    with pytest.raises(StoreKeyError, match="urandom"):
        credential_key()
    with pytest.raises(StoreKeyError, match="No such file"):
        read_key(tmp_path / "missing")


def test_a_store_of_the_first_version_is_brought_up_to_date(folder: Path) -> None:
    database = Database(folder)
    notes(database).put(Row("old", "text"))
    database.close()
    raw = sqlite3.connect(folder / "mind.db")
    raw.execute("DROP TABLE voices")
    raw.execute("PRAGMA user_version = 1")
    raw.commit()
    raw.close()
    again = Database(folder)
    assert again.set_aside is None
    assert notes(again).all() == [Row("old", "text")]
    assert again.rows("voices") == []
    again.close()
