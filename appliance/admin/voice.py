"""Talking through the browser: its page, and the WebSocket by which a browser finds gateway.

The panel carries offers and answers only, checked and counted; the audio goes from the browser to
gateway and back.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError
from starlette.status import (
    WS_1003_UNSUPPORTED_DATA,
    WS_1008_POLICY_VIOLATION,
    WS_1013_TRY_AGAIN_LATER,
)

from appliance.admin.panel import Panel, needs
from appliance.admin.render import language_of, page
from appliance.admin.store import TALK, Identity
from appliance.admin.talk import Refusal, Unavailable
from appliance.admin.texts import dictionary
from appliance.messages import AddCandidate, CloseVoice, OfferVoice, VoiceAnswer

logger = logging.getLogger(__name__)
router = APIRouter(include_in_schema=False)

Talker = Annotated[Identity, Depends(needs(TALK))]
SOCKETS_MOST = 16
WS_4001_REPLACED = 4001
"""The same browser tab has opened another socket."""
_WATCH_EVERY_S = 0.5
_STILL_ALLOWED_EVERY_S = 15.0
MAX_SDP = 16 << 10
_TAB_LENGTHS = range(8, 41)
_GATEWAY = "gateway"


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Offer(_Message):
    """The browser's offer (SDP)."""

    type: Literal["offer"]
    sdp: Annotated[str, StringConstraints(min_length=1, max_length=MAX_SDP)]


class Candidate(_Message):
    """An address at which the browser may be reached."""

    type: Literal["candidate"]
    candidate: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    mid: Annotated[str, StringConstraints(max_length=16)]


class Leave(_Message):
    """The browser has ended the conversation."""

    type: Literal["leave"]


_incoming: TypeAdapter[Offer | Candidate | Leave] = TypeAdapter(
    Annotated[Offer | Candidate | Leave, Field(discriminator="type")]
)


class Allowance:
    """So many at once, then so many a second. Pure.

    Args:
        burst: at once.
        per_s: after that.
    """

    def __init__(self, burst: float, per_s: float) -> None:
        self._burst, self._per_s = burst, per_s
        self._left, self._at_s = burst, 0.0

    def take(self, now_s: float) -> bool:
        """Whether another one is allowed."""
        self._left = min(self._burst, self._left + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


class _Closed(Exception):  # noqa: N818 an end, not a mistake
    """The socket is to be closed."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


@router.get("/voice")
async def voice(request: Request, who: Talker) -> Response:
    """Where one talks."""
    texts = dictionary(language_of(request))
    shown = {key: text for key, text in texts.items() if key.startswith(("voice.", "state."))}
    return page(request, "voice.html", voice_texts=shown)


@router.websocket("/voice/socket")
async def socket(websocket: WebSocket, tab: str = "") -> None:
    """Offers of a browser and their answers. The gate has looked at name, origin and identity."""
    panel: Panel = websocket.app.state.panel
    who: Identity | None = websocket.state.who
    if who is None or not who.may(TALK):
        await websocket.close(WS_1008_POLICY_VIOLATION)
        return
    sockets: dict[str, _Signalling] = websocket.app.state.voice_sockets
    key = f"{who.name}/{tab}"
    signalling = _Signalling(websocket, panel, key)
    while before := sockets.get(key):  # more than one may be waiting for it
        await before.replace()
    if len(sockets) >= SOCKETS_MOST:
        await websocket.close(WS_1013_TRY_AGAIN_LATER)
        return
    sockets[key] = signalling
    try:
        await websocket.accept()
        if not _is_tab(tab):
            raise _Closed(WS_1008_POLICY_VIOLATION, "tab")
        await signalling.run()
    except _Closed as closed:
        with suppress(RuntimeError):
            await websocket.close(closed.code, closed.reason)
    except (WebSocketDisconnect, RuntimeError):
        pass  # it has gone
    finally:
        try:
            await signalling.leave()
        finally:
            del sockets[key]
            signalling.ended.set()


def _is_tab(tab: str) -> bool:
    return len(tab) in _TAB_LENGTHS and tab.isascii() and tab.replace("-", "").isalnum()


class _Signalling:
    """One browser's socket."""

    def __init__(self, websocket: WebSocket, panel: Panel, key: str) -> None:
        self._websocket = websocket
        self._panel = panel
        self._key = key
        self._messages = Allowance(burst=60, per_s=5)
        self._offers = Allowance(burst=6, per_s=0.5)
        self._life: int | None = None
        self._may_hold = False
        """Whether gateway may hold a session for this tab, of an earlier life of the panel too."""
        self._replaced = asyncio.Event()
        self.ended = asyncio.Event()
        """Its session is free again, if it had one."""
        self._checked_s = time.monotonic()

    async def run(self) -> None:
        """Until the browser leaves.

        Raises:
            _Closed: it may not go on.
        """
        replaced = asyncio.create_task(self._replaced.wait())
        receiving = asyncio.create_task(self._websocket.receive())
        try:
            while True:
                await self._watch()
                await asyncio.wait(
                    {receiving, replaced},
                    timeout=_WATCH_EVERY_S,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if self._replaced.is_set():
                    raise _Closed(WS_4001_REPLACED, "replaced")
                if receiving.done():
                    message = receiving.result()
                    if message["type"] == "websocket.disconnect":
                        return
                    await self._take(message.get("text"))
                    receiving = asyncio.create_task(self._websocket.receive())
        finally:
            replaced.cancel()
            receiving.cancel()

    async def replace(self) -> None:
        """End it, since its browser has opened another one; an offer under way is answered first,
        so that its session is freed too."""
        self._replaced.set()
        await self.ended.wait()

    async def leave(self) -> None:
        """The browser has gone: so is its session, whichever panel's life it was made in."""
        if self._may_hold:
            self._may_hold = False
            with suppress(Refusal, Unavailable):
                await self._panel.talk.ask(_GATEWAY, CloseVoice(key=self._key))

    async def _watch(self) -> None:
        """Tell when gateway comes or goes; end when the identity is no longer good."""
        entry = self._panel.view.health(time.monotonic_ns())["processes"].get(_GATEWAY, {})
        life = entry.get("pid", 0) if entry.get("state") == "ready" else 0
        if life != self._life:
            self._life = life
            self._may_hold = self._may_hold or bool(life)
            await self._send({"type": "gateway", "life": life})
        now_s = time.monotonic()
        if now_s - self._checked_s > _STILL_ALLOWED_EVERY_S:
            self._checked_s = now_s
            identify: Callable[[], Identity | None] = self._websocket.state.identify
            who = identify()
            if who is None or not who.may(TALK):
                raise _Closed(WS_1008_POLICY_VIOLATION, "signed out")

    async def _take(self, text: str | None) -> None:
        now_s = time.monotonic()
        if not self._messages.take(now_s):
            raise _Closed(WS_1008_POLICY_VIOLATION, "too many messages")
        if text is None:
            raise _Closed(WS_1003_UNSUPPORTED_DATA, "text is expected")
        try:
            message = _incoming.validate_json(text)
        except (ValidationError, RecursionError):
            raise _Closed(WS_1008_POLICY_VIOLATION, "no such message") from None
        match message:
            case Offer(sdp=sdp):
                if not self._offers.take(now_s):
                    raise _Closed(WS_1008_POLICY_VIOLATION, "too many offers")
                await self._offer(sdp)
            case Candidate(candidate=candidate, mid=mid):
                with suppress(Refusal, Unavailable):
                    await self._panel.talk.ask(
                        _GATEWAY, AddCandidate(key=self._key, candidate=candidate, mid=mid)
                    )
            case Leave():
                await self.leave()

    async def _offer(self, sdp: str) -> None:
        server = self._websocket.scope.get("server") or ("",)
        offer = OfferVoice(key=self._key, sdp=sdp, address=server[0])
        self._may_hold = True
        try:
            answer = await self._panel.talk.ask(_GATEWAY, offer)
        except Refusal:
            await self._send({"type": "refused", "reason": "offer"})
        except Unavailable:
            await self._send({"type": "refused", "reason": "unavailable"})
        else:
            if not isinstance(answer, VoiceAnswer) or answer.refusal:
                reason = answer.refusal if isinstance(answer, VoiceAnswer) else "unavailable"
                await self._send({"type": "refused", "reason": reason})
                return
            await self._send({"type": "answer", "sdp": answer.sdp, "session": answer.session_id})

    async def _send(self, message: dict[str, Any]) -> None:
        await self._websocket.send_text(json.dumps(message))
