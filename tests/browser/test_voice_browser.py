"""A real Chromium talks to the gateway: microphone, loudspeaker, captions, refusals, recovery."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from gateway_client import place_of
from panel_world import PASSWORD, Running, admin_process, free_port
from pictures import take_picture
from playwright.sync_api import Browser, Page, expect, sync_playwright

from appliance.admin.pairing import read_code
from appliance.audio.blocks import BLOCK_SAMPLES, RATE_HZ, Samples
from appliance.audio.files import read_speech, write_wav
from appliance.config import PROJECT_ROOT, Config
from appliance.ipc.audio_ring import RingReader, RingWriter, mic_format, speaker_format
from appliance.ipc.bus import subscribe
from appliance.messages import (
    BlocksReady,
    Floor,
    Heartbeat,
    PartialTranscript,
    PlaybackStarted,
    Sessions,
    Speak,
    TurnRecord,
    heartbeat_topic,
    ring_topic,
)

pytestmark = pytest.mark.browser

QUESTION = PROJECT_ROOT / "appliance" / "loopback" / "question.wav"
MIC = mic_format("remote.1").name
_RECORD = """
async (seconds) => {
  const context = new AudioContext({ sampleRate: 16000 });
  const source = context.createMediaStreamSource(document.querySelector("audio").srcObject);
  const tap = context.createScriptProcessor(1024, 1, 1);
  window.recording = [context, source, tap]; // else they are collected
  const parts = [];
  tap.onaudioprocess = (event) => parts.push(event.inputBuffer.getChannelData(0).slice());
  source.connect(tap).connect(context.destination);
  await new Promise((done) => setTimeout(done, 1000 * seconds));
  await context.close();
  const bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) {
    text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  }
  return btoa(text);
}
"""
"""Samples of what the page plays, as it plays them."""


def open_chromium(microphone: Path) -> tuple[Browser, object]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium, "the browser tests need the system package chromium"
    playwright = sync_playwright().start()
    browser = playwright.chromium.launch(
        executable_path=chromium,
        args=[
            "--no-sandbox",
            "--disable-gpu",
            "--use-fake-ui-for-media-stream",
            "--use-fake-device-for-media-stream",
            f"--use-file-for-fake-audio-capture={microphone}%noloop",
            "--allow-loopback-in-peer-connection",
            "--autoplay-policy=no-user-gesture-required",
        ],
    )
    return browser, playwright


def samples_of(text: str) -> Samples:
    return np.frombuffer(base64.b64decode(text), np.float32)


@dataclass
class World:
    """A panel with an owner, a gateway, and a browser that is signed in."""

    panel: Running
    browser: Browser
    prefix: str
    gateway: subprocess.Popen[bytes]
    environment: dict[str, str]

    def start_gateway(self) -> None:
        beats = subscribe(self.panel.runtime_dir, [heartbeat_topic("gateway")])
        self.gateway = subprocess.Popen(
            [sys.executable, "-m", "appliance.ipc.process", "gateway"], env=self.environment
        )
        until = time.monotonic() + 20
        while not (isinstance(beat := beats.receive(100), Heartbeat) and beat.state == "ready"):
            assert time.monotonic() < until
        beats.close()

    def page(self) -> Page:
        page = self.browser.contexts[0].new_page()
        page.goto(f"http://localhost:{self.panel.port}/voice")
        return page


@pytest.fixture(scope="module")
def microphone(tmp_path_factory) -> Path:
    """The question after a second of silence, so that nothing of it is missed; then silence."""
    path = tmp_path_factory.mktemp("voice") / "microphone.wav"
    said, _ = read_speech(QUESTION)
    silence = np.zeros(RATE_HZ, np.float32)
    write_wav(path, np.concatenate([silence, silence, said, np.tile(silence, 30)]))
    return path


@pytest.fixture
def world(place, tmp_path, microphone) -> Iterator[World]:
    browser, playwright = open_chromium(microphone)
    try:
        with admin_process(place.runtime_dir, tmp_path) as panel:
            environment = {
                **{k: v for k, v in os.environ.items() if not k.startswith("APPLIANCE_")},
                "APPLIANCE_RUNTIME_DIR": str(place.runtime_dir),
            }
            prefix = Config(runtime_dir=str(place.runtime_dir)).shm_prefix
            it = World(panel, browser, prefix, None, environment)  # type: ignore[arg-type]
            it.start_gateway()
            page = browser.new_context().new_page()
            page.goto(f"http://localhost:{panel.port}/pair")
            page.fill("[name=code]", read_code(place.runtime_dir) or "")
            page.fill("[name=name]", "Ada")
            page.fill("[name=password]", PASSWORD)
            page.press("[name=password]", "Enter")
            page.wait_for_url(f"http://localhost:{panel.port}/")
            page.close()
            try:
                yield it
            finally:
                it.gateway.terminate()
                it.gateway.wait(10)
    finally:
        browser.close()
        playwright.stop()  # type: ignore[attr-defined]
        place.forget_sockets()


def test_a_question_is_heard_and_an_answer_is_played(world):
    page = world.page()
    ear = subscribe(world.panel.runtime_dir, [ring_topic(MIC), Sessions.topic])
    page.get_by_role("button", name="Start talking").click()
    reader = RingReader(world.prefix, MIC)
    said, _ = read_speech(QUESTION)
    parts: list[Samples] = []
    until = time.monotonic() + 20
    while sum(map(len, parts)) < len(said) + 3 * RATE_HZ and time.monotonic() < until:
        message = ear.receive(100)
        if isinstance(message, BlocksReady):
            reader.announced(message)
            parts += [block.samples for block in reader.read()]
    _, alike = place_of(said, np.concatenate(parts))
    assert alike > 0.5  # the browser's own noise suppression and gain have worked on it
    expect(page.locator("#voice-state")).to_have_text("Ready")

    conductor, tts = world.panel.buses["conductor"], world.panel.buses["tts"]
    session = "remote.1"
    conductor.publish(Floor(session_id=session, state="listening", turn_id="t", since_ns=1))
    expect(page.locator("#voice-state")).to_have_text("Listening")
    world.panel.buses["asr"].publish(
        PartialTranscript(
            session_id=session,
            utterance_id="u",
            stable="What is the capital",
            tail="of Italy",
            heard_ms=900.0,
            finished_ns=1,
        )
    )
    expect(page.locator("#voice-heard")).to_have_text("What is the capital of Italy")
    conductor.publish(
        Speak(session_id=session, utterance_id="a", index=0, text="It is Rome.", last=True)
    )
    tts.publish(
        PlaybackStarted(
            session_id=session, utterance_id="a", received_ns=1, synthesised_ns=1, audible_ns=1
        )
    )
    expect(page.locator("#voice-saying")).to_have_text("It is Rome.")
    take_picture(page, "panel-talk")

    ring = RingWriter(world.prefix, speaker_format(session))
    page.evaluate(f"() => {{ window.recorded = ({_RECORD})(6); }}")
    begin_ns = time.monotonic_ns() + 500_000_000
    for index in range(len(said) // BLOCK_SAMPLES):
        time_ns = begin_ns + index * 10_000_000
        time.sleep(max(0, time_ns - 20_000_000 - time.monotonic_ns()) / 1e9)
        block = said[index * BLOCK_SAMPLES : (index + 1) * BLOCK_SAMPLES]
        tts.publish(ring.write(block, time_ns))
    played = samples_of(page.evaluate("window.recorded"))
    _, alike = place_of(said, played)
    assert alike > 0.5
    ring.close()

    conductor.publish(
        TurnRecord(
            session_id=session,
            turn_id="t",
            source="speech",
            outcome="answered",
            transcript="What is the capital of Italy?",
            reply="It is Rome.",
            utterance_ids=("a",),
            speech_end_ns=1,
            audible_ns=2,
            voice_to_voice_ms=900.0,
            contributions_ms={},
        )
    )
    expect(page.get_by_role("log")).to_contain_text("You: What is the capital of Italy?")
    found = Axe().run(page)
    assert not found.response["violations"], found.generate_report()

    page.get_by_role("button", name="Leave").click()
    while not (isinstance(news := ear.receive(5_000), Sessions) and not news.open):
        assert news is not None, "the session is still open"
    expect(page.locator("#voice-state")).to_have_text("Not connected")
    ear.close()
    reader.close()


def test_mute_is_silence_and_closing_the_tab_ends_the_session(world):
    page = world.page()
    ear = subscribe(world.panel.runtime_dir, [ring_topic(MIC), Sessions.topic])
    page.get_by_role("button", name="Start talking").click()
    expect(page.locator("#voice-state")).to_have_text("Ready")
    mute = page.get_by_role("button", name="Mute")
    mute.click()
    assert mute.get_attribute("aria-pressed") == "true"
    reader = RingReader(world.prefix, MIC)
    parts: list[Samples] = []
    while len(parts) < 400:
        message = ear.receive(5_000)
        assert message is not None
        if isinstance(message, BlocksReady):
            reader.announced(message)
            parts += [block.samples for block in reader.read()]
    assert np.max(np.abs(np.concatenate(parts[100:]))) < 1e-3
    reader.close()
    page.close()
    closed = time.monotonic()
    while not (isinstance(news := ear.receive(5_000), Sessions) and not news.open):
        assert news is None or time.monotonic() - closed < 4
    assert time.monotonic() - closed < 4
    ear.close()


def test_when_gateway_is_killed_the_page_connects_again_by_itself(world):
    page = world.page()
    page.get_by_role("button", name="Start talking").click()
    expect(page.locator("#voice-state")).to_have_text("Ready")
    world.gateway.send_signal(signal.SIGKILL)
    world.gateway.wait()
    world.start_gateway()
    ear = subscribe(world.panel.runtime_dir, [Sessions.topic])
    began = time.monotonic()
    while not (isinstance(news := ear.receive(5_000), Sessions) and news.open):
        assert time.monotonic() - began < 10, "the page did not come back"
    expect(page.locator("#voice-state")).to_have_text("Ready")
    expect(page.locator("#voice-error")).to_be_hidden()
    ear.close()


def test_without_permission_it_says_what_to_do_and_the_page_works_in_chinese(world):
    page = world.page()
    page.evaluate(
        "() => { navigator.mediaDevices.getUserMedia = "
        "() => Promise.reject(new DOMException('no', 'NotAllowedError')); }"
    )
    page.get_by_role("button", name="Start talking").click()
    expect(page.get_by_role("alert")).to_contain_text("Allow it in the browser's settings")
    expect(page.get_by_role("button", name="Start talking")).to_be_visible()
    page.goto(f"http://localhost:{world.panel.port}/language?to=zh&back=/voice")
    expect(page.get_by_role("button", name="开始对话")).to_be_visible()


# --- how long it takes -------------------------------------------------------------------------

_BEEPS = int(os.environ.get("VOICE_BEEPS", "8"))
"""Each way. A bench of them takes 20."""
_BEEP_S = 0.04
_LOUD = 0.05
_BEEPER = """
() => {
  const context = new AudioContext();
  const microphone = context.createMediaStreamDestination();
  const hum = new ConstantSourceNode(context, { offset: 1e-4 }); // without it nothing is sent
  hum.connect(microphone);
  hum.start();
  window.microphone = [context, microphone, hum]; // else they are collected
  navigator.mediaDevices.getUserMedia = async () => microphone.stream;
  window.beep = async () => {
    const at = context.currentTime + 0.05;
    const tone = new OscillatorNode(context, { frequency: 1000 });
    tone.connect(microphone);
    tone.start(at);
    tone.stop(at + 0.04);
    while (context.currentTime < at + 0.04) await new Promise((done) => setTimeout(done));
    return performance.now();
  };
}
"""
"""A microphone that beeps; tells when the last sample of a beep was there."""
_LISTENER = """
() => {
  const context = new AudioContext();
  const source = context.createMediaStreamSource(document.querySelector("audio").srcObject);
  const tap = context.createScriptProcessor(256, 1, 1);
  window.listening = [context, source, tap]; // else they are collected
  window.heard = [];
  let loud = 0;
  tap.onaudioprocess = (event) => {
    const now = performance.now();
    const samples = event.inputBuffer.getChannelData(0);
    const at = samples.findIndex((sample) => Math.abs(sample) > 0.05);
    if (at < 0) return;
    const since_ms = 1000 * (samples.length - at) / context.sampleRate;
    if (now - loud > 300) window.heard.push(now - since_ms);
    loud = now;
  };
  source.connect(tap).connect(context.destination);
}
"""
"""Tells when the first audible sample of each sound came out of the page's jitter buffer."""


def clock_offset_ms(page: Page) -> float:
    """What to add to the page's ``performance.now()`` for this machine's monotonic clock."""
    found = []
    for _ in range(30):
        before = time.monotonic_ns()
        there_ms = page.evaluate("performance.now()")
        after = time.monotonic_ns()
        found.append((after - before, (before + after) / 2e6 - there_ms))
    return min(found)[1]


def percentiles(delays_ms: list[float]) -> tuple[float, float]:
    return float(np.percentile(delays_ms, 50)), float(np.percentile(delays_ms, 95))


def test_what_the_way_to_the_browser_and_back_adds(world, record_property):
    """Wanted: at most 120 ms p95 for both ways together, beyond what the local session takes."""
    page = world.page()
    page.evaluate(_BEEPER)
    ear = subscribe(world.panel.runtime_dir, [ring_topic(MIC)])
    page.get_by_role("button", name="Start talking").click()
    expect(page.locator("#voice-state")).to_have_text("Ready")
    page.evaluate(_LISTENER)
    offset_ms = clock_offset_ms(page)

    reader = RingReader(world.prefix, MIC)
    there: list[float] = []
    for _ in range(_BEEPS):
        page.evaluate("() => { window.done = window.beep(); }")
        loud_ms, until = 0.0, time.monotonic() + 1.0
        while time.monotonic() < until:
            message = ear.receive(50)
            if isinstance(message, BlocksReady):
                reader.announced(message)
                now_ms = time.monotonic_ns() / 1e6
                if any(np.max(np.abs(block.samples)) > _LOUD for block in reader.read()):
                    loud_ms = now_ms
        there.append(loud_ms - (page.evaluate("window.done") + offset_ms))

    ring = RingWriter(world.prefix, speaker_format("remote.1"))
    tts = world.panel.buses["tts"]
    tone = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(BLOCK_SAMPLES) / RATE_HZ)).astype(np.float32)
    begun = []
    for _ in range(_BEEPS):
        begin_ns = time.monotonic_ns() + 20_000_000
        begun.append(begin_ns / 1e6)
        for index in range(20):
            time_ns = begin_ns + index * 10_000_000
            time.sleep(max(0, time_ns - 20_000_000 - time.monotonic_ns()) / 1e9)
            tts.publish(ring.write(tone, time_ns))
        page.wait_for_timeout(800)
    ring.close()
    heard = [at + offset_ms for at in page.evaluate("window.heard")]
    assert len(heard) == _BEEPS
    back = [at - begin for at, begin in zip(heard, begun, strict=True)]

    for name, delays_ms in (("browser_to_ring", there), ("ring_to_browser", back)):
        p50_ms, p95_ms = percentiles(delays_ms)
        record_property(name, {"p50_ms": round(p50_ms, 1), "p95_ms": round(p95_ms, 1)})
        sys.stdout.write(f"{name}: p50 {p50_ms:.1f} ms, p95 {p95_ms:.1f} ms\n")
    # not the p95: on a machine that others keep busy it says how busy
    assert percentiles(there)[0] + percentiles(back)[0] <= 150
    reader.close()
    ear.close()


# --- the way to trust the box ------------------------------------------------------------------


def test_the_page_that_sets_up_a_phone_is_readable_by_all(place, tmp_path, microphone):
    variables = {"APPLIANCE_ADMIN__HOST": "0.0.0.0", "APPLIANCE_ADMIN__TLS_PORT": str(free_port())}
    browser, playwright = open_chromium(microphone)
    try:
        with admin_process(place.runtime_dir, tmp_path, (), variables) as panel:
            page = browser.new_page(viewport={"width": 360, "height": 740})
            for language in ("en", "zh"):
                page.goto(f"http://localhost:{panel.port}/language?to={language}&back=/trust")
                shown = page.locator("#fingerprint").inner_text()
                assert shown == (place.runtime_dir / "ca-fingerprint").read_text()
                expect(page.locator("img.qr")).to_be_visible()
                assert page.evaluate("document.querySelector('img.qr').naturalWidth") > 0
                width = page.evaluate("document.documentElement.scrollWidth")
                assert width <= 360, "it fits a phone"
                found = Axe().run(page)
                assert not found.response["violations"], found.generate_report()
    finally:
        browser.close()
        playwright.stop()  # type: ignore[attr-defined]
        place.forget_sockets()
