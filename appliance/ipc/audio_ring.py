"""Audio rings: one writer, any number of readers, slots that prove themselves.

Publish by message: the writer fills a slot, then announces its sequence number over ZeroMQ; a
reader touches only what was announced, copies the slot and checks epoch, sequence and CRC on the
copy. A slot overwritten meanwhile fails the check and counts as lost; it is never heard as
garbage. Nothing relies on the order in which another core sees plain stores: see
``docs/rings.md`` for the argument on weakly ordered processors.
"""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import shared_memory

import numpy as np
from numpy.typing import NDArray

from appliance.ipc import segment
from appliance.messages import BlocksReady, Span

_MAGIC = b"VARING01"
# magic, epoch, slots, payload bytes, rate, channels
_RING_HEADER = struct.Struct("<8sQIIII")
_RING_HEADER_BYTES = 64
# epoch, sequence, captured_ns, stream id; then the crc over these and the payload
_SLOT_HEADER = struct.Struct("<QQqQ")
_CRC = struct.Struct("<I")
_SLOT_HEADER_BYTES = 40  # header, crc, 4 bytes of padding: the payload stays 8-byte aligned


@dataclass(frozen=True, kw_only=True)
class RingFormat:
    """Geometry of a ring."""

    name: str
    slots: int
    block_samples: int
    """Samples per channel in one block."""
    rate_hz: int
    channels: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one block: (samples,) for one channel, else (samples, channels)."""
        return (self.block_samples,) if self.channels == 1 else (self.block_samples, self.channels)

    @property
    def payload_bytes(self) -> int:
        """Bytes of one block of float32 samples."""
        return 4 * self.block_samples * self.channels

    @property
    def slot_bytes(self) -> int:
        """Bytes from one slot to the next: whole cache lines."""
        return -(-(_SLOT_HEADER_BYTES + self.payload_bytes) // 64) * 64

    @property
    def segment_bytes(self) -> int:
        """Bytes of the whole segment."""
        return _RING_HEADER_BYTES + self.slots * self.slot_bytes


MIC_RING = RingFormat(name="mic", slots=6_000, block_samples=160, rate_hz=16_000)
"""60 s of what the microphones heard, after the front-end."""
SPEAKER_RING = RingFormat(name="speaker", slots=1_000, block_samples=160, rate_hz=16_000)
"""10 s of what the loudspeaker really played; the stream id is the utterance's hash."""


@dataclass(frozen=True)
class Block:
    """One block as read: an owned copy."""

    epoch: int
    sequence: int
    captured_ns: int
    stream_id: int
    samples: NDArray[np.float32]
    """Shape (block_samples,) for one channel, (block_samples, channels) otherwise."""


class RingWriter:
    """The one writer of a ring in this life. The caller holds the ring's writer lock."""

    def __init__(self, prefix: str, fmt: RingFormat) -> None:
        """Remove what dead predecessors left, create this life's segment.

        Raises:
            ApplianceError: ``/dev/shm`` has no room.
        """
        self.format = fmt
        self.epoch = time.monotonic_ns()
        self.sequence = -1
        """Sequence of the newest block, -1 before the first."""
        for name in segment.list_segments(prefix, fmt.name):
            segment.unlink_segment(name)
        self._name = segment.segment_name(prefix, fmt.name, self.epoch)
        self._memory = segment.create_segment(self._name, fmt.segment_bytes)
        self._buffer = segment.view(self._memory)
        _RING_HEADER.pack_into(
            self._buffer,
            0,
            _MAGIC,
            self.epoch,
            fmt.slots,
            fmt.block_samples,
            fmt.rate_hz,
            fmt.channels,
        )
        self._slot_bytes = fmt.slot_bytes
        self._payload_bytes = fmt.payload_bytes

    def write(
        self, samples: NDArray[np.float32], captured_ns: int, stream_id: int = 0
    ) -> BlocksReady:
        """Put one block into the next slot; publish what this returns.

        Args:
            samples: shape (block_samples,) or (block_samples, channels), float32.
            captured_ns: when its first sample was captured (or will be played).
            stream_id: which stream it belongs to.
        """
        payload = np.ascontiguousarray(samples, dtype=np.float32).data.cast("B")
        if payload.nbytes != self._payload_bytes:
            raise ValueError(f"a block has {self._payload_bytes} bytes, not {payload.nbytes}")
        sequence = self.sequence + 1
        header = _SLOT_HEADER.pack(self.epoch, sequence, captured_ns, stream_id)
        at = _RING_HEADER_BYTES + (sequence % self.format.slots) * self._slot_bytes
        buffer = self._buffer
        start = at + _SLOT_HEADER_BYTES
        buffer[start : start + self._payload_bytes] = payload
        buffer[at : at + _SLOT_HEADER.size] = header
        _CRC.pack_into(buffer, at + _SLOT_HEADER.size, zlib.crc32(payload, zlib.crc32(header)))
        self.sequence = sequence
        return BlocksReady(ring=self.format.name, epoch=self.epoch, sequence=sequence)

    def close(self) -> None:
        """Take the segment's name away and let go of the memory."""
        segment.unlink_segment(self._name)
        self._buffer.release()
        self._memory.close()


class _Mapping:
    """One mapped segment of a ring, as a reader sees it."""

    def __init__(self, memory: shared_memory.SharedMemory, epoch: int, ring: str) -> None:
        self._memory = memory
        self.buffer = segment.view(memory)
        magic, found, slots, block_samples, rate_hz, channels = _RING_HEADER.unpack_from(
            self.buffer, 0
        )
        self.format = RingFormat(
            name=ring,
            slots=slots,
            block_samples=block_samples,
            rate_hz=rate_hz,
            channels=channels,
        )
        if magic != _MAGIC or found != epoch or memory.size < self.format.segment_bytes:
            self.close()
            raise ValueError(f"{memory.name} is not a ring of epoch {epoch}")
        self.epoch = epoch
        self.newest = -1
        self.slot_bytes = self.format.slot_bytes
        self.payload_bytes = self.format.payload_bytes

    def read(self, sequence: int) -> Block | None:
        """The block if the slot still (or already) holds it whole, else None."""
        at = _RING_HEADER_BYTES + (sequence % self.format.slots) * self.slot_bytes
        slot = bytes(self.buffer[at : at + _SLOT_HEADER_BYTES + self.payload_bytes])
        epoch, found, captured_ns, stream_id = _SLOT_HEADER.unpack_from(slot, 0)
        payload = memoryview(slot)[_SLOT_HEADER_BYTES:]
        if (
            found != sequence
            or epoch != self.epoch
            or _CRC.unpack_from(slot, _SLOT_HEADER.size)[0]
            != zlib.crc32(payload, zlib.crc32(slot[: _SLOT_HEADER.size]))
        ):
            return None
        samples = np.frombuffer(payload, dtype=np.float32).reshape(self.format.shape)
        return Block(epoch, sequence, captured_ns, stream_id, samples)

    def close(self) -> None:
        self.buffer.release()
        self._memory.close()


class RingReader:
    """A reader with a private position; it can neither slow nor harm the writer.

    Keeps the last two writer lives mapped, so that audio from before a restart of the writer can
    still be named and read.
    """

    KEPT_LIVES = 2

    def __init__(self, prefix: str, ring: str) -> None:
        self._prefix = prefix
        self._ring = ring
        self._lives: dict[int, _Mapping] = {}
        self._current: _Mapping | None = None
        self._next = 0
        self.lost_blocks = 0
        """Announced blocks whose slot no longer (or not) held them whole when it was read."""

    @property
    def format(self) -> RingFormat | None:
        """Geometry of the current life's segment; None before the first announcement."""
        return self._current.format if self._current else None

    def announced(self, message: BlocksReady, *, rewind_blocks: int = 0) -> bool:
        """Take note of what can be read. Returns True when this begins a new writer life.

        Args:
            message: the announcement.
            rewind_blocks: how far before a new life's first seen announcement to start reading.
        """
        current = self._current
        if current is not None and message.epoch == current.epoch:
            current.newest = max(current.newest, message.sequence)
            return False
        if message.epoch in self._lives or not self.attach(message.epoch):
            return False  # a late word of a life already left
        mapping = self._current
        assert mapping is not None
        mapping.newest = message.sequence
        # a reader that was there before wants the new life from its first block on
        oldest = 0 if current is not None else message.sequence + 1 - rewind_blocks
        self._next = max(0, message.sequence + 1 - mapping.format.slots, oldest)
        return True

    def attach(self, epoch: int) -> bool:
        """Map a writer life's segment, so that its audio can be read by name from now on.

        Returns:
            False when the segment has gone: its writer died and a successor removed it.
        """
        if epoch in self._lives:
            return True
        if self._current and epoch < self._current.epoch:
            return False
        try:
            memory = segment.attach_segment(segment.segment_name(self._prefix, self._ring, epoch))
        except FileNotFoundError:
            return False  # died again already: its successor will announce itself
        self._lives[epoch] = self._current = _Mapping(memory, epoch, self._ring)
        while len(self._lives) > self.KEPT_LIVES:
            self._lives.pop(min(self._lives)).close()
        return True

    def read(self) -> list[Block]:
        """All announced blocks not yet read, in order; lost ones are skipped and counted."""
        mapping = self._current
        if mapping is None or self._next > mapping.newest:
            return []
        blocks = []
        oldest = mapping.newest + 1 - mapping.format.slots
        if self._next < oldest:
            self.lost_blocks += oldest - self._next
            self._next = oldest
        for sequence in range(self._next, mapping.newest + 1):
            block = mapping.read(sequence)
            if block is None:
                self.lost_blocks += 1
            else:
                blocks.append(block)
        self._next = mapping.newest + 1
        return blocks

    def read_span(self, spans: Sequence[Span]) -> tuple[NDArray[np.float32], int]:
        """The audio that an event names, and how many of its blocks are gone.

        A lost block is replaced by silence, so that the rest keeps its place in time.

        Returns:
            samples of shape (n,) or (n, channels), and the number of lost blocks.
        """
        parts: list[NDArray[np.float32]] = []
        lost = 0
        for span in spans:
            mapping = self._lives.get(span.epoch)
            if mapping is None:
                lost += span.last - span.first + 1
                continue
            silence = np.zeros(mapping.format.shape, np.float32)
            for sequence in range(span.first, span.last + 1):
                block = mapping.read(sequence)
                lost += block is None
                parts.append(silence if block is None else block.samples)
        samples = np.concatenate(parts) if parts else np.zeros(0, np.float32)
        self.lost_blocks += lost
        return samples, lost

    def close(self) -> None:
        """Let go of all mappings."""
        for mapping in self._lives.values():
            mapping.close()
        self._lives.clear()
        self._current = None


def last_block(prefix: str, ring: str) -> Block | None:
    """The newest whole block that any dead writer of this ring left behind.

    Asked by a successor, before it removes the segments, to know how much audio was lost.
    """
    newest: Block | None = None
    for name in segment.list_segments(prefix, ring):
        try:
            mapping = _Mapping(segment.attach_segment(name), int(name.rpartition(".")[2]), ring)
        except (FileNotFoundError, ValueError):
            continue
        for slot in range(mapping.format.slots):
            at = _RING_HEADER_BYTES + slot * mapping.slot_bytes
            epoch, sequence, captured_ns, _ = _SLOT_HEADER.unpack_from(mapping.buffer, at)
            if epoch != mapping.epoch or (newest and captured_ns <= newest.captured_ns):
                continue
            if block := mapping.read(sequence):
                newest = block
        mapping.close()
    return newest
