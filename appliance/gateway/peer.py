"""One browser's connection: WebRTC by aiortc, audio both ways, a data channel for captions."""

from __future__ import annotations

import asyncio
import fractions
import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import aioice.ice
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCDataChannel,
    RTCPeerConnection,
    RTCRtpCodecCapability,
    RTCRtpReceiver,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import RtpPacket
from aiortc.sdp import candidate_from_sdp
from av import Packet as EncodedPacket

from appliance.gateway.captions import Event
from appliance.gateway.loudspeaker import FRAME_SAMPLES, Frame, LoudspeakerStream
from appliance.gateway.microphone import RTP_RATE_HZ, HeardBlock, MicrophoneStream, Packet
from appliance.gateway.offer import (
    MAX_CANDIDATES,
    OfferError,
    candidates_of,
    checked_offer,
    is_candidate,
    with_opus_settings,
)
from appliance.gateway.opus import BIT_RATE, OpusDecoder, OpusEncoder

logger = logging.getLogger(__name__)
for _name in ("aiortc", "aioice"):  # addresses and steps of every connection are of no interest
    logging.getLogger(_name).setLevel(logging.WARNING)

_TIME_BASE = fractions.Fraction(1, RTP_RATE_HZ)
_FRAME_TICKS = FRAME_SAMPLES * RTP_RATE_HZ // 16_000
_POLL_S = 0.02
_CLOSE_WITHIN_S = 2.0
_CHANNEL_MOST_BYTES = 64 << 10
"""A browser that does not read its captions misses some."""
_SOURCES_MOST = 4
"""RTP sources (SSRC); a browser has one, and another after it changes the microphone."""
_ADDRESSES_MOST = 2 * MAX_CANDIDATES
"""Named by the browser, or found by its packets."""
_PARTS_MOST = 64
"""Of messages that were begun on the data channel and not ended."""

_own_addresses: ContextVar[tuple[str, ...]] = ContextVar("own_addresses", default=())
_interface_addresses = aioice.ice.get_host_addresses


def _host_addresses(use_ipv4: bool, use_ipv6: bool) -> list[str]:
    """Where a browser may reach us: the address by which its page came.

    A page that was loaded on this machine, or through a proxy here, says nothing about the
    network: then all addresses are offered, the loopback's too.
    """
    own = list(_own_addresses.get())
    if not own or own[0] in ("127.0.0.1", "::1"):
        own += _interface_addresses(use_ipv4, use_ipv6)
    return own


# aioice has no setting for the addresses it offers, and leaves out the loopback's
aioice.ice.get_host_addresses = _host_addresses


_JITTER_BUFFER = "_RTCRtpReceiver__jitter_buffer"


def _opus() -> list[RTCRtpCodecCapability]:
    """The one codec that is wanted."""
    known = RTCRtpReceiver.getCapabilities("audio")
    assert known is not None
    return [codec for codec in known.codecs if codec.mimeType.lower() == "audio/opus"]


class _Intake:
    """In place of aiortc's jitter buffer, which after one lost packet holds back 280 ms for ever:
    hands every packet on as it comes."""

    def __init__(self, take: Callable[[RtpPacket], None]) -> None:
        self._take = take

    def add(self, packet: RtpPacket) -> tuple[bool, None]:
        """Take a packet; nothing of it is left for aiortc to decode."""
        self._take(packet)
        return False, None


class _AnswerTrack(MediaStreamTrack):
    """What the browser hears."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self.stream: LoudspeakerStream | None = None
        self.news = asyncio.Event()
        self._encoder = OpusEncoder()

    async def recv(self) -> EncodedPacket[Any]:
        """The next packet, when it is time."""
        frame = await self._next()
        packet = EncodedPacket(self._encoder.encode(frame.samples))
        packet.pts = frame.index * _FRAME_TICKS
        packet.time_base = _TIME_BASE
        return packet

    async def _next(self) -> Frame:
        if self.stream is None:
            self.stream = LoudspeakerStream(time.monotonic_ns())
        while True:
            if self.readyState != "live":
                raise MediaStreamError
            self.news.clear()
            now_ns = time.monotonic_ns()
            found = self.stream.next(now_ns)
            if isinstance(found, Frame):
                return found
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.news.wait(), (found - now_ns) / 1e9)


class Peer:
    """A browser.

    Args:
        heard: called with blocks of its microphone, in order.
        changed: called when the connection came about, or ended.
    """

    def __init__(
        self, heard: Callable[[list[HeardBlock]], None], changed: Callable[[], None]
    ) -> None:
        self.microphone = MicrophoneStream(OpusDecoder())
        self.last_packet_ns = time.monotonic_ns()
        self._heard = heard
        self._changed = changed
        self._answer = _AnswerTrack()
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._channel: RTCDataChannel | None = None
        self.on_channel: Callable[[], None] = lambda: None
        """Called when the data channel can be written to."""
        self._poll: asyncio.Task[None] | None = None
        self._candidates = 0
        self._sources: set[int] = set()
        self._spoke = False
        """Whether anything came over a data channel, or another one was opened."""
        self._connection.on("connectionstatechange", self._connection_changed)
        self._connection.on("datachannel", self._take_channel)

    @property
    def state(self) -> str:
        """As WebRTC names it: ``connected`` once audio can flow."""
        return str(self._connection.connectionState)

    async def answer(self, sdp: str, address: str) -> str:
        """Take an offer.

        Args:
            sdp: as the browser made it.
            address: of this machine, by which it came; empty when that is not known.

        Raises:
            OfferError: it cannot be taken.
        """
        offer = RTCSessionDescription(sdp=checked_offer(sdp), type="offer")
        self._candidates = candidates_of(offer.sdp)
        _own_addresses.set((address,) if address else ())
        connection = self._connection
        try:
            transceiver = connection.addTransceiver(self._answer, direction="sendrecv")
            transceiver.setCodecPreferences(_opus())
            await connection.setRemoteDescription(offer)
            # private: the lock file keeps the version, and a test shows that this works
            setattr(transceiver.receiver, _JITTER_BUFFER, _Intake(self._take))
            await connection.setLocalDescription(await connection.createAnswer())
        except OfferError:
            raise
        except Exception as error:
            # whatever the parser trips over: the offer comes from outside
            logger.info("an offer was refused: %s", type(error).__name__)
            raise OfferError("this offer cannot be taken") from error
        return with_opus_settings(connection.localDescription.sdp, bit_rate=BIT_RATE)

    async def add_candidate(self, candidate: str, mid: str) -> None:
        """Take another address of the browser; what is of no use, or too much, is left out."""
        if self._candidates >= MAX_CANDIDATES or self.state == "closed":
            return
        if not is_candidate(candidate):
            return
        self._candidates += 1
        try:
            parsed = candidate_from_sdp(candidate.removeprefix("candidate:"))
            parsed.sdpMid = mid
            await self._connection.addIceCandidate(parsed)
        except Exception as error:
            logger.info("an address was refused: %s", type(error).__name__)

    def play(self, samples: list[Any]) -> None:
        """Send blocks to the browser's loudspeaker."""
        if self._answer.stream is not None:
            for block in samples:
                self._answer.stream.push(block, time.monotonic_ns())
            self._answer.news.set()

    @property
    def is_playing(self) -> bool:
        """Whether the browser is being played to."""
        stream = self._answer.stream
        return stream is not None and stream.is_playing(time.monotonic_ns())

    def tell(self, event: Event) -> None:
        """Send an event over the data channel, if there is one and it is read."""
        channel = self._channel
        if (
            channel is not None
            and channel.readyState == "open"
            and channel.bufferedAmount < _CHANNEL_MOST_BYTES
        ):
            channel.send(json.dumps(event, ensure_ascii=False))

    def counters(self) -> dict[str, float]:
        """Losses so far."""
        microphone, stream = self.microphone, self._answer.stream
        return {
            "packets": microphone.packets,
            "late_packets": microphone.late_packets,
            "invalid_packets": microphone.invalid_packets,
            "refused_packets": microphone.refused_packets,
            "concealed_ms": round(microphone.concealed_ms, 1),
            "underruns": stream.underruns if stream else 0,
        }

    def excess(self) -> str:
        """What the browser does more of than a page of ours can; empty when nothing. Whatever it
        sends may leave something behind here, so such a one is to be sent away."""
        if self._spoke:
            return "it speaks on the data channel"
        if len(self._sources) > _SOURCES_MOST:
            return "it speaks with too many voices"
        for transceiver in self._connection.getTransceivers():
            transport = transceiver.receiver.transport
            if transport and len(transport.transport.getRemoteCandidates()) > _ADDRESSES_MOST:
                return "it comes from too many addresses"
        sctp = self._connection.sctp
        # private, as above: there is no other way to see messages that never end
        streams = sctp._inbound_streams.values() if sctp else ()
        if sum(len(stream.reassembly) for stream in streams) > _PARTS_MOST:
            return "its messages do not end"
        return ""

    async def close(self) -> None:
        """End the connection; the browser is told. May be called twice."""
        if self._poll is not None:
            self._poll.cancel()
            self._poll = None
        self._answer.stop()
        self._answer.news.set()
        try:
            await asyncio.wait_for(self._connection.close(), _CLOSE_WITHIN_S)
        except Exception as error:
            logger.warning("a connection did not end well: %s", type(error).__name__)

    def _take(self, packet: RtpPacket) -> None:
        now_ns = self.last_packet_ns = time.monotonic_ns()
        if len(self._sources) <= _SOURCES_MOST:
            self._sources.add(packet.ssrc)
        blocks = self.microphone.push(
            Packet(packet.sequence_number, packet.timestamp, packet.payload, now_ns)
        )
        if blocks:
            self._heard(blocks)
        if self._poll is None:
            self._poll = asyncio.get_running_loop().create_task(self._keep_polling())

    async def _keep_polling(self) -> None:
        while True:
            await asyncio.sleep(_POLL_S)
            if blocks := self.microphone.poll(time.monotonic_ns()):
                self._heard(blocks)

    def _connection_changed(self) -> None:
        self._changed()

    def _take_channel(self, channel: RTCDataChannel) -> None:
        if self._channel is not None:
            self._spoke = True
            return
        self._channel = channel
        channel.on("message", self._take_message)
        self.on_channel()

    def _take_message(self, _message: object) -> None:
        self._spoke = True
