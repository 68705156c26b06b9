"""uvicorn, made patient with nobody and idle when nobody asks."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_TIMEOUT_S = 10.0
"""From a connection, or the first byte of a request, to the end of its headers (slowloris)."""
CONNECTIONS_MOST = 400
CONNECTIONS_PER_ADDRESS = 150
HANDSHAKES_MOST = 64
HANDSHAKES_PER_ADDRESS = 16
"""Connections that have not finished their TLS handshake; they count nowhere else."""
KEEP_ALIVE_S = 5
SOCKET_MESSAGE_BYTES = 32 << 10
SOCKET_PING_S = 10.0
_BACKLOG = 100
_ACCEPT_AGAIN_S = 0.5


class PromptProtocol(H11Protocol):
    """HTTP/1.1 that hangs up on whoever opens connections and does not say what they are for."""

    head_timeout_s = HEAD_TIMEOUT_S

    def __init__(self, *args: Any, **named: Any) -> None:  # noqa: ANN401 passed on unseen
        super().__init__(*args, **named)
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuse when there are too many, of this address or at all."""
        super().connection_made(transport)
        addresses = Counter(_address(other) for other in self.connections)
        if (
            len(self.connections) > CONNECTIONS_MOST
            or addresses[_address(self)] > CONNECTIONS_PER_ADDRESS
        ):
            transport.abort()
            return
        self._late = self.loop.call_later(self.head_timeout_s, transport.abort)

    def handle_events(self) -> None:
        """Time what is not yet a whole head."""
        super().handle_events()
        waiting = self.conn.their_state is h11.IDLE
        if not waiting and self._late is not None:
            self._late.cancel()
            self._late = None
        elif waiting and self._late is None and self.conn.trailing_data[0]:
            self._late = self.loop.call_later(self.head_timeout_s, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        if self._late is not None:
            self._late.cancel()
            self._late = None
        super().connection_lost(exc)


def _address(connection: object) -> str:
    client = getattr(connection, "client", None)
    return str(client[0]) if client else ""


class Doorman:
    """Accepts connections and makes them encrypted ones, so many at once. asyncio's own servers
    set no bound there: whoever connects and says nothing would hold a descriptor for each.

    Args:
        listener: bound, not blocking; closed by ``stop``.
        tls: what to encrypt with.
        create_protocol: makes what answers.
    """

    handshake_timeout_s = HEAD_TIMEOUT_S

    def __init__(
        self,
        listener: socket.socket,
        tls: ssl.SSLContext,
        create_protocol: Callable[[], asyncio.Protocol],
    ) -> None:
        self._listener = listener
        self._tls = tls
        self._create_protocol = create_protocol
        self._shaking: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin, in the running loop."""
        self._keep(self._accept())

    def stop(self) -> None:
        """End it; connections that are made stay."""
        for task in self._tasks:
            task.cancel()
        self._listener.close()

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(self._listener)
            except OSError:  # no descriptors left, or it has gone already
                await asyncio.sleep(_ACCEPT_AGAIN_S)
                continue
            client = str(address[0])
            if (
                self._shaking.total() >= HANDSHAKES_MOST
                or self._shaking[client] >= HANDSHAKES_PER_ADDRESS
            ):
                connection.close()
                continue
            self._shaking[client] += 1
            self._keep(self._shake_hands(connection, client))

    async def _shake_hands(self, connection: socket.socket, client: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                self._create_protocol,
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=self.handshake_timeout_s,
            )
        except OSError:  # ssl.SSLError too: no hand was given, or the wrong one
            connection.close()
        finally:
            self._shaking -= Counter({client: 1})  # and forget those who have none


class QuietServer(uvicorn.Server):
    """uvicorn without its tick ten times a second, in a thread of its own."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stop = asyncio.Event()
        self._doorman: Doorman | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.up = threading.Event()

    async def main_loop(self) -> None:
        """Wait until told to stop."""
        self.loop = asyncio.get_running_loop()
        self.up.set()
        if not self.should_exit:
            await self._stop.wait()

    def stop(self) -> None:
        """From any thread."""
        self.should_exit = True
        if self.loop is not None:
            self.loop.call_soon_threadsafe(self._stop.set)

    async def also_listen(self, host: str, port: int, tls: ssl.SSLContext) -> None:
        """Answer on another address besides, encrypted.

        Raises:
            OSError: the address is not this machine's, or taken.
        """

        def create_protocol() -> asyncio.Protocol:
            return PromptProtocol(
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state
            )

        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # named as TCP: only then asyncio switches Nagle's algorithm off
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((host, port))
            listener.listen(_BACKLOG)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
        self._doorman = Doorman(listener, tls, create_protocol)
        self._doorman.start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let nobody in any more, then end what there is."""
        if self._doorman is not None:
            self._doorman.stop()
        await super().shutdown(sockets)


def _socket_protocol(**named: Any) -> asyncio.Protocol:  # noqa: ANN401 passed on unseen
    """A WebSocket's protocol, loaded by the first one."""
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    return WebSocketsSansIOProtocol(**named)


def server_of(app: Any) -> QuietServer:  # noqa: ANN401 an ASGI application
    """A server for an application, to be run with its sockets."""
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    return QuietServer(
        uvicorn.Config(
            app,
            http=PromptProtocol,
            ws=_socket_protocol,  # type: ignore[arg-type]  # whatever makes one will do
            ws_max_size=SOCKET_MESSAGE_BYTES,
            ws_ping_interval=SOCKET_PING_S,
            ws_ping_timeout=SOCKET_PING_S,
            ws_per_message_deflate=False,
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=1,
            h11_max_incomplete_event_size=16 << 10,
        )
    )
