"""The web application: routes behind the one gate."""

from __future__ import annotations

import mimetypes
from http import HTTPStatus

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp

from appliance import __version__
from appliance.admin import api, doors, memory, pages, settingpages, trust, voice
from appliance.admin.gate import Gate
from appliance.admin.panel import Panel
from appliance.admin.render import FOLDER, page

_STATIC = {path.name: path for path in (FOLDER / "static").iterdir()}
_FOR_EVER = {"Cache-Control": "public, max-age=31536000, immutable"}


async def _static(name: str) -> Response:
    """A file of the panel: these few and no others."""
    if name not in _STATIC:
        raise HTTPException(404, "no such file")
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return FileResponse(_STATIC[name], media_type=kind, headers=_FOR_EVER)


async def _problem(request: Request, error: Exception) -> Response:
    """Something is not allowed, not there, or not possible now."""
    assert isinstance(error, StarletteHTTPException)
    if "text/html" in request.headers.get("accept", ""):
        reason = HTTPStatus(error.status_code).phrase
        shown = page(request, "problem.html", error.status_code, reason=reason, detail=error.detail)
        shown.headers.update(error.headers or {})
        return shown
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)


async def _invalid(_request: Request, error: Exception) -> Response:
    """What was sent does not fit. It is not sent back: it may be anything."""
    assert isinstance(error, RequestValidationError)
    problems = [
        {"at": [str(part)[:40] for part in item["loc"]], "problem": str(item["type"])}
        for item in error.errors()
    ]
    return JSONResponse({"detail": problems}, 422)


def create_app(panel: Panel) -> ASGIApp:
    """The application, gate included."""
    app = FastAPI(
        title="Voice appliance",
        version=__version__,
        description="State, turns and latencies of the appliance; asking, saying and muting.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        redirect_slashes=False,
    )
    app.state.panel = panel
    app.add_exception_handler(StarletteHTTPException, _problem)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_api_route("/static/{name}", _static, include_in_schema=False)
    app.include_router(api.router)
    app.include_router(doors.router)
    app.include_router(pages.router)
    app.include_router(memory.router)
    app.include_router(settingpages.router)
    app.state.voice_sockets = {}
    app.include_router(voice.router)
    app.include_router(trust.router)
    return Gate(app, panel.accounts, panel.settings.allowed_hosts())
