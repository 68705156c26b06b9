"""A tts process without devices and without a voice, for the tests of what is heard of it.

The loudspeakers are the real ones, fed by hand instead of by PortAudio or a clock; the voice is a
tone of 200 ms for each word; time stands wherever the test puts it.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from appliance.audio.clock import SampleClock
from appliance.audio.player import PlaybackQueue
from appliance.ipc.audio_ring import RingWriter, speaker_format
from appliance.messages import Cancel, Message, NearEnd, PlaybackEnded, Release, Speak
from appliance.tts import outlets
from appliance.tts.cache import CachedEngine
from appliance.tts.engine import Rendered, TtsError
from appliance.tts.playback import Loudspeaker
from appliance.tts.remote import RemoteLoudspeaker
from appliance.tts.service import Service

RATE_HZ = 16_000
WORD = RATE_HZ // 5
BLOCK = 160


class Voice:
    """Each word is 200 ms of a tone, given as a stretch of its own."""

    rate_hz = RATE_HZ
    language = "en-us"
    problem = ""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.spoken: list[str] = []
        self.interruptions = 0
        self._running = threading.Event()

    def synthesise(
        self, text: str, *, cancelled: Callable[[], bool], speed: float = 1.0
    ) -> Iterator[Rendered]:
        words = text.split()
        interrupted = threading.Event()
        for n, word in enumerate(words, start=1):
            self._running = interrupted
            while not self.gate.wait(0.001):
                if interrupted.is_set() or cancelled():
                    return
            if cancelled():
                return
            if word == "crash,":
                raise TtsError("the voice broke")
            self.spoken.append(word)
            tone = 0.0846 * np.sin(2 * np.pi * 400 * np.arange(WORD) / RATE_HZ)
            last = n == len(words)
            ends = tuple(WORD * k for k in range(1, n + 1)) if last else ()
            yield Rendered(tone.astype(np.float32), last, ends)

    def interrupt(self) -> None:
        self.interruptions += 1
        self._running.set()

    def close(self) -> None: ...


class Bus:
    """Gives the loop one message after the other and remembers what it publishes."""

    def __init__(self) -> None:
        self.inbox: deque[Message] = deque()
        self.published: list[Message] = []
        self.counters: dict[str, float] = {}
        self.timeouts_ms: list[int] = []

    def receive(self, timeout_ms: int) -> Message | None:
        self.timeouts_ms.append(timeout_ms)
        return self.inbox.popleft() if self.inbox else None

    def publish(self, message: Message) -> None:
        self.published.append(message)

    def wake_on(self, descriptor: int) -> None: ...

    def forget(self, descriptor: int) -> None: ...

    def ready(self, *_: str, **__: str) -> None: ...


class Device(Loudspeaker):
    """The loudspeaker without PortAudio."""

    def __init__(self) -> None:
        super().__init__("none", rate_hz=RATE_HZ)
        self._queue = PlaybackQueue(RATE_HZ)
        self._clock = SampleClock(RATE_HZ, 0.02, 0.02, 20_000_000, 8)

    is_open = True

    def start(self) -> None: ...

    @property
    def device(self) -> Device:
        return self

    name = "virtual"


class Far(RemoteLoudspeaker):
    """The loudspeaker of a remote session; the test is its clock."""

    def _run(self) -> None: ...


class Room:
    """Runs the service, block after block of simulated time."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **options: float) -> None:
        self.now_ns = 1_000_000_000_000
        monkeypatch.setattr(time, "monotonic_ns", lambda: self.now_ns)
        monkeypatch.setattr(outlets, "RemoteLoudspeaker", Far)
        self.voice, self.bus, self.device = Voice(), Bus(), Device()
        self.device._stream.check = lambda: None  # type: ignore[method-assign]
        self.prefix = f"va-test-{os.getpid()}-{tmp_path.name[-8:]}-"
        settings = {"gain_db": -6.0, "duck_db": -18.0, "ahead_ms": 6000.0} | options
        self.service = Service(
            self.bus,  # type: ignore[arg-type]
            CachedEngine(self.voice),
            self.device,
            lambda session_id: RingWriter(self.prefix, speaker_format(session_id)),
            **settings,  # type: ignore[arg-type]
        )
        self.service.open()
        self.heard = np.zeros(0, np.float32)

    def close(self) -> None:
        self.service.close()

    def send(self, *messages: Message) -> None:
        for message in messages:
            self.bus.inbox.append(message)
            self.service.step()

    def settle(self, timeout_s: float = 5.0) -> None:
        """Let the synthesis do all that it may do now."""
        synthesiser = self.service._synthesiser
        deadline = time.perf_counter() + timeout_s
        while not synthesiser.is_free:
            assert time.perf_counter() < deadline, "the synthesis does not come to an end"
            select.select([synthesiser.worker.descriptor], [], [], 0.05)
            self.service.step()

    def play(self, ms: int) -> np.ndarray:
        """Let the device play; returns what it took."""
        blocks = []
        for _ in range(ms // 10):
            times = {"current_time": 0.0, "output_buffer_dac_time": 0.03}
            data = self.device._on_block(None, BLOCK, times, 0)
            blocks.append(np.frombuffer(data, np.float32))
            for outlet in self.service._outlets:
                if isinstance(outlet.output, Far):
                    outlet.output.advance(self.now_ns)
            self.service.step()
            self.now_ns += 10_000_000
        self.heard = np.concatenate([self.heard, *blocks])
        return np.concatenate(blocks)

    def said(self, kind: type[Message]) -> list[Message]:
        return [message for message in self.bus.published if isinstance(message, kind)]

    def ended(self, utterance_id: str) -> PlaybackEnded:
        (end,) = (m for m in self.said(PlaybackEnded) if m.utterance_id == utterance_id)
        assert isinstance(end, PlaybackEnded)
        return end


def speak(
    text: str, utterance: str = "a", index: int = 0, session: str = "local", **options: bool
) -> Speak:
    options = {"last": True, "hold": False} | options
    return Speak(session_id=session, utterance_id=utterance, index=index, text=text, **options)


def cancel(utterance: str, session: str = "local") -> Cancel:
    return Cancel(session_id=session, id=utterance)


def release(utterance: str = "a") -> Release:
    return Release(session_id="local", utterance_id=utterance)


def near_end(room: Room, active: bool, session: str = "local") -> NearEnd:
    return NearEnd(session_id=session, active=active, onset_ns=room.now_ns, far_end_active=True)


def loud_ms(samples: np.ndarray) -> float:
    return float(np.count_nonzero(np.abs(samples) > 0.001)) / RATE_HZ * 1000
