"""The one door: every request passes here before anything else looks at it.

Names (DNS rebinding), origins (cross-site requests), sizes, time, who it is, the token against
cross-site request forgery, and the headers of every answer. What is not public needs an identity;
what an identity may do, each route says (`needs`).
"""

from __future__ import annotations

import asyncio
import hmac
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance.admin.settings import is_loopback
from appliance.admin.store import Accounts, Identity

COOKIE = "__Host-session"
MAX_BODY_BYTES = 64 << 10
BODY_TIMEOUT_S = 10.0
SAFE_METHODS = frozenset({"GET", "HEAD"})
_OWN_SITES = frozenset({"same-origin", "none"})
TRUST_PATHS = ("/trust", "/trust/appliance-ca.crt", "/trust/qr.svg")
"""How to come to trust this box: asked by who does not yet."""
_MACHINE_PATHS = ("/api", "/metrics", "/events", "/health")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; media-src 'self'; form-action 'self'; frame-ancestors 'none'; "
        "base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(self), payment=(), usb=()",
}


class Gate:
    """ASGI middleware.

    Args:
        app: what lies behind.
        accounts: who may enter.
        hosts: names that this machine answers to.
    """

    body_timeout_s = BODY_TIMEOUT_S

    def __init__(
        self,
        app: ASGIApp,
        accounts: Accounts,
        hosts: frozenset[str],
    ) -> None:
        self._app = app
        self._accounts = accounts
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no lifespan
        headers = Headers(scope=scope)

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    answer[name] = value
                if "cache-control" not in answer:
                    answer["Cache-Control"] = "no-store"
                if scope["scheme"] == "https" and _name_of(headers.get("host", "")) != "localhost":
                    # there the plain port is meant to be reached too
                    answer["Strict-Transport-Security"] = "max-age=31536000"
            await send(message)

        token = _cookie(headers)
        who = self._identify(headers, token)
        refusal = self._refusal(scope, headers, who)
        if refusal is None and scope["method"] not in SAFE_METHODS:
            try:
                body = await asyncio.wait_for(_read(receive, headers), self.body_timeout_s)
            except asyncio.TimeoutError:
                refusal = PlainTextResponse("The request took too long.", 408)
            else:
                if body is None:
                    refusal = PlainTextResponse("The request is too large.", 413)
                elif who is not None and who.csrf and not _proves(who.csrf, headers, body):
                    refusal = PlainTextResponse("The page is out of date: load it again.", 403)
                else:
                    receive = _replay(body, receive)
        if refusal is not None:
            if refusal.status_code in (403, 408, 413):
                refusal.headers["Connection"] = "close"
            await refusal(scope, receive, dressed)
            return
        scope["state"]["who"], scope["state"]["session"] = who, token
        scope["state"]["identify"] = lambda: self._identify(headers, token)
        await self._app(scope, receive, dressed)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A WebSocket: only for who is known, and from a page of this panel."""
        headers = Headers(scope=scope)
        token = _cookie(headers)
        who = self._identify(headers, token)
        if (
            who is None
            or not self._is_named(scope, headers)
            or not _is_own_socket(scope, headers, who)
        ):
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        scope["state"]["who"] = who
        scope["state"]["identify"] = lambda: self._identify(headers, token)
        await self._app(scope, receive, send)

    def _identify(self, headers: Headers, cookie: str) -> Identity | None:
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self._accounts.token(token.strip())
        return self._accounts.session(cookie) if cookie else None

    def _is_named(self, scope: Scope, headers: Headers) -> bool:
        """Whether it is asked for by a name of this machine, or by the address it came to: no name
        of an attacker's can be either."""
        name = _name_of(headers.get("host", ""))
        return name in self._hosts or name.strip("[]") == (scope.get("server") or ("",))[0]

    def _refusal(self, scope: Scope, headers: Headers, who: Identity | None) -> Response | None:
        if not self._is_named(scope, headers):
            return PlainTextResponse("This machine has another name.", 421)
        if not _is_own_site(scope, headers, who):
            return PlainTextResponse("The request comes from another site.", 403)
        path: str = scope["path"]
        if who is not None or self._is_public(path, scope):
            return None
        if path.startswith(_MACHINE_PATHS):
            bearer = {"WWW-Authenticate": "Bearer"}
            return JSONResponse({"detail": "sign in, or send a token"}, 401, bearer)
        target = "/login" if self._accounts.paired() else "/pair"
        wanted = f"?next={quote(path)}" if target == "/login" and path != "/" else ""
        return RedirectResponse(target + wanted, 303)

    def _is_public(self, path: str, scope: Scope) -> bool:
        if path == "/health":
            return is_loopback((scope.get("client") or ("",))[0])
        if path == "/login":
            return self._accounts.paired()
        public = path in ("/pair", "/health/live", "/language") or path in TRUST_PATHS
        return public or path.startswith("/static/")


def _name_of(host: str) -> str:
    """The name in a Host header, without its port."""
    name, separator, port = host.lower().rpartition(":")
    return name if separator and port.isdigit() else host.lower()


def _is_own_site(scope: Scope, headers: Headers, who: Identity | None) -> bool:
    """Whether a request was made by a page of this panel, or by no page at all.

    A change that a cookie allows must say where it comes from. Navigations from elsewhere are let
    through when they only read: their cookie stays at home (SameSite=Strict).
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if origin is not None and origin.lower() != f"{scope['scheme']}://{headers['host'].lower()}":
        return False
    if scope["method"] in SAFE_METHODS:
        navigates = headers.get("sec-fetch-mode") == "navigate"
        return site is None or site in _OWN_SITES or navigates
    if who is not None and not who.csrf:
        return True  # a token: no browser sends it by itself
    return site in _OWN_SITES or (site is None and origin is not None)


def _is_own_socket(scope: Scope, headers: Headers, who: Identity) -> bool:
    """Whether a WebSocket was opened by a page of this panel, or with a token by no page at all.

    No browser keeps a page of another site from opening one, with the cookie if it comes from the
    same machine: the Origin decides.
    """
    origin = headers.get("origin")
    if origin is None:
        return not who.csrf
    scheme = "https" if scope["scheme"] == "wss" else "http"
    return origin.lower() == f"{scheme}://{headers['host'].lower()}"


def _proves(csrf: str, headers: Headers, body: bytes) -> bool:
    given = headers.get("x-csrf-token", "")
    if not given and headers.get("content-type", "").startswith(
        "application/x-www-form-urlencoded"
    ):
        given = form_of(body).get("csrf", "")
    return hmac.compare_digest(given.encode("utf-8", "replace"), csrf.encode())


def form_of(body: bytes) -> dict[str, str]:
    """The fields of an HTML form; what cannot be read is left out, of several the last counts."""
    try:
        fields = parse_qs(
            body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=500
        )
    except ValueError:
        return {}
    return {name: values[-1] for name, values in fields.items()}


def _cookie(headers: Headers) -> str:
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel else ""


async def _read(receive: Receive, headers: Headers) -> bytes | None:
    """The whole body; None when it is too large."""
    announced = headers.get("content-length", "0")
    if not announced.isdecimal() or int(announced) > MAX_BODY_BYTES:
        return None
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return body
        piece: bytes = message.get("body", b"")
        body += piece
        if len(body) > MAX_BODY_BYTES:
            return None
        if not message.get("more_body", False):
            return body


def _replay(body: bytes, receive: Receive) -> Receive:
    waiting = [body]

    async def again() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return again
