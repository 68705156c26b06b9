"""Pages on the way in and out: pairing, signing in, signing out, the language."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from appliance.admin.gate import COOKIE, form_of
from appliance.admin.panel import Panel, panel_of
from appliance.admin.passwords import LONGEST, SHORTEST, BusyError, acceptable
from appliance.admin.render import LANGUAGE_COOKIE, page
from appliance.admin.talk import Refusal, Unavailable
from appliance.admin.texts import LANGUAGES
from appliance.messages import SayText

router = APIRouter(include_in_schema=False)

NAME_MOST = 40
_TARPIT_S = 1.0
_LANGUAGE_KEPT_S = 365 * 86_400


async def form(request: Request) -> dict[str, str]:
    """The fields that were sent; the gate has bounded them."""
    return form_of(await request.body())


def address_of(request: Request) -> str:
    """Who asks, by network address."""
    return request.client.host if request.client else ""


def valid_name(name: str) -> bool:
    """Whether it can be a user's name."""
    return 0 < len(name) <= NAME_MOST and name.isprintable()


def _local(target: str) -> str:
    """A path of this panel, or its start page."""
    plain = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if plain else "/"


async def _wait(
    request: Request,
    template: str,
    seconds: float,
    **values: Any,  # noqa: ANN401 whatever the template shows
) -> HTMLResponse:
    """Come again later; said slowly, so that who asks all the same costs next to nothing."""
    await asyncio.sleep(_TARPIT_S)
    answer = page(request, template, 429, error="error.wait", **values)
    answer.headers["Retry-After"] = str(int(seconds) + 1)
    return answer


async def sign_in(request: Request, panel: Panel, name: str, target: str) -> Response:
    """Open a session and go on."""
    answer = RedirectResponse(_local(target), 303)
    answer.set_cookie(
        COOKIE,
        panel.accounts.open_session(name),
        max_age=panel.settings.session_days * 86_400,
        path="/",
        secure=True,
        httponly=True,
        samesite="strict",
    )
    return answer


@router.get("/pair")
async def pair_page(request: Request) -> Response:
    """Where the code is entered."""
    panel = panel_of(request)
    if panel.accounts.paired():
        return RedirectResponse("/", 303)
    panel.pairing.offer()
    return page(request, "pair.html", error="", shortest=SHORTEST)


@router.post("/pair")
async def pair(request: Request) -> Response:
    """Make the first owner."""
    panel = panel_of(request)
    if panel.accounts.paired():
        return RedirectResponse("/", 303)
    fields = await form(request)
    if wait_s := panel.attempts.attempt(address_of(request), time.monotonic()):
        return await _wait(request, "pair.html", wait_s, shortest=SHORTEST)
    name, password = fields.get("name", "").strip(), fields.get("password", "")
    error = ""
    if not valid_name(name):
        error = "error.name"
    elif not acceptable(password):
        error = "error.password_length"
    elif not panel.pairing.redeem(fields.get("code", "")):
        error = "error.code"
    if error:
        return page(request, "pair.html", 422, error=error, shortest=SHORTEST)
    try:
        hashed = await panel.passwords.hash(password)
    except BusyError:
        return await _wait(request, "pair.html", 1, shortest=SHORTEST)
    if not panel.accounts.paired():  # nobody was faster
        panel.accounts.add_user(name, "owner", hashed)
        panel.pairing.done()
        panel.attempts.succeeded(address_of(request))
        panel.audit.note(name, "pair")
        await panel.open_if_paired()
        return await sign_in(request, panel, name, "/")
    return RedirectResponse("/", 303)


@router.post("/pair/speak")
async def speak_code(request: Request) -> Response:
    """Have the code spoken into the room."""
    panel = panel_of(request)
    if panel.accounts.paired():
        return RedirectResponse("/", 303)
    if wait_s := panel.attempts.attempt(address_of(request), time.monotonic()):
        return await _wait(request, "pair.html", wait_s, shortest=SHORTEST)
    spelt = ", ".join(panel.pairing.offer())
    try:
        await panel.talk.request("conductor", SayText(text=f"The code of the panel is: {spelt}."))
    except (Refusal, Unavailable):
        return page(request, "pair.html", 409, error="error.not_spoken", shortest=SHORTEST)
    return RedirectResponse("/pair", 303)


@router.get("/login")
async def login_page(request: Request) -> HTMLResponse:
    """Where one signs in."""
    return page(
        request, "login.html", error="", target=_local(request.query_params.get("next", "/"))
    )


@router.post("/login")
async def login(request: Request) -> Response:
    """Sign in."""
    panel = panel_of(request)
    fields = await form(request)
    target = _local(fields.get("next", "/"))
    if wait_s := panel.attempts.attempt(address_of(request), time.monotonic()):
        return await _wait(request, "login.html", wait_s, target=target)
    name, password = fields.get("name", "").strip(), fields.get("password", "")[: LONGEST + 1]
    hashed = panel.accounts.password(name)
    try:
        right = await panel.passwords.verify(hashed, password)
    except BusyError:
        return await _wait(request, "login.html", 1, target=target)
    if not right:
        # a name that nobody has may be a password in the wrong field
        known = name if hashed is not None else "?"
        panel.audit.note(known, "sign_in_failed", address=address_of(request))
        return page(request, "login.html", 422, error="error.login", target=target)
    panel.attempts.succeeded(address_of(request))
    panel.audit.note(name, "sign_in", address=address_of(request))
    return await sign_in(request, panel, name, target)


@router.post("/logout")
async def logout(request: Request) -> RedirectResponse:
    """Sign out here."""
    panel_of(request).accounts.close_session(request.state.session)
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="strict")
    return answer


@router.get("/language")
async def language(request: Request, to: str = "", back: str = "/") -> RedirectResponse:
    """Choose the language."""
    answer = RedirectResponse(_local(back), 303)
    if to in LANGUAGES:
        answer.set_cookie(LANGUAGE_COOKIE, to, max_age=_LANGUAGE_KEPT_S, samesite="lax")
    return answer
