"""The admin process: listens to every heartbeat and answers ``/health`` on 127.0.0.1."""

from __future__ import annotations

import logging
import socket
import threading
import time
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from appliance import __version__
from appliance.config import Config
from appliance.errors import ApplianceError
from appliance.health import Board, resources
from appliance.ipc.bus import Bus
from appliance.messages import Floor, Heartbeat, TurnRecord, heartbeat_topic
from appliance.processes import PROCESSES

logger = logging.getLogger(__name__)

TOPICS = (*(heartbeat_topic(name) for name in PROCESSES), Floor.topic, TurnRecord.topic)
HOST = "127.0.0.1"


class Panel:
    """What the panel knows; written by the bus loop, read by the web server's thread."""

    def __init__(self) -> None:
        self._board = Board()
        self._floor = "idle"
        self._turn: dict[str, Any] | None = None
        self._lock = threading.Lock()

    def note(self, message: object) -> None:
        """Take a message of the bus."""
        with self._lock:
            match message:
                case Heartbeat():
                    self._board.note(message, time.monotonic_ns())
                case Floor(state=state):
                    self._floor = state
                case TurnRecord():
                    # no words: the health page is for everybody who watches the machine
                    self._turn = {
                        "turn_id": message.turn_id,
                        "outcome": message.outcome,
                        "voice_to_voice_ms": message.voice_to_voice_ms,
                        "contributions_ms": message.contributions_ms,
                        "marks": message.marks,
                    }

    def health(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        with self._lock:
            health = self._board.snapshot(time.monotonic_ns())
            health |= {"floor": self._floor, "last_turn": self._turn, "version": __version__}
        for entry in health["processes"].values():
            if "pid" in entry:
                entry.update(resources(entry["pid"]))
        return health


def create_app(panel: Panel) -> FastAPI:
    """The web application."""
    app = FastAPI(title="Voice appliance", version=__version__, docs_url=None, redoc_url=None)

    @app.get("/health/live")
    def live() -> dict[str, bool]:
        """This process answers."""
        return {"live": True}

    @app.get("/health")
    def health() -> JSONResponse:
        """200 when a spoken question would be answered, 503 otherwise; details in both cases."""
        state = panel.health()
        return JSONResponse(state, status_code=200 if state["ready"] else 503)

    return app


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
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
    panel = Panel()
    listener = _listen(config.admin.port)
    server = uvicorn.Server(
        uvicorn.Config(create_app(panel), log_config=None, access_log=False, lifespan="off")
    )
    thread = threading.Thread(
        target=server.run, kwargs={"sockets": [listener]}, name="http", daemon=True
    )
    thread.start()
    bus.ready(detail=f"http://{HOST}:{config.admin.port}/health")
    while bus.running:
        message = bus.receive()
        if message is not None:
            panel.note(message)
        if not thread.is_alive():
            raise RuntimeError("the web server stopped")
    server.should_exit = True
    thread.join(timeout=0.5)
