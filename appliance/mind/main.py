"""The mind process: understands, remembers and does what needs no language model.

The loop considers questions within milliseconds; whatever waits for the disk, a tool or another
process is an errand, one after the other.
"""

from __future__ import annotations

import gc
import logging
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec

from appliance.config import Config
from appliance.health import Board
from appliance.ipc.bus import Bus, Client
from appliance.ipc.sessions import OpenSessions
from appliance.messages import (
    Accepted,
    CancelTimer,
    Commit,
    Consider,
    Considered,
    Done,
    ExportMind,
    FactItem,
    ForgetFacts,
    Heartbeat,
    ListMind,
    MindExport,
    MindIs,
    Refused,
    Request,
    ServiceLevel,
    Sessions,
    SetMute,
    SpeechSettings,
    TimerItem,
    TurnRecord,
    heartbeat_topic,
)
from appliance.mind.bells import Bells
from appliance.mind.belongings import Belongings
from appliance.mind.errands import Errands, Then
from appliance.mind.making import INTENTS, LANGUAGES, make_mind
from appliance.mind.sayings import phrase
from appliance.mind.skills import OWNER, Act, Outcome
from appliance.mind.store import StoreCorruptError
from appliance.mind.tools import McpClient, McpServer, ToolError, grammar
from appliance.mind.tools.registry import Language, Tool
from appliance.mind.understanding import load
from appliance.processes import PROCESSES

logger = logging.getLogger(__name__)

TOPICS = (
    Consider.topic,
    Commit.topic,
    TurnRecord.topic,
    ServiceLevel.topic,
    Sessions.topic,
    *(heartbeat_topic(name) for name in PROCESSES if name != "mind"),
)
_REPEAT_NS = 1_000_000_000
_TICK_MS = 500
_MUTE_MS = 1_000


def main(config: Config, bus: Bus) -> None:
    """Run until the bus says stop."""
    belongings = Belongings.open(config)
    service = _Service(config, bus, belongings)
    gc.freeze()  # 100 000 sentences stay: the collector would walk them in the middle of a question
    try:
        bus.ready("degraded" if belongings.problem else "ready", belongings.problem)
        service.start()
        while bus.running:
            service.step()
    finally:
        service.close()


class _Service:
    def __init__(self, config: Config, bus: Bus, belongings: Belongings) -> None:
        self._config = config
        self._bus = bus
        self._things = belongings
        self._board = Board()
        self._clients: list[McpClient] = []
        understandings = {language: load(INTENTS, language) for language in LANGUAGES}
        self._mind = make_mind(config, belongings, understandings, self._states)
        self._language: Language = "zh" if config.asr.language == "zh" else "en"
        self._deeds, self._clockwork = Errands("deeds"), Errands("timers")
        self._bells = Bells(belongings, self._clockwork, bus.publish, self._language)
        self._sessions = OpenSessions()
        self._repeat_ns = 0
        self._tts_life = 0
        bus.wake_on(self._deeds.descriptor)
        bus.wake_on(self._clockwork.descriptor)
        bus.wake_on(self._bells.descriptor)
        bus.busy = self._deeds.busy_ms
        bus.hung = lambda: self._deeds.hung() or self._clockwork.hung()

    def start(self) -> None:
        """What rang before a restart rings again; other programs' tools are asked for."""
        self._bells.look()
        if self._config.mind.mcp_servers:
            self._deeds.run("tools", self._find_tools)

    def step(self) -> None:
        message = self._bus.receive(_TICK_MS)
        now_ns = time.monotonic_ns()
        match message:
            case Consider():
                self._consider(message, now_ns)
            case Commit():
                self._commit(message)
            case TurnRecord():
                self._heard(message)
            case ServiceLevel(llm_model=model):
                self._mind.model = model
            case Sessions():
                for session_id in self._sessions.step(message)[0]:
                    self._mind.forget_session(session_id)
            case Heartbeat():
                self._board.note(message, now_ns)
                if message.process == "tts" and message.life != self._tts_life:
                    self._tts_life = message.life
                    self._repeat_ns = 0
        for client, request in self._bus.requests():
            self._take_request(client, request)
        self._deeds.settle()
        self._clockwork.settle()
        self._bells.step(now_ns)
        self._repeat_settings(now_ns)

    def close(self) -> None:
        """End other programs."""
        for client in self._clients:
            client.close()
        self._bells.close()
        self._things.close()

    def _states(self) -> dict[str, str]:
        entries = self._board.snapshot(time.monotonic_ns())["processes"]
        return {
            name: entry["state"]
            for name, entry in entries.items()
            if name != "mind" and entry["state"] != "standby"
        }

    # --- questions -----------------------------------------------------------------------------

    def _consider(self, message: Consider, received_ns: int) -> None:
        try:
            considered = self._mind.consider(message)
        except Exception as error:  # whatever is said must not end the process, nor cost the answer
            _log_without_words("a question could not be considered", error)
            considered = Considered(session_id=message.session_id, request_id=message.request_id)
        self._bus.publish(_timed(considered, received_ns))
        statistics = self._mind.cache.statistics
        self._bus.counters["cache_hit_share"] = round(statistics.hit_rate, 3)
        self._bus.counters["cache_entries"] = len(self._mind.cache)

    def _commit(self, message: Commit) -> None:
        act = self._mind.commit(message)
        if act is not None:
            self._deeds.run(message.request_id, lambda: self._deed(message, act))

    def _deed(self, message: Commit, act: Act) -> Then:
        try:
            outcome = act()
            if message.session_id == OWNER:
                before = self._mind.session(OWNER).voice
                if outcome.voice(before) != before:
                    self._things.keep_voice(outcome.voice(before))
        except StoreCorruptError:
            raise
        except Exception as error:
            _log_without_words("a deed failed", error)
            outcome = Outcome(phrase("did_not_work", self._language))
        if outcome.if_not_muted and not self._mute():
            outcome = replace(outcome, reply=outcome.if_not_muted)
        return lambda: self._done(message, outcome)

    def _mute(self) -> bool:
        """Ask capture, who alone mutes; whether it did."""
        instance = self._board.active_instance("capture") or 0
        client = Client(self._bus.runtime_dir, "capture", instance)
        try:
            client.send(SetMute(muted=True))
            answer = client.receive(_MUTE_MS)
        finally:
            client.close()
        if not isinstance(answer, Accepted):
            logger.error("capture did not mute")
        return isinstance(answer, Accepted)

    def _heard(self, record: TurnRecord) -> None:
        self._mind.heard(record)
        if record.outcome == "stopped":
            self._bells.silence()

    def _done(self, request: Commit, outcome: Outcome) -> None:
        self._mind.done(request.session_id, outcome)
        self._bus.publish(
            Done(
                session_id=request.session_id,
                request_id=request.request_id,
                reply=outcome.reply,
            )
        )
        self._repeat_ns = 0
        self._bells.look()

    # --- what others are told ------------------------------------------------------------------

    def _repeat_settings(self, now_ns: int) -> None:
        if now_ns < self._repeat_ns:
            return
        self._repeat_ns = now_ns + _REPEAT_NS
        self._bells.repeat()
        for session_id, voice in self._mind.voices():
            self._bus.publish(
                SpeechSettings(
                    session_id=session_id,
                    volume_percent=voice.volume_percent,
                    speed=voice.speed,
                )
            )

    def _take_request(self, client: bytes, request: Request) -> None:
        things = self._things
        match request:
            case ListMind():
                self._clockwork.run("list", lambda: self._listed(client))
            case CancelTimer(id=identity):
                self._answer(client, lambda: things.cancel_timer(identity))
            case ForgetFacts(ids=ids):
                self._mind.cache.forget()
                self._answer(client, lambda: things.forget(ids))
            case ExportMind():
                self._answer(client, lambda: MindExport(json=things.export()))
            case _:
                self._bus.reply(client, Refused(reason="mind does not take this request"))

    def _answer(self, client: bytes, find: Callable[[], Request]) -> None:
        """Answer the panel once the disk has done its part."""

        def errand() -> Then:
            answer = find()
            return lambda: self._answered(client, answer)

        self._deeds.run("answer", errand)

    def _answered(self, client: bytes, answer: Request) -> None:
        self._bus.reply(client, answer)
        self._bells.look()

    def _listed(self, client: bytes) -> Then:
        timers, facts = self._things.timer_items(), self._things.fact_items()
        return lambda: self._list(client, timers, facts)

    def _list(
        self, client: bytes, timers: tuple[TimerItem, ...], facts: tuple[FactItem, ...]
    ) -> None:
        self._bus.reply(
            client,
            MindIs(
                timers=timers,
                facts=facts,
                memory=self._things.memory is not None,
                encrypted=self._things.encrypted,
                cache_entries=len(self._mind.cache),
                cache_bytes=self._mind.cache.size,
                cache_hit_rate=self._mind.cache.statistics.hit_rate,
            ),
        )

    # --- other programs' tools -----------------------------------------------------------------

    def _find_tools(self) -> Then:
        found: list[Tool[Any]] = []
        for name, server in self._config.mind.mcp_servers.items():
            client = McpClient(
                McpServer(
                    name=name,
                    command=server.command,
                    tools=frozenset(server.tools),
                    confirm=frozenset(server.confirm),
                    environment=server.environment,
                    timeout_ms=server.timeout_ms,
                )
            )
            self._clients.append(client)
            try:
                found += client.tools()
            except ToolError as error:
                logger.error("tools of %s: %s", name, error)
        return lambda: self._take_tools(found)

    def _take_tools(self, tools: list[Tool[Any]]) -> None:
        try:
            self._mind.offer(tools, grammar)
        except ToolError as error:
            logger.error("%s", error)
        logger.info("%d tools of other programs", len(tools))


def _timed(considered: Considered, received_ns: int) -> Considered:
    return msgspec.structs.replace(
        considered, received_ns=received_ns, finished_ns=time.monotonic_ns()
    )


def _log_without_words(what: str, error: Exception) -> None:
    """Where it happened, not its text, which may hold what was said."""
    where = "".join(traceback.format_tb(error.__traceback__))
    logger.error("%s: %s\n%s", what, type(error).__name__, where)
