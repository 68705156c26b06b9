"""Models: which there are, which are here and whole; fetched and verified by one job at a time."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any, Literal

from appliance.config import Config
from appliance.errors import ApplianceError
from appliance.models.errors import ManifestError
from appliance.models.manifest import ModelEntry
from appliance.models.store import FileState, ModelStore

Action = Literal["fetch", "verify"]
CHOOSABLE = {"asr": "asr.model", "llm": "llm.model", "tts": "tts.model"}
"""Where the configuration names the model of a task."""
_END_WITHIN_S = 5.0


class BusyError(ApplianceError):
    """A job is at work already."""


def catalogue(config: Config) -> list[dict[str, Any]]:
    """Every model of the manifest, and its state here: ``missing``, ``damaged``, ``verified``, or
    ``here`` when it was never verified as it is.

    Raises:
        ApplianceError: the manifest cannot be read.
    """
    store = ModelStore(config.models_path)
    return [
        {
            "name": model.name,
            "task": model.task,
            "languages": list(model.languages),
            "licence": model.licence,
            "note": model.note,
            "size_bytes": model.size_bytes,
            "state": _state(store, model),
            "chosen": _is_chosen(config, model),
            "key": CHOOSABLE.get(model.task, ""),
        }
        for model in store.manifest.models
    ]


def present(config: Config) -> dict[str, tuple[str, ...]]:
    """The models that may be chosen, by the key that names them: the one that is chosen already,
    whatever it is, and those that are here."""
    try:
        models = catalogue(config)
    except ManifestError:
        return {}
    found: dict[str, dict[str, None]] = {
        f"{section}.model": {getattr(config, section).model: None} for section in CHOOSABLE
    }
    for model in models:
        if model["key"] and model["state"] in ("here", "verified"):
            found[model["key"]][model["name"]] = None
    return {key: tuple(names) for key, names in found.items()}


def _state(store: ModelStore, model: ModelEntry) -> str:
    states = {store.known(model, file) for file in model.files}
    if states == {FileState.OK}:
        return "verified"
    if FileState.MISSING in states:
        return "missing"
    return "here" if states <= {FileState.OK, None} else "damaged"


def _is_chosen(config: Config, model: ModelEntry) -> bool:
    section = CHOOSABLE.get(model.task, "").partition(".")[0]
    return bool(section) and getattr(config, section).model == model.name


class ModelJob:
    """``appliance models fetch`` or ``verify`` in a process of its own, below all others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None
        self._state: dict[str, Any] = {"outcome": ""}

    def state(self) -> dict[str, Any]:
        """What it does, or how the last one ended: ``outcome`` is ``running``, ``done``,
        ``cancelled``, ``failed`` or, before the first, empty."""
        with self._lock:
            return dict(self._state)

    def start(self, action: Action, model: str) -> None:
        """Begin.

        Raises:
            BusyError: another one is at work.
        """
        words = ["--json"] if action == "fetch" else ["--json", "--full"]
        command = ["nice", "-n", "15", sys.executable, "-m", "appliance.models.cli"]
        with self._lock:
            if self._process is not None:
                raise BusyError("Another model is being fetched or verified; wait, or cancel that.")
            self._process = subprocess.Popen(
                [*command, action, model, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
            self._state = {"outcome": "running", "action": action, "model": model, "error": ""}
            self._thread = threading.Thread(
                target=self._follow, args=(self._process,), name="models", daemon=True
            )
            self._thread.start()

    def cancel(self) -> None:
        """Stop it; what was fetched so far is kept for the next time."""
        with self._lock:
            if self._process is not None:
                self._state["cancelled"] = True
                self._process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """Stop it, with the panel."""
        self.cancel()
        process, thread = self._process, self._thread
        if process is not None and thread is not None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_END_WITHIN_S)
            process.kill()
            thread.join(_END_WITHIN_S)

    def _follow(self, process: subprocess.Popen[str]) -> None:
        said: list[str] = []
        assert process.stdout is not None
        for line in process.stdout:
            try:
                news = json.loads(line)
            except ValueError:
                said = [*said, line.strip()][-20:]
                continue
            if isinstance(news, dict):
                with self._lock:
                    self._state.update(news)
        status = process.wait()
        process.stdout.close()
        with self._lock:
            self._process = None
            if status == 0:
                outcome = "done"
            else:
                outcome = "cancelled" if self._state.get("cancelled") else "failed"
            self._state["outcome"] = outcome
            if outcome == "failed":
                errors = [text.removeprefix("error: ") for text in said if "error: " in text]
                self._state["error"] = "\n".join(errors or said[-1:]) or f"status {status}"
