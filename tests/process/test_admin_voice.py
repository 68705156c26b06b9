"""The panel's side of talking through a browser: who gets a socket, what it takes, the way to
trust the box."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest
from panel_world import PASSWORD, Running, admin_process, answering, await_that, free_port
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from appliance.admin.gate import COOKIE
from appliance.admin.voice import SOCKETS_MOST, WS_4001_REPLACED
from appliance.ipc.bus import Bus
from appliance.messages import (
    Accepted,
    AddCandidate,
    CloseVoice,
    OfferVoice,
    Refused,
    Request,
    VoiceAnswer,
)

OTHERS = ("capture", "vad", "asr", "llm", "mind", "tts", "conductor", "gateway")
TAB = "0d9af0a4-tab-one"


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Running]:
    import tempfile
    from pathlib import Path

    runtime_dir = Path(tempfile.mkdtemp(prefix="va-v-"))
    with admin_process(runtime_dir, tmp_path_factory.mktemp("voice"), OTHERS) as it:
        it.pair()
        yield it


def open_socket(running: Running, tab: str = TAB, **changes: str | None) -> connect:
    headers = {"Cookie": f"{COOKIE}={running.cookie}", "Origin": running.base, **changes}
    return connect(
        f"ws://127.0.0.1:{running.port}/voice/socket?tab={tab}",
        additional_headers={name: value for name, value in headers.items() if value is not None},
        compression=None,
        max_size=1 << 20,
    )


def told(browser: ClientConnection, kind: str) -> dict[str, object]:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        message = json.loads(browser.recv(timeout=5))
        if message["type"] == kind:
            return message
    raise AssertionError(f"no {kind}")


def closed_with(browser: ClientConnection) -> int:
    try:
        while True:
            browser.recv(timeout=5)
    except ConnectionClosed as closed:
        assert closed.rcvd is not None
        return closed.rcvd.code


@pytest.mark.parametrize(
    "changes",
    [
        {"Cookie": None},
        {"Cookie": f"{COOKIE}=forged"},
        {"Origin": None},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
def test_only_a_page_of_this_panel_with_its_session_gets_a_socket(running, changes):
    with pytest.raises(InvalidStatus) as refused, open_socket(running, **changes):
        pass
    assert refused.value.response.status_code == 403


def test_a_name_of_another_site_gets_no_socket(running):
    own = socket.create_connection(("127.0.0.1", running.port), timeout=5)
    site = f"evil.example:{running.port}"
    headers = {"Cookie": f"{COOKIE}={running.cookie}", "Origin": f"http://{site}"}
    with (
        pytest.raises(InvalidStatus) as refused,
        connect(f"ws://{site}/voice/socket?tab={TAB}", sock=own, additional_headers=headers),
    ):
        pass
    assert refused.value.response.status_code == 403


def test_a_token_needs_the_right_to_talk(running):
    plain = {"Cookie": None, "Origin": None}
    token = running.add_token("read")
    reading = {**plain, "Authorization": f"Bearer {token}"}
    with pytest.raises(InvalidStatus), open_socket(running, **reading):
        pass
    token = running.add_token("talk")
    with open_socket(running, **plain, Authorization=f"Bearer {token}") as browser:
        assert told(browser, "gateway")["life"] == 0


def test_a_viewer_may_not_talk(running):
    with running.client() as client:
        fields = {"name": "Guest", "password": PASSWORD, "csrf": running.csrf()}
        assert client.post("/access/add-viewer", data=fields).status_code == 303
    with running.client(signed_in=False) as client:
        answer = client.post("/login", data={"name": "Guest", "password": PASSWORD})
        cookie = answer.cookies[COOKIE]
        headers = {"Cookie": f"{COOKIE}={cookie}"}
        assert client.get("/voice", headers=headers).status_code == 403
        assert "/voice" not in client.get("/", headers=headers).text
    with pytest.raises(InvalidStatus), open_socket(running, Cookie=f"{COOKIE}={cookie}"):
        pass


def test_an_offer_goes_to_gateway_and_the_answer_comes_back(running):
    asked: list[Request] = []

    def answer(request: Request) -> Request:
        asked.append(request)
        if isinstance(request, OfferVoice):
            return {
                "good": VoiceAnswer(session_id="remote.1", sdp="the answer"),
                "full": VoiceAnswer(refusal="full"),
                "bad": Refused(reason="no"),
            }[request.sdp]
        return Accepted()

    with answering(running, ["gateway"], answer), open_socket(running) as browser:
        browser.send(json.dumps({"type": "offer", "sdp": "good"}))
        assert told(browser, "answer") == {
            "type": "answer",
            "sdp": "the answer",
            "session": "remote.1",
        }
        offer = asked[-1]
        assert isinstance(offer, OfferVoice)
        assert (offer.key, offer.address) == (f"Ada/{TAB}", "127.0.0.1")
        browser.send(json.dumps({"type": "candidate", "candidate": "candidate:1", "mid": "0"}))
        await_that(lambda: any(isinstance(r, AddCandidate) for r in asked))
        browser.send(json.dumps({"type": "offer", "sdp": "full"}))
        assert told(browser, "refused")["reason"] == "full"
        browser.send(json.dumps({"type": "offer", "sdp": "bad"}))
        assert told(browser, "refused")["reason"] == "offer"
        browser.close()
        await_that(lambda: asked[-1] == CloseVoice(key=f"Ada/{TAB}"))


def test_another_socket_of_a_tab_ends_the_first_and_frees_its_session_at_once(running):
    asked: list[Request] = []

    def answer(request: Request) -> Request:
        asked.append(request)
        return (
            VoiceAnswer(session_id="remote.1", sdp="a")
            if isinstance(request, OfferVoice)
            else Accepted()
        )

    closing = CloseVoice(key=f"Ada/{TAB}")
    with answering(running, ["gateway"], answer), open_socket(running) as first:
        first.send(json.dumps({"type": "offer", "sdp": "good"}))
        told(first, "answer")
        with open_socket(running) as second:
            assert asked[-1] == closing, "before the second is even answered"
            assert closed_with(first) == WS_4001_REPLACED
            second.send(json.dumps({"type": "offer", "sdp": "good"}))
            told(second, "answer")
            with open_socket(running, "another-tab-of-it") as third:
                told(third, "gateway")
            second.ping().wait(5)
        await_that(lambda: asked[-1] == closing)
    assert [type(request) for request in asked] == [OfferVoice, CloseVoice] * 2


def test_many_sockets_of_a_tab_at_once_leave_one(running):
    with ExitStack() as stack:
        with ThreadPoolExecutor(8) as pool:
            sockets = list(pool.map(lambda _: open_socket(running).__enter__(), range(8)))
        for browser in sockets:
            stack.callback(browser.close)
        await_that(lambda: sum(is_open(browser) for browser in sockets) == 1)


def is_open(browser: ClientConnection) -> bool:
    try:
        browser.recv(timeout=0.01)
    except TimeoutError:
        return True
    except ConnectionClosed:
        return False
    return True


def test_it_tells_when_gateway_comes_and_goes(running):
    gateway: Bus = running.buses["gateway"]
    with open_socket(running) as browser:
        assert told(browser, "gateway")["life"] == 0
        gateway.ready()
        gateway.beat()
        assert told(browser, "gateway")["life"] != 0
        assert told(browser, "gateway")["life"] == 0, "it has not been heard of for a while"


def test_a_session_of_an_earlier_life_of_the_panel_ends_with_its_tab_too(running):
    asked: list[Request] = []
    gateway: Bus = running.buses["gateway"]
    browser = open_socket(running).__enter__()
    gateway.ready()
    gateway.beat()
    while not told(browser, "gateway")["life"]:
        pass
    with answering(running, ["gateway"], lambda request: asked.append(request) or Accepted()):
        browser.close()
        await_that(lambda: asked == [CloseVoice(key=f"Ada/{TAB}")])


@pytest.mark.parametrize(
    "message",
    [
        "",
        "nonsense",
        "[" * 20_000,
        "{}",
        '{"type": "offer"}',
        '{"type": "offer", "sdp": 5}',
        '{"type": "offer", "sdp": "x", "more": 1}',
        json.dumps({"type": "offer", "sdp": "v" * 20_000}),
        '{"type": "candidate", "candidate": "", "mid": "0"}',
        b"\x00\xff",
    ],
)
def test_what_is_no_message_ends_the_socket_and_nothing_else(running, message):
    with open_socket(running) as browser:
        browser.send(message)
        assert closed_with(browser) in (1003, 1008)
    with open_socket(running) as browser:
        told(browser, "gateway")


def test_a_message_without_end_is_not_read(running):
    with open_socket(running) as browser:
        browser.send("x" * 200_000)
        assert closed_with(browser) == 1009


def test_a_flood_is_ended(running):
    with open_socket(running) as browser:
        flood = json.dumps({"type": "leave"})
        with pytest.raises(ConnectionClosed):
            for _ in range(100_000):
                browser.send(flood)
        assert closed_with(browser) == 1008


def test_a_socket_that_asks_too_often_for_a_session_is_ended(running):
    asked: list[Request] = []

    def answer(request: Request) -> Request:
        asked.append(request)
        return Refused(reason="no")

    with answering(running, ["gateway"], answer), open_socket(running) as browser:
        for _ in range(20):
            browser.send(json.dumps({"type": "offer", "sdp": "x"}))
        assert closed_with(browser) == 1008
        await_that(lambda: isinstance(asked[-1], CloseVoice))
    assert sum(isinstance(request, OfferVoice) for request in asked) < 10


def test_there_are_only_so_many_sockets(running):
    with ExitStack() as stack:
        for number in range(SOCKETS_MOST):
            told(stack.enter_context(open_socket(running, f"tab-number-{number}")), "gateway")
        with pytest.raises(InvalidStatus), open_socket(running, "tab-number-99"):
            pass


def test_a_tab_without_a_proper_name_gets_none(running):
    for tab in ("", "x", "a/b/c/d/e/f", "y" * 100):
        with open_socket(running, tab) as browser:
            assert closed_with(browser) == 1008


@pytest.mark.slow
def test_signing_out_ends_the_socket(running):
    with running.client(signed_in=False) as client:
        answer = client.post("/login", data={"name": "Ada", "password": PASSWORD})
        cookie = answer.cookies[COOKIE]
    with open_socket(running, Cookie=f"{COOKIE}={cookie}") as browser:
        told(browser, "gateway")
        headers = {"Cookie": f"{COOKIE}={cookie}"}
        with running.client(signed_in=False) as client:
            csrf = client.get("/", headers=headers).text.split('data-csrf="')[1].split('"')[0]
            client.post("/logout", data={"csrf": csrf}, headers=headers)
        until = time.monotonic() + 20
        with pytest.raises(ConnectionClosed) as closed:
            while time.monotonic() < until:
                try:
                    browser.recv(timeout=1)
                except TimeoutError:
                    continue
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008


# --- trust -------------------------------------------------------------------------------------


def test_on_this_machine_alone_there_is_nothing_to_trust(running):
    with running.client(signed_in=False) as client:
        assert "admin.host" in client.get("/trust").text
        assert client.get("/trust/appliance-ca.crt").status_code == 404
        assert client.get("/trust/qr.svg").status_code == 404


def test_other_machines_are_answered_with_a_certificate_of_its_own(place, tmp_path):
    port = free_port()
    variables = {"APPLIANCE_ADMIN__HOST": "0.0.0.0", "APPLIANCE_ADMIN__TLS_PORT": str(port)}
    with admin_process(place.runtime_dir, tmp_path, OTHERS, variables) as running:
        with running.client(signed_in=False) as client:
            page = client.get("/trust").text
            der = client.get("/trust/appliance-ca.crt")
            assert der.headers["content-type"] == "application/x-x509-ca-cert"
            assert b"<svg" in client.get("/trust/qr.svg").content
        pem = ssl.DER_cert_to_PEM_cert(der.content)
        shown = subprocess.run(
            ["openssl", "x509", "-noout", "-fingerprint", "-sha256"],
            input=pem,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        fingerprint = shown.split("=")[1].strip()
        assert fingerprint in page
        assert (place.runtime_dir / "ca-fingerprint").read_text() == fingerprint
        running.pair()
        trusting = ssl.create_default_context(cadata=pem)
        base = f"https://127.0.0.1:{port}"

        def answers() -> bool:
            try:
                return httpx.get(f"{base}/health/live", verify=trusting).status_code == 200
            except httpx.ConnectError:
                return False

        await_that(answers)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{base}/health/live")
        assert fingerprint in httpx.get(f"{base}/trust", verify=trusting).text
        with connect(
            f"wss://127.0.0.1:{port}/voice/socket?tab={TAB}",
            ssl=trusting,
            additional_headers={"Cookie": f"{COOKIE}={running.cookie}", "Origin": base},
        ) as browser:
            told(browser, "gateway")
    place.forget_sockets()
