"""Who may do what: one table of all routes of the panel. A route that is not in it fails."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace

import httpx
import pytest
from fastapi import HTTPException
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, WebSocketRoute

from appliance.admin import api
from appliance.admin.app import create_app
from appliance.admin.gate import COOKIE, Gate
from appliance.admin.panel import Panel
from appliance.admin.passwords import Passwords
from appliance.admin.store import CONFIGURE, MUTE, READ, ROLE_SCOPES, SCOPES, TALK, WORDS, Identity
from appliance.config import Config

ANYBODY = ""
"""The gate and the route itself decide: pairing, signing in, trust."""

ROUTES: dict[tuple[str, str], str] = {
    # how it is: figures, no words
    ("GET", "/"): READ,
    ("GET", "/turns"): READ,
    ("GET", "/turns/{turn_id}"): READ,
    ("GET", "/metrics"): READ,
    ("GET", "/events"): READ,
    ("GET", "/api/state"): READ,
    ("GET", "/api/turns"): READ,
    ("GET", "/api/turns/{turn_id}"): READ,
    ("GET", "/api/timers"): READ,
    # what a person in the room can do by speaking
    ("GET", "/voice"): TALK,
    ("WS", "/voice/socket"): TALK,
    ("POST", "/api/ask"): TALK,
    ("POST", "/api/say"): TALK,
    ("DELETE", "/api/timers/{timer_id}"): TALK,
    ("POST", "/do/{action}"): TALK,  # "mute" needs MUTE besides
    ("POST", "/api/mute"): MUTE,
    # the owner's alone: no token can have it
    ("GET", "/turns/{turn_id}/heard.wav"): CONFIGURE,
    ("POST", "/recordings/erase"): CONFIGURE,
    ("GET", "/memory"): CONFIGURE,
    ("POST", "/memory/{action}"): CONFIGURE,
    ("GET", "/memory/export.json"): CONFIGURE,
    ("GET", "/settings"): CONFIGURE,
    ("GET", "/settings/applying"): CONFIGURE,
    ("POST", "/settings/restore"): CONFIGURE,
    ("POST", "/settings/{section}"): CONFIGURE,
    ("GET", "/models"): CONFIGURE,
    ("GET", "/models/job"): CONFIGURE,
    ("POST", "/models/{action}"): CONFIGURE,
    ("GET", "/words"): CONFIGURE,
    ("POST", "/words"): CONFIGURE,
    ("GET", "/logs"): CONFIGURE,
    ("GET", "/logs/tail"): CONFIGURE,
    ("POST", "/doctor"): CONFIGURE,
    ("GET", "/support-bundle.zip"): CONFIGURE,
    ("GET", "/access"): CONFIGURE,
    ("POST", "/access/{action}"): CONFIGURE,
    # the doors
    ("GET", "/health/live"): ANYBODY,
    ("GET", "/health"): ANYBODY,  # on this machine, or whoever is known
    ("GET", "/pair"): ANYBODY,
    ("POST", "/pair"): ANYBODY,
    ("POST", "/pair/speak"): ANYBODY,
    ("GET", "/login"): ANYBODY,
    ("POST", "/login"): ANYBODY,
    ("POST", "/logout"): ANYBODY,
    ("GET", "/language"): ANYBODY,
    ("GET", "/static/{name}"): ANYBODY,
    ("GET", "/trust"): ANYBODY,
    ("GET", "/trust/appliance-ca.crt"): ANYBODY,
    ("GET", "/trust/qr.svg"): ANYBODY,
    ("GET", "/api/openapi.json"): ANYBODY,  # whoever is known
}
"""The right that each needs. A viewer has READ alone; an owner all; a token what it was given."""

PUBLIC = frozenset(
    {
        *("/health/live", "/health", "/pair", "/pair/speak", "/login", "/logout", "/language"),
        *("/static/{name}", "/trust", "/trust/appliance-ca.crt", "/trust/qr.svg"),
    }
)


@dataclass
class World:
    """A panel with an owner, a viewer, and a token for each right; no server, no bus."""

    gate: Gate
    panel: Panel
    base: str = "http://localhost:8642"
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    """By whom, what each request of theirs carries."""

    def ask(
        self, method: str, path: str, headers: dict[str, str], **sent: object
    ) -> httpx.Response:
        async def app(scope, receive, send):
            scope.setdefault("state", {})
            await self.gate(scope, receive, send)

        async def scenario() -> httpx.Response:
            transport = httpx.ASGITransport(app, client=("192.0.2.7", 50_000))
            async with httpx.AsyncClient(transport=transport, base_url=self.base) as client:
                return await client.request(method, path, headers=headers, **sent)

        return asyncio.run(scenario())

    def socket(self, path: str, headers: dict[str, str]) -> list[str]:
        """What becomes of a WebSocket whose browser leaves at once: the messages it is sent."""
        sent: list[str] = []
        incoming = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1001}]

        async def receive():
            return incoming.pop(0)

        async def send(message):
            sent.append(message["type"])

        scope = {
            "type": "websocket",
            "scheme": "ws",
            "path": path,
            "query_string": b"tab=tab-number-1",
            "headers": [
                (name.lower().encode(), value.encode())
                for name, value in {"Host": "localhost:8642", **headers}.items()
            ],
            "server": ("127.0.0.1", 8642),
            "client": ("192.0.2.7", 50_000),
            "state": {},
        }
        asyncio.run(self.gate(scope, receive, send))
        return sent


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("roles")
    panel = Panel(Config.model_validate({"admin": {"data_dir": str(folder / "data")}}), folder)
    it = World(create_app(panel), panel)  # type: ignore[arg-type]
    for name, role in (("Ada", "owner"), ("Bob", "viewer")):
        panel.accounts.add_user(name, role, "hash")
        cookie = panel.accounts.open_session(name)
        who = panel.accounts.session(cookie)
        it.headers[role] = {
            "Cookie": f"{COOKIE}={cookie}",
            "Origin": it.base,
            "X-CSRF-Token": who.csrf,
        }
    for scope in SCOPES:
        token = panel.accounts.add_token(scope, [scope])
        it.headers[scope] = {"Authorization": f"Bearer {token}"}
    it.headers["nobody"] = {"Origin": it.base}
    yield it
    panel.close()
    panel.accounts.close()


def flat(routes: Sequence[BaseRoute]) -> Iterator[BaseRoute]:
    """All routes, those of included routers too: newer FastAPIs keep the routers as they are."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        yield from flat(inner.routes) if inner else [route]


def routes_of(world: World) -> list[BaseRoute]:
    return list(flat(world.gate._app.routes))


def scopes_of(role: str) -> frozenset[str]:
    return ROLE_SCOPES.get(role, frozenset({role} & set(SCOPES)))


def needed_by(route: APIRoute) -> set[str]:
    """The rights that a route names."""
    return {
        inspect.getclosurevars(dependency.call).nonlocals["scope"]
        for dependency in route.dependant.dependencies
        if getattr(dependency.call, "__qualname__", "").startswith("needs.")
    }


def test_every_route_is_in_the_table_with_the_right_that_it_names(world):
    found = {}
    for route in routes_of(world):
        if isinstance(route, WebSocketRoute):
            found["WS", route.path] = ROUTES.get(("WS", route.path))
            continue
        for method in set(route.methods) - {"HEAD"}:
            named = needed_by(route) if isinstance(route, APIRoute) else set()
            assert len(named) <= 1, (route.path, named)
            found[method, route.path] = next(iter(named), ANYBODY)
    assert found == ROUTES
    assert {path for (_, path), scope in ROUTES.items() if scope == ANYBODY} == PUBLIC | {
        "/api/openapi.json"
    }


def test_a_new_route_without_a_right_is_noticed(world):
    async def careless() -> None:
        """Forgot to say who may."""

    route = APIRoute("/careless", careless)
    assert needed_by(route) == set() and ("GET", "/careless") not in ROUTES


CALLERS = ("nobody", "viewer", "owner", *SCOPES)


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize(("method", "path"), [key for key in ROUTES if key[0] != "WS"])
def test_who_may_not_is_turned_away(world, caller, method, path):
    needed = ROUTES[method, path]
    if path in PUBLIC or (caller != "nobody" and needed in {ANYBODY, *scopes_of(caller)}):
        return
    concrete = path.replace("{", "").replace("}", "")
    answer = world.ask(method, concrete, world.headers[caller])
    if caller != "nobody":
        assert answer.status_code == 403 and needed in answer.text
    elif concrete.startswith(("/api", "/metrics", "/events")):
        assert answer.status_code == 401
    else:
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/login")


@pytest.mark.parametrize("caller", CALLERS[1:])
def test_who_may_is_let_in(world, caller):
    """By the dependency of each route itself: what lies behind it must not be done here."""
    who = Identity(caller, scopes_of(caller))
    request = SimpleNamespace(state=SimpleNamespace(who=who))
    for route in routes_of(world):
        for dependency in getattr(getattr(route, "dependant", None), "dependencies", ()):
            scope = inspect.getclosurevars(dependency.call).nonlocals["scope"]
            try:
                allowed = asyncio.run(dependency.call(request)) is who
            except HTTPException as error:
                allowed = False
                assert error.status_code == 403
            assert allowed == (scope in scopes_of(caller)), route.path


@pytest.mark.parametrize("caller", CALLERS)
def test_the_voice_socket_is_for_those_who_may_talk(world, caller):
    sent = world.socket("/voice/socket", world.headers[caller])
    accepted = sent[:1] == ["websocket.accept"]
    assert accepted == (TALK in scopes_of(caller))
    assert accepted or sent == ["websocket.close"]


def test_a_viewer_sees_no_words_and_no_button(world):
    page = world.ask("GET", "/", world.headers["viewer"]).text
    assert 'action="/do/' not in page and 'href="/voice"' not in page
    assert scopes_of("viewer") == {READ}


def test_a_token_to_talk_mutes_by_no_way(world):
    for caller, status in ((TALK, 403), (MUTE, 403), ("viewer", 403), ("owner", 503)):
        fields = {"muted": "true"}
        answer = world.ask("POST", "/do/mute", world.headers[caller], data=fields)
        assert answer.status_code == status, caller  # 503: allowed, but there is no capture here
    for caller, status in ((TALK, 403), (MUTE, 503), (WORDS, 403)):
        answer = world.ask("POST", "/api/mute", world.headers[caller], json={"muted": True})
        assert answer.status_code == status, caller


def test_a_revoked_token_gets_no_more_events(world, monkeypatch):
    monkeypatch.setattr(api, "_KEEP_ALIVE_S", 0.01)
    accounts = world.panel.accounts
    token = accounts.add_token("short", [READ, WORDS])
    (token_id,) = [entry["id"] for entry in accounts.tokens() if entry["name"] == "short"]

    async def scenario() -> list[bytes]:
        request = SimpleNamespace(
            state=SimpleNamespace(who=accounts.token(token), identify=lambda: accounts.token(token))
        )
        stream = api._stream(request, world.panel)
        got = [await anext(stream), await anext(stream)]
        accounts.remove_token(token_id)
        async for piece in stream:
            got.append(piece)
            assert len(got) < 50, "it goes on for ever"
        return got

    assert asyncio.run(asyncio.wait_for(scenario(), 10))
    assert not len(world.panel.watchers)


def test_a_password_in_the_field_for_names_is_kept_nowhere(world):
    fields = {"name": "my secret pass phrase", "password": ""}
    assert world.ask("POST", "/login", {"Origin": world.base}, data=fields).status_code == 422
    (line,) = [line for line in world.panel.audit.last(50) if line["action"] == "sign_in_failed"]
    assert line["who"] == "?" and "secret" not in str(line)


def test_a_page_left_open_does_not_give_away_the_account(world):
    world.panel.accounts.add_user("Eve", "owner", asyncio.run(Passwords().hash("four plain words")))
    cookie = world.panel.accounts.open_session("Eve")
    headers = {
        "Cookie": f"{COOKIE}={cookie}",
        "Origin": world.base,
        "X-CSRF-Token": world.panel.accounts.session(cookie).csrf,
    }
    new = {"password": "other plain words"}
    for current in ({}, {"current": ""}, {"current": "a guess of mine"}):
        answer = world.ask("POST", "/access/password", headers, data=new | current)
        assert answer.status_code == 422 and "current password" in answer.text
        assert world.panel.accounts.session(cookie) is not None
    right = new | {"current": "four plain words"}
    assert world.ask("POST", "/access/password", headers, data=right).status_code == 303
    assert world.panel.accounts.session(cookie) is None, "signed out everywhere"


@pytest.mark.parametrize(
    "path",
    [
        *("/static/..%2fapp.py", "/static/..%2f..%2fconfig.py", "/static/%2fetc%2fpasswd"),
        *("/turns/..%2f..%2fpanel.sqlite3/heard.wav", "/turns/%00/heard.wav"),
        *("/logs/tail?process=..%2fpanel", "/logs/tail?process=%2fetc%2fpasswd"),
    ],
)
def test_no_path_leads_out(world, path):
    answer = world.ask("GET", path, world.headers["owner"])
    assert answer.status_code == 404, answer.text[:200]


@pytest.mark.parametrize("model", ["../../etc/passwd", "", "--help", "x\0y"])
def test_only_models_that_there_are_are_verified(world, model):
    fields = {"model": model}
    answer = world.ask("POST", "/models/verify", world.headers["owner"], data=fields)
    assert answer.status_code == 422
