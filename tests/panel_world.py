"""An admin process with a bus around it, for the tests of the panel."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import msgspec

from appliance.admin.gate import COOKIE
from appliance.admin.pairing import read_code
from appliance.ipc.bus import Bus, subscribe
from appliance.messages import (
    ChannelMetrics,
    FrontEndReport,
    Heartbeat,
    Request,
    TurnRecord,
    heartbeat_topic,
)

OTHERS = ("capture", "vad", "asr", "llm", "mind", "tts", "conductor")
PASSWORD = "four plain words here"
SECRET = "the treasure is under the oak"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def record(turn_id: str = "t1", **changes: object) -> TurnRecord:
    parts = {"end_of_turn_delay": 210.0, "llm_ttft": 300.0, "tts_ttfb": 90.0}
    fields = {
        "session_id": "local",
        "turn_id": turn_id,
        "source": "speech",
        "outcome": "answered",
        "transcript": SECRET,
        "reply": "I will not tell.",
        "utterance_ids": ("u1",),
        "speech_end_ns": 1_000_000_000,
        "audible_ns": 1_600_000_000,
        "voice_to_voice_ms": sum(parts.values()),
        "contributions_ms": parts,
        "end_of_turn_probability": 0.93,
    }
    return TurnRecord(**{**fields, **changes})


def report(level_dbfs: float = -40.0) -> FrontEndReport:
    return FrontEndReport(
        session_id="local",
        at_ns=0,
        far_end_active=False,
        erle_linear_db=20.0,
        erle_final_db=31.5,
        delay_ms=42.0,
        drift_ppm=0.0,
        near_end_dbfs=level_dbfs,
        far_end_dbfs=-90.0,
        clipped_share=0.0,
        direction_deg=90.0,
        beam="adaptive",
        gain_db=0.0,
        block_p50_ms=1.0,
        block_p99_ms=2.0,
        xruns=0,
        faults={},
        channels=(ChannelMetrics(level_dbfs, "ok"), ChannelMetrics(-50.0, "ok")),
    )


class Stand(Bus):
    """The place of a process on the bus, kept by a sleeping child: it may be ended, and is started
    again as a supervisor would."""

    child: subprocess.Popen[bytes] | None = None

    def publish(self, message: object) -> None:
        if isinstance(message, Heartbeat) and message.pid == os.getpid():
            message = msgspec.structs.replace(message, pid=self.pid())
        super().publish(message)

    def pid(self) -> int:
        if self.child is None or self.child.poll() is not None:
            self.child = subprocess.Popen(["sleep", "600"])
        return self.child.pid

    def close(self) -> None:
        if self.child is not None:
            self.child.kill()
            self.child.wait()
        super().close()


@dataclass
class Running:
    """An admin process with a bus around it."""

    port: int
    runtime_dir: Path
    config: Path
    data: Path
    process: subprocess.Popen[bytes]
    buses: dict[str, Stand] = field(default_factory=dict)
    cookie: str = ""

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, *, signed_in: bool = True, **settings: object) -> httpx.Client:
        headers = {"Origin": self.base, "Sec-Fetch-Site": "same-origin"}
        if signed_in:
            headers["Cookie"] = f"{COOKIE}={self.cookie}"
        return httpx.Client(base_url=self.base, headers=headers, timeout=20, **settings)

    def csrf(self) -> str:
        with self.client() as client:
            return re.search(r'data-csrf="([^"]+)"', client.get("/").text)[1]

    def pair(self) -> None:
        with self.client(signed_in=False) as client:
            code = read_code(self.runtime_dir)
            answer = client.post("/pair", data={"code": code, "name": "Ada", "password": PASSWORD})
            assert answer.status_code == 303, answer.text
            self.cookie = answer.cookies[COOKIE]
            assert "Secure" in answer.headers["set-cookie"]
            assert "HttpOnly" in answer.headers["set-cookie"]
            assert "SameSite=strict" in answer.headers["set-cookie"]

    def add_token(self, *scopes: str) -> str:
        with self.client() as client:
            fields = dict.fromkeys(scopes, "true") | {"name": "test", "csrf": self.csrf()}
            answer = client.post("/access/add-token", data=fields)
            return re.search(r'<code class="token">([^<]+)<', answer.text)[1]

    def publish_until(self, process: str, message: object, seen: Callable[[], object]) -> None:
        """Publish until it is seen: a subscription takes a moment."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            self.buses[process].publish(message)
            until = time.monotonic() + 0.2
            while time.monotonic() < until:
                if seen():
                    return
        raise AssertionError("not seen in time")


@contextmanager
def admin_process(
    runtime_dir: Path,
    folder: Path,
    others: Sequence[str] = OTHERS,
    variables: Mapping[str, str] | None = None,
) -> Iterator[Running]:
    """An admin process that has no owner yet."""
    port = free_port()
    config = folder / "appliance.toml"
    config.write_text(
        f"# kept\n[admin]\nport = {port}\n\n[llm]\nmax_tokens = 50  # short\n", encoding="utf-8"
    )
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("APPLIANCE_")},
        "APPLIANCE_RUNTIME_DIR": str(runtime_dir),
        "APPLIANCE_CONFIG": str(config),
        "STATE_DIRECTORY": str(folder / "data"),
        **(variables or {}),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "appliance.ipc.process", "admin"], env=environment
    )
    it = Running(port, runtime_dir, config, folder / "data", process)
    with ExitStack() as stack:
        stack.callback(process.wait, 10)
        stack.callback(process.terminate)
        for name in others:
            it.buses[name] = Stand(runtime_dir=runtime_dir, process=name)
            stack.callback(it.buses[name].close)
        beats = stack.enter_context(closing(subscribe(runtime_dir, [heartbeat_topic("admin")])))
        deadline = time.monotonic() + 20
        while not (isinstance(beat := beats.receive(100), Heartbeat) and beat.state == "ready"):
            assert time.monotonic() < deadline and process.poll() is None
        yield it
        assert process.poll() is None, "the process died"


@contextmanager
def answering(
    running: Running, processes: Sequence[str], answer: Callable[[Request], Request]
) -> Iterator[None]:
    """These processes answer requests meanwhile."""
    stop = threading.Event()

    def serve(bus: Bus) -> None:
        while not stop.is_set():
            bus.receive(20)
            for client, request in bus.requests():
                bus.reply(client, answer(request))

    threads = [threading.Thread(target=serve, args=(running.buses[name],)) for name in processes]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def read_until(connection: socket.socket, wanted: bytes) -> bytes:
    got = b""
    while wanted not in got:
        piece = connection.recv(65536)
        assert piece, got[-500:]
        got += piece
    return got


def await_that(holds: Callable[[], object], within_s: float = 15) -> None:
    """Ask again and again, until it holds."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
