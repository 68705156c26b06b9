"""``appliance run``: devices, supervisor, and the first question on a box without a sound card."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from appliance import config as configuration
from appliance.audio.devices import list_devices, open_portaudio
from appliance.capture.geometry import input_channels
from appliance.config import Config
from appliance.errors import ApplianceError
from appliance.loopback.virtual_devices import LOUDSPEAKER, MICROPHONE, VirtualDevices
from appliance.supervisor import Supervisor

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

READY_BOUND_S = 90.0
QUESTION = Path(__file__).parent / "loopback" / "question.wav"


def has_sound_card() -> bool:
    """Whether PortAudio sees something to hear with and something to speak with."""
    portaudio = open_portaudio()
    try:
        devices = list_devices(portaudio)
    finally:
        portaudio.terminate()
    return any(d.input_channels for d in devices) and any(d.output_channels for d in devices)


def wants_loopback(config: Config) -> bool:
    """Whether to run on virtual devices."""
    match config.audio.loopback:
        case "always":
            return True
        case "never":
            return False
    named = {config.audio.input_device, config.audio.output_device} - {"auto", "default"}
    return not named and not has_sound_card()


@contextlib.contextmanager
def audio_environment(config: Config, *, loopback: bool) -> Iterator[dict[str, str]]:
    """The variables with which the processes find their devices; virtual ones live inside."""
    if not loopback:
        yield {}
        return
    with VirtualDevices(microphone_channels=input_channels(config)) as devices:
        yield {
            **devices.environment,
            f"{configuration.ENV_PREFIX}AUDIO__INPUT_DEVICE": MICROPHONE,
            f"{configuration.ENV_PREFIX}AUDIO__OUTPUT_DEVICE": LOUDSPEAKER,
            # nobody else can be heard there
            f"{configuration.ENV_PREFIX}VAD__WAKE_WORD": "",
            f"{configuration.ENV_PREFIX}CONDUCTOR__ATTENTION": "open",
        }


@contextlib.contextmanager
def running(config: Config, *, loopback: bool) -> Iterator[Supervisor]:
    """An appliance that is being started; stopped, with all it left, at the end.

    Ctrl-C and SIGTERM make the supervisor's ``run`` return; the caller then leaves this context.
    """
    supervisor = Supervisor(config)  # takes the lock before anything is started
    previous = {
        number: signal.signal(number, supervisor.request_stop)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        with audio_environment(config, loopback=loopback) as environment:
            try:
                supervisor.start(environment)
                yield supervisor
            finally:
                supervisor.stop()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def wait_ready(supervisor: Supervisor) -> bool:
    """Supervise until everything is ready. False when told to stop before.

    Raises:
        ApplianceError: a process refuses to start, or it takes too long.
    """
    deadline = time.monotonic() + READY_BOUND_S
    supervisor.run(
        until=lambda: (
            supervisor.ready() or bool(supervisor.failures()) or time.monotonic() > deadline
        )
    )
    if failures := supervisor.failures():
        raise ApplianceError(
            f"Not started: {', '.join(failures)} cannot run; its ERROR line above says why."
        )
    if supervisor.stopping:
        return False
    if not supervisor.ready():
        raise ApplianceError(
            f"Not ready after {READY_BOUND_S:.0f} s: waiting for {', '.join(supervisor.waiting())}."
        )
    return True


def supervise_while(supervisor: Supervisor, work: Callable[[], Result]) -> Result | None:
    """Go on supervising while ``work`` runs in a thread; its result, or None when told to stop.

    Raises:
        BaseException: what ``work`` raised.
    """
    done = threading.Event()
    outcome: list[Result] = []
    failure: list[BaseException] = []

    def call() -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # handed to the caller's thread
            failure.append(error)
        finally:
            done.set()

    threading.Thread(target=call, name="work", daemon=True).start()
    supervisor.run(until=done.is_set)
    if failure:
        raise failure[0]
    return outcome[0] if outcome else None
