"""Configuration: ``config/appliance.toml``, a profile under it, the environment over it.

Order, later wins: defaults here, ``config/profiles/<profile>.toml``, the configuration file,
environment variables (``APPLIANCE_AUDIO__INPUT_DEVICE=...``, two underscores between section and
key). Unknown keys are errors that name file and line.
"""

from appliance.config.loading import default_path, load
from appliance.config.places import ENV_CONFIG, ENV_PREFIX, ENV_RUNTIME_DIR, PROJECT_ROOT
from appliance.config.sections import (
    AdminConfig,
    AsrConfig,
    AsrEngineName,
    AudioConfig,
    ConductorConfig,
    FrontEndConfig,
    LlmConfig,
    LoggingConfig,
    McpServerConfig,
    MindConfig,
    Section,
    TtsConfig,
    VadConfig,
)
from appliance.config.whole import Config

__all__ = [
    "ENV_CONFIG",
    "ENV_PREFIX",
    "ENV_RUNTIME_DIR",
    "PROJECT_ROOT",
    "AdminConfig",
    "AsrConfig",
    "AsrEngineName",
    "AudioConfig",
    "ConductorConfig",
    "Config",
    "FrontEndConfig",
    "LlmConfig",
    "LoggingConfig",
    "McpServerConfig",
    "MindConfig",
    "Section",
    "TtsConfig",
    "VadConfig",
    "default_path",
    "load",
]
