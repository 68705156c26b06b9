"""How a phone or laptop comes to trust this box: its authority's certificate, how to install it,
and how to see that it is the right one. Public: there is no secret in it."""

from __future__ import annotations

import asyncio
import io
from functools import lru_cache

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response

from appliance.admin.gate import TRUST_PATHS
from appliance.admin.panel import Panel, panel_of
from appliance.admin.render import page

router = APIRouter(include_in_schema=False)

_PAGE_PATH, CERTIFICATE_PATH, QR_PATH = TRUST_PATHS


def _addresses(panel: Panel) -> list[str]:
    """Of this page, for other machines."""
    port = panel.settings.tls_port
    reach = panel.encryption.reach()
    hosts = [f"[{a}]" if ":" in a else a for a in reach.outside]
    names = [name for name in reach.names if name.endswith(".local")]
    return [f"https://{host}:{port}{_PAGE_PATH}" for host in (*hosts[:1], *names, *hosts[1:])]


@router.get(_PAGE_PATH)
async def trust(request: Request) -> Response:
    """What to do, once on each device."""
    panel = panel_of(request)
    encryption = panel.encryption
    made = encryption.uses_authority and encryption.authority().exists
    return page(
        request,
        "trust.html",
        fingerprint=await asyncio.to_thread(encryption.authority().fingerprint) if made else "",
        addresses=await asyncio.to_thread(_addresses, panel) if made else [],
        own_certificate=not panel.settings.is_local and not encryption.uses_authority,
        certificate=CERTIFICATE_PATH,
        qr=QR_PATH,
    )


@router.get(CERTIFICATE_PATH)
async def certificate(request: Request) -> Response:
    """The authority's certificate, to be installed."""
    encryption = panel_of(request).encryption
    if not encryption.uses_authority or not encryption.authority().exists:
        raise HTTPException(404, "this box has no authority of its own")
    from cryptography.hazmat.primitives.serialization import Encoding

    found = await asyncio.to_thread(encryption.authority().certificate)
    return Response(found.public_bytes(Encoding.DER), media_type="application/x-x509-ca-cert")


@router.get(QR_PATH)
async def qr(request: Request) -> Response:
    """This page's address, for a phone's camera."""
    panel = panel_of(request)
    if not panel.encryption.uses_authority:
        raise HTTPException(404, "this box has no authority of its own")
    address = (await asyncio.to_thread(_addresses, panel))[0]
    return Response(await asyncio.to_thread(draw, address), media_type="image/svg+xml")


@lru_cache(maxsize=4)
def draw(text: str) -> bytes:
    """A text as a QR code (SVG); anybody may ask for it, so it is made once."""
    import segno

    drawn = io.BytesIO()
    segno.make(text, micro=False).save(drawn, kind="svg", scale=4, border=4)
    return drawn.getvalue()
