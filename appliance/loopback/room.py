"""A virtual room around the virtual devices, driven from a test or a bench.

with VirtualDevices() as devices, VirtualRoom(devices.environment, anechoic(48_000)) as room:
    room.say(question, 16_000, "question")
    asked = room.wait_for("near_end", 10)
    answered = room.wait_for("answer_started", 10)
    voice_to_voice_ms = (answered.at_ns - asked.speech_end_ns) / 1e6
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np
import soxr

from appliance.audio.blocks import Samples
from appliance.errors import ApplianceError
from appliance.loopback.acoustics import Acoustics
from appliance.loopback.loudspeaker import Loudspeaker

EventKind = Literal["ready", "near_end", "answer_started", "answer_ended"]
_READY_TIMEOUT_S = 45.0
_STOP_TIMEOUT_S = 5.0
_NOISE_S = 20.0


@dataclass(frozen=True)
class RoomEvent:
    """Something that happened in the room, in CLOCK_MONOTONIC nanoseconds.

    `near_end` is reported after the speech has been found in the microphone's recording.
    """

    kind: EventKind
    at_ns: int
    """near_end: its first sample at the first microphone by the direct path; answer_started: first
    audible sample at the loudspeaker; answer_ended: after the last one (known 0.7 s later)."""
    name: str = ""
    end_ns: int = 0
    """near_end: after its last sample."""
    speech_start_ns: int = 0
    """near_end: begin of the speech in it, to 10 ms; see `speech_bounds`."""
    speech_end_ns: int = 0
    """near_end: end of the speech in it, to 10 ms."""
    intact: bool = True
    """near_end: what was recorded at the microphone is bit for bit what the room wrote."""
    recording_start_ns: int = 0
    """When the loudspeaker's recording begins, as well as it was known by then."""


class VirtualRoom:
    """A context manager around the room's process.

    Args:
        environment: `VirtualDevices.environment`.
        acoustics: what the room does; its rate must be the devices' rate and its number of
            microphones their number of channels.
        seed: of the noise.
        loudspeaker: what is wrong with the loudspeaker.
        noise: shape (n, channels) at the room's rate, repeated, in place of the acoustics' noise.
        record: keep what the loudspeaker plays, for `played` (12 MB a minute on the disk).
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        acoustics: Acoustics,
        seed: int = 0,
        *,
        loudspeaker: Loudspeaker | None = None,
        noise: Samples | None = None,
        record: bool = False,
    ) -> None:
        self._environment = {**os.environ, **environment}
        self._acoustics = acoustics
        self._seed = seed
        self._loudspeaker = loudspeaker or Loudspeaker()
        self._noise = noise
        self._directory = tempfile.TemporaryDirectory(prefix="voice-room-")
        self._recording = Path(self._directory.name) / "loudspeaker.f32" if record else None
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._changed = threading.Condition()
        self._events: list[RoomEvent] = []
        self._said = 0

    def __enter__(self) -> VirtualRoom:
        file = Path(self._directory.name) / "acoustics.npz"
        acoustics = self._acoustics
        noise = self._noise
        if noise is None:
            noise = acoustics.noise(_NOISE_S, self._seed)
        np.savez(
            file,
            rate_hz=acoustics.rate_hz,
            near=acoustics.near,
            echo=np.zeros(0) if acoustics.echo is None else acoustics.echo,
            noise=np.zeros(0) if noise is None else noise,
            seed=self._seed,
            loudspeaker=json.dumps(asdict(self._loudspeaker)),
            recording=str(self._recording or ""),
        )
        self._process = subprocess.Popen(
            [sys.executable, "-m", "appliance.loopback.room_process", str(file)],
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # its priority is its own
        )
        self._reader = threading.Thread(target=self._read_events, name="room", daemon=True)
        self._reader.start()
        try:
            self.wait_for("ready", _READY_TIMEOUT_S)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def say(
        self,
        speech: Samples,
        rate_hz: int,
        name: str = "",
        *,
        after: EventKind | None = None,
        delay_ms: float = 0.0,
        place: Acoustics | None = None,
    ) -> None:
        """Speak mono audio (n,) into the room.

        Args:
            speech: what is said.
            rate_hz: its rate.
            name: returned in the `near_end` event.
            after: wait for the next event of this kind; None starts from now.
            delay_ms: begin so long after that, at the first microphone. What is due in less than
                the room's own latency (about 0.2 s) begins as soon as possible.
            place: the same room with the speaker at another place; only its near-end paths count.
        """
        place = place or self._acoustics
        resampled = soxr.resample(speech, rate_hz, self._acoustics.rate_hz)
        dry = np.asarray(resampled, np.float32)
        folder, number = Path(self._directory.name), self._said
        self._said += 1
        files = {kind: str(folder / f"{kind}{number}.npy") for kind in ("dry", "arrived")}
        np.save(files["dry"], dry)
        # here and not in the room's process, which must not miss a block
        np.save(files["arrived"], place.near_end(dry))
        command = {
            **files,
            "name": name,
            "after": after,
            "delay_ms": delay_ms,
            "direct_path": place.direct_path,
        }
        self._command(command)

    def forget(self) -> None:
        """Drop what is to be said and has not begun, such as after an answer that never came."""
        self._command({"forget": True})

    def _command(self, command: Mapping[str, object]) -> None:
        if self._process is None or self._process.stdin is None:
            raise RuntimeError("the room is not open")
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    @property
    def events(self) -> list[RoomEvent]:
        """Everything that happened so far."""
        with self._changed:
            return list(self._events)

    def played(self, from_ns: int, to_ns: int) -> tuple[int, Samples]:
        """What the loudspeaker played: (time of the first sample, samples (n,) at the room's rate).

        Fewer samples where the recording begins later or has not come so far yet.
        """
        if self._recording is None:
            raise RuntimeError("the room does not record")
        rate_hz = self._acoustics.rate_hz
        start_ns = self.events[-1].recording_start_ns
        first = max(0, (from_ns - start_ns) * rate_hz // 1_000_000_000)
        count = max(0, (to_ns - start_ns) * rate_hz // 1_000_000_000 - first)
        samples = np.fromfile(self._recording, np.float32, count, offset=4 * first)
        return start_ns + first * 1_000_000_000 // rate_hz, samples

    def wait_for(
        self, kind: EventKind, timeout_s: float, *, name: str = "", since: int = 0
    ) -> RoomEvent:
        """Wait for an event of a kind (and name, if given) among `events[since:]`.

        Raises:
            ApplianceError: it did not happen in time, or the room's process has died.
        """

        def found() -> RoomEvent | None:
            for event in self._events[since:]:
                if event.kind == kind and name in ("", event.name):
                    return event
            return None

        with self._changed:
            self._changed.wait_for(lambda: found() or not self._alive(), timeout_s)
            event = found()
        if event is None:
            state = f"did not happen within {timeout_s:g} s" if self._alive() else "cannot: it died"
            raise ApplianceError(f"Virtual room: {kind} {name} {state}.")
        return event

    def close(self) -> None:
        """End the process and remove its files. May be called twice."""
        process, self._process = self._process, None
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if self._reader is not None:
                self._reader.join()
            if process.stdout is not None:
                process.stdout.close()
        self._directory.cleanup()

    def _alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _read_events(self) -> None:
        if self._process is None or self._process.stdout is None:
            return
        for line in self._process.stdout:
            with self._changed:
                self._events.append(RoomEvent(**json.loads(line)))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()
