"""The client knows who has the floor only from the conductor, however late it comes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest

from appliance.client import ApplianceClient
from appliance.conductor.main import main
from appliance.config import Config
from appliance.errors import ApplianceError
from appliance.ipc.bus import Bus, Client
from appliance.messages import Accepted, AskText

_BOUND_S = 10.0


@pytest.fixture
def config(place) -> Config:
    return Config(runtime_dir=str(place.runtime_dir))


@contextlib.contextmanager
def conductor(config: Config) -> Iterator[None]:
    """The real one, alone: whatever it asks of others, nobody answers."""
    bus = Bus(runtime_dir=config.runtime_path, process="conductor")
    thread = threading.Thread(target=main, args=(config, bus))
    thread.start()
    try:
        yield
    finally:
        bus.running = False
        thread.join()
        bus.close()


@pytest.fixture
def client(config: Config) -> Iterator[ApplianceClient]:
    with ApplianceClient(config) as made:
        yield made


def asked(config: Config) -> None:
    """A question as text, which the conductor then thinks about."""
    request = Client(config.runtime_path, "conductor")
    request.send(AskText(text="Which town is this?"))
    try:
        assert isinstance(request.receive(5_000), Accepted)
    finally:
        request.close()


def test_without_a_conductor_nobody_is_known_to_have_the_floor(client):
    assert client.floor is None
    assert not client.wait_for(lambda: client.floor is not None, 0.3)


def test_a_recording_is_not_asked_where_no_conductor_says_that_nobody_speaks(
    config, client, monkeypatch
):
    monkeypatch.setattr("appliance.client._CONDUCTOR_BOUND_S", 0.2)
    capture = Bus(runtime_dir=config.runtime_path, process="capture")
    try:
        capture.ready()
        working = client.wait_for(lambda: capture.receive(10) or client.working_pid("capture"), 5)
        assert working
        with pytest.raises(ApplianceError, match="does not answer"):
            client.ask_samples(iter(()), "nothing")
    finally:
        capture.close()


def test_a_client_that_comes_late_learns_who_has_the_floor(config, client):
    with conductor(config):
        assert client.wait_for(lambda: client.floor == "idle", _BOUND_S)
        asked(config)
        assert client.wait_for(lambda: client.floor == "thinking", _BOUND_S)
        with ApplianceClient(config) as late:  # nothing is published for it
            assert late.wait_for(lambda: late.floor is not None, _BOUND_S)
            assert late.floor == "thinking"


def test_what_a_predecessor_said_of_the_floor_is_not_believed_of_its_successor(config, client):
    with conductor(config):
        assert client.wait_for(lambda: client.floor is not None, _BOUND_S)
        asked(config)
        assert client.wait_for(lambda: client.floor == "thinking", _BOUND_S)
    with conductor(config):  # it never thinks, so it publishes no floor
        assert client.wait_for(lambda: client.floor == "idle", _BOUND_S)
