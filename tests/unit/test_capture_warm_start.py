"""What the front-end has learnt, from one life to the next."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from appliance.capture.warm_start import WarmStart, state_dir


def test_what_was_saved_is_loaded_by_the_successor(tmp_path: Path) -> None:
    state = {"filter": np.ones((2, 3), np.complex64), "blocks": np.array(7)}
    first = WarmStart(tmp_path, "mic", 4, "loudspeaker")
    assert first.load() is None
    assert first.save(state)
    first.close()
    loaded = WarmStart(tmp_path, "mic", 4, "loudspeaker").load()
    assert loaded is not None
    assert loaded.keys() == state.keys()
    np.testing.assert_array_equal(loaded["filter"], state["filter"])
    assert [path.name for path in tmp_path.iterdir()] == [first.path.name]


def test_each_pair_of_devices_has_its_own(tmp_path: Path) -> None:
    pairs = [("mic", 4, "a"), ("mic", 4, "b"), ("mic", 2, "a"), ("other", 4, "a")]
    assert len({WarmStart(tmp_path, *pair).path for pair in pairs}) == len(pairs)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"no archive at all"])
def test_a_damaged_file_is_a_cold_start(tmp_path: Path, content: bytes) -> None:
    warm = WarmStart(tmp_path, "mic")
    warm.path.write_bytes(content)
    assert warm.load() is None
    assert warm.save({"a": np.zeros(1)})
    warm.close()
    assert warm.load() is not None


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    warm = WarmStart(tmp_path, "mic")
    np.savez(warm.path, a=np.array([{"evil": 1}], dtype=object))
    assert warm.load() is None


def test_a_slow_disk_delays_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warm, go = WarmStart(tmp_path, "mic"), threading.Event()
    monkeypatch.setattr(np, "savez", lambda path, **_: (go.wait(5), path.write_bytes(b"x")))
    assert warm.save({"a": np.zeros(1)})
    assert not warm.save({"a": np.zeros(1)})
    go.set()
    warm.close()
    assert warm.save({"a": np.zeros(1)})
    warm.close()


def test_a_folder_that_cannot_be_written_is_no_fault(tmp_path: Path) -> None:
    warm = WarmStart(tmp_path / "missing", "mic")
    assert warm.save({"a": np.zeros(1)})
    warm.close()
    assert warm.load() is None


def test_systemd_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    assert state_dir(tmp_path) == tmp_path
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/a:/var/lib/b")
    assert state_dir(tmp_path) == Path("/var/lib/a")
