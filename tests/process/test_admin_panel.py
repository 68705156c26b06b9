"""The panel as a process: pairing, pages, the live stream, settings, rights, metrics."""

from __future__ import annotations

import json
import re
import select
import socket
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from panel_world import (
    PASSWORD,
    SECRET,
    Running,
    answering,
    await_that,
    read_until,
    record,
    report,
)

from appliance.admin.gate import COOKIE
from appliance.admin.pairing import read_code
from appliance.messages import (
    Accepted,
    AskText,
    Floor,
    PartialTranscript,
    SayText,
    SetMute,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PAGES = (
    *("/", "/turns", "/turns/t1", "/memory", "/words", "/models", "/settings", "/logs", "/access"),
)


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
            for path in PAGES:
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
    paired.buses["capture"].ready()
    taken: list[object] = []

    def take(request: object) -> object:
        taken.append(request)
        return Accepted(turn_id="t9")

    token = {"Authorization": f"Bearer {paired.add_token('talk', 'mute')}"}
    with (
        answering(paired, ("capture", "conductor"), take),
        httpx.Client(base_url=paired.base, headers=token, timeout=20) as client,
    ):
        assert client.post("/api/ask", json={"text": " Why? "}).json() == {"turn_id": "t9"}
        assert client.post("/api/say", json={"text": "Hello."}).status_code == 202
        deadline = time.monotonic() + 10
        while (answer := client.post("/api/mute", json={"muted": True})).status_code == 503:
            assert time.monotonic() < deadline
        assert answer.json() == {"muted": True}
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
    assert '"key": "llm.max_tokens", "old": 50, "new": 77' in audit
    assert PASSWORD not in audit


def test_a_change_restarts_who_reads_it_when_nobody_speaks_and_nobody_else(
    paired: Running,
) -> None:
    def floor(state: str) -> Floor:
        return Floor(session_id="local", state=state, turn_id="t", since_ns=0)

    beating = threading.Event()
    buses = [paired.buses[name] for name in ("vad", "tts", "conductor")]
    for bus in buses:
        bus.ready()
    to_say = [floor("speaking")]

    def beat() -> None:
        while not beating.wait(0.05):
            for bus in buses:
                bus.receive(0)
            if to_say:
                buses[2].publish(to_say[0])

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with paired.client() as client:
            await_that(lambda: client.get("/api/state").json()["sessions"] == {"local": "speaking"})
            await_that(lambda: _states(client)["vad"] == _states(client)["tts"] == "ready")
            first, other = buses[0].pid(), buses[1].pid()
            fields = {"csrf": paired.csrf(), "vad.pause_ms": "120", "vad.onset_ms": "300"}
            assert client.post("/settings/vad", data=fields).status_code == 303
            page = client.get("/settings?saved=vad").text
            assert "as soon as nobody speaks: vad<" in page
            waiting = {"waiting": ["vad"], "restarting": "", "failed": []}
            assert client.get("/settings/applying").json() == waiting
            assert buses[0].pid() == first, "ended in the middle of an answer"
            to_say[0] = floor("idle")
            done = {"waiting": [], "restarting": "", "failed": []}
            await_that(lambda: client.get("/settings/applying").json() == done)
            assert "Saved, and in force." in client.get("/settings?saved=vad").text
            assert buses[0].pid() != first and buses[1].pid() == other
            # what only the panel reads needs no restart
            before = paired.process.pid
            days = {"csrf": paired.csrf(), "admin.session_days": "1"}
            assert client.post("/settings/admin", data=days).status_code == 303
            assert client.get("/settings/applying").json() == done
            assert client.post("/settings/restore", data=fields).status_code == 303
            assert paired.process.poll() is None and paired.process.pid == before
    finally:
        beating.set()
        thread.join()
    audit = (paired.data / "audit.jsonl").read_text()
    assert '"key": "vad.pause_ms", "old": 32, "new": 120' in audit


def _states(client: httpx.Client) -> dict[str, str]:
    processes = client.get("/api/state").json()["processes"]
    return {label: entry["state"] for label, entry in processes.items()}


def test_vocabulary_is_edited_as_lines(paired: Running) -> None:
    with paired.client() as client:
        csrf = {"csrf": paired.csrf()}
        text = "Xanthippe 5\r\nNew   York\r\n\r\n"
        assert client.post("/words", data={**csrf, "vocabulary": text}).status_code == 303
        config = tomllib.loads(paired.config.read_text())
        assert config["asr"]["vocabulary"] == {"Xanthippe": 5.0, "New York": 3.0}
        page = client.get("/words").text
        assert "Xanthippe 5\nNew York 3</textarea>" in page and "What time is it?" in page
        wrong = client.post("/words", data={**csrf, "vocabulary": "good\nodd 11"})
        assert wrong.status_code == 422 and "odd 11" in wrong.text and ">good" in wrong.text
        assert tomllib.loads(paired.config.read_text()) == config


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
        for path in (
            "/settings",
            "/logs",
            "/access",
            "/logs/tail?process=admin",
            "/memory",
            "/words",
            "/models",
        ):
            assert client.get(path).status_code == 403, path
        assert client.get("/support-bundle.zip").status_code == 403
        for path in (
            "/do/mute",
            "/settings/llm",
            "/settings/restore",
            "/doctor",
            "/words",
            "/models/fetch",
            "/memory/erase",
            "/access/sign-out",
        ):
            assert client.post(path, data={"csrf": csrf}).status_code == 403, path
        muting = client.post("/api/mute", json={"muted": True}, headers={"X-CSRF-Token": csrf})
        assert muting.status_code == 403


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
