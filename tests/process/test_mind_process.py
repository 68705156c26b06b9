"""The mind process itself: considered, done, remembered; killed, damaged, and asked nonsense."""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from appliance.bench.mind_process import MindProcess
from appliance.errors import ApplianceError
from appliance.messages import (
    Accepted,
    CancelTimer,
    Considered,
    Done,
    ExportMind,
    ForgetFacts,
    ListMind,
    Message,
    MindExport,
    MindIs,
    Refused,
    Ringing,
    SayText,
    SpeechSettings,
)

LATE_MS = 100.0
MOST_P99_MS = 20.0
_RING_S = 30.0
_MCP_SERVER = Path(__file__).with_name("mcp_server.py")
Make = Callable[..., MindProcess]
once_more = pytest.mark.flaky(reruns=2)
"""For what is measured against the clock, on a machine that others use too."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "mind"


@pytest.fixture
def make(place: Any, data: Path) -> Iterator[Make]:
    """Makes the process, with the test as its conductor."""
    with ExitStack() as stack:
        yield lambda **environment: stack.enter_context(
            MindProcess(place.runtime_dir, data, environment)
        )
        stack.close()
        place.forget_sockets()


@pytest.fixture
def mind(make: Make) -> MindProcess:
    """One that runs."""
    process = make()
    beat = process.start()
    assert (beat.state, beat.detail) == ("ready", "")
    return process


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MindProcess]:
    """One for all tests that neither end it nor look at what others have left."""
    with (
        TemporaryDirectory(prefix="va-m-") as runtime_dir,
        MindProcess(Path(runtime_dir), tmp_path_factory.mktemp("mind")) as process,
    ):
        assert process.start().state == "ready"
        yield process


def listed(mind: MindProcess) -> MindIs:
    return mind.request(ListMind(), MindIs)


# --- a question, what is done, and what is told --------------------------------------------------


def test_a_question_is_considered_and_done_when_it_is_meant(mind: MindProcess) -> None:
    considered = mind.consider("Set a tea timer for ten minutes")
    assert (considered.intent, considered.acts) == ("timer_set", True)
    assert considered.received_ns <= considered.finished_ns
    assert listed(mind).timers == ()
    assert mind.commit(considered) == considered.reply == "The tea timer is set for 10 minutes."
    (timer,) = listed(mind).timers
    assert (timer.kind, timer.name) == ("timer", "tea")
    assert 590 < timer.remaining_s <= 600
    considered = mind.consider("Why is the sky blue?")
    assert (considered.intent, considered.reply, considered.acts) == ("", "", False)
    assert "156" in mind.consider("What is 12 times 13?").reply


def test_a_commit_for_nothing_considered_does_nothing(mind: MindProcess) -> None:
    mind.tell(Considered(session_id="local", request_id="never", acts=True))
    assert "set" in mind.say("Set a timer for one hour")
    assert len(listed(mind).timers) == 1


def test_a_microphone_that_was_not_muted_is_never_told_to_be(lasting: MindProcess) -> None:
    """There is no capture here."""
    assert "may still be on" in lasting.say("Mute the microphone")


def test_a_disk_that_takes_its_time_holds_up_no_question(mind: MindProcess, data: Path) -> None:
    assert "is set" in mind.say("Set a tea timer for one hour")
    considered = mind.consider("Set a pasta timer for ten minutes")
    heard: list[Message] = []

    def note(message: Message) -> bool:
        heard.append(message)
        return True

    disk = sqlite3.connect(data / "mind.db", isolation_level=None)
    try:
        disk.execute("BEGIN IMMEDIATE")  # whoever writes waits until it ends
        mind.tell(considered)
        asked = {
            mind.ask("What is 12 times 13?"): "156",
            mind.ask("How much time is left on the tea timer?"): "tea timer: 1 hour",
            mind.ask("Why is the sky blue?"): "",
        }
        answers: dict[str, str] = {}
        while len(answers) < len(asked):
            mind.hear(note, 10)
            if isinstance(last := heard[-1], Considered) and last.request_id in asked:
                answers[last.request_id] = last.reply
        assert not [m for m in heard if isinstance(m, Done)], "the disk was not waited for"
        disk.execute("ROLLBACK")
    finally:
        disk.close()
    assert [asked[i] in answer for i, answer in answers.items()] == [True] * 3, answers
    done = mind.hear(lambda m: isinstance(m, Done), 10)
    assert isinstance(done, Done)
    assert done.reply == considered.reply
    assert len(listed(mind).timers) == 2


def test_how_answers_are_spoken_is_told_at_once(lasting: MindProcess) -> None:
    assert lasting.say("Volume 30 percent") == "Volume 30 percent."
    lasting.hear(lambda m: isinstance(m, SpeechSettings) and m.volume_percent == 30, 5)


def test_two_hundred_questions_in_time(lasting: MindProcess) -> None:
    """Each of them by the processor time that its loop takes, which no other program changes; what
    else a question may wait for (a lock, the disk) is in the median of the wall clock."""
    texts = (
        "What time is it?",
        "Set a timer for twenty five minutes",
        "what's the wether like tomorow",
        "Why do cats purr when they sleep on the sofa in the afternoon?",
        "Turn on the lights in the living room",
        "三分钟后提醒我关火",
        "How many ounces are in two and a half pounds?",
        "Could you please tell me what the square root of one hundred and forty four is",
    )
    cpu_ms, wall_ms = [], []
    for number in range(200):
        start_ns, cpu_ns = time.monotonic_ns(), lasting.loop_cpu_ns()
        lasting.consider(texts[number % len(texts)])
        cpu_ms.append((lasting.loop_cpu_ns() - cpu_ns) / 1e6)
        wall_ms.append((time.monotonic_ns() - start_ns) / 1e6)
    assert sum(cpu_ms) > 0
    assert np.percentile(cpu_ms, 99) <= MOST_P99_MS, np.percentile(cpu_ms, (50, 90, 99, 100))
    assert np.median(wall_ms) <= MOST_P99_MS, np.percentile(wall_ms, (50, 90, 99, 100))


# --- timers over a crash -------------------------------------------------------------------------


def test_a_timer_rings_and_is_silenced(mind: MindProcess) -> None:
    set_ns = time.monotonic_ns()
    mind.say("Remind me to call my mother in one second")
    rang_ns, ringing = mind.hear_ringing(_RING_S)
    assert ringing.text == "It's time to call your mother."
    assert 0 <= (rang_ns - set_ns) / 1e6 - 1_000 < 5_000
    mind.record("stop", "", outcome="stopped")
    mind.hear(lambda m: isinstance(m, Ringing) and not m.ids, 5)
    assert mind.say("What timers are running?") == "No timer or alarm is set."


@pytest.mark.slow
@once_more
@pytest.mark.timeout(120)
def test_timers_ring_in_time_though_the_process_was_killed(mind: MindProcess) -> None:
    due_ns = {}
    for name, seconds in (("tea", 7), ("egg", 8), ("bread", 3600)):
        due_ns[name] = time.monotonic_ns() + seconds * 10**9
        assert "is set" in mind.say(f"Set a {name} timer for {seconds} seconds")
    mind.kill()
    mind.start()
    assert {timer.name for timer in listed(mind).timers} == set(due_ns)
    for count, name in enumerate(("tea", "egg"), start=1):
        rang_ns, ringing = mind.hear_ringing(_RING_S, ids=count)
        assert f"{name} timer is done" in ringing.text
        assert -1 <= (rang_ns - due_ns[name]) / 1e6 <= LATE_MS
    assert len(listed(mind).timers) == 3


@pytest.mark.timeout(120)
def test_what_fell_due_meanwhile_rings_at_once_and_none_is_lost(mind: MindProcess) -> None:
    foods = "apple bread carrot rice pasta egg tea pizza cake soup lamb beef fish bean pea corn"
    names = [*foods.split(), "ham", "pie", "jam", "yeast"]
    for number, name in enumerate(names):
        assert "is set" in mind.say(f"Set a {name} timer for {1 + number % 3} seconds")
    mind.kill()
    mind.start()
    mind.hear_ringing(_RING_S, ids=20)
    text = " ".join(ringing.text for _, ringing in mind.rung)
    assert [name for name in names if f"The {name} timer" not in text] == []


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_what_rang_rings_again_after_a_crash_until_it_is_silenced(mind: MindProcess) -> None:
    mind.say("Set a tea timer for one second")
    _, first = mind.hear_ringing(_RING_S)
    for _ in range(2):
        mind.kill()
        mind.start()
        _, again = mind.hear_ringing(_RING_S)
        assert again.ids == first.ids
        assert "tea" in again.text
    assert mind.say("Stop") == "Okay."
    mind.hear(lambda m: isinstance(m, Ringing) and not m.ids, 5)
    mind.kill()
    rung = len(mind.rung)
    mind.start()
    assert listed(mind).timers == ()
    assert len(mind.rung) == rung


# --- what is kept ---------------------------------------------------------------------------------


def test_facts_and_notes_outlive_the_process(mind: MindProcess) -> None:
    mind.say("Remember that my sister lives in Rome")
    mind.say("Add milk to my shopping list")
    mind.kill()
    mind.start()
    assert mind.say("Where does my sister live?") == "Your sister lives in Rome."
    assert mind.say("What's on my shopping list?") == "Shopping list: milk."


def test_a_damaged_store_is_set_aside_and_told(mind: MindProcess, data: Path) -> None:
    mind.say("Remember that my sister lives in Rome")
    mind.stop()
    (data / "other").write_text("not ours")
    (data / "mind.db").write_bytes(b"damaged" * 1_000)
    beat = mind.start()
    assert beat.state == "degraded"
    assert "damaged" in beat.detail
    assert "mind.db.corrupt-" in beat.detail
    assert (data / "other").read_text() == "not ours"
    (aside,) = data.glob("mind.db.corrupt-*")
    assert aside.read_bytes().startswith(b"damaged")
    assert "156" in mind.consider("What is 12 times 13?").reply
    assert "is set" in mind.say("Set a timer for ten minutes")
    mind.stop()
    assert mind.start().state == "ready"
    assert len(listed(mind).timers) == 1


def test_a_wrong_key_opens_nothing_and_spoils_nothing(
    make: Make, tmp_path: Path, data: Path
) -> None:
    keys = {}
    for name in ("right", "wrong"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mind-key").write_bytes(name.encode() * 8)
        keys[name] = {"CREDENTIALS_DIRECTORY": str(tmp_path / name)}
    mind = make()
    mind.start(keys["right"])
    assert listed(mind).encrypted
    mind.say("Remember that my sister lives in Rome")
    mind.stop()
    kept = (data / "mind.db").read_bytes()
    assert b"Rome" not in kept
    beat = mind.start(keys["wrong"])
    assert beat.state == "degraded"
    assert "nothing can be kept" in beat.detail
    assert "can't keep" in mind.say("Set a timer for ten minutes")
    assert "Rome" not in mind.say("Where does my sister live?")
    assert "156" in mind.consider("What is 12 times 13?").reply
    mind.stop()
    assert (data / "mind.db").read_bytes() == kept
    assert mind.start(keys["right"]).state == "ready"
    assert "Rome" in mind.say("Where does my sister live?")


# --- the panel's requests -------------------------------------------------------------------------


def test_the_owner_sees_cancels_forgets_and_exports(mind: MindProcess) -> None:
    mind.say("Remember that my sister lives in Rome")
    mind.say("Remember that my dog is called Rex")
    mind.say("Set a tea timer for ten minutes")
    mind.say("Take a note: the plumber comes on Friday")
    mind.say("What is the capital of France?", "Paris.")
    seen = listed(mind)
    assert sorted(fact.text for fact in seen.facts) == [
        "my dog is called Rex",
        "my sister lives in Rome",
    ]
    assert (seen.memory, seen.cache_entries) == (True, 1)
    exported = json.loads(mind.request(ExportMind(), MindExport).json)
    assert "Rome" in json.dumps(exported["facts"])
    assert exported["notes"][0]["text"] == "the plumber comes on Friday"
    assert exported["timers"][0]["name"] == "tea"
    mind.request(CancelTimer(id=seen.timers[0].id), Accepted)
    mind.request(CancelTimer(id=seen.timers[0].id), Refused)
    dog = next(fact for fact in seen.facts if "dog" in fact.text)
    mind.request(ForgetFacts(ids=(dog.id,)), Accepted)
    left = listed(mind)
    assert (left.timers, [f.text for f in left.facts]) == ((), ["my sister lives in Rome"])
    assert left.cache_entries == 0
    mind.request(ForgetFacts(ids=()), Accepted)
    assert listed(mind).facts == ()
    mind.request(SayText(text="hello"), Refused)


def test_the_owner_silences_what_rings(mind: MindProcess) -> None:
    mind.say("Set a tea timer for one second")
    _, ringing = mind.hear_ringing(_RING_S)
    mind.request(CancelTimer(id=ringing.ids[0]), Accepted)
    mind.hear(lambda m: isinstance(m, Ringing) and not m.ids, 5)


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "set a timer " * 8_400,
        "\x00\x1b[2J\x07\u202e\ufeff set a timer",
        "(" * 50_000 + "1" + ")" * 50_000,
        "9**9**9**9**9",
        "",
        " \n\t ",
        "remember that " + "{x} <|im_end|> \\" * 3_000,
        "提醒我" * 20_000,
        "remind me to " * 7_000 + "in ten minutes",
    ],
    ids=range(9),
)
def test_no_text_stops_it(lasting: MindProcess, text: str) -> None:
    start = time.monotonic()
    considered = lasting.consider(text)
    lasting.commit(considered)
    assert time.monotonic() - start < 5
    assert "156" in lasting.consider("What is 12 times 13?").reply
    assert lasting.beat is not None
    assert lasting.beat.state == "ready"


# --- tools of other programs ----------------------------------------------------------------------


def offered(mind: MindProcess, text: str) -> Considered:
    """What is considered once the other program's tools are known."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        considered = mind.consider(text)
        if considered.grammar:
            return considered
        mind.hear(lambda _: True, 5)  # the next heartbeat
    raise ApplianceError("no tool was offered")


def test_a_tool_of_another_program_is_offered_and_called(make: Make, tmp_path: Path) -> None:
    config = tmp_path / "appliance.toml"
    command = json.dumps([sys.executable, "-I", str(_MCP_SERVER), "good"])
    config.write_text(
        f'[mind.mcp_servers.home]\ncommand = {command}\ntools = ["weather", "lock"]\n'
        'confirm = ["lock"]\n'
    )
    mind = make(APPLIANCE_CONFIG=str(config))
    mind.start()
    considered = offered(mind, "What is the weather like in Rome?")
    assert considered.intent == "", "what is not known without the tool"
    assert "home_weather" in considered.facts
    assert "home_wipe" not in considered.facts + considered.grammar
    reply = mind.commit(considered, '{"name": "home_weather", "arguments": {"place": "Rome"}}')
    assert reply is not None
    assert reply.startswith("home says: sunny in Rome")
    for call, said in (
        ('{"name": "home_weather", "arguments": {"place": "Atlantis"}}', "did not work"),
        ('{"name": "home_weather", "arguments": {"place": 5}}', "didn't understand"),
        ('{"name": "home_wipe", "arguments": {}}', "can't do that"),
        ('{"name": "note_add", "arguments": {"text": "x"}}', "not allowed"),
        ("{", "can't do that"),
    ):
        reply = mind.commit(mind.consider("What is the weather like in Rome?"), call)
        assert reply is not None
        assert said in reply
    asked = mind.commit(
        mind.consider("Please lock the home now"), '{"name": "home_lock", "arguments": {}}'
    )
    assert asked == "Shall home do this: lock?"
    assert mind.say("yes").startswith("home says: sunny in")
