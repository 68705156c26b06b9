"""The models folder: where files are, whether they are what the manifest says.

This is all that the processes import at start. It reads, hashes and remembers; it never
downloads.
"""

from __future__ import annotations

import enum
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from appliance.models.errors import ManifestError, ModelError
from appliance.models.manifest import (
    MANIFEST_NAME,
    Manifest,
    ModelEntry,
    ModelFile,
    load_manifest,
)

log = logging.getLogger(__name__)

ENV_MODELS_DIR = "APPLIANCE_MODELS_DIR"
_DEFAULT_ROOT = Path(__file__).resolve().parents[2] / "models"
_CACHE_NAME = ".verified.json"
_CHUNK_BYTES = 1 << 20


class FileState(enum.Enum):
    """What is found at a file's place."""

    OK = "ok"
    MISSING = "missing"
    WRONG_SIZE = "wrong size"
    WRONG_HASH = "wrong hash"


def models_dir() -> Path:
    """`APPLIANCE_MODELS_DIR`, else `models/` beside the package."""
    return Path(os.environ.get(ENV_MODELS_DIR) or _DEFAULT_ROOT)


def ensure_model(
    name: str, *, files: Iterable[str] | None = None, root: Path | None = None
) -> Path:
    """The folder of model `name`, its files (or only those named) verified.

    Takes microseconds when the files are as they were when last hashed, else about a second per
    gigabyte. Raises `ModelError` that names the file and the command that repairs it.
    """
    return ModelStore(root).ensure(name, files)


class ModelStore:
    """The models folder at `root` (default: `models_dir()`) and its manifest.

    A `manifest.toml` in `root` wins over the project's.
    """

    def __init__(self, root: Path | None = None, manifest: Manifest | None = None) -> None:
        self.root = root or models_dir()
        if manifest is None:
            own = self.root / MANIFEST_NAME
            manifest = load_manifest(own if own.exists() else _DEFAULT_ROOT / MANIFEST_NAME)
        self.manifest = manifest

    def path(self, model: ModelEntry, file: ModelFile) -> Path:
        """Where `file` belongs."""
        return self.root / model.name / file.path

    def ensure(self, name: str, files: Iterable[str] | None = None) -> Path:
        """See `ensure_model`."""
        model = self.manifest.model(name)
        wanted = set(files) if files is not None else {file.path for file in model.files}
        if unknown := wanted - {file.path for file in model.files}:
            raise ManifestError(f"model {name} has no file {', '.join(sorted(unknown))}")
        for file in model.files:
            if file.path in wanted:
                self._require_ok(model, file)
        return self.root / model.name

    def _require_ok(self, model: ModelEntry, file: ModelFile) -> None:
        path = self.path(model, file)
        try:
            state = self.check(model, file)
        except OSError as error:
            raise ModelError(
                f"model file {path} cannot be read ({error.strerror}); check its permissions"
            ) from error
        if state is not FileState.OK:
            problem = "is missing" if state is FileState.MISSING else f"is damaged ({state.value})"
            raise ModelError(
                f"model file {path} {problem}; run: appliance models fetch {model.name}"
            )

    def check(self, model: ModelEntry, file: ModelFile, *, full: bool = False) -> FileState:
        """Compare with the manifest; `full` hashes even what has not changed since last time."""
        path = self.path(model, file)
        state = self.peek(model, file)
        if state is not FileState.OK:
            return state
        remembered = None if full else self._remembered(path)
        if remembered is None:
            remembered = sha256_of(path)
            self.remember(path, remembered)
        return FileState.OK if remembered == file.sha256 else FileState.WRONG_HASH

    def peek(self, model: ModelEntry, file: ModelFile) -> FileState:
        """Existence and size only."""
        try:
            size_bytes = self.path(model, file).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return FileState.MISSING
        return FileState.OK if size_bytes == file.size_bytes else FileState.WRONG_SIZE

    def known(self, model: ModelEntry, file: ModelFile) -> FileState | None:
        """As `check` would say, without hashing; None: it is there, but was never hashed so."""
        state = self.peek(model, file)
        if state is not FileState.OK:
            return state
        remembered = self._remembered(self.path(model, file))
        if remembered is None:
            return None
        return FileState.OK if remembered == file.sha256 else FileState.WRONG_HASH

    def remember(self, path: Path, sha256: str) -> None:
        """Keep a hash for as long as size and modification time stay as they are.

        A lost update (two processes at once) or a read-only folder only costs another hashing.
        """
        entries = self._read_cache()
        entries[self._key(path)] = [*_fingerprint(path), sha256]
        try:
            write_atomically(self.root / _CACHE_NAME, json.dumps(entries, indent=1).encode())
        except OSError as error:
            log.debug("cannot remember the hash of %s: %s", path, error)

    def _remembered(self, path: Path) -> str | None:
        entry = self._read_cache().get(self._key(path))
        match entry:
            case [int(size), int(mtime_ns), str(sha256)] if (size, mtime_ns) == _fingerprint(path):
                return sha256
        return None

    def _read_cache(self) -> dict[str, list[int | str]]:
        try:
            entries = json.loads((self.root / _CACHE_NAME).read_bytes())
        except (OSError, ValueError):
            return {}
        return entries if isinstance(entries, dict) else {}

    def _key(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def sha256_of(path: Path) -> str:
    """Hex digest of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a small file so that a reader sees the old or the new one, never half of it."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), 0o644)  # services may run as other users
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def _fingerprint(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
