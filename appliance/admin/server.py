"""uvicorn, made patient with nobody and idle when nobody asks."""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
from collections import Counter
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_TIMEOUT_S = 10.0
"""From a connection, or the first byte of a request, to the end of its headers (slowloris)."""
CONNECTIONS_MOST = 400
CONNECTIONS_PER_ADDRESS = 150
KEEP_ALIVE_S = 5
SOCKET_MESSAGE_BYTES = 32 << 10
SOCKET_PING_S = 10.0


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


class QuietServer(uvicorn.Server):
    """uvicorn without its tick ten times a second, in a thread of its own."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stop = asyncio.Event()
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

        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            create_protocol, host, port, ssl=tls, ssl_handshake_timeout=HEAD_TIMEOUT_S
        )
        self.servers.append(server)


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
