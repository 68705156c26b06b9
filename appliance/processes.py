"""The one table of processes: what runs, what it shares, how soon it must show a sign of life.

``appliance run``, the systemd units, the health page and the tests are generated from this table
or checked against it (after openpilot's ``system/manager/process_config.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.ipc.scheduling import RAISED_NICE

HEARTBEAT_INTERVAL_MS = 500

LOCAL_SESSION = "local"
REMOTE_SESSIONS = ("remote.1", "remote.2", "remote.3", "remote.4")
"""Slots for who speaks from afar. One that nobody uses costs nothing: its rings do not exist."""


def mic_ring(session_id: str) -> str:
    """Name of the ring with what a session's microphone hears."""
    return _ring("mic", session_id)


def speaker_ring(session_id: str) -> str:
    """Name of the ring with what a session's loudspeaker plays."""
    return _ring("speaker", session_id)


def _ring(kind: str, session_id: str) -> str:
    if session_id == LOCAL_SESSION:
        return kind
    if session_id not in REMOTE_SESSIONS:
        raise ValueError(f"there is no session {session_id!r}")
    return f"{kind}.{session_id.removeprefix('remote.')}"


REMOTE_MIC_RINGS = tuple(mic_ring(session_id) for session_id in REMOTE_SESSIONS)
REMOTE_SPEAKER_RINGS = tuple(speaker_ring(session_id) for session_id in REMOTE_SESSIONS)


@dataclass(frozen=True, kw_only=True)
class ProcessSpec:
    """One row: an OS process of the appliance."""

    name: str
    module: str
    """Has ``main(config, bus)``."""
    purpose: str
    reads_rings: tuple[str, ...] = ()
    writes_rings: tuple[str, ...] = ()
    instances: int = 1
    """Above 1 the others are hot standbys, waiting for the writer lock of the ring."""
    deadline_ms: int = 2_000
    """Silence of the heartbeat after which the process counts as stalled and is restarted."""
    start_timeout_ms: int = 20_000
    """The same until the first heartbeat that says ready: models load in this time."""
    cpu_idle_percent: float
    """Budget in percent of one core with the microphone open and nobody speaking."""
    memory_pss_mb: int
    """Budget with the default models."""
    nice: int = 0
    """Below 0 somebody hears it when this process gets its processor late: it is scheduled first,
    before asr, which in turn the user waits for while llm reads ahead."""
    accepts_requests: bool = False
    """Binds a second socket for requests of the command line and the panel."""
    keeps_state: bool = False
    """Has a folder for what it has learnt, kept across reboots."""


PROCESSES: dict[str, ProcessSpec] = {
    spec.name: spec
    for spec in (
        ProcessSpec(
            name="capture",
            nice=RAISED_NICE,
            module="appliance.capture.main",
            purpose="microphones, without echo and noise, to mic ring",
            reads_rings=("speaker",),
            writes_rings=("mic",),
            instances=2,
            cpu_idle_percent=3.0,
            memory_pss_mb=90,
            accepts_requests=True,
            keeps_state=True,
        ),
        ProcessSpec(
            name="vad",
            nice=RAISED_NICE,
            module="appliance.vad.main",
            purpose="finds speech in the mic rings",
            reads_rings=("mic", *REMOTE_MIC_RINGS),
            cpu_idle_percent=3.0,
            memory_pss_mb=120,
        ),
        ProcessSpec(
            name="asr",
            module="appliance.asr.main",
            purpose="speech to text",
            nice=RAISED_NICE + 2,
            reads_rings=("mic", *REMOTE_MIC_RINGS),
            cpu_idle_percent=0.7,
            memory_pss_mb=350,
        ),
        ProcessSpec(
            name="llm",
            module="appliance.llm.main",
            purpose="text to answer",
            start_timeout_ms=60_000,
            cpu_idle_percent=0.7,
            memory_pss_mb=1_500,
        ),
        ProcessSpec(
            name="mind",
            nice=RAISED_NICE // 2,
            module="appliance.mind.main",
            purpose="understands, remembers and does what needs no llm",
            cpu_idle_percent=0.7,
            memory_pss_mb=90,
            accepts_requests=True,
            keeps_state=True,
        ),
        ProcessSpec(
            name="tts",
            nice=RAISED_NICE,
            module="appliance.tts.main",
            purpose="answer to speech, and its playback",
            writes_rings=("speaker", *REMOTE_SPEAKER_RINGS),
            cpu_idle_percent=3.0,
            memory_pss_mb=300,
        ),
        ProcessSpec(
            name="conductor",
            nice=RAISED_NICE,
            module="appliance.conductor.main",
            purpose="who has the floor",
            cpu_idle_percent=0.7,
            memory_pss_mb=60,
            accepts_requests=True,
        ),
        ProcessSpec(
            name="gateway",
            nice=RAISED_NICE,
            module="appliance.gateway.main",
            purpose="browsers as microphones and loudspeakers",
            reads_rings=REMOTE_SPEAKER_RINGS,
            writes_rings=REMOTE_MIC_RINGS,
            cpu_idle_percent=0.5,
            memory_pss_mb=110,
            accepts_requests=True,
        ),
        ProcessSpec(
            name="admin",
            module="appliance.admin.main",
            purpose="the panel and its API",
            reads_rings=("mic", *REMOTE_MIC_RINGS),  # only where the owner keeps recordings
            keeps_state=True,
            cpu_idle_percent=1.0,
            memory_pss_mb=110,
        ),
    )
}

RING_WRITERS: dict[str, str] = {
    ring: spec.name for spec in PROCESSES.values() for ring in spec.writes_rings
}
