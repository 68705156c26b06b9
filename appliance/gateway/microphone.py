"""From the packets of a browser's microphone to blocks in order. Pure, but for the decoder.

A packet is decoded as soon as it is its turn: what listens is no loudspeaker that must be fed at
even times, so nothing is held back for it, and jitter costs nothing. Only behind a missing packet
the others wait, and not for long: then it is made up for. When nothing comes at all, silence takes
the place of what would have come, so that a turn can end.

What a packet claims about itself is not believed beyond what can be: a loss is no longer than the
buffer is deep, a stream of other numbers needs two packets in a row (RFC 3550 A.1), and more audio
than time has passed is let fall.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from appliance.audio.blocks import BLOCK_NS, RATE_HZ, Reblocker, Samples
from appliance.gateway.opus import OpusError

RTP_RATE_HZ = 48_000
"""Of Opus, whatever it carries (RFC 7587)."""
_TICKS_PER_SAMPLE = RTP_RATE_HZ // RATE_HZ
_NS_PER_TICK = 1e9 / RTP_RATE_HZ

REORDER_WAIT_NS = 40_000_000
"""So long the packets behind a missing one wait for it: more than jitter, less than a pause."""
STALL_NS = 200_000_000
"""Without any packet for so long, silence begins."""
_STALL_LAG_NS = 150_000_000
"""What silence leaves open, for packets that come after all."""
_LONGEST_MADE_UP = RATE_HZ * 60 // 1000
"""More than this is not made up but silent: a long guess sounds like speech that never was."""
_SMALLEST_MADE_UP = RATE_HZ * 5 // 2000
_LONGEST_GAP = RATE_HZ * (STALL_NS + REORDER_WAIT_NS) // 1_000_000_000
"""A longer jump in time is a new start of the stream, not a loss: by then silence has begun."""
_LATEST = 2 * RATE_HZ
"""Silence has taken the place of what is late by less: it is let fall."""
_MOST_WAITING = 50
_LONGEST_SILENCE = RATE_HZ
"""Given at once; what is still owed comes with the next poll."""
_AHEAD_MOST = RATE_HZ
"""Samples by which the stream may be longer than the time that it took: what a network that was
held up brings at once."""
_FASTEST_CLOCK = 1.01
_ANOTHER_STREAM = 500
"""Packets by which a sequence number may be off and still belong to the same stream."""
_CLOCK_GAIN = 0.000_5
"""The sender's clock is followed within about a minute; its quickest packets count."""


class Decoder(Protocol):
    """What is asked of a codec; see `appliance.gateway.opus.OpusDecoder`."""

    def decode(self, packet: bytes) -> Samples:
        """The samples of a packet."""
        ...

    def conceal(self, samples: int, following: bytes = b"") -> Samples:
        """What may have been in a lost packet."""
        ...


@dataclass(frozen=True)
class Packet:
    """One packet of RTP."""

    sequence: int
    """16 bits."""
    timestamp: int
    """32 bits, in 1/48000 s."""
    payload: bytes
    arrived_ns: int


@dataclass(frozen=True)
class HeardBlock:
    """10 ms of what the browser's microphone heard."""

    samples: Samples
    captured_ns: int
    """When its first sample would have been captured, had it taken no time to come."""


class MicrophoneStream:
    """Puts a stream of packets in order and in time.

    Args:
        decoder: of the codec; asked in the order of the stream.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._reblocker = Reblocker()
        self._waiting: dict[int, Packet] = {}
        """By sequence, counted on beyond 16 bits."""
        self._next: int | None = None
        self._ticks = 0
        """Where the stream is, in its own time counted from its beginning."""
        self._origin = 0
        """Timestamp of tick 0."""
        self._offset_ns: float | None = None
        """Of the sender's clock: when tick 0 would have arrived, at its quickest."""
        self._samples = 0
        """Given to the reblocker so far."""
        self._last_captured_ns = -1
        self._packet_samples = RATE_HZ // 50
        self._stray: int | None = None
        """The sequence number that would make the packet before the first of another stream."""
        self._allowed = float(_AHEAD_MOST)
        """Samples that may be given now; grows with time."""
        self._allowed_ns: int | None = None
        self.packets = 0
        self.late_packets = 0
        """Came when they had been made up for, or twice."""
        self.concealed_ms = 0.0
        """Made up or silent, for what never came."""
        self.invalid_packets = 0
        self.refused_packets = 0
        """Of a stream that nobody knows, or more than time has passed."""

    def push(self, packet: Packet) -> list[HeardBlock]:
        """Take a packet; give what is complete now."""
        self.packets += 1
        self._note_time(packet.arrived_ns)
        if self._next is None:
            self._begin(packet)
        assert self._next is not None
        ahead = (packet.sequence - self._next + 0x8000) % 0x10000 - 0x8000
        is_stray = abs(ahead) > _ANOTHER_STREAM
        is_expected = packet.sequence == self._stray
        self._stray = (packet.sequence + 1) % 0x10000 if is_stray else None
        if is_stray:
            if not is_expected:
                self.refused_packets += 1
                return []
            self._waiting.clear()
            self._begin(packet)
            ahead = 0
        if ahead < 0 or self._next + ahead in self._waiting:
            self.late_packets += 1
            return []
        self._waiting[self._next + ahead] = packet
        blocks = self._in_order()
        while len(self._waiting) > _MOST_WAITING:
            blocks += self._skip()
        return blocks

    def poll(self, now_ns: int) -> list[HeardBlock]:
        """Give up on what is overdue. Call it every 20 ms or so."""
        if self._next is None or self._offset_ns is None:
            return []
        self._note_time(now_ns)
        blocks: list[HeardBlock] = []
        while self._waiting and (
            now_ns - min(packet.arrived_ns for packet in self._waiting.values()) >= REORDER_WAIT_NS
        ):
            blocks += self._skip()
        if not self._waiting and now_ns - self._end_ns() >= STALL_NS:
            missing_ns = now_ns - _STALL_LAG_NS - self._end_ns()
            blocks += self._silence(min(int(missing_ns * RATE_HZ / 1e9), _LONGEST_SILENCE))
        return blocks

    def _note_time(self, now_ns: int) -> None:
        """Allow as much audio as time has passed."""
        passed_ns = 0 if self._allowed_ns is None else max(0, now_ns - self._allowed_ns)
        self._allowed_ns = now_ns
        grown = self._allowed + passed_ns * RATE_HZ * _FASTEST_CLOCK / 1e9
        self._allowed = min(float(_AHEAD_MOST), grown)

    def _begin(self, packet: Packet) -> None:
        """Start with this packet, or start anew where the stream was."""
        self._next = packet.sequence
        self._origin = (packet.timestamp - self._ticks) % (1 << 32)
        self._offset_ns = None

    def _ticks_of(self, packet: Packet) -> int:
        """A packet's place in the stream's own time."""
        behind = (packet.timestamp - self._origin - self._ticks) % (1 << 32)
        return self._ticks + (behind - (1 << 32) if behind >= 1 << 31 else behind)

    def _end_ns(self) -> int:
        """When the stream's end so far was captured."""
        assert self._offset_ns is not None
        return int(self._offset_ns + self._ticks * _NS_PER_TICK)

    def _follow_clock(self, packet: Packet) -> None:
        # a packet is sent when its last sample is there
        end = self._ticks_of(packet) + self._packet_samples * _TICKS_PER_SAMPLE
        offset_ns = packet.arrived_ns - end * _NS_PER_TICK
        if self._offset_ns is None or offset_ns < self._offset_ns:
            self._offset_ns = offset_ns
        else:
            self._offset_ns += _CLOCK_GAIN * (offset_ns - self._offset_ns)

    def _in_order(self) -> list[HeardBlock]:
        blocks: list[HeardBlock] = []
        assert self._next is not None
        while packet := self._waiting.pop(self._next, None):
            self._next += 1
            blocks += self._take(packet)
        return blocks

    def _skip(self) -> list[HeardBlock]:
        """Go on behind what is missing."""
        self._next = min(self._waiting)
        return self._in_order()

    def _take(self, packet: Packet) -> list[HeardBlock]:
        """Decode a packet, behind whatever is missing before it."""
        if self._allowed <= 0:
            self.refused_packets += 1
            return []
        missing = (self._ticks_of(packet) - self._ticks) // _TICKS_PER_SAMPLE
        blocks: list[HeardBlock] = []
        if missing > _LONGEST_GAP or missing < -_LATEST:
            self._origin = (packet.timestamp - self._ticks) % (1 << 32)
            self._offset_ns = None
            missing = 0
        self._follow_clock(packet)  # not while it waits: it may be of another time
        if missing > 0:
            blocks += self._make_up(missing, packet.payload)
        try:
            samples = self._decoder.decode(packet.payload)
        except OpusError:
            self.invalid_packets += 1
            return blocks + self._make_up(self._packet_samples, b"")
        self._packet_samples = len(samples)
        if missing < 0:  # silence has taken its place
            self.late_packets += 1
            samples = samples[min(-missing, len(samples)) :]
        return blocks + self._give(samples)

    def _make_up(self, missing: int, following: bytes) -> list[HeardBlock]:
        missing -= missing % _SMALLEST_MADE_UP
        copy = min(missing, self._packet_samples) if following else 0
        guess = min(missing - copy, _LONGEST_MADE_UP)
        parts = []
        if guess:
            parts.append(self._decoder.conceal(guess))
        if silent := missing - copy - guess:
            parts.append(np.zeros(silent, np.float32))
        if copy:
            parts.append(self._decoder.conceal(copy, following))
        self.concealed_ms += 1000 * missing / RATE_HZ
        return [block for part in parts for block in self._give(part)]

    def _silence(self, samples: int) -> list[HeardBlock]:
        self.concealed_ms += 1000 * samples / RATE_HZ
        return self._give(np.zeros(samples, np.float32))

    def _give(self, samples: Samples) -> list[HeardBlock]:
        begin_ns = self._end_ns() - self._reblocker.held_samples * BLOCK_NS // 160
        self._ticks += len(samples) * _TICKS_PER_SAMPLE
        self._allowed -= len(samples)
        blocks = []
        for index, block in enumerate(self._reblocker.push(samples)):
            captured_ns = max(begin_ns + index * BLOCK_NS, self._last_captured_ns + 1)
            self._last_captured_ns = captured_ns
            blocks.append(HeardBlock(block, captured_ns))
        return blocks
