"""A browser's part of a conversation with gateway, by aiortc: speaks, listens, loses packets.

For benches and tests: it has no jitter buffer, so what it hears it has at the packet's arrival.
"""

from __future__ import annotations

import asyncio
import contextlib
import fractions
import json
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCDtlsTransport,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import RtpPacket
from av import Packet as EncodedPacket

from appliance.audio.blocks import Samples
from appliance.errors import ApplianceError
from appliance.gateway.microphone import Packet
from appliance.gateway.opus import OpusDecoder, OpusEncoder
from appliance.gateway.peer import _Intake
from appliance.ipc.bus import Client
from appliance.messages import OfferVoice, Refused, Request, VoiceAnswer

FRAME = 320
_JITTER_BUFFER = "_RTCRtpReceiver__jitter_buffer"
_SEND = "_send_rtp"


async def request(runtime_dir: Path, message: Request) -> Request | None:
    """Ask gateway, as the panel does."""

    def ask() -> Request | None:
        client = Client(runtime_dir, "gateway")
        try:
            client.send(message)
            return client.receive(5_000)
        finally:
            client.close()

    return await asyncio.to_thread(ask)


class Voice(MediaStreamTrack):
    """Speaks samples in real time, silence before and after."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._encoder = OpusEncoder()
        self._samples: Samples = np.zeros(0, np.float32)
        self._at = 0
        self._index = 0
        self._origin_ns = 0
        self.began_ns = 0
        self.spoken = asyncio.Event()

    def say(self, samples: Samples) -> None:
        """Speak these from the next packet on."""
        self._samples, self._at, self.began_ns = samples, 0, 0
        self.spoken.clear()

    async def recv(self) -> EncodedPacket[Any]:
        """The next packet, when it is due."""
        if self.readyState != "live":
            raise MediaStreamError
        now_ns = time.monotonic_ns()
        if not self._origin_ns:
            self._origin_ns = now_ns
        due_ns = self._origin_ns + self._index * 20_000_000
        await asyncio.sleep(max(0, due_ns - now_ns) / 1e9)
        frame = np.zeros(FRAME, np.float32)
        part = self._samples[self._at : self._at + FRAME]
        if len(part):
            if not self.began_ns:  # a microphone would have taken 20 ms for it by now
                self.began_ns = time.monotonic_ns() - 20_000_000
            frame[: len(part)] = part
            self._at += FRAME
        elif self._at:
            self.spoken.set()
        packet = EncodedPacket(self._encoder.encode(frame))
        packet.pts, packet.time_base = self._index * 960, fractions.Fraction(1, 48_000)
        self._index += 1
        return packet


class Browser:
    """One browser. ``heard`` are the samples that it received, each packet with its time."""

    def __init__(self, *, loss: float = 0.0, jitter_ms: float = 0.0, seed: int = 1) -> None:
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.voice = Voice()
        self.events: list[dict[str, Any]] = []
        self.news = asyncio.Event()
        self.packets: list[tuple[int, Samples]] = []
        """Arrival and samples."""
        self.session_id = ""
        self._decoder = OpusDecoder()
        self._loss, self._jitter_ms = loss, jitter_ms
        self._random = random.Random(seed)  # noqa: S311 - a bench, not a secret
        self.lost = 0
        self._channel = self.connection.createDataChannel("events")
        self._channel.on("message", self._take_event)

    def _take_event(self, text: str) -> None:
        self.events.append(json.loads(text))
        self.news.set()

    def _take_packet(self, packet: RtpPacket) -> None:
        if not packet.payload:
            return
        arrived = Packet(
            packet.sequence_number, packet.timestamp, packet.payload, time.monotonic_ns()
        )
        self.packets.append((arrived.arrived_ns, self._decoder.decode(arrived.payload)))
        self.news.set()

    async def offer(self) -> str:
        """What is sent to gateway to begin with (SDP)."""
        self.connection.addTrack(self.voice)
        await self.connection.setLocalDescription(await self.connection.createOffer())
        return self.connection.localDescription.sdp

    async def connect(self, runtime_dir: Path, key: str = "test/1") -> str:
        """Returns why it was refused, empty when it was not."""
        answer = await request(
            runtime_dir, OfferVoice(key=key, sdp=await self.offer(), address="127.0.0.1")
        )
        if isinstance(answer, Refused):
            return answer.reason
        if not isinstance(answer, VoiceAnswer):
            raise ApplianceError("gateway does not answer; is the appliance running?")
        if answer.refusal:
            return answer.refusal
        self.session_id = answer.session_id
        await self.connection.setRemoteDescription(
            RTCSessionDescription(sdp=answer.sdp, type="answer")
        )
        (transceiver,) = self.connection.getTransceivers()
        setattr(transceiver.receiver, _JITTER_BUFFER, _Intake(self._take_packet))
        self._spoil(transceiver.sender.transport)
        await self.wait(lambda: self.connection.connectionState == "connected")
        return ""

    def _spoil(self, transport: RTCDtlsTransport) -> None:
        send = transport._send_rtp

        async def lossy(data: bytes) -> None:
            if 64 <= data[1] & 0x7F <= 95:  # RTCP
                await send(data)
                return
            if self._random.random() < self._loss:
                self.lost += 1
                return
            delay_s = self._random.uniform(0, self._jitter_ms) / 1000
            if delay_s:
                loop = asyncio.get_running_loop()
                loop.call_later(delay_s, lambda: loop.create_task(_quietly(send(data))))
            else:
                await send(data)

        setattr(transport, _SEND, lossy)

    async def wait(self, condition: Callable[[], bool], timeout_s: float = 15.0) -> None:
        """Until a condition holds.

        Raises:
            ApplianceError: it did not in time.
        """
        until = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > until:
                raise ApplianceError(f"What a browser waits for did not happen in {timeout_s:g} s.")
            self.news.clear()
            try:
                await asyncio.wait_for(self.news.wait(), 0.05)
            except asyncio.TimeoutError:
                continue

    def heard(self, since_ns: int = 0) -> Samples:
        """All that came, or came since."""
        return np.concatenate([samples for at_ns, samples in self.packets if at_ns >= since_ns])

    async def vanish(self) -> None:
        """As when the network goes: nobody is told."""
        for transceiver in self.connection.getTransceivers():
            connection = transceiver.sender.transport.transport._connection
            for protocol in connection._protocols:
                protocol.transport.abort()

    async def close(self) -> None:
        """Leave."""
        await self.connection.close()


async def _quietly(sending: Awaitable[None]) -> None:
    with contextlib.suppress(ConnectionError):
        await sending
