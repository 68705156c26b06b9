"""The panel before what the mind keeps: a mind at the other end of the bus, and none."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from panel_world import SECRET, Running, answering

from appliance.messages import (
    Accepted,
    CancelTimer,
    ExportMind,
    FactItem,
    ForgetFacts,
    ListMind,
    MindExport,
    MindIs,
    Refused,
    Request,
    TimerItem,
)


class Mind:
    """Keeps a timer, an alarm and two facts, as the mind process would."""

    def __init__(self) -> None:
        self.timers = {
            "1": TimerItem(id="1", kind="timer", name=SECRET, remaining_s=3723.0, at="two hours"),
            "2": TimerItem(id="2", kind="alarm", name="", remaining_s=-3.0, at="seven every day"),
        }
        self.facts = {
            name: FactItem(id=name, text=f"fact {name} <b>", owner="home", told_wall_ms=10**12)
            for name in ("x", "y")
        }
        self.asked = threading.Event()

    def __call__(self, request: Request) -> Request:
        match request:
            case ListMind():
                self.asked.set()
                return MindIs(
                    timers=tuple(self.timers.values()),
                    facts=tuple(self.facts.values()),
                    memory=True,
                    encrypted=False,
                    cache_entries=4,
                    cache_bytes=2_000,
                    cache_hit_rate=0.25,
                )
            case CancelTimer(id=name):
                gone = self.timers.pop(name, None)
                return Accepted() if gone else Refused(reason="there is no such timer")
            case ForgetFacts(ids=names):
                for name in names or tuple(self.facts):
                    self.facts.pop(name)
                return Accepted()
            case ExportMind():
                return MindExport(json='{"facts": []}')
        raise AssertionError(request)


@contextmanager
def mind_of(running: Running) -> Iterator[Mind]:
    mind = Mind()
    running.buses["mind"].ready()
    with answering(running, ("mind",), mind), running.client() as client:
        deadline = time.monotonic() + 10
        while not mind.asked.is_set():  # its first heartbeat takes a moment to arrive
            assert time.monotonic() < deadline
            client.get("/memory")
        yield mind


def test_timers_and_facts_are_shown_ended_forgotten_and_taken_along(paired: Running) -> None:
    with mind_of(paired) as mind, paired.client() as client:
        page = client.get("/memory").text
        assert SECRET in page and ">1:02:03<" in page and "rings" in page
        assert "fact x &lt;b&gt;" in page and "25 %" in page and "It is not encrypted." in page
        csrf = {"csrf": paired.csrf()}
        assert client.post("/memory/cancel", data={**csrf, "id": "1"}).status_code == 303
        assert set(mind.timers) == {"2"}
        again = client.post("/memory/cancel", data={**csrf, "id": "1"})
        assert again.status_code == 409 and "no such timer" in again.text
        assert client.post("/memory/forget", data={**csrf, "id": "x"}).status_code == 303
        assert set(mind.facts) == {"y"}
        for action, fields in (("erase", {}), ("forget", {}), ("forget", {"id": ""})):
            unsure = client.post(f"/memory/{action}", data={**csrf, **fields})
            assert unsure.status_code == 422 and set(mind.facts) == {"y"}
        assert client.post("/memory/erase", data={**csrf, "sure": "true"}).status_code == 303
        assert not mind.facts
        export = client.get("/memory/export.json")
        assert export.json() == {"facts": []}
        assert "attachment" in export.headers["content-disposition"]
    audit = (paired.data / "audit.jsonl").read_text()
    assert '"memory_erase"' in audit and '"memory_export"' in audit and "fact x" not in audit


def test_the_api_tells_timers_and_hides_their_names(paired: Running) -> None:
    tokens = {
        scopes: {"Authorization": f"Bearer {paired.add_token(*scopes)}"}
        for scopes in (("read",), ("read", "words"), ("talk",))
    }
    with mind_of(paired) as mind, httpx.Client(base_url=paired.base, timeout=20) as client:
        figures = client.get("/api/timers", headers=tokens["read",])
        assert [item["remaining_s"] for item in figures.json()["timers"]] == [3723.0, -3.0]
        assert SECRET not in figures.text
        assert SECRET in client.get("/api/timers", headers=tokens["read", "words"]).text
        assert client.delete("/api/timers/1", headers=tokens["read",]).status_code == 403
        assert client.delete("/api/timers/1", headers=tokens["talk",]).status_code == 200
        assert client.delete("/api/timers/1", headers=tokens["talk",]).status_code == 409
        assert set(mind.timers) == {"2"}
        for path in ("/memory", "/memory/export.json"):
            answer = client.get(path, headers=tokens["read", "words"])
            assert answer.status_code == 403, path


@pytest.mark.parametrize("beats", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_mind_that_does_not_answer_is_said_so(paired: Running, beats: bool) -> None:
    if beats:  # alive, but it hangs
        paired.publish_until("mind", *_beat(paired))
    with paired.client() as client:
        began = time.monotonic()
        page = client.get("/memory")
        assert page.status_code == 200
        assert ("mind does not answer" if beats else "mind is not there") in page.text
        assert beats or time.monotonic() - began < 1.0
        csrf = {"csrf": paired.csrf()}
        assert client.post("/memory/cancel", data={**csrf, "id": "1"}).status_code == 503
        assert client.get("/memory/export.json").status_code == 503
        assert client.get("/").status_code == 200


def _beat(running: Running) -> tuple[object, object]:
    from appliance.messages import Heartbeat

    beat = Heartbeat(process="mind", instance=0, life=0, pid=1, state="ready", detail="hangs")
    return beat, lambda: '"detail":"hangs"' in running.client().get("/api/state").text
