"""Where the project is, and the environment variables that say more of it."""

from __future__ import annotations

from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parents[2]
ENV_PREFIX = "APPLIANCE_"
ENV_CONFIG = "APPLIANCE_CONFIG"
ENV_RUNTIME_DIR = "APPLIANCE_RUNTIME_DIR"
