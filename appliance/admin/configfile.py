"""The configuration file as the panel edits it: comments stay, and there is one step back."""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

from appliance import config as configuration
from appliance.config import ENV_PREFIX, Config, Section
from appliance.errors import ApplianceError
from appliance.processes import PROCESSES

Kind = Literal["flag", "integer", "number", "choice", "text", "json"]
_TALKERS = ("llm", "mind", "conductor")
_READERS: dict[str, tuple[str, ...]] = {
    "audio": ("capture", "tts"),
    "audio.input_device": ("capture",),
    "audio.input_channels": ("capture",),
    "audio.output_gain_db": ("tts",),
    "audio.loopback": (),
    "front_end": ("capture",),
    "vad.preroll_ms": ("vad", "conductor"),
    "vad.fallback_ms": ("vad", "conductor"),
    "asr.language": ("asr", "llm", "mind", "tts", "conductor"),
    "asr.model": ("asr", "mind", "conductor"),
    "llm.model": _TALKERS,
    "llm.max_tokens": _TALKERS,
    "llm.system_prompt": _TALKERS,
    "conductor.asr_timeout_ms": ("asr", "conductor"),
    "conductor.llm_timeout_ms": ("llm", "conductor"),
    "conductor.barge_in": ("tts", "conductor"),
    "admin.session_days": (),
    "admin.watchers": (),
    "admin.allow_downloads": (),
    "logging": tuple(PROCESSES),
    "logging.words": ("conductor", "admin"),
}
"""Who reads what at its start, where that is not just the process that a section is named after."""
LIVE = ("session_days", "watchers", "allow_downloads")
"""Keys of ``[admin]`` that the panel, which writes them, takes over at once."""


@dataclass(frozen=True)
class Entry:
    """One key, as a form shows it."""

    key: str
    """With its section: ``asr.language``."""
    kind: Kind
    value: str
    default: str
    text: str
    """The field's own description."""
    choices: tuple[str, ...]
    least: float | None
    most: float | None
    optional: bool
    environment: str
    """The variable that overrides the file; empty when none does."""
    restarts: tuple[str, ...]
    """Processes that read it."""


def restarts(key: str) -> tuple[str, ...]:
    """Processes that must be restarted for a change of a key, such as ``vad.pause_ms``."""
    section = key.partition(".")[0]
    own = (section,) if section in PROCESSES else tuple(PROCESSES)
    return _READERS.get(key, _READERS.get(section, own))


def changes(before: Config, after: Config) -> list[str]:
    """The keys in which they differ."""
    return [
        f"{name}.{key}"
        for name, section in before
        if isinstance(section, Section)
        for key, value in section
        if value != getattr(getattr(after, name), key)
    ]


def entries(
    config: Config,
    variables: Mapping[str, str],
    choices: Mapping[str, tuple[str, ...]] | None = None,
) -> dict[str, list[Entry]]:
    """Every key that can be changed here, by section, in the order of the models.

    Args:
        config: as it is in the file.
        variables: of the environment: those that win over the file are named.
        choices: keys that would take any text, and the only values that make sense.
    """
    result: dict[str, list[Entry]] = {}
    for name in Config.model_fields:
        section = getattr(config, name)
        if not isinstance(section, Section):
            continue
        result[name] = [
            _entry(f"{name}.{key}", field, getattr(section, key), variables, choices or {})
            for key, field in type(section).model_fields.items()
        ]
    return result


def _entry(
    key: str,
    field: FieldInfo,
    value: object,
    variables: Mapping[str, str],
    only: Mapping[str, tuple[str, ...]],
) -> Entry:
    kind, choices, optional = _kind(field.annotation)
    if key in only:
        kind, choices = "choice", only[key]
    least = most = None
    for bound in field.metadata:
        match bound:
            case annotated_types.Ge(ge=low) | annotated_types.Gt(gt=low):
                least = float(low)  # type: ignore[arg-type]
            case annotated_types.Le(le=high) | annotated_types.Lt(lt=high):
                most = float(high)  # type: ignore[arg-type]
    variable = ENV_PREFIX + key.replace(".", "__").upper()
    return Entry(
        key,
        kind,
        _shown(value, kind),
        _shown(field.get_default(call_default_factory=False), kind),
        " ".join((field.description or "").replace("``", "'").split()),
        choices,
        least,
        most,
        optional,
        variable if variable in variables else "",
        restarts(key),
    )


def _kind(annotation: Any) -> tuple[Kind, tuple[str, ...], bool]:  # noqa: ANN401 a type
    members = [part for part in get_args(annotation) if part is not type(None)]
    optional = len(members) == 1 and type(None) in get_args(annotation)
    if optional:
        annotation = members[0]
    simple: dict[Any, Kind] = {bool: "flag", int: "integer", float: "number", str: "text"}
    if annotation in simple:
        return simple[annotation], (), optional
    if get_origin(annotation) is Literal:
        return "choice", tuple(str(choice) for choice in _flat(annotation)), optional
    return "json", (), optional


def _flat(annotation: Any) -> list[Any]:  # noqa: ANN401 a type
    """The values of a Literal, nested ones included."""
    return [
        value
        for part in get_args(annotation)
        for value in (_flat(part) if get_origin(part) is Literal else [part])
    ]


def _shown(value: object, kind: Kind) -> str:
    if value is None:
        return ""
    if kind == "flag":
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if kind == "json" else str(value)


def parse(entry: Entry, text: str) -> object:
    """The value that was typed into a form; None removes an optional key.

    Raises:
        ApplianceError: it is no value of that kind.
    """
    text = text.replace("\r\n", "\n")
    if entry.kind == "choice" and text not in entry.choices:
        there = ", ".join(entry.choices)
        raise ApplianceError(f"{entry.key}: {text[:60]!r} is not one of: {there}.")
    if entry.optional and not text.strip():
        return None
    try:
        match entry.kind:
            case "flag":
                return text == "true"
            case "integer":
                return int(text)
            case "number":
                return float(text)
            case "json":
                return json.loads(text)
    except (ValueError, RecursionError):
        raise ApplianceError(f"{entry.key}: {text[:60]!r} is not a valid {entry.kind}.") from None
    return text


class ConfigFile:
    """The file in force.

    Args:
        path: it; made when it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.previous = path.with_name(f".{path.name}.previous")
        self._lock = threading.Lock()

    def change(self, values: Mapping[str, object]) -> Config:
        """Set keys, given with their sections; the whole is validated before it is written.

        Returns:
            The configuration as it is now.

        Raises:
            ApplianceError: it would not be valid, or cannot be written. Nothing was changed.
        """
        with self._lock:
            try:
                text = _edited(self._text(), values)
            except ValueError as error:  # TOML cannot say it, or the file is not TOML
                raise ApplianceError(f"{self.path.name}: {error}") from None
            return self._replace(text)

    def restore(self) -> Config:
        """Put the version before the last change in force; doing it twice undoes it.

        Raises:
            ApplianceError: there is none, or it is not valid any more.
        """
        with self._lock:
            try:
                text = self.previous.read_text(encoding="utf-8")
            except OSError:
                raise ApplianceError("There is no earlier version of the configuration.") from None
            return self._replace(text)

    @property
    def restorable(self) -> bool:
        """Whether there is a version to go back to."""
        return self.previous.exists()

    def _text(self) -> str:
        try:
            return self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            raise ApplianceError(f"Cannot read {self.path}: {error}") from None

    def _replace(self, text: str) -> Config:
        before = self._text()
        try:
            draft = self._written(text)
        except OSError as error:
            raise ApplianceError(f"Cannot write {self.path}: {error.strerror}.") from None
        try:
            config = configuration.load(draft)
            self._written(before).replace(self.previous)
            draft.replace(self.path)
        except ApplianceError as error:
            raise ApplianceError(str(error).replace(str(draft), self.path.name)) from None
        except OSError as error:
            raise ApplianceError(f"Cannot write {self.path}: {error.strerror}.") from None
        finally:
            draft.unlink(missing_ok=True)
        return config

    def _written(self, text: str) -> Path:
        """A new file beside the configuration, on the disk for good, with its permissions."""
        descriptor, name = tempfile.mkstemp(".toml", ".draft-", self.path.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft = Path(name)
        draft.chmod(self.path.stat().st_mode & 0o777 if self.path.exists() else 0o644)
        return draft


def _edited(text: str, values: Mapping[str, object]) -> str:
    """TOML with some keys set, the rest as it was.

    Raises:
        ValueError: it is not TOML, or a value cannot be.
    """
    import tomlkit
    from tomlkit.items import Table

    document = tomlkit.parse(text)
    for dotted, value in values.items():
        section, _, key = dotted.partition(".")
        if section not in document:
            document.add(tomlkit.nl())
            document[section] = tomlkit.table()
        table = document[section]
        if not isinstance(table, Table):
            raise ValueError(f"{section} is not a table of its own")
        if value is None:
            table.pop(key, None)
        elif isinstance(value, dict):
            inline = tomlkit.inline_table()
            inline.update(value)
            table[key] = inline
        else:
            table[key] = value
    result: str = tomlkit.dumps(document)
    result.encode()  # lone surrogates are no text
    return result
