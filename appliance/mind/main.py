"""The mind process: understands, remembers and does what needs no language model.

The loop considers questions within milliseconds; whatever waits for the disk, a tool or another
process is done by a worker, one deed after the other.
"""

from __future__ import annotations

import gc
import logging
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from appliance.config import PROJECT_ROOT, Config
from appliance.errors import ApplianceError
from appliance.health import Board
from appliance.ipc.bus import Bus, Client
from appliance.ipc.sessions import OpenSessions
from appliance.ipc.worker import Cancelled, Emit, Worker
from appliance.messages import (
    LOCAL_SESSION,
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
    Ringing,
    ServiceLevel,
    Sessions,
    SetMute,
    SpeechSettings,
    TimerItem,
    TurnRecord,
    heartbeat_topic,
)
from appliance.mind.belongings import Belongings
from appliance.mind.cache import ResponseCache
from appliance.mind.clocks import WakeUp
from appliance.mind.mind import Mind
from appliance.mind.sayings import phrase
from appliance.mind.skills import OWNER, Act, Outcome, Skills, rings
from appliance.mind.store import StoreError
from appliance.mind.timer_items import Wakes
from appliance.mind.tools import (
    McpClient,
    McpServer,
    Registry,
    ToolError,
    grammar,
    note_tools,
    places_tool,
    status_tool,
    timer_tools,
)
from appliance.mind.tools.registry import Language, Tool
from appliance.mind.understanding import Understanding, load
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
INTENTS = PROJECT_ROOT / "config" / "intents"
LANGUAGES = ("en", "zh")
_REPEAT_NS = 1_000_000_000
_TICK_MS = 500
_RINGS_NS = 10 * 60 * 1_000_000_000
"""Whoever has not come by then is not there."""
_DEED_BOUND_MS = 70_000
"""Longer than any tool may take."""
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


@dataclass(frozen=True)
class _Looked:
    """From the worker: how things stand with timers and alarms."""

    text: str
    """What is said of those that fell due."""
    ids: tuple[str, ...]
    """What rings."""
    wakes: Wakes


@dataclass(frozen=True)
class _Listed:
    """From the worker: what the panel shows."""

    client: bytes
    timers: tuple[TimerItem, ...]
    facts: tuple[FactItem, ...]


@dataclass(frozen=True)
class _Did:
    """From the worker: a deed is done."""

    request: Commit
    outcome: Outcome


@dataclass(frozen=True)
class _Answer:
    """From the worker: what a request of the panel gets."""

    client: bytes
    answer: Request


@dataclass(frozen=True)
class _Silenced:
    """From the worker: nothing rings any more."""


@dataclass(frozen=True)
class _Found:
    """From the worker: tools of other programs."""

    tools: list[Tool[Any]]


@dataclass(frozen=True)
class _Broken:
    """From the worker: the store cannot go on."""

    error: str


class _Service:
    def __init__(self, config: Config, bus: Bus, belongings: Belongings) -> None:
        self._config = config
        self._bus = bus
        self._things = belongings
        self._board = Board()
        self._clients: list[McpClient] = []
        understandings = {language: load(INTENTS, language) for language in LANGUAGES}
        self._mind = make_mind(config, belongings, understandings, self._states)
        self._worker, self._clockwork = Worker("deeds"), Worker("timers")
        self._wake_up = WakeUp()
        self._told: dict[str, SpeechSettings] = {}
        self._sessions = OpenSessions()
        self._repeat_ns = 0
        self._ringing = Ringing(session_id=LOCAL_SESSION, ids=(), text="")
        self._rang_ns = 0
        self._tts_life = 0
        bus.wake_on(self._worker.descriptor)
        bus.wake_on(self._clockwork.descriptor)
        bus.wake_on(self._wake_up.descriptor)
        bus.busy = self._worker.busy_ms
        bus.hung = lambda: self._worker.hung() or self._clockwork.hung()

    def start(self) -> None:
        """What rang before a restart rings again; other programs' tools are asked for."""
        self._look_at_timers()
        if self._config.mind.mcp_servers:
            self._do("tools", self._find_tools)

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
                    self._told.pop(session_id, None)
            case Heartbeat():
                self._board.note(message, now_ns)
                if message.process == "tts" and message.life != self._tts_life:
                    self._tts_life = message.life
                    self._repeat_ns = 0
        for client, request in self._bus.requests():
            self._take_request(client, request)
        self._note_deeds()
        if self._wake_up.woken():
            self._look_at_timers()
        self._repeat_settings(now_ns)
        if self._ringing.ids and now_ns - self._rang_ns > _RINGS_NS:
            self._silence()

    def close(self) -> None:
        """End other programs."""
        for client in self._clients:
            client.close()
        self._wake_up.close()
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
            self._do(message.request_id, lambda: self._deed(message, act))

    def _deed(self, message: Commit, act: Act) -> object:
        try:
            outcome = act()
            if message.session_id == OWNER:
                before = self._mind.session(OWNER).voice
                if outcome.voice(before) != before:
                    self._things.keep_voice(outcome.voice(before))
        except StoreError as error:
            return _Broken(str(error))
        except Exception as error:
            _log_without_words("a deed failed", error)
            outcome = Outcome(phrase("did_not_work", self._language))
        if outcome.if_not_muted and not self._mute():
            outcome = replace(outcome, reply=outcome.if_not_muted)
        return _Did(message, outcome)

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
        if record.outcome == "stopped" and self._ringing.ids:
            self._silence()

    def _do(self, name: str, deed: Callable[[], object]) -> None:
        def job(emit: Emit, _cancelled: Cancelled) -> None:
            emit(deed())

        self._worker.submit(name, job, bound_ms=_DEED_BOUND_MS, on_error=_Broken)

    def _note_deeds(self) -> None:
        for result in self._worker.messages():
            match result:
                case _Did(request, outcome):
                    self._mind.done(request.session_id, outcome)
                    self._bus.publish(
                        Done(
                            session_id=request.session_id,
                            request_id=request.request_id,
                            reply=outcome.reply,
                        )
                    )
                    self._repeat_ns = 0
                    self._look_at_timers()
                case _Answer(client, answer):
                    self._bus.reply(client, answer)
                    self._look_at_timers()
                case _Silenced():
                    self._look_at_timers()
                case _Found(tools):
                    self._take_tools(tools)
                case _Broken(error):
                    # the next life sets a damaged store aside
                    raise ApplianceError(f"What is kept cannot be used: {error}")
        for result in self._clockwork.messages():
            match result:
                case _Looked(text, ids, wakes):
                    if text:
                        self._rang_ns = time.monotonic_ns()
                    if text or self._ringing.ids:  # else it was silenced since
                        self._ring(ids, text)
                    self._wake_up.arm(wakes.boot_ns, wakes.wall_ns)
                case _Listed(client, timers, facts):
                    self._list(client, timers, facts)
                case _Broken(error):
                    raise ApplianceError(f"Timers cannot be used: {error}")

    # --- timers --------------------------------------------------------------------------------

    def _look_at_timers(self) -> None:
        """Let what is due ring, and know what is next; after a deed too, which may have changed it.

        In a thread of its own: it waits for the disk, and for no tool.
        """
        self._wake_up.arm(None, None)
        self._clockwork.submit("due", self._due, bound_ms=_DEED_BOUND_MS, on_error=_Broken)

    def _due(self, emit: Emit, _cancelled: Cancelled) -> None:
        due = self._things.timers.due()
        text = rings(due, self._things.now(), self._language)
        timers = self._things.timers
        emit(_Looked(text, tuple(item.id for item in timers.ringing()), timers.wakes()))

    @property
    def _language(self) -> Language:
        return "zh" if self._config.asr.language == "zh" else "en"

    def _ring(self, ids: tuple[str, ...], text: str) -> None:
        if ids != self._ringing.ids:
            self._ringing = Ringing(session_id=LOCAL_SESSION, ids=ids, text=text)
            self._bus.publish(self._ringing)

    def _silence(self) -> None:
        self._ring((), "")
        self._do("silence", self._acknowledge)

    def _acknowledge(self) -> object:
        self._things.timers.acknowledge()
        return _Silenced()

    # --- what others are told ------------------------------------------------------------------

    def _repeat_settings(self, now_ns: int) -> None:
        if now_ns < self._repeat_ns:
            return
        self._repeat_ns = now_ns + _REPEAT_NS
        if self._ringing.ids:  # whoever was not there yet must hear of it too
            self._bus.publish(self._ringing)
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
                self._clockwork.submit(
                    "list",
                    lambda emit, _cancelled: emit(
                        _Listed(client, things.timer_items(), things.fact_items())
                    ),
                    bound_ms=_DEED_BOUND_MS,
                    on_error=_Broken,
                )
            case CancelTimer(id=identity):
                self._do("cancel", lambda: _Answer(client, things.cancel_timer(identity)))
            case ForgetFacts(ids=ids):
                self._mind.cache.forget()
                self._do("forget", lambda: _Answer(client, things.forget(ids)))
            case ExportMind():
                self._do("export", lambda: _Answer(client, MindExport(json=things.export())))
            case _:
                self._bus.reply(client, Refused(reason="mind does not take this request"))

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

    def _find_tools(self) -> object:
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
        return _Found(found)

    def _take_tools(self, tools: list[Tool[Any]]) -> None:
        try:
            self._mind.offer(tools, grammar)
        except ToolError as error:
            logger.error("%s", error)
        logger.info("%d tools of other programs", len(tools))


def make_mind(
    config: Config,
    things: Belongings,
    understandings: Mapping[str, Understanding],
    states: Callable[[], Mapping[str, str]],
) -> Mind:
    """Everything that considers a question.

    Args:
        config: the whole configuration.
        things: what is kept.
        understandings: by language.
        states: of the other processes, by name.
    """
    registry = Registry(
        (
            *timer_tools(things.timers, OWNER),
            *note_tools(things.notes, OWNER),
            status_tool(states),
            places_tool(config.mind.rooms, config.mind.devices),
        )
    )
    skills = Skills(
        understandings,
        things.timers,
        things.notes,
        things.memory,
        registry,
        things.who,
        things.now,
        listens=LANGUAGES if not config.asr.model.endswith(".en") else ("en",),
    )
    mind = Mind(
        skills,
        understandings,
        things.memory,
        things.who,
        ResponseCache(config.mind.cache_mb << 20),
        persona=f"{config.llm.system_prompt}\0{config.llm.max_tokens}",
        model=config.llm.model,
        registry=registry,
    )
    mind.session(OWNER).voice = things.voice()
    return mind


def _timed(considered: Considered, received_ns: int) -> Considered:
    return msgspec.structs.replace(
        considered, received_ns=received_ns, finished_ns=time.monotonic_ns()
    )


def _log_without_words(what: str, error: Exception) -> None:
    """Where it happened, not its text, which may hold what was said."""
    where = "".join(traceback.format_tb(error.__traceback__))
    logger.error("%s: %s\n%s", what, type(error).__name__, where)
