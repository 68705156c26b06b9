"""What can be set: the configuration, models and voice, vocabulary; and how it takes effect."""

from __future__ import annotations

import asyncio
import json
import os
from functools import cache
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response

from appliance import config as configuration
from appliance.admin import models
from appliance.admin.configfile import entries, parse
from appliance.admin.doors import form
from appliance.admin.panel import Panel, needs, panel_of
from appliance.admin.render import FOLDER, language_of, page
from appliance.admin.store import CONFIGURE, Identity
from appliance.config import Config
from appliance.errors import ApplianceError

router = APIRouter(include_in_schema=False)

Owner = Annotated[Identity, Depends(needs(CONFIGURE))]
USUAL_BOOST = 3.0
MOST_BOOST = 10.0
WORDS_MOST = 1000
_SECRET = frozenset({"admin.otlp_endpoint", "mind.mcp_servers"})
"""Keys that may hold passwords of other services: that they were changed is noted, not to what."""


def _in_file(panel: Panel) -> tuple[Config, str]:
    """The configuration as it is in the file, and what is wrong with it: then what runs is shown,
    as somebody broke the file by hand."""
    try:
        return configuration.load(panel.config_file.path), ""
    except ApplianceError as problem:
        return panel.config, str(problem)


async def _set(panel: Panel, who: Identity, values: dict[str, object]) -> None:
    """Change keys, and have them take effect.

    Raises:
        ApplianceError: it would not be valid, or cannot be written.
    """
    if not values:
        return
    before = configuration.load(panel.config_file.path)
    after = await asyncio.to_thread(panel.config_file.change, values)
    for key, value in values.items():
        section, _, name = key.partition(".")
        if key in _SECRET:
            panel.audit.note(who.name, "set", key=key)
            continue
        old = getattr(getattr(before, section), name)
        panel.audit.note(who.name, "set", key=key, old=old, new=value)
    panel.apply(before, after)


# --- settings ----------------------------------------------------------------------------------


def _settings(
    request: Request,
    panel: Panel,
    status: int = 200,
    *,
    error: str = "",
    entered: dict[str, str] | None = None,
    saved: str = "",
) -> Response:
    config, problem = _in_file(panel)
    return page(
        request,
        "settings.html",
        status,
        sections=entries(config, os.environ, models.present(config)),
        start_ms=panel.view.start_ms,
        entered=entered or {},
        error=error or problem,
        saved=saved,
        applying=panel.applier.state(),
        restorable=panel.config_file.restorable,
        file=str(panel.config_file.path),
    )


@router.get("/settings")
async def settings(request: Request, who: Owner, saved: str = "") -> Response:
    """All that can be set."""
    return _settings(request, panel_of(request), saved=saved)


@router.get("/settings/applying")
async def applying(request: Request, who: Owner) -> Response:
    """Which processes are being restarted."""
    return JSONResponse(panel_of(request).applier.state())


@router.post("/settings/restore")
async def restore(request: Request, who: Owner) -> Response:
    """Back to the version before the last change."""
    panel = panel_of(request)
    before, _ = _in_file(panel)
    try:
        after = await asyncio.to_thread(panel.config_file.restore)
    except ApplianceError as problem:
        return _settings(request, panel, 422, error=str(problem))
    panel.audit.note(who.name, "restore", keys=panel.apply(before, after))
    return RedirectResponse("/settings?saved=all", 303)


@router.post("/settings/{section}")
async def change(request: Request, who: Owner, section: str) -> Response:
    """Change keys of a section."""
    panel = panel_of(request)
    fields = await form(request)
    config, problem = _in_file(panel)
    if problem:
        return _settings(request, panel, 422, error=problem, entered=fields)
    known = entries(config, os.environ, models.present(config))
    if section not in known:
        raise HTTPException(404, "no such section")
    try:
        changed = {
            entry.key: parse(entry, fields[entry.key])
            for entry in known[section]
            if entry.key in fields and not entry.environment and fields[entry.key] != entry.value
        }
        await _set(panel, who, changed)
    except ApplianceError as error:
        return _settings(request, panel, 422, error=str(error), entered=fields)
    return RedirectResponse(f"/settings?saved={section}#{section}", 303)


# --- models and voice --------------------------------------------------------------------------


async def _models(request: Request, status: int = 200, *, error: str = "") -> Response:
    panel = panel_of(request)
    config, problem = _in_file(panel)
    try:
        found = await asyncio.to_thread(models.catalogue, config)
    except ApplianceError as unreadable:
        found, problem = [], str(unreadable)
    return page(
        request,
        "models.html",
        status,
        models=found,
        job=panel.models.state(),
        downloads=panel.settings.allow_downloads,
        error=error or problem,
    )


@router.get("/models")
async def model_list(request: Request, who: Owner) -> Response:
    """Which models there are, which are here, which are used."""
    return await _models(request)


@router.get("/models/job")
async def model_job(request: Request, who: Owner) -> Response:
    """How the fetching or verifying goes."""
    return JSONResponse(panel_of(request).models.state())


@router.post("/models/{action}")
async def model_action(request: Request, who: Owner, action: str) -> Response:
    """Fetch or verify a model, or cancel that."""
    panel = panel_of(request)
    name = (await form(request)).get("model", "")
    if action == "cancel":
        panel.models.cancel()
        return RedirectResponse("/models", 303)
    if action not in ("fetch", "verify"):
        raise HTTPException(404, "no such action")
    if action == "fetch" and not panel.settings.allow_downloads:
        return await _models(request, 403, error="error.downloads")
    if name not in {model["name"] for model in models.catalogue(_in_file(panel)[0])}:
        return await _models(request, 422, error="error.model")
    try:
        panel.models.start("fetch" if action == "fetch" else "verify", name)
    except ApplianceError as busy:
        return await _models(request, 409, error=str(busy))
    panel.audit.note(who.name, f"model_{action}", model=name)
    return RedirectResponse("/models", 303)


# --- words: vocabulary and intents -------------------------------------------------------------


@cache
def _examples() -> dict[str, dict[str, list[str]]]:
    found: dict[str, dict[str, list[str]]] = json.loads(
        (FOLDER / "examples.json").read_text(encoding="utf-8")
    )
    return found


def vocabulary_of(text: str) -> dict[str, float]:
    """The vocabulary that was typed: a word or name a line, with its boost after it where that is
    not the usual one.

    Raises:
        ApplianceError: a boost out of range, or too many words.
    """
    words: dict[str, float] = {}
    for line in filter(None, (" ".join(line.split()) for line in text.splitlines())):
        word, _, last = line.rpartition(" ")
        try:
            boost = float(last)
        except ValueError:
            word, boost = line, USUAL_BOOST
        if not word or len(word) > 80 or not 0 <= boost <= MOST_BOOST:
            raise ApplianceError(f"{line[:80]!r}: a word, and a boost from 0 to 10 after it.")
        words[word] = boost
    if len(words) > WORDS_MOST:
        raise ApplianceError(f"{len(words)} words are too many; {WORDS_MOST} at most.")
    return words


def _words(
    request: Request, status: int = 200, *, error: str = "", entered: str | None = None
) -> Response:
    panel = panel_of(request)
    config, problem = _in_file(panel)
    shown = "\n".join(f"{word} {boost:g}" for word, boost in config.asr.vocabulary.items())
    entry = next(e for e in entries(config, os.environ)["asr"] if e.key == "asr.vocabulary")
    known = _examples()
    return page(
        request,
        "words.html",
        status,
        vocabulary=shown if entered is None else entered,
        environment=entry.environment,
        applying=panel.applier.state(),
        intents=known.get(language_of(request), known["en"]),
        error=error or problem,
    )


@router.get("/words")
async def words(request: Request, who: Owner, saved: str = "") -> Response:
    """Names it should know, and what it understands without the language model."""
    return _words(request)


@router.post("/words")
async def change_words(request: Request, who: Owner) -> Response:
    """Set the vocabulary."""
    panel = panel_of(request)
    text = (await form(request)).get("vocabulary", "")
    try:
        wanted = vocabulary_of(text)
        current: Any = _in_file(panel)[0].asr.vocabulary
        if wanted != current:
            await _set(panel, who, {"asr.vocabulary": wanted})
    except ApplianceError as problem:
        return _words(request, 422, error=str(problem), entered=text)
    return RedirectResponse("/words?saved=asr", 303)
