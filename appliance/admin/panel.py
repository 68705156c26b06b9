"""Everything that the routes share, and the way of the bus's messages to whoever watches."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from fastapi import HTTPException, Request

from appliance import __version__
from appliance import config as configuration
from appliance.admin.applying import Applier
from appliance.admin.audit import Audit
from appliance.admin.broadcast import Broadcaster
from appliance.admin.configfile import LIVE, ConfigFile, changes, restarts
from appliance.admin.diagnosis import Logs
from appliance.admin.encryption import Encryption
from appliance.admin.machine import Machine
from appliance.admin.models import ModelJob
from appliance.admin.pairing import Pairing
from appliance.admin.passwords import AttemptLimiter, Passwords
from appliance.admin.recordings import Recordings
from appliance.admin.settings import PanelSettings
from appliance.admin.store import WORDS, Accounts, Identity
from appliance.admin.talk import Talk
from appliance.admin.traces import Traces
from appliance.admin.view import View
from appliance.config import Config
from appliance.errors import ApplianceError
from appliance.health import resources
from appliance.messages import TurnRecord

logger = logging.getLogger(__name__)

FIGURES_EVERY_NS = 1_000_000_000
_MACHINE_EVERY_S = 5.0


def encode(value: object) -> bytes:
    """JSON as it is sent."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


class Panel:
    """The panel's parts.

    Args:
        config: as this process was started with.
        runtime_dir: where the sockets are.
    """

    def __init__(self, config: Config, runtime_dir: Path) -> None:
        self.config = config
        self.settings = settings = PanelSettings.of(config)
        self.view = View()
        self.watchers = Broadcaster()
        data_path = settings.data_path(config)
        self.accounts = Accounts(data_path, settings.session_days)
        self.audit = Audit(data_path)
        self.passwords = Passwords()
        self.attempts = AttemptLimiter()
        self.pairing = Pairing(runtime_dir, f"http://localhost:{settings.port}/pair")
        self.talk = Talk(runtime_dir)
        self.logs = Logs(runtime_dir)
        self.machine = Machine(runtime_dir)
        self.config_file = ConfigFile(configuration.default_path())
        self.traces = _traces(settings.otlp_endpoint)
        self.recordings = Recordings(data_path, config.shm_prefix, settings.keep_audio_days)
        self.applier = Applier(self.view)
        self.models = ModelJob()
        self.doctor = asyncio.Lock()
        self.open_outside: Callable[[ssl.SSLContext], Awaitable[None]] | None = None
        """Begins to answer other machines."""
        self.encryption = Encryption(settings, data_path, runtime_dir)
        self._is_open = False
        self._renewing: asyncio.Task[None] | None = None
        self._figures_ns = 0
        self._sampling: asyncio.Task[None] | None = None
        self.last_sample = b""
        """Of the machine, as JSON; empty before the first."""

    # --- the bus loop's side ----------------------------------------------------------------

    def note(self, message: object) -> None:
        """Take a message of the bus and, when anybody watches, pass on what it changed."""
        now_ns = time.monotonic_ns()
        changed = self.view.note(message, now_ns, time.time())
        self.recordings.note(message)
        if self.traces and isinstance(message, TurnRecord):
            self.traces.send(message)
        if not changed or not self.watchers.watched:
            return
        if changed == "words":
            self.watchers.publish("words", encode(self.view.caption()), words=True)
            return
        if changed == "figures" and now_ns - self._figures_ns < FIGURES_EVERY_NS:
            return
        self._figures_ns = now_ns
        if changed == "turn":
            self.watchers.publish("words", encode(self.view.caption()), words=True)
            self.watchers.publish("turn", encode(self.view.turns(1, words=False)[0]))
        self.watchers.publish("state", encode(self.view.snapshot(now_ns)))

    # --- the web server's side --------------------------------------------------------------

    def health(self) -> dict[str, Any]:
        """Everything that ``/health`` tells; reads the memory of every process."""
        health = self.view.health(time.monotonic_ns()) | {"version": __version__}
        for entry in health["processes"].values():
            if "pid" in entry:
                entry.update(resources(entry["pid"]))
        return health

    def start_sampling(self) -> None:
        """Measure the machine for as long as anybody watches."""
        if self._sampling is None or self._sampling.done():
            self._sampling = asyncio.get_running_loop().create_task(self._sample())

    async def _sample(self) -> None:
        while self.watchers.watched:
            self.last_sample = encode(await self.sample_machine())
            self.watchers.publish("machine", self.last_sample)
            await asyncio.sleep(_MACHINE_EVERY_S)

    async def sample_machine(self) -> dict[str, Any]:
        """Measure the machine once, in a thread."""
        health = self.view.health(time.monotonic_ns())
        return await asyncio.to_thread(self.machine.sample, health)

    async def open_if_paired(self) -> None:
        """Answer other machines too, if that is wanted, safe and not done yet."""
        settings = self.settings
        if settings.is_local or self._is_open or not self.accounts.paired():
            return
        if not self.encryption.is_complete:
            logger.error(
                "admin.tls_certificate and admin.tls_key belong together: with one of them alone "
                "the panel stays on this machine"
            )
            return
        assert self.open_outside is not None
        try:
            await self.open_outside(await asyncio.to_thread(self.encryption.context))
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            logger.error("the panel cannot listen on %s: %s", settings.host, error)
            return
        self._is_open = True
        self._renewing = asyncio.get_running_loop().create_task(self.encryption.keep_current())
        logger.info("the panel answers on https://%s:%d", settings.host, settings.tls_port)

    def apply(self, before: Config, after: Config) -> list[str]:
        """Have a changed configuration take effect; returns the keys that changed."""
        changed = changes(before, after)
        self.config = after
        live = {key: getattr(after.admin, key) for key in LIVE}
        self.settings = self.settings.model_copy(update=live)
        self.accounts.session_days = after.admin.session_days
        self.applier.want({name for key in changed for name in restarts(key)})
        return changed

    def close(self) -> None:
        """End what was begun for somebody."""
        self.models.close()
        self.recordings.close()
        if self.traces:
            self.traces.close()


def _traces(endpoint: str) -> Traces | None:
    if not endpoint:
        return None
    try:
        return Traces(endpoint)
    except ApplianceError as error:
        logger.error("%s", error)
        return None


def panel_of(request: Request) -> Panel:
    """The panel that a request is for."""
    panel: Panel = request.app.state.panel
    return panel


def identity_of(request: Request) -> Identity | None:
    """Who asks; None when that is not known."""
    who: Identity | None = request.state.who
    return who


def needs(scope: str) -> Callable[[Request], Awaitable[Identity]]:
    """A route's dependency: only for those who may do this.

    Raises:
        HTTPException: 401 without an identity, 403 when it may not.
    """

    async def check(request: Request) -> Identity:
        who = identity_of(request)
        if who is None:
            raise HTTPException(401, "sign in, or send a token", {"WWW-Authenticate": "Bearer"})
        if not who.may(scope):
            raise HTTPException(403, f"this needs the right to: {scope}")
        return who

    return check


def reads_words(request: Request) -> bool:
    """Whether what was said may be shown."""
    who = identity_of(request)
    return who is not None and who.may(WORDS)
