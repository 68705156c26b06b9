"""Several sessions at once: browsers (aiortc) through gateway, and the room at the microphone.

Everybody asks something else in the same moment, several times; before that some ask with nobody
else there. And what talking through a browser adds: the same command is given in the
room and through a browser by turns, both timed from outside.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import cycle
from typing import Any

import numpy as np

from appliance.audio.blocks import RATE_HZ, Samples
from appliance.audio.player import AUDIBLE
from appliance.bench.recordings import FLITE_VOICES, Recording, synthesised
from appliance.bench.report import machine, report
from appliance.bench.rig import Rig, private_appliance
from appliance.bench.sessions_browser import Browser
from appliance.errors import ApplianceError
from appliance.ipc.bus import subscribe
from appliance.loopback.acoustics import anechoic, speech_bounds
from appliance.loopback.room import VirtualRoom
from appliance.messages import LOCAL_SESSION, Heartbeat, TurnRecord, heartbeat_topic
from appliance.processes import REMOTE_SESSIONS

PARTS = ("together", "browser")
STARVED_S = 30.0
"""Who has heard nothing by then got no answer."""
_TURN_BOUND_S = 90.0
_QUIET_BOUND_S = 60.0
_NOISE_DBFS = -70.0
_LEAD_IN = np.zeros(RATE_HZ // 5, np.float32)
_QUEUED_MS = 50.0
_SAME_WORDS = 0.8
"""So alike are two texts at least, of which one is what was heard of the other."""
_COMMANDS_OF_PAIRS = 5
_PAUSE_S = 1.0
"""Between two turns of a session."""

QUESTIONS = (
    *("What is the capital of Italy?", "How many legs does a spider have?"),
    *("Which planet is the largest one?", "What do bees make?"),
    *("What is the opposite of cold?", "How many wheels does a bicycle have?"),
    *("What is the capital of Japan?", "Who wrote Romeo and Juliet?"),
    *("Which ocean is the largest?", "What language is spoken in Brazil?"),
    *("What is the capital of Spain?", "What colour is the sky?"),
    *("What do cows eat?", "How many days are in a leap year?"),
    *("Which metal is liquid at room temperature?", "What is the tallest animal?"),
    *("Who painted the Mona Lisa?", "What is the capital of Egypt?"),
    *("What is the opposite of expensive?", "How many strings does a violin have?"),
    *("Which planet is the closest to the sun?", "What is the longest river in Africa?"),
    *("What do you call a baby dog?", "What is the capital of Germany?"),
    *("How many continents are there?", "What gas do plants breathe in?"),
    *("Who discovered gravity?", "What is the capital of Australia?"),
    *("What is butter made from?", "How many players are in a football team?"),
    *("Which animal is the king of the jungle?", "What is the capital of Greece?"),
    *("What is the opposite of heavy?", "Where do penguins live?"),
    *("What is the fastest land animal?", "How many sides does a hexagon have?"),
    *("What do caterpillars turn into?", "What is the capital of Canada?"),
    *("Which bird cannot fly?", "What is paper made from?"),
)
COMMANDS = (
    *("What time is it?", "What is twelve times thirteen?", "What is twenty minus four?"),
    *("What day is it today?", "Good evening.", "What is ten plus seven?"),
    *("What time is it in Tokyo?", "How long is an hour in seconds?", "What is nine times eight?"),
    *("What is the date tomorrow?", "Thank you very much.", "What is forty minus six?"),
)


@dataclass(frozen=True)
class Heard:
    """One turn: what was said, and what came of it."""

    session_id: str
    text: str
    record: TurnRecord | None
    outside_ms: float | None
    """From the end of the last word at the microphone to the first audible sample that came to the
    speaker; None: nothing."""
    others: tuple[str, ...] = ()
    """What other sessions said in the same moment."""

    @property
    def starved(self) -> bool:
        """Whether nothing came in time."""
        return self.outside_ms is None or self.outside_ms > 1000 * STARVED_S

    @property
    def answered(self) -> bool:
        """Whether an answer came in time, to its end."""
        return not self.starved and self.record is not None and self.record.outcome == "answered"

    @property
    def sum_right(self) -> bool:
        """Whether the ledger's parts make the whole."""
        if self.record is None:
            return False
        parts_ms = sum(self.record.contributions_ms.values())
        return abs(parts_ms - self.record.voice_to_voice_ms) < 1

    @property
    def queue_ms(self) -> float:
        """How long it waited for llm to answer others."""
        return self.record.contributions_ms.get("llm_queue", 0.0) if self.record else 0.0

    @property
    def mixed_up(self) -> bool:
        """Whether the turn's words are rather what another session said in the same moment."""
        if self.record is None:
            return False
        words = self.record.transcript.lower()

        def alike(text: str) -> float:
            return SequenceMatcher(None, words, text.lower()).ratio()

        own = alike(self.text)
        return any(alike(text) > max(own, _SAME_WORDS) for text in self.others)

    def details(self) -> dict[str, Any]:
        """For the report."""
        found: dict[str, Any] = {
            "session": self.session_id,
            "question": self.text,
            "outside_ms": None if self.outside_ms is None else round(self.outside_ms, 1),
        }
        if (record := self.record) is not None:
            found |= {
                "transcript": record.transcript,
                "reply": record.reply,
                "outcome": record.outcome,
                "marks": record.marks,
                "ledger_ms": {n: round(ms, 1) for n, ms in record.contributions_ms.items()},
            }
        return found


class Turns:
    """The turns of all sessions, as they end. ``llm_idle_ns``: when llm last told that it had
    nothing to do."""

    def __init__(self, rig: Rig) -> None:
        self._bus = subscribe(rig.config.runtime_path, [TurnRecord.topic, heartbeat_topic("llm")])
        self.llm_idle_ns = 0
        self._records: list[TurnRecord] = []
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="turns", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while not self._closing.is_set():
            message = self._bus.receive(50)
            if isinstance(message, TurnRecord) and message.source == "speech":
                self._records.append(message)
            elif isinstance(message, Heartbeat) and not message.busy_ms:
                self.llm_idle_ns = time.monotonic_ns()

    def since(self, begin_ns: int) -> dict[str, TurnRecord]:
        """The first turn of each session whose speech ended since then."""
        found: dict[str, TurnRecord] = {}
        for record in list(self._records):
            if record.speech_end_ns >= begin_ns:
                found.setdefault(record.session_id, record)
        return found

    async def of(self, sessions: Collection[str], begin_ns: int) -> dict[str, TurnRecord]:
        """Like `since`, when all of these have one, or it has taken too long."""
        until = time.monotonic() + _TURN_BOUND_S
        while not set(sessions) <= self.since(begin_ns).keys() and time.monotonic() < until:
            await asyncio.sleep(0.05)
        return self.since(begin_ns)

    def close(self) -> None:
        """Stop listening."""
        self._closing.set()
        self._thread.join()
        self._bus.close()


@dataclass
class Scene:
    """An appliance, its room and the browsers that talk to it."""

    rig: Rig
    room: VirtualRoom
    turns: Turns
    browsers: dict[str, Browser]

    async def connect(self, count: int) -> None:
        """Have so many browsers join.

        Raises:
            ApplianceError: one is refused.
        """
        for number in range(len(self.browsers), count):
            browser = Browser(seed=number)
            refusal = await browser.connect(self.rig.config.runtime_path, f"bench/{number}")
            if refusal:
                raise ApplianceError(f"A browser was refused: {refusal}.")
            self.browsers[browser.session_id] = browser

    async def idle(self) -> None:
        """Wait until llm has read what it prepares for the next question, a minute at most."""
        begin_ns = time.monotonic_ns()
        until = time.monotonic() + _QUIET_BOUND_S
        while self.turns.llm_idle_ns < begin_ns and time.monotonic() < until:
            await asyncio.sleep(0.05)

    async def ask(self, asked: Mapping[str, Recording]) -> list[Heard]:
        """Let each of these sessions ask in the same moment; wait until all turns are over."""
        begin_ns, seen = time.monotonic_ns(), len(self.room.events)
        if LOCAL_SESSION in asked:
            self.room.say(_led_in(asked[LOCAL_SESSION]), RATE_HZ, asked[LOCAL_SESSION].name)
        for session_id, browser in self.browsers.items():
            if session_id in asked:
                browser.voice.say(_led_in(asked[session_id]))
        records = await self.turns.of(asked, begin_ns)
        heard = []
        for session_id, recording in asked.items():
            if session_id == LOCAL_SESSION:
                outside_ms = await asyncio.to_thread(self._local_ms, seen, recording.name)
            else:
                outside_ms = _browser_ms(self.browsers[session_id], recording)
            others = tuple(other.text for name, other in asked.items() if name != session_id)
            heard.append(
                Heard(session_id, recording.text, records.get(session_id), outside_ms, others)
            )
        await asyncio.sleep(_PAUSE_S)
        return heard

    def _local_ms(self, seen: int, name: str) -> float | None:
        try:
            near = self.room.wait_for("near_end", 5, name=name, since=seen)
            answer = self.room.wait_for("answer_started", 2, since=seen)
            self.room.wait_for("answer_ended", _TURN_BOUND_S, since=seen)
        except ApplianceError:
            return None
        return (answer.at_ns - near.speech_end_ns) / 1e6

    async def close(self) -> None:
        """Have the browsers leave."""
        for browser in self.browsers.values():
            await browser.close()


def _led_in(recording: Recording) -> Samples:
    return np.concatenate([_LEAD_IN, recording.samples])


def _browser_ms(browser: Browser, recording: Recording) -> float | None:
    _, speech_end = speech_bounds(_led_in(recording), RATE_HZ)
    end_ns = browser.voice.began_ns + speech_end * 1_000_000_000 // RATE_HZ
    return first_audible_ms(browser.packets, end_ns)


def first_audible_ms(packets: Iterable[tuple[int, Samples]], end_ns: int) -> float | None:
    """From the end of a question to the first audible sample among packets that arrived since.

    A packet's first sample can be played when the packet is there. Pure.
    """
    for arrived_ns, samples in packets:
        audible = np.flatnonzero(np.abs(samples) > AUDIBLE)
        if arrived_ns > end_ns and len(audible):
            return (arrived_ns - end_ns) / 1e6 + 1000 * int(audible[0]) / RATE_HZ
    return None


@contextmanager
def open_scene(llm: str, seed: int) -> Iterator[Scene]:
    """An appliance in a silent room, with nobody but the local session."""
    with (
        private_appliance({"APPLIANCE_LLM__MODEL": llm}) as rig,
        VirtualRoom(
            rig.devices.environment, anechoic(rig.devices.rate_hz, noise_dbfs=_NOISE_DBFS), seed
        ) as room,
    ):
        turns = Turns(rig)
        try:
            yield Scene(rig, room, turns, {})
        finally:
            turns.close()


def questions(texts: Sequence[str]) -> list[Recording]:
    """Each said by another voice."""
    voices = cycle(FLITE_VOICES)
    return [synthesised(text, next(voices)) for text in texts]


async def _together(scene: Scene, browsers: int, rounds: int) -> dict[str, list[Heard]]:
    await scene.connect(browsers)
    everyone = [LOCAL_SESSION, *scene.browsers]
    recorded = iter(questions(QUESTIONS))
    commands = questions(COMMANDS)
    await scene.ask({LOCAL_SESSION: synthesised("Why is the grass green?", "slt")})  # a warm-up
    found: dict[str, list[Heard]] = {"alone": [], "together": [], "commands": []}
    for number in range(rounds):
        # whose turn it is goes round
        session_id = everyone[number % len(everyone)]
        await scene.idle()
        found["alone"] += await scene.ask({session_id: next(recorded)})
    for _ in range(rounds):
        await scene.idle()
        asked = dict(zip(everyone, recorded, strict=False))
        found["together"] += await scene.ask(asked)
    for number in range(rounds):
        await scene.idle()
        asked = {s: commands[(number + n) % len(commands)] for n, s in enumerate(everyone)}
        found["commands"] += await scene.ask(asked)
    return found


async def _browser(scene: Scene, pairs: int) -> dict[str, list[Heard]]:
    await scene.connect(1)
    (remote,) = scene.browsers
    commands = questions(COMMANDS[1 : 1 + _COMMANDS_OF_PAIRS])
    for command in commands:  # a warm-up: from now on everybody finds the answer synthesised
        await scene.ask({LOCAL_SESSION: command})
    found: dict[str, list[Heard]] = {"local": [], "browser": []}
    for number in range(pairs):
        command = commands[number % len(commands)]
        both = [("local", LOCAL_SESSION), ("browser", remote)]
        for kind, session_id in both[:: 1 if number % 2 else -1]:
            found[kind] += await scene.ask({session_id: command})
    return found


def run(
    *, browsers: int, rounds: int, pairs: int, parts: Collection[str], llm: str, seed: int
) -> dict[str, object]:
    """Measure; returns the report, with every turn.

    Raises:
        ApplianceError: the appliance does not start, a browser is refused, or a part or number
            is not one that can be measured.
    """
    _check(browsers, rounds, parts)
    before = machine()
    figures: dict[str, float] = {}
    found: dict[str, list[Heard]] = {}

    async def measure(scene: Scene) -> None:
        try:
            if not parts or "together" in parts:
                found.update(await _together(scene, browsers, rounds))
                figures.update(together_figures(found))
            if not parts or "browser" in parts:
                pair = await _browser(scene, pairs)
                found.update(pair)
                figures.update(browser_figures(pair["local"], pair["browser"]))
        finally:
            await scene.close()

    with open_scene(llm, seed) as scene:
        asyncio.run(measure(scene))
    options = "".join(f" --only {part}" for part in parts)
    command = (
        f"appliance bench sessions --browsers {browsers} --rounds {rounds} --pairs {pairs}"
        f"{options} --llm {llm} --seed {seed} --json"
    )
    return {
        **report(figures, command=command, seed=seed, before=before),
        "turns": {kind: [heard.details() for heard in turns] for kind, turns in found.items()},
    }


def _check(browsers: int, rounds: int, parts: Collection[str]) -> None:
    if unknown := sorted(set(parts) - set(PARTS)):
        raise ApplianceError(f"No such part: {', '.join(unknown)}; there are {', '.join(PARTS)}.")
    if not 1 <= browsers <= len(REMOTE_SESSIONS):
        raise ApplianceError(f"There is room for 1 to {len(REMOTE_SESSIONS)} browsers.")
    most = len(QUESTIONS) // (browsers + 2)
    if not 1 <= rounds <= most:
        raise ApplianceError(
            f"With {browsers} browsers there are questions for 1 to {most} rounds, no one twice."
        )


def together_figures(found: Mapping[str, Sequence[Heard]]) -> dict[str, float]:
    """Of everyone at once, beside each alone. Pure."""
    figures: dict[str, float] = {}
    for kind, turns in found.items():
        figures |= _figures(kind, turns)
    together = found["together"]
    waits_ms = [heard.queue_ms for heard in together]
    figures["together_starved"] = sum(heard.starved for heard in together)
    figures["together_queued"] = sum(wait_ms > _QUEUED_MS for wait_ms in waits_ms)
    for percent in (50, 95, 100):
        name = "max" if percent == 100 else f"p{percent}"
        figures[f"together_llm_queue_{name}_ms"] = _percentile(waits_ms, percent)
    for session_id in dict.fromkeys(heard.session_id for heard in together):
        of_one = [h.outside_ms for h in together if h.session_id == session_id]
        figures[f"together_{session_id}_p50_ms"] = _percentile(of_one, 50)
    return {name: value for name, value in figures.items() if not np.isnan(value)}


def _figures(kind: str, turns: Sequence[Heard]) -> dict[str, float]:
    outside_ms = [heard.outside_ms for heard in turns]
    return {
        f"{kind}_turns": len(turns),
        f"{kind}_answered": sum(heard.answered for heard in turns),
        f"{kind}_sums_wrong": sum(not heard.sum_right for heard in turns),
        f"{kind}_mixed_up": sum(heard.mixed_up for heard in turns),
        f"{kind}_p50_ms": _percentile(outside_ms, 50),
        f"{kind}_p95_ms": _percentile(outside_ms, 95),
        f"{kind}_max_ms": _percentile(outside_ms, 100),
    }


def browser_figures(local: Sequence[Heard], browser: Sequence[Heard]) -> dict[str, float]:
    """What a browser adds to the same command in the room. Pure."""
    added_ms = [
        there.outside_ms - here.outside_ms
        for here, there in zip(local, browser, strict=True)
        if here.outside_ms is not None and there.outside_ms is not None
    ]

    def unseen_ms(turns: Sequence[Heard]) -> list[float]:
        return [
            heard.outside_ms - heard.record.voice_to_voice_ms
            for heard in turns
            if heard.outside_ms is not None and heard.record is not None
        ]

    figures: dict[str, float] = {
        "browser_pairs": len(added_ms),
        "browser_pairs_asked": len(local),
        "browser_sums_wrong": sum(not heard.sum_right for heard in (*local, *browser)),
    }
    for name, values in (
        ("browser_command_local", [heard.outside_ms for heard in local]),
        ("browser_command", [heard.outside_ms for heard in browser]),
        ("browser_beyond_local", added_ms),
        ("browser_beyond_ledger", unseen_ms(browser)),
        ("browser_local_beyond_ledger", unseen_ms(local)),
    ):
        for percent in (50, 95):
            figures[f"{name}_p{percent}_ms"] = _percentile(values, percent)
    return {name: value for name, value in figures.items() if not np.isnan(value)}


def _percentile(values: Sequence[float | None], percent: float) -> float:
    known = [value for value in values if value is not None]
    return round(float(np.percentile(known, percent)), 1) if known else float("nan")
