"""The admin process: listens to what happens, and serves the panel and its API."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading

from appliance.admin.app import create_app
from appliance.admin.panel import Panel
from appliance.admin.server import server_of
from appliance.config import Config
from appliance.errors import ApplianceError
from appliance.events import EVENT_TOPICS
from appliance.ipc.bus import Bus
from appliance.messages import FrontEndReport, SpeechScores, heartbeat_topic
from appliance.processes import PROCESSES

TOPICS = (
    *(heartbeat_topic(name) for name in PROCESSES),
    *EVENT_TOPICS,
    FrontEndReport.topic,
    SpeechScores.topic,
)
HOST = "127.0.0.1"
logger = logging.getLogger(__name__)


def _listen(port: int) -> socket.socket:
    # named as TCP: only then asyncio switches Nagle's algorithm off, which costs 40 ms an answer
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        raise ApplianceError(
            f"The panel's port {port} is taken ({error.strerror}). Stop the program that uses it, "
            f"or set another one: admin.port in the configuration or APPLIANCE_ADMIN__PORT."
        ) from error
    return listener


def main(config: Config, bus: Bus) -> None:
    """Run until the bus says stop."""
    panel = Panel(config, bus.runtime_dir)
    listener = _listen(panel.settings.port)
    server = server_of(create_app(panel))

    async def open_outside(tls: ssl.SSLContext) -> None:
        await server.also_listen(panel.settings.host, panel.settings.tls_port, tls)

    panel.open_outside = open_outside
    try:
        panel.encryption.prepare()
    except (OSError, ValueError) as error:
        logger.error("there is no certificate for other machines: %s", error)
    thread = threading.Thread(
        target=server.run, kwargs={"sockets": [listener]}, name="http", daemon=True
    )
    thread.start()
    if not server.up.wait(10) or server.loop is None:
        raise RuntimeError("the web server does not start")
    if panel.accounts.paired():
        asyncio.run_coroutine_threadsafe(panel.open_if_paired(), server.loop)
    else:
        panel.pairing.offer()
    bus.ready(detail=f"http://{HOST}:{panel.settings.port}/")
    while bus.running:
        message = bus.receive()
        if message is not None:
            panel.note(message)
        if not thread.is_alive():
            raise RuntimeError("the web server stopped")
    panel.watchers.end()
    panel.close()
    server.stop()
    thread.join(timeout=0.5)
