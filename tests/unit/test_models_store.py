import hashlib
import io
import json
import os
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.models import store as store_module
from appliance.models.errors import ManifestError, ModelError, SourceError
from appliance.models.manifest import FileSource, Manifest, ModelEntry, ModelFile, PackagePart
from appliance.models.sources import copy_file, extract_member, find_wheel, index_url
from appliance.models.store import FileState, ModelStore, ensure_model, write_atomically

CONTENTS = {"a.bin": b"alpha", "b.json": b"{}"}


def make_store(root: Path) -> ModelStore:
    files = tuple(
        ModelFile(
            path=path,
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            sources=(FileSource(url="file:///nowhere"),),
        )
        for path, content in CONTENTS.items()
    )
    model = ModelEntry(
        name="m", task="llm", languages=(), licence="MIT", profile="default", files=files
    )
    return ModelStore(root, Manifest(format=1, models=(model,)))


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    (tmp_path / "m").mkdir()
    for path, content in CONTENTS.items():
        (tmp_path / "m" / path).write_bytes(content)
    return make_store(tmp_path)


def count_hashing(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    hashed: list[Path] = []
    real = store_module.sha256_of

    def counting(path: Path) -> str:
        hashed.append(path)
        return real(path)

    monkeypatch.setattr(store_module, "sha256_of", counting)
    return hashed


def test_hashes_once_until_the_file_changes(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = count_hashing(monkeypatch)
    assert store.ensure("m") == store.root / "m"
    assert len(hashed) == 2
    make_store(store.root).ensure("m")
    assert len(hashed) == 2
    path = store.root / "m/a.bin"
    os.utime(path, ns=(1, 1))
    store.ensure("m")
    assert hashed[2:] == [path]


def test_full_finds_what_keeps_size_and_time(store: ModelStore) -> None:
    store.ensure("m")
    path, (model,) = store.root / "m/a.bin", store.manifest.models
    times = path.stat()
    path.write_bytes(b"ALPHA")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert store.check(model, model.files[0]) is FileState.OK
    assert store.check(model, model.files[0], full=True) is FileState.WRONG_HASH
    with pytest.raises(ModelError, match="wrong hash"):
        store.ensure("m")


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "is missing"), (b"alph", "wrong size"), (b"Alpha", "wrong hash")],
)
def test_error_names_file_and_repair(store: ModelStore, content: bytes | None, words: str) -> None:
    path = store.root / "m/a.bin"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        store.ensure("m")
    message = str(caught.value)
    assert words in message and str(path) in message
    assert message.endswith("run: appliance models fetch m")
    assert store.ensure("m", ["b.json"]) == store.root / "m"


def test_names_that_do_not_exist(store: ModelStore) -> None:
    with pytest.raises(ManifestError, match="no file c"):
        store.ensure("m", ["c"])
    with pytest.raises(ManifestError, match="no model"):
        store.ensure("n")


@pytest.mark.parametrize(
    "content", [b"", b"not json", b"[]", b'{"m/a.bin": [5]}', b'{"m/a.bin": 0}']
)
def test_damaged_cache_only_costs_a_hashing(store: ModelStore, content: bytes) -> None:
    (store.root / ".verified.json").write_bytes(content)
    assert store.ensure("m") == store.root / "m"
    assert set(json.loads((store.root / ".verified.json").read_bytes())) == {"m/a.bin", "m/b.json"}


def test_cache_that_cannot_be_written_is_no_error(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, content: bytes) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(store_module, "write_atomically", refuse)
    assert store.ensure("m") == store.root / "m"


def test_models_dir_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APPLIANCE_MODELS_DIR", str(tmp_path / "none"))
    with pytest.raises(ModelError, match=str(tmp_path / "none")):
        ensure_model("silero-vad")


def test_failed_replacement_keeps_the_old_content(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"old")
    with pytest.raises(TypeError):
        write_atomically(tmp_path / "f", "text")  # type: ignore[arg-type]
    assert (tmp_path / "f").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


@given(content=st.binary(max_size=5000), other=st.binary(max_size=50), cut=st.integers(0, 400))
def test_extraction_is_exact_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, other: bytes, cut: int
) -> None:
    archive = tmp_path_factory.getbasetemp() / "a.whl"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("m", content)
        bundle.writestr("other", other)
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) - cut])
    output = io.BytesIO(b"before")
    output.seek(0, io.SEEK_END)
    try:
        extract_member(archive, "m", len(content), output)
    except SourceError:
        assert cut > 0
    else:
        assert output.getvalue() == b"before" + content


def test_extraction_refuses_what_is_not_there(tmp_path: Path) -> None:
    archive = tmp_path / "a.whl"
    with zipfile.ZipFile(archive, "w") as bundle:
        bundle.writestr("m", b"12345")
    with pytest.raises(SourceError, match="does not hold n"):
        extract_member(archive, "n", 5, io.BytesIO())
    with pytest.raises(SourceError, match="5 bytes instead of 6"):
        extract_member(archive, "m", 6, io.BytesIO())
    with pytest.raises(SourceError, match="No such file"):
        copy_file(tmp_path / "none", tmp_path / "copy", lambda _: None)


def test_wheels_are_found_as_pip_names_them(tmp_path: Path) -> None:
    wheel = tmp_path / "silero_vad-6.2.3-py3-none-any.whl"
    wheel.touch()
    part = PackagePart(
        project="silero-vad",
        version="6.2.3",
        member="m",
        size_bytes=1,
        archive_bytes=1,
        archive_sha256="0" * 64,
    )
    assert find_wheel(tmp_path, part) == wheel
    wheel.rename(tmp_path / "silero_vad-6.2.30-py3-none-any.whl")
    assert find_wheel(tmp_path, part) is None


def test_registry_is_the_one_that_pip_or_uv_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    public = index_url()
    monkeypatch.setenv("PIP_INDEX_URL", "http://pip.test/simple")
    assert index_url() == "http://pip.test/simple" != public
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://uv.test/simple")
    assert index_url() == "http://uv.test/simple"
