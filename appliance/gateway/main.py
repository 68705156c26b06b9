"""The gateway process: browsers as microphones and loudspeakers.

One asyncio loop carries the connections and the bus; the heartbeat is sent by a task of that loop,
so a loop that hangs falls silent.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress

from appliance.config import Config
from appliance.errors import ApplianceError
from appliance.gateway import captions
from appliance.gateway.offer import NoRoomError, OfferError
from appliance.gateway.sessions import SessionTable
from appliance.ipc.bus import Bus
from appliance.messages import (
    Accepted,
    AddCandidate,
    CloseVoice,
    OfferVoice,
    Refused,
    Request,
    VoiceAnswer,
    ring_topic,
)
from appliance.processes import HEARTBEAT_INTERVAL_MS, REMOTE_SPEAKER_RINGS

logger = logging.getLogger(__name__)

TOPICS: tuple[str, ...] = (*map(ring_topic, REMOTE_SPEAKER_RINGS), *captions.TOPICS)
_NEWS_NS = 1_000_000_000
_NEWS_INTERVAL_S = 0.05
"""Told more often at first: who subscribes may still be reconnecting."""
_LOOK_AFTER_NS = 1_000_000_000
_OFFERS_AT_ONCE = 4


def main(config: Config, bus: Bus) -> None:
    """Run until the bus says stop."""
    asyncio.run(_Gateway(config, bus).run())


class _Gateway:
    def __init__(self, config: Config, bus: Bus) -> None:
        self._bus = bus
        self._sessions = SessionTable(bus, config.shm_prefix)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        bus, loop = self._bus, asyncio.get_running_loop()
        loop.set_exception_handler(_note_exception)
        for descriptor in bus.descriptors:
            loop.add_reader(descriptor, self._pump)
        bus.ready()
        news_until_ns = time.monotonic_ns() + _NEWS_NS
        looked_ns = 0
        try:
            while bus.running:
                now_ns = time.monotonic_ns()
                self._pump()
                bus.beat()
                is_new = now_ns < news_until_ns
                if is_new or now_ns - looked_ns >= _LOOK_AFTER_NS:
                    looked_ns = now_ns
                    self._sessions.look_after(now_ns)
                await asyncio.sleep(_NEWS_INTERVAL_S if is_new else HEARTBEAT_INTERVAL_MS / 1000)
        finally:
            await self._sessions.close_all()
            for descriptor in bus.descriptors:
                loop.remove_reader(descriptor)

    def _pump(self) -> None:
        """Take what the bus has brought."""
        for message in self._bus.drain():
            self._sessions.take(message)
        for client, request in self._bus.requests():
            task = asyncio.get_running_loop().create_task(self._serve(client, request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, client: bytes, request: Request) -> None:
        self._bus.reply(client, await self._answer(request))
        self._pump()  # the reply may have taken the signal of a request that came meanwhile

    async def _answer(self, request: Request) -> Request:
        match request:
            case OfferVoice(key=key, sdp=sdp, address=address):
                if len(self._tasks) > _OFFERS_AT_ONCE:
                    return Refused(reason="too many offers at once; try again in a moment")
                try:
                    session_id, answer = await self._sessions.offer(key, sdp, address)
                except NoRoomError:
                    return VoiceAnswer(refusal="full")
                except (OfferError, ApplianceError) as error:
                    return Refused(reason=str(error))
                return VoiceAnswer(session_id=session_id, sdp=answer)
            case AddCandidate(key=key, candidate=candidate, mid=mid):
                await self._sessions.add_candidate(key, candidate, mid)
            case CloseVoice(key=key):
                self._sessions.close(key)
            case _:
                return Refused(reason="gateway does not take this request")
        return Accepted()


def _note_exception(_loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """What a task of a connection trips over ends that connection at most."""
    error = context.get("exception")
    with suppress(Exception):
        logger.warning("a task failed: %s", type(error).__name__ if error else "unknown")
