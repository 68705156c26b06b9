"""``appliance bench panel`` against a panel: that it counts what happens, not how much."""

from __future__ import annotations

import asyncio

import psutil
import pytest
from panel_world import Running

from appliance.bench import panel


def test_watchers_are_counted_and_leave_nothing(paired: Running, monkeypatch) -> None:
    monkeypatch.setattr(panel, "_BASE_S", 0.2)
    token = paired.add_token("read")
    figures = asyncio.run(panel._watch(psutil.Process(paired.process.pid), 5, 1.5))
    assert figures["watchers"] == 5 and figures["watchers_cut_off"] == 0
    assert figures["events_per_watcher_per_s"] > 0.5, "each gets the state at once"
    page = paired.client().get("/access").text
    assert "bench" not in page and token not in page


@pytest.mark.slow
def test_an_attack_is_counted_and_the_owner_comes_in(monkeypatch) -> None:
    monkeypatch.setattr(panel, "_SLOW_S", 1.0)
    monkeypatch.setattr(panel, "_SLOW_CLIENTS", 3)
    monkeypatch.setattr(panel, "_FLOOD_CLIENTS", 10)
    figures = panel.attack(logins=60)["figures"]
    assert figures["passwords_checked"] + figures["refused_untried"] == 60
    assert 1 <= figures["passwords_checked"] <= 20 and figures["connections_broken"] == 0
    assert 9 < figures["slow_clients_cut_off_after_s"] < 15
    assert figures["owner_signed_in_after_s"] < 60
