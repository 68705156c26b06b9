"""The gateway process itself: a browser speaks to it, and hears what is played."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from aiortc.rtcsctptransport import SCTP_DATA_LAST_FRAG, DataChunk
from aiortc.rtp import RtpPacket
from gateway_client import Browser, place_of, request

from appliance.audio.blocks import BLOCK_SAMPLES, RATE_HZ, Samples
from appliance.audio.files import read_speech
from appliance.config import PROJECT_ROOT, Config
from appliance.ipc.audio_ring import RingReader, RingWriter, mic_format, speaker_format
from appliance.ipc.bus import Bus, Subscription, subscribe
from appliance.messages import (
    Accepted,
    AddCandidate,
    BlocksReady,
    CloseVoice,
    Floor,
    Heartbeat,
    OfferVoice,
    Refused,
    Sessions,
    VoiceAnswer,
    heartbeat_topic,
    ring_topic,
)

QUESTION = PROJECT_ROOT / "appliance" / "loopback" / "question.wav"
RING = mic_format("remote.1").name
_ALIVE = heartbeat_topic("gateway")


@dataclass
class Gateway:
    """The process, and an ear on what it publishes."""

    process: subprocess.Popen[bytes]
    runtime_dir: Path
    prefix: str
    ear: Subscription

    async def next(self, wanted: Callable[[object], bool], timeout_s: float = 15.0) -> object:
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            message = await asyncio.to_thread(self.ear.receive, 100)
            if message is not None and wanted(message):
                return message
        raise AssertionError("not heard in time")

    async def sessions(self, count: int) -> Sessions:
        found = await self.next(lambda m: isinstance(m, Sessions) and len(m.open) == count)
        assert isinstance(found, Sessions)
        return found


@pytest.fixture
def gateway(place) -> Iterator[Gateway]:
    process = subprocess.Popen(
        [sys.executable, "-m", "appliance.ipc.process", "gateway"],
        env={**os.environ, "APPLIANCE_RUNTIME_DIR": str(place.runtime_dir)},
        stdout=subprocess.DEVNULL,
    )
    ear = subscribe(place.runtime_dir, [Sessions.topic, ring_topic(RING), _ALIVE])
    prefix = Config(runtime_dir=str(place.runtime_dir)).shm_prefix
    try:
        while True:
            message = ear.receive(15_000)
            assert message is not None, "gateway does not start"
            if isinstance(message, Heartbeat) and message.state == "ready":
                break
        yield Gateway(process, place.runtime_dir, prefix, ear)
    finally:
        process.terminate()
        process.communicate()
        ear.close()
        place.forget_sockets()


def question() -> Samples:
    return read_speech(QUESTION)[0]


async def hear(gateway: Gateway, until: Callable[[], bool]) -> tuple[Samples, int]:
    """What comes into the mic ring, and when its first sample was captured."""
    reader = RingReader(gateway.prefix, RING)
    parts: list[Samples] = []
    first_ns = 0
    deadline = time.monotonic() + 30
    while not until() and time.monotonic() < deadline:
        message = await asyncio.to_thread(gateway.ear.receive, 50)
        if isinstance(message, BlocksReady):
            reader.announced(message)
            for block in reader.read():
                first_ns = first_ns or block.captured_ns
                parts.append(block.samples)
    lost, _ = reader.lost_blocks, reader.close()
    assert lost == 0
    return np.concatenate(parts), first_ns


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))  # type: ignore[arg-type]


def test_before_the_first_browser_nothing_of_webrtc_is_loaded(gateway):
    async def test() -> None:
        maps = Path(f"/proc/{gateway.process.pid}/maps")
        assert "libav" not in maps.read_text() and "libsrtp" not in maps.read_text()
        browser = Browser()
        await browser.connect(gateway.runtime_dir)
        assert "libav" in maps.read_text()
        await browser.close()

    run(test)


def test_what_a_browser_says_comes_into_its_ring_at_once(gateway):
    async def test() -> None:
        browser = Browser()
        assert await browser.connect(gateway.runtime_dir) == ""
        sessions = await gateway.sessions(1)
        assert sessions.open[0].session_id == browser.session_id == "remote.1"
        said = question()
        browser.voice.say(said)
        heard, first_ns = await hear(gateway, browser.voice.spoken.is_set)
        at, alike = place_of(said, heard)
        assert alike > 0.9
        begin_ns = first_ns + at * 1_000_000_000 // RATE_HZ
        assert abs(begin_ns - browser.voice.began_ns) < 60_000_000
        await browser.close()
        await gateway.sessions(0)

    run(test)


def test_lost_and_late_packets_cost_neither_time_nor_much_sound(gateway):
    async def test() -> None:
        browser = Browser(loss=0.05, jitter_ms=30)
        await browser.connect(gateway.runtime_dir)
        said = question()
        browser.voice.say(said)
        heard, first_ns = await hear(gateway, browser.voice.spoken.is_set)
        assert browser.lost >= 3
        at, alike = place_of(said, heard)
        assert alike > 0.8
        begin_ns = first_ns + at * 1_000_000_000 // RATE_HZ
        assert abs(begin_ns - browser.voice.began_ns) < 80_000_000
        await browser.close()

    run(test)


def test_what_is_played_reaches_the_browser(gateway):
    async def test() -> None:
        tts = Bus(runtime_dir=gateway.runtime_dir, process="tts")
        browser = Browser()
        await browser.connect(gateway.runtime_dir)
        await gateway.sessions(1)
        ring = RingWriter(gateway.prefix, speaker_format(browser.session_id))
        await browser.wait(lambda: len(browser.packets) > 5)
        answer = question()
        begin_ns = time.monotonic_ns()
        first = len(browser.packets)
        for index in range(len(answer) // BLOCK_SAMPLES):
            time_ns = begin_ns + index * 10_000_000
            await asyncio.sleep(max(0, time_ns - 20_000_000 - time.monotonic_ns()) / 1e9)
            block = answer[index * BLOCK_SAMPLES : (index + 1) * BLOCK_SAMPLES]
            tts.publish(ring.write(block, time_ns))
        played = len(answer) // 320
        await browser.wait(lambda: len(browser.packets) > first + played + 10)
        packets = browser.packets[first:]
        heard = np.concatenate([samples for _, samples in packets])
        at, alike = place_of(answer, heard)
        assert alike > 0.85
        arrived_ns = packets[at // 320][0]
        assert arrived_ns - begin_ns < 100_000_000
        await browser.close()
        ring.close()
        tts.close()

    run(test)


def test_captions_come_over_the_data_channel_to_their_own_session_alone(gateway):
    async def test() -> None:
        conductor = Bus(runtime_dir=gateway.runtime_dir, process="conductor")
        browser, other = Browser(), Browser()
        await browser.connect(gateway.runtime_dir, "test/1")
        await other.connect(gateway.runtime_dir, "test/2")
        await browser.wait(lambda: bool(browser.events))  # the state, as the channel opened
        floor = Floor(session_id=browser.session_id, state="listening", turn_id="t", since_ns=1)
        conductor.publish(floor)  # connected long since: the sessions have been told of
        await browser.wait(lambda: len(browser.events) > 1)
        assert browser.events[-1] == {"type": "state", "state": "listening"}
        assert all(event == {"type": "state", "state": "idle"} for event in other.events)
        await browser.close()
        await other.close()
        conductor.close()

    run(test)


def test_a_fifth_browser_is_told_that_there_is_no_room(gateway):
    async def test() -> None:
        browsers = [Browser() for _ in range(5)]
        refusals = [
            await browser.connect(gateway.runtime_dir, f"test/{number}")
            for number, browser in enumerate(browsers)
        ]
        assert refusals[:4] == [""] * 4
        assert refusals[4] == "full"
        await gateway.sessions(4)
        await request(gateway.runtime_dir, CloseVoice(key="test/2"))
        await gateway.sessions(3)
        late = Browser()
        assert await late.connect(gateway.runtime_dir, "test/5") == ""
        browsers.append(late)
        for browser in browsers:
            await browser.close()
        await gateway.sessions(0)

    run(test)


def test_another_offer_of_the_same_browser_takes_the_place_of_the_first(gateway):
    async def test() -> None:
        first, second = Browser(), Browser()
        await first.connect(gateway.runtime_dir)
        before = (await gateway.sessions(1)).open[0]
        await second.connect(gateway.runtime_dir)
        assert second.session_id == first.session_id
        await gateway.next(
            lambda m: (
                isinstance(m, Sessions)
                and len(m.open) == 1
                and m.open[0].opened_ns != before.opened_ns
            )
        )
        await first.close()
        await second.close()

    run(test)


@pytest.mark.slow
def test_a_browser_that_vanishes_is_given_up(gateway):
    async def test() -> None:
        browser = Browser()
        await browser.connect(gateway.runtime_dir)
        await gateway.sessions(1)
        await browser.vanish()
        vanished = time.monotonic()
        await gateway.sessions(0)
        assert time.monotonic() - vanished < 8
        await browser.close()

    run(test)


NO_OFFERS = (
    "",
    "hello",
    "v=0\r\n",
    "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n",
    "v=0\r\n" + "a=x\r\n" * 10_000,
    "v=0\r\nm=audio 1 x y\r\nm=video 1 x y\r\n",
    "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=rtpmap:111 opus/48000/2\r\na=ice-ufrag:\r\n",
)


def test_what_is_no_offer_is_refused_and_harms_nobody(gateway):
    async def test() -> None:
        for sdp in NO_OFFERS:
            answer = await request(gateway.runtime_dir, OfferVoice(key="x", sdp=sdp, address=""))
            assert isinstance(answer, Refused), sdp[:200]
            browser = Browser()
            assert await browser.connect(gateway.runtime_dir) == "", sdp[:200]
            await browser.close()

    run(test)


def test_damaged_offers_leave_nothing_behind(gateway):
    async def test() -> None:
        chance = random.Random(6)
        browser = Browser()
        good = await browser.offer()
        process = psutil.Process(gateway.process.pid)
        first = OfferVoice(key="fuzz", sdp=good, address="127.0.0.1")
        assert isinstance(await request(gateway.runtime_dir, first), VoiceAnswer)
        before = process.num_fds()
        kinds = set()
        for _ in range(120):
            lines = good.splitlines()
            for _ in range(chance.randint(1, 4)):
                at = chance.randrange(len(lines))
                cut = chance.randint(0, len(lines[at]))
                junk = printable(chance, 6)
                lines[at] = chance.choice([lines[at][:cut] + junk, junk, lines[at] * 3, ""])
            answer = await request(
                gateway.runtime_dir,
                OfferVoice(key="fuzz", sdp="\r\n".join(lines) + "\r\n", address="127.0.0.1"),
            )
            assert isinstance(answer, Refused | VoiceAnswer)
            kinds.add(type(answer))
        assert kinds == {Refused, VoiceAnswer}, "some were taken, some were not"
        await request(gateway.runtime_dir, CloseVoice(key="fuzz"))
        good_browser = Browser()
        assert await good_browser.connect(gateway.runtime_dir) == ""
        await good_browser.close()
        await gateway.sessions(0)
        assert process.num_fds() <= before
        await browser.close()

    run(test)


def printable(chance: random.Random, count: int) -> str:
    return "".join(chr(chance.randint(32, 126)) for _ in range(count))


def test_addresses_without_end_are_counted_and_left(gateway):
    async def test() -> None:
        browser = Browser()
        assert await browser.connect(gateway.runtime_dir) == ""
        await gateway.sessions(1)
        process = psutil.Process(gateway.process.pid)
        texts = [
            f"candidate:{n} 1 udp {n} 127.0.{n % 256}.{n // 256} 9 typ host" for n in range(300)
        ]
        texts += ["candidate:1 1 udp 1 127.0.0.1 \u00b2 typ host", "\u2028" * 500, "x" * 60_000]
        before = process.memory_info().rss
        for text in texts:
            added = AddCandidate(key="test/1", candidate=text, mid="0" * 200)
            assert isinstance(await request(gateway.runtime_dir, added), Accepted)
            added = AddCandidate(key="test/1", candidate=text, mid="0")
            assert isinstance(await request(gateway.runtime_dir, added), Accepted)
        assert process.memory_info().rss - before < 4 << 20
        assert browser.connection.connectionState == "connected", "it is talked to all the same"
        await browser.close()

    run(test)


async def says_something(browser: Browser) -> None:
    browser.connection.sctp._data_channels[1].send("hello")


async def opens_another_channel(browser: Browser) -> None:
    browser.connection.createDataChannel("more")


async def begins_messages(browser: Browser) -> None:
    """Parts of one that has no end; what aiortc sends is told to be a middle."""
    sctp = browser.connection.sctp
    sent = sctp._send_chunk

    async def without_end(chunk: object) -> None:
        if isinstance(chunk, DataChunk):
            chunk.flags &= ~SCTP_DATA_LAST_FRAG
        await sent(chunk)

    sctp._send_chunk = without_end
    for _ in range(20):
        sctp._data_channels[1].send("x" * 12_000)


async def speaks_with_many_voices(browser: Browser) -> None:
    (transceiver,) = browser.connection.getTransceivers()
    for ssrc in range(1, 40):
        packet = RtpPacket(payload_type=96, sequence_number=ssrc, ssrc=ssrc, payload=b"x")
        await transceiver.sender.transport._send_rtp(packet.serialize())


@pytest.mark.parametrize(
    "does", [says_something, opens_another_channel, begins_messages, speaks_with_many_voices]
)
def test_whoever_leaves_things_behind_is_sent_away(gateway, does):
    async def test() -> None:
        browser = Browser()
        await browser.connect(gateway.runtime_dir)
        await gateway.sessions(1)
        await browser.wait(lambda: bool(browser.events))
        await does(browser)
        left = time.monotonic()
        await gateway.sessions(0)
        assert time.monotonic() - left < 4, "before it would be given up for silence"
        await browser.close()

    run(test)


def test_an_offer_without_a_common_codec_is_refused(gateway):
    async def test() -> None:
        browser = Browser()
        sdp = (await browser.offer()).replace("opus/48000/2", "L16/48000/2")
        answer = await request(gateway.runtime_dir, OfferVoice(key="x", sdp=sdp, address=""))
        assert isinstance(answer, Refused)
        await browser.close()

    run(test)


def test_it_offers_the_address_by_which_the_browser_came_and_no_other(gateway):
    async def test() -> None:
        browser = Browser()
        offer = OfferVoice(key="x", sdp=await browser.offer(), address="127.0.0.2")
        answer = await request(gateway.runtime_dir, offer)
        assert isinstance(answer, VoiceAnswer)
        candidates = [line for line in answer.sdp.splitlines() if line.startswith("a=candidate:")]
        assert candidates
        assert all(" 127.0.0.2 " in line and line.endswith("typ host") for line in candidates)
        assert "useinbandfec=1" in answer.sdp
        assert [line for line in answer.sdp.splitlines() if "rtpmap" in line] == [
            "a=rtpmap:96 opus/48000/2"
        ]
        await browser.close()

    run(test)


def test_it_stops_in_time_with_a_browser_connected(gateway):
    async def test() -> None:
        browser = Browser()
        await browser.connect(gateway.runtime_dir)
        await gateway.sessions(1)
        gateway.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(gateway.process.wait, 4) == 0
        await browser.close()

    run(test)
