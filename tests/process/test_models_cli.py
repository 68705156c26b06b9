"""`appliance models …` as people run it: exit codes, one-line errors, interruptions, bad disks."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from models_registry import Registry, entry, part, pypi, write_manifest

CONTENT = random.Random(2).randbytes(1 << 10) * 3000  # 3 MB that squeeze into a small wheel
STORED = random.Random(3).randbytes(400_000)


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry().serve() as running:
        yield running


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "models"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "appliance.models.cli", *arguments]


def environment(root: Path, registry: Registry) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("UV_", "PIP_"))}
    return {
        **kept,
        "APPLIANCE_MODELS_DIR": str(root),
        "PIP_INDEX_URL": f"{registry.url}/simple/",
        "COLUMNS": "80",
    }


def run(root: Path, registry: Registry, *arguments: str, prefix: tuple[str, ...] = ()):
    return subprocess.run(
        [*prefix, *command(*arguments)],
        env=environment(root, registry),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def one_error(result: subprocess.CompletedProcess[str]) -> str:
    """The only line on stderr of a command that failed."""
    assert result.returncode == 1, result
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def provide(root: Path, registry: Registry, content: bytes = CONTENT) -> Path:
    registry.add_wheel("weights", {"w.bin": content})
    source = pypi(part(registry, "weights", "w.bin", content))
    registry.files["/files/extra.bin"] = b"extra"
    extra = f'{{ kind = "https", url = "{registry.url}/files/extra.bin" }}'
    write_manifest(
        root,
        entry("m", {"w.bin": (content, [source])}),
        entry("extra", {"extra.bin": (b"extra", [extra])}, profile="optional"),
    )
    return root / "m" / "w.bin"


def test_fetch_list_verify(root: Path, registry: Registry) -> None:
    target = provide(root, registry)
    assert "m" in one_error(run(root, registry, "verify"))
    result = run(root, registry, "fetch")
    assert (result.returncode, result.stderr) == (0, "")
    assert target.read_bytes() == CONTENT
    rows = json.loads(run(root, registry, "list", "--json").stdout)
    assert [(row["name"], row["profile"], row["installed"]) for row in rows] == [
        ("m", "default", True),
        ("extra", "optional", False),
    ]
    assert run(root, registry, "fetch", "--all").returncode == 0
    assert run(root, registry, "verify", "--all", "--full").returncode == 0
    assert "extra" in run(root, registry, "list").stdout


def test_the_configured_folder_is_the_one_that_is_filled(
    root: Path, registry: Registry, tmp_path: Path
) -> None:
    target = provide(root, registry)
    settings = tmp_path / "appliance.toml"
    settings.write_text(f'models_dir = "{root}"\n')
    others = {k: v for k, v in environment(root, registry).items() if "MODELS_DIR" not in k}
    fetch = subprocess.run(
        command("fetch"), env={**others, "APPLIANCE_CONFIG": str(settings)}, timeout=60, check=False
    )
    assert fetch.returncode == 0
    assert target.read_bytes() == CONTENT


def test_verify_says_what_is_wrong_and_how_to_repair_it(root: Path, registry: Registry) -> None:
    target = provide(root, registry)
    run(root, registry, "fetch")
    target.write_bytes(CONTENT[::-1])
    result = run(root, registry, "verify", "--json")
    assert json.loads(result.stdout) == [{"model": "m", "path": str(target), "state": "wrong hash"}]
    assert one_error(result).endswith("run: appliance models fetch m")


def test_unknown_name_and_broken_manifest(root: Path, registry: Registry) -> None:
    provide(root, registry)
    assert "there is no model 'nope'" in one_error(run(root, registry, "fetch", "nope"))
    with (root / "manifest.toml").open("a") as file:
        file.write("\nsurprise = 1\n")
    assert "surprise" in one_error(run(root, registry, "list"))


def test_without_a_network_it_says_what_to_do(root: Path, registry: Registry) -> None:
    provide(root, registry)
    registry.status["/simple/weights/"] = [404]
    error = one_error(run(root, registry, "fetch"))
    assert "the package registry has no weights" in error
    assert "appliance models fetch m --from FOLDER" in error


def test_from_a_folder(root: Path, registry: Registry, tmp_path: Path) -> None:
    target = provide(root, registry)
    stick = tmp_path / "stick"
    stick.mkdir()
    (stick / "w.bin").write_bytes(CONTENT)
    assert run(root, registry, "fetch", "--from", str(stick)).returncode == 0
    assert target.read_bytes() == CONTENT
    assert registry.requests == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_fetch_goes_on(root: Path, registry: Registry, how: signal.Signals) -> None:
    target = provide(root, registry, STORED)
    wheel = "/files/weights-1.0.0-py3-none-any.whl"
    half = 12 << 14
    registry.break_after[wheel] = [half]
    registry.hold = threading.Event()
    with subprocess.Popen(
        command("fetch"),
        env=environment(root, registry),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert registry.held.wait(30)
        while sum(p.stat().st_size for p in (root / ".partial").iterdir()) < half // 2:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(how)
        _, errors = process.communicate(timeout=30)
    if how is signal.SIGINT:
        assert process.returncode == 130
        assert errors == "stopped; the next fetch goes on from here\n"
    registry.hold.set()
    registry.requests.clear()
    assert run(root, registry, "fetch").returncode == 0
    assert target.read_bytes() == STORED
    assert [ranges is not None for _, ranges in registry.downloads()] == [True]


def test_two_commands_at_once(root: Path, registry: Registry) -> None:
    target = provide(root, registry)
    commands = [
        subprocess.Popen(
            command("fetch"), env=environment(root, registry), stdout=subprocess.DEVNULL
        )
        for _ in range(2)
    ]
    assert [process.wait(60) for process in commands] == [0, 0]
    assert target.read_bytes() == CONTENT
    assert len(registry.downloads()) == 1


def test_file_size_limit_is_reported_as_a_full_disk(root: Path, registry: Registry) -> None:
    target = provide(root, registry)
    target.parent.mkdir()
    target.write_bytes(b"old")
    limited = ("bash", "-c", 'ulimit -f 1024; trap "" XFSZ; exec "$@"', "bash")
    error = one_error(run(root, registry, "fetch", prefix=limited))
    assert "no room left in" in error and "make room" in error
    assert target.read_bytes() == b"old"
    assert run(root, registry, "fetch").returncode == 0
    assert target.read_bytes() == CONTENT


def in_mount(options: str, root: Path) -> tuple[str, ...]:
    """A command prefix under which `root` is a private tmpfs that goes with the command."""
    script = (
        f'cp "$0/manifest.toml" "$0/../kept.toml" && mount -t tmpfs -o size=40m tmpfs "$0" &&'
        f' cp "$0/../kept.toml" "$0/manifest.toml" && {options} && exec "$@"'
    )
    prefix = ("unshare", "--mount", "bash", "-c", script, str(root))
    if shutil.which("unshare") is None or subprocess.call([*prefix, "true"]) != 0:
        pytest.skip("needs leave to mount a tmpfs")
    return prefix


def test_full_disk_is_noticed_before_downloading(root: Path, registry: Registry) -> None:
    provide(root, registry)
    prefix = in_mount('head -c 9000000 /dev/zero > "$0/filler"', root)
    error = one_error(run(root, registry, "fetch", prefix=prefix))
    assert "m/w.bin needs 3 MB in" in error and "make room" in error
    assert registry.requests == []


def test_read_only_folder(root: Path, registry: Registry) -> None:
    provide(root, registry)
    prefix = in_mount('mount -o remount,ro "$0"', root)
    error = one_error(run(root, registry, "fetch", prefix=prefix))
    assert "cannot write to" in error and "APPLIANCE_MODELS_DIR" in error


def test_folder_that_is_a_file(tmp_path: Path, registry: Registry) -> None:
    (tmp_path / "models").write_text("")
    error = one_error(run(tmp_path / "models", registry, "fetch", "silero-vad"))
    assert str(tmp_path / "models") in error
