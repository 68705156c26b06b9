"""The pages: overview, turns, logs and diagnosis, access."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response

from appliance.admin import api
from appliance.admin.diagnosis import bundle, examine
from appliance.admin.doors import address_of, form, valid_name
from appliance.admin.panel import Panel, needs, panel_of, reads_words
from appliance.admin.passwords import SHORTEST, BusyError, acceptable
from appliance.admin.render import page
from appliance.admin.store import CONFIGURE, MUTE, READ, SCOPES, TALK, Identity
from appliance.errors import ApplianceError

router = APIRouter(include_in_schema=False)

Reader = Annotated[Identity, Depends(needs(READ))]
Talker = Annotated[Identity, Depends(needs(TALK))]
Owner = Annotated[Identity, Depends(needs(CONFIGURE))]
_TURNS_SHOWN = 50
_AUDIT_SHOWN = 100


@router.get("/")
async def overview(request: Request, who: Reader) -> Response:
    """How it is."""
    panel = panel_of(request)
    return page(
        request,
        "overview.html",
        state=panel.view.snapshot(time.monotonic_ns()),
        thresholds=panel.view.against_thresholds(),
    )


@router.get("/turns")
async def turns(request: Request, who: Reader, part: str = "") -> Response:
    """The last turns; with ``part`` only what changes with a new one."""
    panel = panel_of(request)
    view = panel.view
    shown = view.turns(_TURNS_SHOWN, words=reads_words(request))
    return page(
        request,
        "turns_part.html" if part else "turns.html",
        turns=shown,
        longest_ms=max((turn["voice_to_voice_ms"] for turn in shown), default=0.0),
        latency=view.latency(),
        thresholds=view.against_thresholds(),
        trends=view.trends(),
        steps=view.steps(),
        recordings=panel.recordings.count(),
        keep_audio_days=panel.recordings.days,
    )


@router.get("/turns/{turn_id}")
async def turn(request: Request, who: Reader, turn_id: str) -> Response:
    """Why one turn was as it was."""
    panel = panel_of(request)
    found = panel.view.turn(turn_id, words=reads_words(request))
    if found is None:
        raise HTTPException(404, "no such turn, or not any more")
    recorded = who.may(CONFIGURE) and panel.recordings.has(turn_id)
    return page(request, "turn.html", turn=found, recorded=recorded)


@router.get("/turns/{turn_id}/heard.wav")
async def heard(request: Request, who: Owner, turn_id: str) -> Response:
    """What the microphone heard of a turn, where the owner has it kept."""
    try:
        sound = await asyncio.to_thread(panel_of(request).recordings.sound, turn_id)
    except ApplianceError as problem:
        raise HTTPException(409, str(problem)) from None
    if sound is None:
        raise HTTPException(404, "no recording of this turn")
    return Response(sound, media_type="audio/wav")


@router.post("/recordings/erase")
async def erase_recordings(request: Request, who: Owner) -> Response:
    """Delete all recordings."""
    panel = panel_of(request)
    erased = await asyncio.to_thread(panel.recordings.erase)
    panel.audit.note(who.name, "erase_recordings", count=erased)
    return RedirectResponse("/turns", 303)


# --- logs and diagnosis ------------------------------------------------------------------------


@router.get("/logs")
async def logs(request: Request, who: Owner) -> Response:
    """Logs and diagnosis."""
    return page(request, "logs.html", processes=panel_of(request).logs.processes())


@router.get("/logs/tail")
async def tail(request: Request, who: Owner, process: str, after: int = -1) -> Response:
    """The newest lines of a process."""
    try:
        return JSONResponse(panel_of(request).logs.tail(process, after))
    except (KeyError, OSError):
        raise HTTPException(404, "no such log") from None


@router.post("/doctor")
async def doctor(request: Request, who: Owner) -> Response:
    """Examine the machine, on request with a chirp."""
    panel = panel_of(request)
    chirp = (await form(request)).get("chirp") == "true"
    if panel.doctor.locked():
        raise HTTPException(409, "an examination is under way")
    async with panel.doctor:
        try:
            found = await asyncio.to_thread(examine, chirp=chirp)
        except ApplianceError as problem:
            raise HTTPException(409, str(problem)) from None
    return JSONResponse(found)


@router.get("/support-bundle.zip")
async def support_bundle(request: Request, who: Owner) -> Response:
    """Facts for whoever is asked for help."""
    panel = panel_of(request)
    facts: dict[str, Any] = {
        "state": panel.view.snapshot(time.monotonic_ns()),
        "turns": panel.view.turns(words=False),
        "latency": panel.view.latency(),
        "machine": await panel.sample_machine(),
    }
    packed = await asyncio.to_thread(bundle, panel.config, panel.logs, facts)
    panel.audit.note(who.name, "support_bundle")
    name = {"Content-Disposition": 'attachment; filename="support-bundle.zip"'}
    return Response(packed, media_type="application/zip", headers=name)


# --- access ------------------------------------------------------------------------------------


def _access(
    request: Request, panel: Panel, status: int = 200, *, error: str = "", token: str = ""
) -> Response:
    return page(
        request,
        "access.html",
        status,
        users=panel.accounts.users(),
        tokens=panel.accounts.tokens(),
        audit=panel.audit.last(_AUDIT_SHOWN),
        error=error,
        token=token,
        shortest=SHORTEST,
    )


@router.get("/access")
async def access(request: Request, who: Owner) -> Response:
    """Who may enter."""
    return _access(request, panel_of(request))


@router.post("/access/{action}")
async def change_access(request: Request, who: Owner, action: str) -> Response:
    """Change who may enter."""
    panel = panel_of(request)
    fields = await form(request)
    name = fields.get("name", "").strip()
    error = token = ""
    match action:
        case "password" if not await _is_own(request, who, fields.get("current", "")):
            error = "error.current_password"
        case "add-viewer" | "password":
            error = await _new_password(panel, who, action, name, fields.get("password", ""))
        case "remove-viewer":
            panel.accounts.remove_viewer(name)
        case "add-token":
            scopes = [scope for scope in SCOPES if fields.get(scope) == "true"]
            if not valid_name(name) or not scopes:
                error = "error.token"
            else:
                token = panel.accounts.add_token(name, scopes)
        case "remove-token":
            panel.accounts.remove_token(fields.get("id", ""))
        case "sign-out":
            panel.accounts.close_sessions(who.name)
        case _:
            raise HTTPException(404, "no such action")
    if not error:
        panel.audit.note(who.name, action, name=name, id=fields.get("id", ""))
        if not token:
            return RedirectResponse("/access", 303)
    return _access(request, panel, 422 if error else 200, error=error, token=token)


async def _is_own(request: Request, who: Identity, password: str) -> bool:
    """Whether it is the user's password: a page that was left open is not enough to take over the
    account. Attempts count as at the door."""
    panel, address = panel_of(request), address_of(request)
    if panel.attempts.attempt(address, time.monotonic()):
        return False
    try:
        right = await panel.passwords.verify(panel.accounts.password(who.name), password)
    except BusyError:
        return False
    if right:
        panel.attempts.succeeded(address)
    return right


async def _new_password(panel: Panel, who: Identity, action: str, name: str, password: str) -> str:
    """Returns the key of what is wrong, if anything."""
    if not acceptable(password):
        return "error.password_length"
    if action == "add-viewer" and not valid_name(name):
        return "error.name"
    try:
        hashed = await panel.passwords.hash(password)
    except BusyError:
        return "error.wait"
    if action == "password":
        panel.accounts.set_password(who.name, hashed)
    elif not panel.accounts.add_user(name, "viewer", hashed):
        return "error.name_taken"
    return ""


# --- the overview's buttons, for browsers without scripts ----------------------------------------


@router.post("/do/{action}")
async def act(request: Request, who: Talker, action: str) -> Response:
    """Mute, ask, say."""
    fields = await form(request)
    text = fields.get("text", "").strip()[:2000]
    if action == "mute":
        await needs(MUTE)(request)
        await api.mute(request, api.MuteBody(muted=fields.get("muted") == "true"), who)
    elif action == "ask" and text:
        await api.ask(request, api.AskBody(text=text))
    elif action == "say" and text:
        await api.say(request, api.SayBody(text=text))
    return RedirectResponse("/", 303)
