"""Configuration: order of precedence, and what mistakes get."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import config
from appliance.config import Config, Section
from appliance.config.loading import tomllib
from appliance.errors import ApplianceError

HEAD = "# comment\n\n"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith(config.ENV_PREFIX):
            monkeypatch.delenv(name)


@pytest.fixture
def write(tmp_path):
    def writer(text: str | bytes, name: str = "appliance.toml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return writer


def fields(section: type[Section], prefix: str = ""):
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from fields(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


FIELDS = dict(fields(Config))


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_every_key_is_described(name):
    assert FIELDS[name].description


@pytest.mark.parametrize("name", ["audio", "vad", "asr", "llm", "tts", "conductor", "admin"])
def test_every_section_is_described(name):
    assert Config.model_fields[name].annotation.__doc__


def test_an_empty_file_is_the_defaults(write):
    assert config.load(write("")) == Config()


def test_the_files_of_the_project_are_valid():
    folder = config.PROJECT_ROOT / "config"
    assert config.load(folder / "appliance.toml")
    for profile in (folder / "profiles").glob("*.toml"):
        table = tomllib.loads(profile.read_text())
        assert Config.model_validate(table), profile


def test_order_environment_over_file_over_profile(write, monkeypatch):
    write("[admin]\nport = 1111\n[llm]\nmax_tokens = 11\n[asr]\nthreads = 3\n", "profiles/p.toml")
    path = write('profile = "p"\n[admin]\nport = 2222\n[llm]\nmax_tokens = 22\n')
    monkeypatch.setenv("APPLIANCE_ADMIN__PORT", "3333")
    loaded = config.load(path)
    assert (loaded.admin.port, loaded.llm.max_tokens, loaded.asr.threads) == (3333, 22, 3)


@pytest.mark.parametrize(
    ("variable", "value", "key", "expected"),
    [
        ("AUDIO__INPUT_DEVICE", "2", "audio.input_device", "2"),
        ("AUDIO__OUTPUT_GAIN_DB", "-6.5", "audio.output_gain_db", -6.5),
        ("LOGGING__WORDS", "true", "logging.words", True),
        ("LLM__SYSTEM_PROMPT", '{"a": 1}', "llm.system_prompt", '{"a": 1}'),
        ("RUNTIME_DIR", "/tmp/x", "runtime_dir", "/tmp/x"),
        ("MODELS_DIR", "/tmp/m", "models_dir", "/tmp/m"),
    ],
)
def test_environment_values_become_what_the_key_wants(
    write, monkeypatch, variable, value, key, expected
):
    monkeypatch.setenv(f"APPLIANCE_{variable}", value)
    node = config.load(write(""))
    for part in key.split("."):
        node = getattr(node, part)
    assert node == expected
    assert type(node) is type(expected)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("[audio]\ninput_devise = 'x'", 4, "audio.input_devise: unknown key; did you mean "
         "'input_device'?"),
        ("[audioo]\nx = 1", 3, "audioo: unknown key; did you mean 'audio'?"),
        ("[vad]\n\nzzz = 1", 5, "vad.zzz: unknown key; known: onset_probability"),
        ("audio.input_devise = 'x'", 3, "audio.input_devise: unknown key"),
        ("audio = {input_devise = 'x'}", 3, "audio.input_devise: unknown key"),
        ("[llm]\nmax_tokens = 1\n[tts]\nmax_tokens = 1", 4, "llm.max_tokens: Input should be "
         "greater than or equal to 8"),
        ("[admin]\nport = 70000", 4, "admin.port: Input should be less than or equal to 65535"),
        ("[admin]\n'port' = 'x'", 4, "admin.port: Input should be a valid integer"),
        ("[vad]\nonset_ms = nan", 4, "vad.onset_ms: "),
        ("[vad]\nmax_segment_s = nan", 4, "vad.max_segment_s: Input should be "),
        ("[asr]\nengine = 'magic'", 4, "asr.engine: Input should be 'auto', 'ctranslate2'"),
        ("admin = 5", 3, "admin: Input should be a valid dictionary"),
        ("[ vad ]\nonset_probability = 0.2", 3, "vad: Value error, offset_probability must not"),
        ("[vad]\npause_ms = 900", 3, "vad: Value error, pause_ms must not be above"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_file_line_and_key(write, text, line, message):
    path = write(HEAD + text + "\n")
    with pytest.raises(ApplianceError) as caught:
        config.load(path)
    assert f"{path}:{line}: {message}" in str(caught.value)


def test_all_mistakes_are_told_at_once(write):
    with pytest.raises(ApplianceError) as caught:
        config.load(write("[admin]\nport = 0\nprot = 1\n[llm]\nthreads = 0\n"))
    assert len(str(caught.value).splitlines()) == 3


def test_a_mistake_in_a_profile_names_the_profile(write):
    profile = write("[llm]\n\nthreads = 0\n", "profiles/p.toml")
    with pytest.raises(ApplianceError, match=re.escape(f"{profile}:3: llm.threads")):
        config.load(write("profile = 'p'\n[llm]\nmax_tokens = 20"))


def test_a_mistake_in_the_environment_is_not_blamed_on_the_file(write, monkeypatch):
    monkeypatch.setenv("APPLIANCE_ADMIN__PORT", "x")
    with pytest.raises(ApplianceError, match=r"^environment variable APPLIANCE_ADMIN__PORT: admin"):
        config.load(write("[admin]\nport = 8000"))


@pytest.mark.parametrize("name", ["APPLIANCE_ADMIN__PROT", "APPLIANCE_PROT", "APPLIANCE_ADMIN"])
def test_an_unknown_variable_is_an_error(write, monkeypatch, name):
    monkeypatch.setenv(name, "1")
    monkeypatch.setenv("APPLIANCE_ADMIN__PORT", "1")
    with pytest.raises(ApplianceError, match=name):
        config.load(write(""))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[audio\n", r"not valid TOML: .*line 1"),
        ("port = 1\nport = 2\nprofile = 3", r"not valid TOML: .*line 2"),
        (b"\xff\xfe", r"not UTF-8 text \(byte 0\)"),
    ],
)
def test_a_file_that_is_no_toml(write, text, message):
    with pytest.raises(ApplianceError, match=message):
        config.load(write(text))


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(ApplianceError, match="Restore it, or name another one in APPLIANCE_CONFIG"):
        config.load(tmp_path / "none.toml")


@pytest.mark.parametrize("name", ["nope", "../appliance", "", "3"])
def test_an_unknown_profile_lists_the_known_ones(write, name):
    write("", "profiles/jetson.toml")
    with pytest.raises(ApplianceError, match=r"no profile .* there are: auto, jetson\."):
        config.load(write(f"profile = '{name}'"))


def test_the_file_named_in_the_environment_is_taken(write, monkeypatch):
    monkeypatch.setenv("APPLIANCE_CONFIG", str(write("[admin]\nport = 4444", "other.toml")))
    assert config.load().admin.port == 4444


@given(text=st.text(max_size=200))
def test_any_text_is_valid_or_one_clear_error(text):
    import tempfile

    with tempfile.NamedTemporaryFile("w", suffix=".toml", encoding="utf-8") as file:
        file.write(text.encode("utf-8", "replace").decode())
        file.flush()
        try:
            config.load(Path(file.name))
        except ApplianceError as error:
            assert file.name in str(error) or "no profile" in str(error)


def test_the_runtime_folder_is_private_and_prefixes_differ(tmp_path):
    one, other = Config(runtime_dir=str(tmp_path / "a")), Config(runtime_dir=str(tmp_path / "b"))
    one.prepare_runtime_dir().chmod(0o755)
    assert one.prepare_runtime_dir().stat().st_mode & 0o777 == 0o700
    assert one.shm_prefix != other.shm_prefix
    assert one.shm_prefix == Config(runtime_dir=str(tmp_path / "a")).shm_prefix


def test_a_relative_runtime_folder_does_not_depend_on_later_moves(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert Config(runtime_dir="run").runtime_path == tmp_path / "run"


@pytest.mark.parametrize(
    ("folder", "message"),
    [("/tmp/" + "x" * 90, "too long for sockets"), ("/proc/nothing/here", "Cannot create")],
)
def test_an_impossible_runtime_folder_is_one_clear_error(folder, message):
    with pytest.raises(ApplianceError, match=message):
        Config(runtime_dir=folder).prepare_runtime_dir()


def test_the_runtime_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(ApplianceError, match="belongs to another user"):
        Config(runtime_dir=str(tmp_path)).prepare_runtime_dir()
