"""The tts process without its voice, on a virtual loudspeaker: something is heard all the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.config import PROJECT_ROOT
from appliance.ipc.bus import Bus, subscribe
from appliance.loopback.outside import Recorder
from appliance.loopback.virtual_devices import LOUDSPEAKER, VirtualDevices
from appliance.messages import Heartbeat, Message, PlaybackEnded, Speak, heartbeat_topic
from appliance.models.manifest import MANIFEST_NAME

pytestmark = pytest.mark.loopback

_DEADLINE_S = 30
TEXTS = ("The quick brown fox went home.", "你好，今天天气很好。")


@pytest.mark.parametrize("with_espeak", [True, False], ids=["espeak-ng", "tones"])
def test_without_its_voice_it_says_so_and_is_heard(
    place: Any, tmp_path: Path, with_espeak: bool
) -> None:
    shutil.copy(PROJECT_ROOT / "models" / MANIFEST_NAME, tmp_path)
    with VirtualDevices() as devices:
        environment = {
            **os.environ,
            **devices.environment,
            "APPLIANCE_RUNTIME_DIR": str(place.runtime_dir),
            "APPLIANCE_AUDIO__OUTPUT_DEVICE": LOUDSPEAKER,
            "APPLIANCE_MODELS_DIR": str(tmp_path),
            **({} if with_espeak else {"PATH": str(tmp_path)}),
        }
        events = subscribe(place.runtime_dir, [PlaybackEnded.topic, heartbeat_topic("tts")])
        conductor = Bus(runtime_dir=place.runtime_dir, process="conductor")
        process = subprocess.Popen(
            [sys.executable, "-m", "appliance.ipc.process", "tts"], env=environment
        )

        def hear(wanted: Callable[[Message], bool]) -> Any:
            until = time.monotonic() + _DEADLINE_S
            while time.monotonic() < until:
                if (message := events.receive(100)) is not None and wanted(message):
                    return message
            raise AssertionError("not heard in time")

        try:
            with Recorder(devices.environment) as ears:
                beat = hear(lambda m: isinstance(m, Heartbeat) and m.state != "starting")
                assert beat.state == "degraded"
                assert "missing" in beat.detail or "espeak-ng is not installed" in beat.detail
                for name, text in enumerate(TEXTS):
                    before = len(ears.samples())
                    conductor.publish(
                        Speak(
                            session_id="local",
                            utterance_id=str(name),
                            index=0,
                            text=text,
                            last=True,
                        )
                    )
                    ended = hear(lambda m: isinstance(m, PlaybackEnded))
                    assert (ended.utterance_id, ended.error) == (str(name), "")
                    assert ended.played_text == (text if with_espeak else ""), "tones say no words"
                    assert np.abs(ears.samples()[before:]).max() > 0.02
        finally:
            process.terminate()
            process.wait(10)
            conductor.close()
            events.close()
    place.forget_sockets()
