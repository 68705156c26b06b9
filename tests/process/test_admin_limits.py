"""The panel among people who mean it harm: malformed, slow, deaf, foreign and guessing clients."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress

import httpx
import psutil
import pytest
from panel_world import PASSWORD, Running, free_port, read_until, record

from appliance.admin.app import create_app
from appliance.admin.encryption import Encryption
from appliance.admin.gate import COOKIE, Gate
from appliance.admin.panel import Panel
from appliance.admin.server import (
    CONNECTIONS_PER_ADDRESS,
    HANDSHAKES_PER_ADDRESS,
    Doorman,
    PromptProtocol,
    QuietServer,
    server_of,
)
from appliance.admin.settings import PanelSettings
from appliance.config import Config
from appliance.messages import (
    Floor,
)


def test_watchers_who_do_not_read_hold_up_nobody_and_cost_no_memory(paired: Running) -> None:
    memory = psutil.Process(paired.process.pid)
    head = f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{paired.port}\r\n"
    head += f"Cookie: {COOKIE}={paired.cookie}\r\n\r\n"
    with ExitStack() as stack:
        for _ in range(20):
            deaf = socket.socket()
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            deaf.connect(("127.0.0.1", paired.port))
            stack.enter_context(deaf)
            deaf.sendall(head.encode())
        paired.publish_until(
            "conductor", record("t0"), lambda: "t0" in paired.client().get("/api/turns").text
        )
        before = memory.memory_info().rss
        long_reason = "x" * 2000
        for number in range(2_000):
            state = ("idle", "speaking")[number % 2]
            paired.buses["conductor"].publish(
                Floor(session_id="local", state=state, turn_id=long_reason, since_ns=0)
            )
        paired.publish_until(
            "conductor", record("t3"), lambda: "t3" in paired.client().get("/api/turns").text
        )
        assert memory.memory_info().rss - before < 30_000_000


def test_other_sites_and_names_are_refused(paired: Running) -> None:
    csrf = paired.csrf()
    with paired.client() as client:
        fields = {"csrf": csrf, "muted": "true"}
        for headers in (
            {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"},
            {"Origin": "null", "Sec-Fetch-Site": "cross-site"},
            {"Origin": f"http://127.0.0.1:{paired.port + 1}", "Sec-Fetch-Site": "same-site"},
            {"Sec-Fetch-Site": "cross-site"},
        ):
            assert client.post("/do/mute", data=fields, headers=headers).status_code == 403
            sent = {**headers, "Sec-Fetch-Mode": "no-cors"}
            assert client.get("/api/turns", headers=sent).status_code == 403
        for host in ("evil.example", f"evil.example:{paired.port}", "127.0.0.1.evil.example", ""):
            assert client.get("/", headers={"Host": host}).status_code in (400, 421), host
        assert (
            client.post("/do/mute", data=fields, headers={"Cookie": f"{COOKIE}=x"}).status_code
            == 303
        )
    cookie = {"Cookie": f"{COOKIE}={paired.cookie}"}  # no origin, no word of the browser
    assert httpx.post(paired.base + "/logout", headers=cookie, data=fields).status_code == 403


def test_signing_in_and_out_and_the_lock_out(paired: Running) -> None:
    with paired.client(signed_in=False) as client:
        right = {"name": "Ada", "password": PASSWORD, "next": "//evil.example"}
        answer = client.post("/login", data=right)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        cookie = {"Cookie": f"{COOKIE}={answer.cookies[COOKIE]}"}
        csrf = re.search(r'data-csrf="([^"]+)"', client.get("/", headers=cookie).text)[1]
        assert client.post("/logout", headers=cookie, data={"csrf": csrf}).status_code == 303
        assert client.get("/", headers=cookie).status_code == 303
        codes = [
            client.post("/login", data={"name": "Ada", "password": f"wrong {n}"}).status_code
            for n in range(7)
        ]
        assert codes[:5] == [422] * 5 and set(codes[5:]) == {429}
        locked = client.post("/login", data=right)
        assert locked.status_code == 429 and int(locked.headers["retry-after"]) > 10


MALFORMED = (
    b"\x00\xff\xfe garbage\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
    b"POST /login HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n"
    b"Content-Length: 99999999999999\r\n\r\n",
    b"POST /login HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /turns/%00%ff%fe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /?x=%ff HTTP/1.1\r\nHost: localhost\r\nCookie: \xff\xfe=;;\x01\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://[\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
)


def test_malformed_requests_are_refused_and_nothing_fails(paired: Running) -> None:
    for sent in MALFORMED:
        with socket.create_connection(("127.0.0.1", paired.port), timeout=5) as connection:
            connection.sendall(sent)
            got = connection.recv(65536)
        assert not got or re.match(rb"HTTP/1.1 [34]\d\d ", got), (sent[:80], got[:200])
        assert httpx.get(f"{paired.base}/health/live").status_code == 200


def test_bodies_that_fit_no_schema(paired: Running) -> None:
    token = {"Authorization": f"Bearer {paired.add_token('read', 'words', 'talk', 'mute')}"}
    bodies = [b"", b"{", b"[]", b'{"text": 5}', b'{"text": ""}', b'{"text": "\\ud800"}', b"\xff"]
    bodies += [b'{"text": "x", "more": 1}', b'{"muted": "yes"}', b"[" * 20_000, b'{"muted": NaN}']
    with closing(httpx.Client(base_url=paired.base, headers=token, timeout=20)) as client:
        for path in ("/api/ask", "/api/say", "/api/mute"):
            for body in bodies:
                headers = {"Content-Type": "application/json"}
                answer = client.post(path, content=body, headers=headers)
                assert answer.status_code in (400, 422), (path, body[:40], answer.status_code)
            assert client.post(path, content=b"x" * 70_000).status_code == 413
        for query in ("limit=0", "limit=201", "limit=x", "limit=1e9"):
            assert client.get(f"/api/turns?{query}").status_code == 422
        assert client.get("/api/turns/none").status_code == 404
        schema = client.get("/api/openapi.json").json()
        assert {"/health", "/metrics", "/api/turns", "/api/ask", "/api/say", "/api/mute"} <= set(
            schema["paths"]
        )


@contextmanager
def in_process(panel: Panel) -> Iterator[tuple[QuietServer, int]]:
    """The server alone, so that a test can reach into it."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = server_of(create_app(panel))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    assert server.up.wait(10)
    try:
        yield server, listener.getsockname()[1]
    finally:
        server.stop()
        thread.join(5)
        panel.accounts.close()
    assert not thread.is_alive()


def test_whoever_dawdles_is_hung_up_on(place, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(PromptProtocol, "head_timeout_s", 0.3)
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    with in_process(Panel(Config(), place.runtime_dir)) as (_, port):
        for begun in (b"", b"GET / HT", b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX: "):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as slow:
                slow.sendall(begun)
                assert hung_up(slow)
        with socket.create_connection(("127.0.0.1", port), timeout=5) as second:
            second.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            read_until(second, b'{"live":true}')
            second.sendall(b"GET /hea")
            assert hung_up(second), "the second request of a connection"
        answer = httpx.get(f"http://127.0.0.1:{port}/health/live")
        assert answer.status_code == 200


def test_a_body_that_does_not_come_is_not_awaited(place, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(Gate, "body_timeout_s", 0.3)
    with in_process(Panel(Config(), place.runtime_dir)) as (_, port):
        head = f"POST /pair HTTP/1.1\r\nHost: localhost:{port}\r\nSec-Fetch-Site: same-origin\r\n"
        with socket.create_connection(("127.0.0.1", port), timeout=5) as slow:
            slow.sendall(f"{head}Content-Length: 100\r\n\r\nname=".encode())
            assert b" 408 " in slow.recv(1000)


def test_other_machines_are_answered_encrypted_once_there_is_an_owner(
    place, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    certificate, key = str(tmp_path / "certificate.pem"), str(tmp_path / "key.pem")
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=test"
    subprocess.run(
        [*make.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True
    )
    panel = Panel(Config(), place.runtime_dir)
    panel.settings = PanelSettings(
        host="0.0.0.0", tls_port=free_port(), tls_certificate=certificate, tls_key=key
    )
    panel.encryption = Encryption(panel.settings, tmp_path, place.runtime_dir)
    address = f"https://127.0.0.1:{panel.settings.tls_port}/health/live"
    with in_process(panel) as (server, _):

        async def open_outside(tls: ssl.SSLContext) -> None:
            await server.also_listen(panel.settings.host, panel.settings.tls_port, tls)

        panel.open_outside = open_outside
        asyncio.run_coroutine_threadsafe(panel.open_if_paired(), server.loop).result(10)
        with pytest.raises(httpx.ConnectError):
            httpx.get(address, verify=False)
        panel.accounts.add_user("Ada", "owner", "hash")
        asyncio.run_coroutine_threadsafe(panel.open_if_paired(), server.loop).result(10)
        answer = httpx.get(address, verify=False)
        assert answer.status_code == 200
        assert "max-age" in answer.headers["strict-transport-security"]


def test_who_connects_and_never_encrypts_holds_no_descriptors(place, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(Doorman, "handshake_timeout_s", 1.0)
    settings = PanelSettings(host="0.0.0.0", tls_port=free_port())
    encryption = Encryption(settings, tmp_path, place.runtime_dir)
    address = ("127.0.0.1", settings.tls_port)
    with in_process(Panel(Config(), place.runtime_dir)) as (server, _), ExitStack() as stack:
        opening = server.also_listen(settings.host, settings.tls_port, encryption.context())
        asyncio.run_coroutine_threadsafe(opening, server.loop).result(10)
        silent = [
            stack.enter_context(socket.create_connection(address, timeout=5))
            for _ in range(HANDSHAKES_PER_ADDRESS + 5)
        ]
        for refused in silent[-5:]:
            assert hung_up(refused)
        silent[0].sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert answered_in_the_clear(silent[0]) == b""
        for late in silent[1:HANDSHAKES_PER_ADDRESS]:
            assert hung_up(late)
        answer = httpx.get(f"https://127.0.0.1:{settings.tls_port}/health/live", verify=False)
        assert answer.status_code == 200, "and then there is room again"
        assert not server._doorman._shaking


def answered_in_the_clear(connection: socket.socket) -> bytes:
    """What came that is no TLS alert, until it was closed."""
    got = b""
    with suppress(ConnectionResetError):
        while piece := connection.recv(1000):
            got += piece
    return b"" if got.startswith(b"\x15\x03") else got


def test_one_address_has_its_share_of_connections(running: Running) -> None:
    with ExitStack() as stack:
        opened = [
            stack.enter_context(socket.create_connection(("127.0.0.1", running.port), timeout=5))
            for _ in range(CONNECTIONS_PER_ADDRESS + 3)
        ]
        for refused in opened[-3:]:
            assert hung_up(refused)
        opened[0].sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        read_until(opened[0], b'{"live":true}')


def hung_up(connection: socket.socket) -> bool:
    try:
        return connection.recv(1000) == b""
    except ConnectionResetError:
        return True
