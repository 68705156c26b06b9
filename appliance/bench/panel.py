"""The panel under load: what many watching browsers cost, and what bad clients can do to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import psutil

from appliance import config as configuration
from appliance.admin.pairing import read_code
from appliance.admin.settings import PanelSettings
from appliance.admin.store import READ, Accounts
from appliance.bench.report import machine, report
from appliance.bench.rig import START_BOUND_S, free_port
from appliance.errors import ApplianceError

_BASE_S = 10.0
"""Nobody watches for so long first."""
_SLOW_S = 15.0
_SLOW_CLIENTS = 140
_FLOOD_ADDRESSES = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
_FLOOD_CLIENTS = 120
"""Of each address; the panel takes 150 an address and 400 in all."""
_PROBE_EVERY_S = 0.2
_OWNER_TRIES_EVERY_S = 2.0
_OWNER_BOUND_S = 600.0
_NAME, _PASSWORD = "Ada", "four plain words here"
"""Of an account that lives for a bench."""
_COMMAND = "appliance.ipc.process"


# --- watching browsers -------------------------------------------------------------------------


def watch(*, watchers: int, seconds: float, wait_s: float) -> dict[str, object]:
    """Watch the live stream of an appliance that runs on this machine; returns the report.

    Args:
        watchers: connections to its stream of events.
        seconds: how long, after ten seconds without any.
        wait_s: how long to wait for an appliance to be started.

    Raises:
        ApplianceError: none runs, or it is not this user's.
    """
    before = machine()
    process = _running_panel(wait_s)
    with contextlib.suppress(psutil.NoSuchProcess):  # the bench beside this one has ended it
        figures = asyncio.run(_watch(process, watchers, seconds))
        command = f"appliance bench panel --watchers {watchers} --seconds {seconds:g} --json"
        return report(figures, command=command, seed=0, before=before)
    raise ApplianceError("The appliance was stopped before there was anything to measure.")


def _running_panel(wait_s: float) -> psutil.Process:
    """The panel that was started last."""
    deadline = time.monotonic() + wait_s
    while True:
        found = [
            process
            for process in psutil.process_iter(["cmdline", "create_time"])
            if (process.info["cmdline"] or [])[1:4] == ["-m", _COMMAND, "admin"]
        ]
        if found:
            return max(found, key=lambda process: process.info["create_time"])
        if time.monotonic() > deadline:
            raise ApplianceError("No appliance runs here. Start one, or --wait for longer.")
        time.sleep(0.5)


async def _watch(process: psutil.Process, count: int, seconds: float) -> dict[str, float]:
    try:
        variables = process.environ()
    except psutil.AccessDenied:
        raise ApplianceError(
            "The appliance belongs to another user; measure as that one."
        ) from None
    path = Path(variables.get(configuration.ENV_CONFIG) or configuration.default_path())
    config = configuration.load(path, variables)
    settings = PanelSettings.of(config)
    accounts = Accounts(settings.data_path(config, variables))
    token = accounts.add_token("bench", [READ])
    mine = next(entry["id"] for entry in reversed(accounts.tokens()) if entry["name"] == "bench")
    try:
        await _listening(settings.port)
        alone = await _cpu_percent(process, _BASE_S)
        rss = process.memory_info().rss
        tallies = [Counter[str]() for _ in range(count)]
        tasks = [asyncio.create_task(_follow(settings.port, token, tally)) for tally in tallies]
        watched = await _cpu_percent(process, seconds)
        figures = {
            "watchers": float(count),
            "admin_cpu_percent_unwatched": alone,
            "admin_cpu_percent_watched": watched,
            "admin_memory_growth_mb": (process.memory_info().rss - rss) / 1e6,
            "events_per_watcher_per_s": sum(t["events"] for t in tallies) / count / seconds,
            "kb_per_watcher_per_s": sum(t["bytes"] for t in tallies) / count / seconds / 1e3,
            "watchers_cut_off": float(sum(task.done() for task in tasks)),
        }
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        accounts.remove_token(mine)
        accounts.close()
    return {name: round(value, 2) for name, value in figures.items()}


async def _listening(port: int) -> None:
    deadline = time.monotonic() + START_BOUND_S
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            if time.monotonic() > deadline:
                raise ApplianceError(f"The panel does not answer on port {port}.") from None
            await asyncio.sleep(0.2)
            continue
        writer.close()
        return


async def _cpu_percent(process: psutil.Process, seconds: float) -> float:
    def spent_s() -> float:
        times = process.cpu_times()
        return float(times.user + times.system)

    started_s, cpu_s = time.monotonic(), spent_s()
    await asyncio.sleep(seconds)
    return 100 * (spent_s() - cpu_s) / (time.monotonic() - started_s)


async def _follow(port: int, token: str, tally: Counter[str]) -> None:
    """One browser's stream of events; returns when it is cut off."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
    try:
        writer.write(head.encode())
        while piece := await reader.read(65536):
            tally["bytes"] += len(piece)
            tally["events"] += piece.count(b"event: ")
    finally:
        writer.close()


# --- bad clients -------------------------------------------------------------------------------


def attack(*, logins: int) -> dict[str, object]:
    """A panel of its own among clients that dawdle, then among guessers; returns the report.

    Raises:
        ApplianceError: the panel did not start, or something that must never happen did.
    """
    before = machine()
    with _own_panel() as (process, port, runtime_dir):
        figures = asyncio.run(_attack(psutil.Process(process.pid), port, runtime_dir, logins))
        if process.poll() is not None:
            raise ApplianceError(f"The panel died: status {process.returncode}.")
    command = f"appliance bench panel --attack --logins {logins} --json"
    return report(figures, command=command, seed=0, before=before)


@contextlib.contextmanager
def _own_panel() -> Iterator[tuple[subprocess.Popen[bytes], int, Path]]:
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="va-") as folder:
        config = Path(folder, "appliance.toml")
        config.write_text(f"[admin]\nport = {port}\n", encoding="utf-8")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(configuration.ENV_PREFIX)}
        environment = {
            **kept,
            configuration.ENV_CONFIG: str(config),
            configuration.ENV_RUNTIME_DIR: folder,
            "STATE_DIRECTORY": str(Path(folder, "state")),
        }
        command = [sys.executable, "-m", _COMMAND, "admin"]
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        try:
            yield process, port, Path(folder)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)


async def _attack(
    process: psutil.Process, port: int, runtime_dir: Path, logins: int
) -> dict[str, float]:
    await _listening(port)
    code = read_code(runtime_dir) or ""
    fields = {"name": _NAME, "password": _PASSWORD}
    if await _post("127.0.0.1", port, "/pair", {**fields, "code": code}) != 303:
        raise ApplianceError("The panel could not be paired.")
    await _post("127.0.0.1", port, "/login", {"name": "x", "password": "to warm up"})
    rss = process.memory_info().rss
    # who dawdles over a request
    probe = _Probe(port)
    slow = [asyncio.create_task(_dribble(port)) for _ in range(_SLOW_CLIENTS)]
    await probe.run(_SLOW_S)
    held_s = [await task for task in slow]
    figures = {
        "slow_clients": float(_SLOW_CLIENTS),
        "slow_clients_cut_off_after_s": max(held_s),
        "health_p95_ms_beside_slow": probe.p95_ms(),
    }
    # who guesses
    tally: Counter[str] = Counter()
    left = iter(range(logins))
    probe = _Probe(port)
    guessing = [
        asyncio.create_task(_guess(address, port, left, tally))
        for address in _FLOOD_ADDRESSES
        for _ in range(_FLOOD_CLIENTS)
    ]
    started_s = time.monotonic()
    cpu_s = sum(process.cpu_times()[:2])
    probing = asyncio.create_task(probe.run(3600.0))
    owner = asyncio.create_task(_sign_in(port, fields))
    await asyncio.gather(*guessing)
    probing.cancel()
    took_s = time.monotonic() - started_s
    return {
        **figures,
        "logins": float(logins),
        "logins_per_s": logins / took_s,
        "passwords_checked": float(tally["422"]),
        "passwords_checked_per_min": 60 * tally["422"] / took_s,
        "refused_untried": float(tally["429"]),
        "other_answers": float(logins - tally["422"] - tally["429"] - tally["broken"]),
        "connections_broken": float(tally["broken"]),
        "health_p95_ms_beside_logins": probe.p95_ms(),
        "admin_cpu_percent": 100 * (sum(process.cpu_times()[:2]) - cpu_s) / took_s,
        "admin_memory_growth_mb": (process.memory_info().rss - rss) / 1e6,
        "owner_signed_in_after_s": await owner,
    }


def _request(port: int, path: str, fields: dict[str, str]) -> bytes:
    body = urlencode(fields).encode()
    origin = f"127.0.0.1:{port}"
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {origin}\r\nOrigin: http://{origin}\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _status(reader: asyncio.StreamReader) -> int:
    """Of the next answer, which is read to its end."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    for line in head.split("\r\n"):
        name, _, value = line.partition(":")
        if name.lower() == "content-length":
            await reader.readexactly(int(value))
    return int(head.split(" ", 2)[1])


async def _post(address: str, port: int, path: str, fields: dict[str, str]) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
    try:
        writer.write(_request(port, path, fields))
        return await _status(reader)
    finally:
        writer.close()


async def _sign_in(port: int, fields: dict[str, str]) -> float:
    """The owner, who knows the password, among the guessers; returns how long it took them."""
    started_s = time.monotonic()
    while await _post("127.0.0.9", port, "/login", fields) != 303:
        if time.monotonic() - started_s > _OWNER_BOUND_S:
            raise ApplianceError(f"The owner could not sign in for {_OWNER_BOUND_S:.0f} s.")
        await asyncio.sleep(_OWNER_TRIES_EVERY_S)
    return time.monotonic() - started_s


async def _guess(address: str, port: int, left: Iterator[int], tally: Counter[str]) -> None:
    """Guess passwords, as fast as the panel lets one, until all were tried."""
    writer: asyncio.StreamWriter | None = None
    for number in left:
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", port, local_addr=(address, 0)
                )
            fields = {"name": _NAME, "password": f"a wrong password {number}"}
            writer.write(_request(port, "/login", fields))
            tally[str(await _status(reader))] += 1
        except (OSError, asyncio.IncompleteReadError):
            tally["broken"] += 1
            if writer is not None:
                writer.close()
            writer = None
    if writer is not None:
        writer.close()


async def _dribble(port: int) -> float:
    """Send a request a byte at a time; returns how long that was borne, in seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
    started_s = time.monotonic()
    cut_off = asyncio.create_task(reader.read())
    with contextlib.suppress(OSError):
        for letter in b"GET / HTTP/1.1\r\nX: " + 60 * b"x":
            writer.write(bytes([letter]))
            done, _ = await asyncio.wait([cut_off], timeout=0.5)
            if done:
                break
    cut_off.cancel()
    await asyncio.gather(cut_off, return_exceptions=True)
    writer.close()
    return time.monotonic() - started_s


class _Probe:
    """Somebody else, from another address, who only wants to know whether it is well."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._took_ms: list[float] = []

    async def run(self, seconds: float) -> None:
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            started_s = time.monotonic()
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            writer.write(
                f"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n\r\n".encode()
            )
            if await _status(reader) != 200:
                raise ApplianceError("The panel was not well.")
            writer.close()
            self._took_ms.append(1000 * (time.monotonic() - started_s))
            await asyncio.sleep(_PROBE_EVERY_S)

    def p95_ms(self) -> float:
        ordered = sorted(self._took_ms)
        return ordered[int(0.95 * (len(ordered) - 1))]
