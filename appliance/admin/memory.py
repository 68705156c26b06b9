"""Timers and memory: what the mind keeps, shown, cancelled, forgotten and taken along."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import RedirectResponse, Response

from appliance.admin.doors import form
from appliance.admin.panel import Panel, needs, panel_of, reads_words
from appliance.admin.render import page
from appliance.admin.store import CONFIGURE, READ, TALK, Identity
from appliance.admin.talk import Refusal, Unavailable
from appliance.errors import ApplianceError
from appliance.messages import CancelTimer, ExportMind, ForgetFacts, ListMind, MindExport, MindIs
from appliance.messages import Request as BusRequest

router = APIRouter()

Owner = Annotated[Identity, Depends(needs(CONFIGURE))]
_MIND = "mind"
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    401: {"description": "Neither signed in nor a good token."},
    403: {"description": "Not allowed."},
    409: {"description": "There is no such timer, or not any more."},
    503: {"description": "The mind process does not answer."},
}


async def _ask(panel: Panel, message: BusRequest) -> BusRequest:
    """Have the mind do something.

    Raises:
        Refusal: it says no.
        Unavailable: it does not answer, or is known not to be there.
    """
    if panel.view.active_instance(_MIND) is None:
        raise Unavailable("mind is not there, or not ready yet")
    return await panel.talk.ask(_MIND, message)


async def _kept(panel: Panel) -> MindIs:
    answer = await _ask(panel, ListMind())
    if not isinstance(answer, MindIs):
        raise Unavailable("mind answers something else")
    return answer


def _status_of(problem: ApplianceError) -> int:
    return 409 if isinstance(problem, Refusal) else 503


# --- pages -------------------------------------------------------------------------------------


async def _page(
    request: Request, status: int = 200, *, error: str = "", part: str = ""
) -> Response:
    panel = panel_of(request)
    kept = None
    try:
        kept = await _kept(panel)
    except (Refusal, Unavailable) as problem:
        error = error or str(problem)
    return page(
        request,
        "memory_part.html" if part else "memory.html",
        status,
        kept=kept,
        error=error,
    )


@router.get("/memory", include_in_schema=False)
async def memory(request: Request, who: Owner, part: str = "") -> Response:
    """What is kept; with ``part`` only what changes by itself."""
    return await _page(request, part=part)


@router.post("/memory/{action}", include_in_schema=False)
async def act(request: Request, who: Owner, action: str) -> Response:
    """End a timer, forget a fact or all of them."""
    panel, fields = panel_of(request), await form(request)
    name = fields.get("id", "")
    message: BusRequest
    match action:
        case "cancel":
            message = CancelTimer(id=name)
        case "forget" if name:  # none named would be all of them
            message = ForgetFacts(ids=(name,))
        case "erase" if fields.get("sure") == "true":
            message = ForgetFacts()
        case "forget" | "erase":
            return await _page(request, 422, error="error.sure")
        case _:
            raise HTTPException(404, "no such action")
    try:
        await _ask(panel, message)
    except (Refusal, Unavailable) as problem:
        return await _page(request, _status_of(problem), error=str(problem))
    panel.audit.note(who.name, f"memory_{action}", id=name)
    return RedirectResponse("/memory", 303)


@router.get("/memory/export.json", include_in_schema=False)
async def export(request: Request, who: Owner) -> Response:
    """Everything that is stored about people, to take along."""
    panel = panel_of(request)
    try:
        answer = await _ask(panel, ExportMind())
    except (Refusal, Unavailable) as problem:
        raise HTTPException(_status_of(problem), str(problem)) from None
    if not isinstance(answer, MindExport):
        raise HTTPException(503, "mind answers something else")
    panel.audit.note(who.name, "memory_export")
    name = {"Content-Disposition": 'attachment; filename="memory.json"'}
    return Response(answer.json, media_type="application/json", headers=name)


# --- API ---------------------------------------------------------------------------------------


@router.get(
    "/api/timers", tags=["timers"], dependencies=[Depends(needs(READ))], responses=_PROBLEMS
)
async def timers(request: Request) -> dict[str, Any]:
    """Timers and alarms. What they are called is there with the scope ``words`` only."""
    try:
        kept = await _kept(panel_of(request))
    except (Refusal, Unavailable) as problem:
        raise HTTPException(_status_of(problem), str(problem)) from None
    items: list[dict[str, Any]] = [msgspec.to_builtins(item) for item in kept.timers]
    if not reads_words(request):
        for item in items:
            del item["name"]
    return {"timers": items}


@router.delete("/api/timers/{timer_id}", tags=["timers"], responses=_PROBLEMS)
async def cancel_timer(
    request: Request, timer_id: str, who: Annotated[Identity, Depends(needs(TALK))]
) -> dict[str, str]:
    """End a timer or alarm, ringing or not."""
    panel = panel_of(request)
    try:
        await _ask(panel, CancelTimer(id=timer_id))
    except (Refusal, Unavailable) as problem:
        raise HTTPException(_status_of(problem), str(problem)) from None
    panel.audit.note(who.name, "memory_cancel", id=timer_id)
    return {"cancelled": timer_id}
