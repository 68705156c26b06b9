"""The virtual room's own process: `python -m appliance.loopback.room_process ACOUSTICS.npz`.

Reads the loudspeaker's monitor, and for every block of it writes one block to the microphone: echo,
near-end speech and noise. Both devices share one clock, so the loudspeaker's pace is the
microphone's too. Commands come as JSON lines on standard input, events leave as JSON lines on
standard output; the process ends when its input closes.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from appliance.audio.blocks import Samples
from appliance.audio.player import AUDIBLE
from appliance.ipc.scheduling import run_promptly
from appliance.loopback.acoustics import Acoustics, Convolver, speech_bounds
from appliance.loopback.loudspeaker import Loudspeaker, LoudspeakerStream
from appliance.loopback.outside import (
    PLAY_LATENCY_MS,
    Recorder,
    find_in,
    pulse_client,
)
from appliance.loopback.virtual_devices import LOUDSPEAKER_SINK, MICROPHONE_SINK

_QUIET_MS = 700
"""So long a silence of the loudspeaker ends an answer."""
_MARKER_MS = 100
_MARKER_LEVEL = 1e-3
_CALIBRATION_MS = 600
_SEARCHED_MS = 500
_SEARCH_WINDOW_S = 2
_SLACK_MS = 200
_KEPT_S = 5


@dataclass
class _Speech:
    """Near-end speech that is being spoken, in frames of the microphone stream as written."""

    name: str
    dry: Samples
    arrived: Samples
    start: int
    direct_path: int
    written: list[Samples]

    @property
    def end(self) -> int:
        return self.start + len(self.arrived)


@dataclass
class _Waiting:
    """Near-end speech that waits for an event or a moment."""

    name: str
    dry: Samples
    arrived: Samples
    after: str | None
    delay_ns: int
    due_ns: int | None
    direct_path: int


_Command = _Waiting | Literal["forget", "close"]


class Room:
    """The loop between the two virtual devices."""

    def __init__(
        self,
        acoustics: Acoustics,
        loudspeaker: Loudspeaker,
        noise: Samples | None,
        seed: int,
        recording: BinaryIO | None = None,
    ) -> None:
        self._recording = recording
        self._recording_start_ns = 0
        self._acoustics = acoustics
        self._rate_hz = acoustics.rate_hz
        self._block = acoustics.rate_hz // 100
        self._echo = None if acoustics.echo is None else Convolver(acoustics.echo, self._block)
        self._loudspeaker = LoudspeakerStream(loudspeaker, self._rate_hz)
        self._noise = noise
        marker = np.random.default_rng(seed).standard_normal(_MARKER_MS * self._rate_hz // 1000)
        self._marker = (_MARKER_LEVEL * marker).astype(np.float32)
        self._written = 0
        self._offset: int | None = None
        self._waiting: list[_Waiting] = []
        self._speaking: list[_Speech] = []
        self._ended: list[_Speech] = []
        self._last_audible = 0
        self._answering = False

    def run(self, commands: queue.Queue[_Command]) -> None:
        """Carry audio until it is told to close."""
        rate_hz, channels = self._rate_hz, self._acoustics.channels
        with (
            Recorder(os.environ, MICROPHONE_SINK, rate_hz, channels) as microphone,
            Recorder(os.environ, LOUDSPEAKER_SINK, rate_hz) as loudspeaker,
            subprocess.Popen(
                pulse_client("pacat", MICROPHONE_SINK, rate_hz, channels, PLAY_LATENCY_MS),
                stdin=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
            ) as player,
        ):
            heard = np.zeros(0, np.float32)
            while player.stdin is not None:
                while not commands.empty():
                    command = commands.get()
                    if command == "close":
                        player.stdin.close()
                        return
                    if command == "forget":
                        self._waiting.clear()
                    else:
                        self._waiting.append(command)
                loudspeaker.wait_frames(loudspeaker.frames + 1, 1.0)
                first, piece = loudspeaker.take()
                if self._recording is not None:
                    self._recording.write(piece.tobytes())
                self._recording_start_ns = loudspeaker.first_sample_ns
                self._watch_answer(first, piece, loudspeaker)
                heard = np.concatenate([heard, piece])
                while len(heard) >= self._block:
                    output = self._mix(heard[: self._block], microphone)
                    player.stdin.write(output.tobytes())
                    self._written += self._block
                    heard = heard[self._block :]
                self._look_back(microphone)

    def _happened(self, kind: str, at_ns: int, **more: str | int | bool) -> None:
        event = {
            "kind": kind,
            "at_ns": at_ns,
            "recording_start_ns": self._recording_start_ns,
            **more,
        }
        sys.stdout.write(json.dumps(event) + "\n")
        sys.stdout.flush()
        for waiting in self._waiting:
            if waiting.after == kind and waiting.due_ns is None:
                waiting.due_ns = at_ns + waiting.delay_ns

    def _watch_answer(self, first: int, piece: Samples, loudspeaker: Recorder) -> None:
        audible = np.flatnonzero(np.abs(piece) > AUDIBLE)
        if len(audible):
            if not self._answering:
                self._answering = True
                self._happened("answer_started", loudspeaker.time_of(first + int(audible[0])))
            self._last_audible = first + int(audible[-1])
        quiet = _QUIET_MS * self._rate_hz // 1000
        if self._answering and first + len(piece) - self._last_audible > quiet:
            self._answering = False
            self._happened("answer_ended", loudspeaker.time_of(self._last_audible + 1))

    def _mix(self, far_end: Samples, microphone: Recorder) -> Samples:
        """The microphone's next block, of shape (block, channels)."""
        begin, end = self._written, self._written + self._block
        output = np.zeros((self._block, self._acoustics.channels), np.float32)
        if end <= len(self._marker):
            return output + self._marker[begin:end, None]
        if self._echo is not None:
            output += self._echo.process(self._loudspeaker.process(far_end))
        if self._noise is not None:
            output += self._noise[np.arange(begin, end) % len(self._noise)]
        self._begin_due(microphone)
        for speech in list(self._speaking):
            start, stop = max(begin, speech.start), min(end, speech.end)
            if start < stop:
                output[start - begin : stop - begin] += speech.arrived[
                    start - speech.start : stop - speech.start
                ]
            if stop == speech.end:
                self._speaking.remove(speech)
                self._ended.append(speech)
        for speech in (*self._speaking, *self._ended):
            if speech.start <= begin and end <= speech.end:
                speech.written.append(output[:, 0].copy())
        return output

    def _begin_due(self, microphone: Recorder) -> None:
        if self._offset is None:
            return
        for waiting in list(self._waiting):
            if waiting.due_ns is None:
                continue
            next_ns = microphone.time_of(self._written + self._offset)
            wait = round((waiting.due_ns - next_ns) * self._rate_hz / 1e9)
            if wait > 10 * self._block:
                continue
            start = self._written + max(0, wait - waiting.direct_path)
            self._speaking.append(
                _Speech(waiting.name, waiting.dry, waiting.arrived, start, waiting.direct_path, [])
            )
            self._waiting.remove(waiting)

    def _look_back(self, microphone: Recorder) -> None:
        """Find in the microphone's own recording what was written, and when it was there."""
        samples_per_ms = self._rate_hz // 1000
        if self._offset is None:
            if microphone.frames > _CALIBRATION_MS * samples_per_ms:
                first, recorded = microphone.take()
                found, _ = find_in(_first_channel(recorded), self._marker)
                self._offset = first + found
                self._happened("ready", time.monotonic_ns())
            return
        for speech in list(self._ended):
            if microphone.frames < speech.end + self._offset + _SLACK_MS * samples_per_ms:
                continue
            self._ended.remove(speech)
            self._report(speech, self._offset, microphone)
        busy = self._waiting or self._speaking or self._ended
        if not busy and microphone.held_frames > _KEPT_S * self._rate_hz:
            microphone.take()

    def _report(self, speech: _Speech, offset: int, microphone: Recorder) -> None:
        """Say when the speech was at the microphone; see whether it arrived whole and in time."""
        recorded = _first_channel(microphone.samples())
        first_held = microphone.frames - len(recorded)
        slack = _SLACK_MS * self._rate_hz // 1000
        written = np.concatenate(speech.written)
        expected = -(-speech.start // self._block) * self._block + offset
        search_from = max(first_held, expected - slack)
        sample = written[: _SEARCHED_MS * self._rate_hz // 1000]
        window = recorded[search_from - first_held :][: _SEARCH_WINDOW_S * self._rate_hz]
        found, _ = find_in(window, sample)
        moved = search_from + found - expected
        arrived = recorded[search_from - first_held + found :][: len(written)]
        self._offset = offset + moved  # the player starved: from now on all is later
        start = speech.start + offset + moved + speech.direct_path
        speech_start, speech_end = speech_bounds(speech.dry, self._rate_hz)
        self._happened(
            "near_end",
            microphone.time_of(start),
            name=speech.name,
            end_ns=microphone.time_of(start + len(speech.dry)),
            speech_start_ns=microphone.time_of(start + speech_start),
            speech_end_ns=microphone.time_of(start + speech_end),
            intact=np.array_equal(arrived, written),
        )


def _first_channel(frames: Samples) -> Samples:
    return frames if frames.ndim == 1 else frames[:, 0]


def _read_commands(commands: queue.Queue[_Command]) -> None:
    """Take what is to be said, apart from the loop, which must not wait."""
    for line in sys.stdin:
        command = json.loads(line)
        if "forget" in command:
            commands.put("forget")
            continue
        delay_ns = round(command["delay_ms"] * 1e6)
        due_ns = time.monotonic_ns() + delay_ns if command["after"] is None else None
        dry = np.load(command["dry"], mmap_mode="r")
        arrived = np.load(command["arrived"], mmap_mode="r")
        commands.put(
            _Waiting(
                command["name"],
                dry,
                arrived,
                command["after"],
                delay_ns,
                due_ns,
                command["direct_path"],
            )
        )
    commands.put("close")


def main() -> None:
    """Run until standard input closes."""
    stored = np.load(Path(sys.argv[1]))
    acoustics = Acoustics(
        int(stored["rate_hz"]),
        stored["near"],
        stored["echo"] if stored["echo"].size else None,
    )
    noise = stored["noise"] if stored["noise"].size else None
    loudspeaker = Loudspeaker(**json.loads(str(stored["loudspeaker"])))
    run_promptly()  # stands in for hardware, which no load on the machine slows down
    commands: queue.Queue[_Command] = queue.Queue()
    threading.Thread(target=_read_commands, args=(commands,), daemon=True).start()
    with contextlib.ExitStack() as files:
        recording = None
        if path := str(stored["recording"]):
            recording = files.enter_context(Path(path).open("wb", buffering=0))
        Room(acoustics, loudspeaker, noise, int(stored["seed"]), recording).run(commands)


if __name__ == "__main__":
    main()
