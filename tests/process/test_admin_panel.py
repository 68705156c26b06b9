"""The panel as a process: a browser's way in, the live stream, malformed requests, slow clients."""

from __future__ import annotations

import asyncio
import json
import re
import select
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from panel_world import PASSWORD, SECRET, Running, admin_process, free_port, record, report

from appliance.admin.app import create_app
from appliance.admin.gate import COOKIE, Gate
from appliance.admin.pairing import read_code
from appliance.admin.panel import Panel
from appliance.admin.server import (
    CONNECTIONS_PER_ADDRESS,
    PromptProtocol,
    QuietServer,
    server_of,
)
from appliance.admin.settings import PanelSettings
from appliance.config import Config
from appliance.messages import (
    Accepted,
    AskText,
    Floor,
    Heartbeat,
    PartialTranscript,
    SayText,
    SetMute,
)


@pytest.fixture
def running(place, tmp_path) -> Iterator[Running]:
    with admin_process(place.runtime_dir, tmp_path) as it:
        yield it


@pytest.fixture
def paired(running: Running) -> Running:
    running.pair()
    return running


def serve_requests(running: Running, name: str, taken: list[object], stop: threading.Event) -> None:
    bus = running.buses[name]
    while not stop.is_set():
        bus.receive(20)
        for client, request in bus.requests():
            taken.append(request)
            bus.reply(client, Accepted(turn_id="t9"))


def test_before_pairing_nothing_but_the_code_opens_it(running: Running) -> None:
    with running.client(signed_in=False) as client:
        assert client.get("/health").status_code == 503
        for path in ("/", "/turns", "/settings", "/logs", "/access", "/login"):
            answer = client.get(path)
            assert (answer.status_code, answer.headers["location"]) == (303, "/pair"), path
        for path in ("/api/turns", "/metrics", "/events", "/api/openapi.json"):
            assert client.get(path).status_code == 401, path
        code = read_code(running.runtime_dir)
        assert re.fullmatch(r"\d{8}", code)
        wrong = f"{(int(code) + 1) % 10**8:08d}"
        fields = {"code": wrong, "name": "Eve", "password": PASSWORD}
        assert client.post("/pair", data=fields).status_code == 422
        assert (
            client.post("/pair", data={**fields, "code": code, "password": "x"}).status_code == 422
        )
    running.pair()
    assert read_code(running.runtime_dir) is None
    with running.client(signed_in=False) as client:
        answer = client.post("/pair", data={**fields, "code": code})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert client.get("/").headers["location"] == "/login"


def test_every_page_and_its_headers(paired: Running) -> None:
    paired.publish_until(
        "conductor", record(), lambda: "t1" in paired.client().get("/api/turns").text
    )
    for language, word in (("en", "Settings"), ("zh", "设置")):
        with paired.client() as client:
            client.headers["Cookie"] += f"; language={language}"
            for path in ("/", "/turns", "/turns/t1", "/settings", "/logs", "/access"):
                answer = client.get(path)
                assert answer.status_code == 200, path
                assert word in answer.text, path
                policy = answer.headers["content-security-policy"]
                assert "unsafe" not in policy and "default-src 'none'" in policy
                assert answer.headers["cache-control"] == "no-store"
                assert not re.search(r"<script(?![^>]*\bsrc=)", answer.text), "inline script"
                assert not re.search(r"\sstyle=|\son\w+=|<style", answer.text), "inline style"
                addresses = re.findall(r'(?:src|href)="(https?:[^"]*)"', answer.text)
                assert not addresses, "something from elsewhere"


def test_the_whole_load_is_small(paired: Running) -> None:
    with paired.client() as client:
        page = client.get("/")
        size = len(page.content)
        for path in re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text):
            part = client.get(path)
            assert "immutable" in part.headers["cache-control"]
            size += len(part.content)
    assert size < 250_000


def test_words_are_for_the_owner(paired: Running) -> None:
    paired.buses["tts"].beat()
    paired.publish_until(
        "conductor", record(), lambda: "t1" in paired.client().get("/api/turns").text
    )
    figures = {"Authorization": f"Bearer {paired.add_token('read')}"}
    words = {"Authorization": f"Bearer {paired.add_token('read', 'words')}"}
    for path in ("/api/turns", "/api/turns/t1", "/turns", "/turns/t1"):
        assert SECRET in paired.client().get(path).text
        assert SECRET in httpx.get(paired.base + path, headers=words).text
        assert SECRET not in httpx.get(paired.base + path, headers=figures).text
    assert SECRET not in httpx.get(paired.base + "/health").text
    assert httpx.get(paired.base + "/settings", headers=words).status_code == 403
    for path in ("/api/say", "/api/ask"):
        answer = httpx.post(paired.base + path, headers=words, json={"text": "x"})
        assert answer.status_code == 403
    assert (
        httpx.post(paired.base + "/api/mute", headers=words, json={"muted": True}).status_code
        == 403
    )


def test_requests_reach_the_processes(paired: Running) -> None:
    taken: list[object] = []
    stop = threading.Event()
    threads = [
        threading.Thread(target=serve_requests, args=(paired, name, taken, stop))
        for name in ("capture", "conductor")
    ]
    paired.buses["capture"].ready()
    for thread in threads:
        thread.start()
    try:
        token = {"Authorization": f"Bearer {paired.add_token('talk', 'mute')}"}
        client = httpx.Client(base_url=paired.base, headers=token, timeout=20)
        with closing(client):
            assert client.post("/api/ask", json={"text": " Why? "}).json() == {"turn_id": "t9"}
            assert client.post("/api/say", json={"text": "Hello."}).status_code == 202
            deadline = time.monotonic() + 10
            while (answer := client.post("/api/mute", json={"muted": True})).status_code == 503:
                assert time.monotonic() < deadline
            assert answer.json() == {"muted": True}
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert taken[:2] == [AskText(text="Why?"), SayText(text="Hello.")]
    assert taken[-1] == SetMute(muted=True)
    audit = [json.loads(line) for line in (paired.data / "audit.jsonl").read_text().splitlines()]
    assert audit[-1]["action"] == "mute" and audit[-1]["who"] == "token test"


def test_a_finished_turn_is_seen_by_fifty_watchers_and_the_words_by_the_owner_alone(
    paired: Running,
) -> None:
    token = paired.add_token("read")
    paired.publish_until(
        "conductor", record("t0"), lambda: "t0" in paired.client().get("/api/turns").text
    )
    head = f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{paired.port}\r\n"
    with ExitStack() as stack:
        watchers = []
        for number in range(50):
            who = (
                f"Cookie: {COOKIE}={paired.cookie}"
                if number == 0
                else f"Authorization: Bearer {token}"
            )
            watcher = stack.enter_context(socket.create_connection(("127.0.0.1", paired.port)))
            watcher.settimeout(10)
            watcher.sendall(f"{head}{who}\r\n\r\n".encode())
            watchers.append(watcher)
        received = [read_until(watcher, b"event: state") for watcher in watchers]
        words = PartialTranscript(
            session_id="local",
            utterance_id="v",
            stable=SECRET,
            tail="",
            heard_ms=1.0,
            finished_ns=0,
        )

        def heard() -> bool:
            received[0] += read_available(watchers[0])
            return SECRET.encode() in received[0]

        paired.publish_until("asr", words, heard)
        began = time.monotonic()
        paired.buses["conductor"].publish(record("t2"))
        received = [
            got + read_until(watcher, b'"turn_id":"t2"')
            for got, watcher in zip(received, watchers, strict=True)
        ]
        assert time.monotonic() - began < 2.0
        assert SECRET.encode() in received[0]
        assert not any(SECRET.encode() in got for got in received[1:])


def read_available(connection: socket.socket) -> bytes:
    return connection.recv(65536) if select.select([connection], [], [], 0)[0] else b""


def read_until(connection: socket.socket, wanted: bytes) -> bytes:
    got = b""
    while wanted not in got:
        piece = connection.recv(65536)
        assert piece, got[-500:]
        got += piece
    return got


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


def test_settings_are_written_with_comments_checked_and_restorable(paired: Running) -> None:
    with paired.client() as client:
        csrf = paired.csrf()
        page = client.get("/settings").text
        assert "Longest answer." in page
        fields = {"csrf": csrf, "llm.max_tokens": "77", "llm.system_prompt": "Be\r\nbrief."}
        answer = client.post("/settings/llm", data=fields)
        assert answer.status_code == 303, answer.text
        text = paired.config.read_text()
        assert "# kept" in text and "max_tokens = 77" in text and "# short" in text
        wrong = client.post("/settings/llm", data={"csrf": csrf, "llm.max_tokens": "1"})
        assert wrong.status_code == 422 and "greater than or equal to 8" in wrong.text
        assert paired.config.read_text() == text
        assert client.post("/settings/llm", data={"llm.max_tokens": "9"}).status_code == 403
        assert client.post("/settings/restore", data={"csrf": csrf}).status_code == 303
        assert "max_tokens = 50" in paired.config.read_text()
    audit = (paired.data / "audit.jsonl").read_text()
    assert '"key": "llm.max_tokens", "old": "50", "new": 77' in audit
    assert PASSWORD not in audit


def test_to_apply_a_setting_ends_the_processes_that_read_it_and_no_other(paired: Running) -> None:
    with ExitStack() as stack:
        victims = {}
        for name in ("vad", "tts"):
            process = stack.enter_context(subprocess.Popen(["sleep", "100"]))
            stack.callback(process.kill)
            victims[name] = process
            beat = Heartbeat(
                process=name, instance=0, life=0, pid=process.pid, state="ready", detail=name
            )
            paired.publish_until(
                name,
                beat,
                lambda n=name: f'"detail":"{n}"' in paired.client().get("/api/state").text,
            )
        with paired.client() as client:
            fields = {"csrf": paired.csrf(), "section": "vad"}
            assert client.post("/settings/apply", data=fields).status_code == 303
        assert victims["vad"].wait(10) == -signal.SIGTERM
        assert victims["tts"].poll() is None
    audit = (paired.data / "audit.jsonl").read_text()
    assert '"section": "vad", "restarted": "[\\"vad\\"]"' in audit


def test_a_viewer_looks_and_touches_nothing(paired: Running) -> None:
    paired.publish_until(
        "conductor", record(), lambda: "t1" in paired.client().get("/api/turns").text
    )
    with paired.client() as owner:
        fields = {"csrf": paired.csrf(), "name": "Bob", "password": "another password"}
        assert owner.post("/access/add-viewer", data=fields).status_code == 303
    with paired.client(signed_in=False) as client:
        answer = client.post("/login", data={"name": "Bob", "password": "another password"})
        client.headers["Cookie"] = f"{COOKIE}={answer.cookies[COOKIE]}"
        page = client.get("/")
        assert page.status_code == 200 and "/settings" not in page.text
        assert SECRET not in client.get("/turns/t1").text
        csrf = re.search(r'data-csrf="([^"]+)"', page.text)[1]
        for path in ("/settings", "/logs", "/access", "/logs/tail?process=admin"):
            assert client.get(path).status_code == 403, path
        assert client.get("/support-bundle.zip").status_code == 403
        for path in (
            "/do/mute",
            "/settings/llm",
            "/settings/restore",
            "/doctor",
            "/access/sign-out",
        ):
            assert client.post(path, data={"csrf": csrf}).status_code == 403, path
        muting = client.post("/api/mute", json={"muted": True}, headers={"X-CSRF-Token": csrf})
        assert muting.status_code == 403


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


def test_metrics_name_every_contribution(paired: Running) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    paired.buses["capture"].ready()
    paired.publish_until(
        "conductor", record(), lambda: "t1" in paired.client().get("/api/turns").text
    )
    paired.publish_until(
        "capture", report(), lambda: paired.client().get("/api/state").json()["front_end"]
    )
    token = {"Authorization": f"Bearer {paired.add_token('read')}"}
    text = httpx.get(f"{paired.base}/metrics", headers=token).text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    parts = families["appliance_turn_contribution_seconds"]
    sums = {s.labels["stage"]: s.value for s in parts.samples if s.name.endswith("_sum")}
    assert sums["llm_ttft"] >= 0.3 and set(sums) == {"end_of_turn_delay", "llm_ttft", "tts_ttfb"}
    total = families["appliance_voice_to_voice_seconds"].samples
    whole = next(s.value for s in total if s.name.endswith("_sum"))
    assert whole == pytest.approx(sum(sums.values()))
    assert {s.labels["outcome"] for s in families["appliance_turns"].samples} == {"answered"}
    known = {sample.name for family in families.values() for sample in family.samples}
    dashboard = (Path(__file__).parents[2] / "docs" / "grafana.json").read_text(encoding="utf-8")
    named = set(re.findall(r"appliance_[a-z_]+", dashboard)) - {"appliance_overlaps_total"}
    assert named <= known


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
