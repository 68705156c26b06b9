"""What goes into a support case: logs, the doctor's findings, a bundle without words or secrets."""

from __future__ import annotations

import io
import json
import platform
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Literal, get_origin

from pydantic import BaseModel

from appliance import __version__
from appliance.config import Config, Section
from appliance.errors import ApplianceError
from appliance.ipc.log import LOG_FOLDER

_TAIL_BYTES = 64 << 10
_COMMAND_BOUND_S = 120
_PUBLIC = frozenset({"array", "input_device", "language", "model", "output_device", "profile"})
"""Keys whose text is no secret and nobody's words. Any other text is taken to be one: who adds a
key must not have to think of this place for it to stay private."""
_HIDDEN = "…"


class Logs:
    """The logs that processes keep in the runtime folder.

    Args:
        runtime_dir: the same as of `appliance.ipc.log.keep_log`.
    """

    def __init__(self, runtime_dir: Path) -> None:
        self._folder = runtime_dir / LOG_FOLDER

    def processes(self) -> list[str]:
        """Who has a log."""
        return sorted(path.stem for path in self._folder.glob("*.log"))

    def tail(self, process: str, after: int = -1) -> dict[str, Any]:
        """The newest whole lines.

        Args:
            process: one of `processes`.
            after: ``next`` of the answer before; -1 begins near the end.

        Raises:
            KeyError: it has no log.
        """
        if process not in self.processes():
            raise KeyError(process)
        path = self._folder / f"{process}.log"
        size = path.stat().st_size
        if after > size:  # another file has begun
            after = 0
        start = max(size - _TAIL_BYTES, after, 0)
        with path.open("rb") as file:
            file.seek(start)
            text = file.read(_TAIL_BYTES)
        text = text[: text.rfind(b"\n") + 1]
        lines = text.decode("utf-8", "replace").splitlines()
        if start > 0 and start != after:
            lines = lines[1:]  # the middle of a line
        return {"lines": lines, "next": start + len(text)}


def examine(*, chirp: bool) -> dict[str, Any]:
    """What ``appliance doctor`` finds: in a process of its own, which may fail and use memory.

    Raises:
        ApplianceError: it did not end in time, or says nothing that can be read.
    """
    found: dict[str, Any] = _ask_command_line("doctor", "--json", *(["--chirp"] if chirp else []))
    return found


def _ask_command_line(*words: str) -> Any:  # noqa: ANN401 whatever JSON it prints
    command = [sys.executable, "-m", "appliance", *words]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=_COMMAND_BOUND_S, check=False, text=True
        )
        return json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise ApplianceError(f"'appliance {words[0]}' did not end; is a device stuck?") from None
    except ValueError:
        line = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ApplianceError(f"'appliance {words[0]}' failed: {line}") from None


def without_words(config: Config) -> dict[str, Any]:
    """The configuration, less what may be private: text that is neither one of a few choices nor
    as it was delivered."""
    return _shown(config)


def _shown(section: BaseModel) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        is_known = name in _PUBLIC or get_origin(field.annotation) is Literal
        if isinstance(value, Section):
            shown[name] = _shown(value)
        elif is_known or value == field.default or not _holds_text(value):
            shown[name] = value
        else:
            shown[name] = _HIDDEN
    return shown


def _holds_text(value: object) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_holds_text, value))
    return not isinstance(value, bool | int | float | None)


def bundle(config: Config, logs: Logs, facts: dict[str, Any]) -> bytes:
    """A ZIP file for whoever is asked for help: no audio, no words, no secrets.

    Args:
        config: as it is in force.
        logs: left out where the owner has words written into them.
        facts: further JSON by name; the caller has left words out.
    """
    about = {
        "version": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "kernel": platform.release(),
        "system": _os_name(),
    }
    files = {f"{name}.json": _json(value) for name, value in facts.items()}
    files |= {"about.json": _json(about), "config.json": _json(without_words(config))}
    if not config.logging.words:
        files |= {
            f"log/{name}.txt": "\n".join(logs.tail(name)["lines"]) for name in logs.processes()
        }
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in sorted(files.items()):
            archive.writestr(name, text)
    return stream.getvalue()


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return ""


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
