"""Pages from templates, in the reader's language. jinja2 is loaded by the first page."""

from __future__ import annotations

import hashlib
import math
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import Request
from fastapi.responses import HTMLResponse

from appliance import __version__
from appliance.admin import charts, speech_trace
from appliance.admin.panel import identity_of
from appliance.admin.store import SCOPES
from appliance.admin.texts import LANGUAGES, choose, dictionary, text

if TYPE_CHECKING:
    from jinja2 import Environment

FOLDER = Path(__file__).parent
LANGUAGE_COOKIE = "language"


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["clock"] = clock
    environment.globals.update(
        version=__version__,
        languages=LANGUAGES,
        token_scopes=SCOPES,
        static=static_url,
        waterfall=charts.waterfall,
        trend=charts.trend,
        scores=charts.scores,
        speech_drawing=speech_trace.drawing,
    )
    return environment


def clock(seconds: float) -> str:
    """A time span as a clock shows it: 1:02:03, or 2:03 below an hour."""
    minutes, rest = divmod(max(0, math.ceil(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@cache
def static_url(name: str) -> str:
    """Address of a static file; changes with its content, so that it can be kept for ever."""
    digest = hashlib.sha256((FOLDER / "static" / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?v={digest}"


def language_of(request: Request) -> str:
    """The language to answer in."""
    wanted = request.cookies.get(LANGUAGE_COOKIE, "")
    return choose(wanted, request.headers.get("accept-language", ""))


def _for_script(language: str) -> dict[str, str]:
    """What the script shows by itself."""
    own = {"mute", "unmute", "offline"}
    groups = ("state.", "process.", "verdict.", "doctor.", "job.", "applying.")
    return {
        key: value
        for key, value in dictionary(language).items()
        if key in own or key.startswith(groups)
    }


def page(
    request: Request,
    template: str,
    status: int = 200,
    **values: Any,  # noqa: ANN401 whatever the template shows
) -> HTMLResponse:
    """Render a template.

    Args:
        request: whose answer this is.
        template: name of a file in ``templates``.
        status: of HTTP.
        **values: what the template shows.
    """
    language = language_of(request)
    who = identity_of(request)

    def translate(key: str, fallback: str = "") -> str:
        return text(language, key, fallback)

    html = (
        _environment()
        .get_template(template)
        .render(
            t=translate,
            texts=_for_script(language),
            language=language,
            who=who,
            owner=who is not None and who.role == "owner",
            csrf=who.csrf if who else "",
            path=request.url.path,
            **values,
        )
    )
    return HTMLResponse(html, status)
