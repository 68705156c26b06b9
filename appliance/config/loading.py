"""Reading the configuration: the profile under the file, the environment over it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from appliance.config.mistakes import explain
from appliance.config.places import ENV_CONFIG, ENV_PREFIX, ENV_RUNTIME_DIR, PROJECT_ROOT
from appliance.config.whole import Config
from appliance.errors import ApplianceError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_ENV_OTHERS = {  # read elsewhere, not configuration keys
    ENV_CONFIG,
    ENV_RUNTIME_DIR,
    "APPLIANCE_MODELS_DIR",
    "APPLIANCE_SUPERVISOR_PID",
    "APPLIANCE_RESTARTS",
}


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
        raise ApplianceError(explain(error, environment, files)) from None


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
