"""The API: health, metrics, turns, ask, say, mute, and the stream of what happens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from appliance.admin.panel import Panel, encode, identity_of, needs, panel_of, reads_words
from appliance.admin.store import MUTE, READ, TALK, Identity
from appliance.admin.talk import Refusal, Unavailable
from appliance.admin.view import TURNS_KEPT
from appliance.messages import AskText, SayText, SetMute

router = APIRouter()

ANSWER_WITHIN_S = 60.0
_KEEP_ALIVE_S = 15.0
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    401: {"description": "Neither signed in nor a good token."},
    403: {"description": "Not allowed."},
    409: {"description": "The appliance refuses now: it is busy, muted by its switch ..."},
    503: {"description": "The process that is asked does not answer."},
}
Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)


class AskBody(_Body):
    """A question."""

    text: Words
    """As if it had been spoken."""
    wait: bool = False
    """Answer only when the turn is over."""


class SayBody(_Body):
    """Something to say."""

    text: Words
    """Spoken as it is."""


class MuteBody(_Body):
    """Whether to hear."""

    muted: bool = Field()
    """Kept across restarts."""


@router.get("/health/live", tags=["health"])
async def live() -> dict[str, bool]:
    """This process answers."""
    return {"live": True}


@router.get("/health", tags=["health"], responses={503: {"description": "Not ready; see body."}})
async def health(request: Request) -> JSONResponse:
    """200 when a spoken question would be answered, 503 otherwise; details in both cases."""
    state = await asyncio.to_thread(panel_of(request).health)
    return JSONResponse(state, status_code=200 if state["ready"] else 503)


@router.get("/metrics", tags=["health"], dependencies=[Depends(needs(READ))], responses=_PROBLEMS)
async def metrics(request: Request) -> Response:
    """Counters, gauges and histograms for Prometheus."""
    from appliance.admin.metrics import CONTENT_TYPE, exposition

    panel = panel_of(request)
    page = exposition(panel.view, panel.watchers, time.monotonic_ns())
    return Response(page, media_type=CONTENT_TYPE)


@router.get("/api/state", tags=["state"], dependencies=[Depends(needs(READ))], responses=_PROBLEMS)
async def state(request: Request) -> dict[str, Any]:
    """What the overview shows."""
    return panel_of(request).view.snapshot(time.monotonic_ns())


@router.get("/api/turns", tags=["turns"], dependencies=[Depends(needs(READ))], responses=_PROBLEMS)
async def turns(
    request: Request, limit: Annotated[int, Query(ge=1, le=TURNS_KEPT)] = 50
) -> dict[str, Any]:
    """The last turns, newest first. What was said is there with the scope ``words`` only."""
    view = panel_of(request).view
    return {
        "turns": view.turns(limit, words=reads_words(request)),
        "latency_ms": view.latency(),
        "thresholds": view.against_thresholds(),
    }


@router.get(
    "/api/turns/{turn_id}",
    tags=["turns"],
    dependencies=[Depends(needs(READ))],
    responses={**_PROBLEMS, 404: {"description": "No such turn, or not any more."}},
)
async def turn(request: Request, turn_id: str) -> dict[str, Any]:
    """One turn with every event that decided it."""
    found = panel_of(request).view.turn(turn_id, words=reads_words(request))
    if found is None:
        raise HTTPException(404, "no such turn, or not any more")
    return found


@router.post(
    "/api/ask",
    tags=["talk"],
    status_code=202,
    dependencies=[Depends(needs(TALK))],
    responses=_PROBLEMS,
)
async def ask(request: Request, body: AskBody) -> dict[str, Any]:
    """Put a question; the answer is spoken. With ``wait`` the finished turn comes back."""
    panel = panel_of(request)
    turn_id = await _request(panel, AskText(text=body.text))
    if not body.wait:
        return {"turn_id": turn_id}
    return await _finished(panel, turn_id, words=reads_words(request))


@router.post(
    "/api/say",
    tags=["talk"],
    status_code=202,
    dependencies=[Depends(needs(TALK))],
    responses=_PROBLEMS,
)
async def say(request: Request, body: SayBody) -> dict[str, Any]:
    """Have something spoken."""
    return {"turn_id": await _request(panel_of(request), SayText(text=body.text))}


@router.post("/api/mute", tags=["talk"], responses=_PROBLEMS)
async def mute(
    request: Request, body: MuteBody, who: Annotated[Identity, Depends(needs(MUTE))]
) -> dict[str, bool]:
    """Mute the microphones, or listen again."""
    panel = panel_of(request)
    instance = panel.view.active_instance("capture")
    if instance is None:
        raise HTTPException(503, "the capture process is not there")
    await _request(panel, SetMute(muted=body.muted), "capture", instance)
    panel.audit.note(who.name, "mute", muted=body.muted)
    return {"muted": body.muted}


async def _request(
    panel: Panel,
    message: AskText | SayText | SetMute,
    process: str = "conductor",
    instance: int = 0,
) -> str:
    try:
        return await panel.talk.request(process, message, instance)
    except Refusal as error:
        raise HTTPException(409, str(error)) from None
    except Unavailable as error:
        raise HTTPException(503, str(error)) from None


async def _finished(panel: Panel, turn_id: str, *, words: bool) -> dict[str, Any]:
    """The turn, when it is over."""
    watcher = panel.watchers.watch(words=False)
    deadline_s = time.monotonic() + ANSWER_WITHIN_S
    try:
        async for _ in watcher.updates(1.0):
            if found := panel.view.turn(turn_id, words=words):
                return found
            if time.monotonic() > deadline_s:
                break
    finally:
        panel.watchers.leave(watcher)
    raise HTTPException(503, f"no answer within {ANSWER_WITHIN_S:.0f} s")


@router.get("/events", tags=["state"], dependencies=[Depends(needs(READ))], responses=_PROBLEMS)
async def events(request: Request) -> Response:
    """Server-sent events: ``state``, ``machine``, ``turn`` and, for the owner, ``words``.

    A slow reader misses updates; the newest always comes.
    """
    panel = panel_of(request)
    if len(panel.watchers) >= panel.settings.watchers:
        raise HTTPException(429, "too many are watching", {"Retry-After": "10"})
    return StreamingResponse(_stream(request, panel), media_type="text/event-stream")


async def _stream(request: Request, panel: Panel) -> AsyncIterator[bytes]:
    who = identity_of(request)
    watcher = panel.watchers.watch(words=reads_words(request))
    panel.start_sampling()
    checked_s = time.monotonic()
    try:
        yield _event("state", encode(panel.view.snapshot(time.monotonic_ns())))
        if panel.last_sample:
            yield _event("machine", panel.last_sample)
        async for slots in watcher.updates(_KEEP_ALIVE_S):
            if time.monotonic() - checked_s >= _KEEP_ALIVE_S:
                checked_s = time.monotonic()
                # signed out, revoked: what was allowed at first may not be any more
                if request.state.identify() != who:
                    return
            yield b"".join(_event(*slot) for slot in slots.items()) or b":\n\n"
    finally:
        panel.watchers.leave(watcher)


def _event(topic: str, payload: bytes) -> bytes:
    return b"event: " + topic.encode() + b"\ndata: " + payload + b"\n\n"
