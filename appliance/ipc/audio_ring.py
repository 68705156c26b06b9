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
from dataclasses import dataclass, replace
from multiprocessing import shared_memory

import msgspec
import numpy as np
from numpy.typing import NDArray

from appliance.ipc import segment
from appliance.messages import BlocksReady, Span
from appliance.processes import mic_ring, speaker_ring

_MAGIC = b"VARING03"
# magic, epoch, slots, payload bytes, rate, channels
_RING_HEADER = struct.Struct("<8sQIIII")
_RING_HEADER_BYTES = 64
# epoch, sequence, captured_ns, stream id, position, near-end; the crc over these and the payload
_SLOT_HEADER = struct.Struct("<QQqQQf")
_CRC = struct.Struct("<I")
_SLOT_HEADER_BYTES = 48  # header and crc: the payload stays 8-byte aligned


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
"""10 s of what the loudspeaker plays; the stream id is the utterance's hash."""


def mic_format(session_id: str) -> RingFormat:
    """Geometry of a session's mic ring."""
    return replace(MIC_RING, name=mic_ring(session_id))


def speaker_format(session_id: str) -> RingFormat:
    """Geometry of a session's speaker ring."""
    return replace(SPEAKER_RING, name=speaker_ring(session_id))


class Block(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One block as read: an owned, read-only copy."""

    epoch: int
    sequence: int
    captured_ns: int
    stream_id: int
    samples: NDArray[np.float32]
    """Shape (block_samples,) for one channel, (block_samples, channels) otherwise."""
    position: int = 0
    """Index of its first sample in its device stream, at the ring's rate, where the writer gives
    one: blocks that were left out are counted, and a stream that was interrupted begins anew."""
    near_end: float = 1.0
    """Mic ring: belief that it holds more than what is left of an echo, 0 to 1."""


class RingWriter:
    """The one writer of a ring in this life."""

    def __init__(self, prefix: str, fmt: RingFormat) -> None:
        """Remove what dead predecessors left, create this life's segment.

        Raises:
            ApplianceError: ``/dev/shm`` has no room, or the ring has a living writer.
        """
        self.format = fmt
        self.sequence = -1
        """Sequence of the newest block, -1 before the first."""
        segment.remove_dead_segments(prefix, fmt.name)
        self.epoch = time.monotonic_ns()
        self._name = segment.segment_name(prefix, fmt.name, self.epoch)
        self._memory, self._held = segment.create_segment(self._name, fmt.segment_bytes)
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
        self,
        samples: NDArray[np.float32],
        captured_ns: int,
        stream_id: int = 0,
        position: int = 0,
        near_end: float = 1.0,
    ) -> BlocksReady:
        """Put one block into the next slot; publish what this returns.

        Args:
            samples: shape (block_samples,) or (block_samples, channels), float32.
            captured_ns: when its first sample was captured (or will be played).
            stream_id: which stream it belongs to.
            position: index of its first sample in its device stream, see `Block`.
            near_end: belief that it holds the user's voice, see `Block`.
        """
        payload = np.ascontiguousarray(samples, dtype=np.float32).data.cast("B")
        if payload.nbytes != self._payload_bytes:
            raise ValueError(f"a block has {self._payload_bytes} bytes, not {payload.nbytes}")
        sequence = self.sequence + 1
        header = _SLOT_HEADER.pack(self.epoch, sequence, captured_ns, stream_id, position, near_end)
        at = _RING_HEADER_BYTES + (sequence % self.format.slots) * self._slot_bytes
        buffer = self._buffer
        start = at + _SLOT_HEADER_BYTES
        buffer[start : start + self._payload_bytes] = payload
        buffer[at : at + _SLOT_HEADER.size] = header
        _CRC.pack_into(buffer, at + _SLOT_HEADER.size, zlib.crc32(payload, zlib.crc32(header)))
        self.sequence = sequence
        return self.announcement()

    def announcement(self) -> BlocksReady:
        """What to publish: all blocks so far can be read."""
        return BlocksReady(ring=self.format.name, epoch=self.epoch, sequence=self.sequence)

    def close(self) -> None:
        """Take the segment's name away and let go of the memory."""
        segment.unlink_segment(self._name)
        self._buffer.release()
        self._memory.close()
        self._held.release()


class _Life:
    """The segment of one writer life, as a reader sees it."""

    def __init__(self, memory: shared_memory.SharedMemory, epoch: int, ring: str) -> None:
        if memory.size < _RING_HEADER_BYTES:
            memory.close()
            raise ValueError(f"{memory.name} is no ring")
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
        fits = slots > 0 and memory.size >= self.format.segment_bytes
        if magic != _MAGIC or found != epoch or not fits:
            self.close()
            raise ValueError(f"{memory.name} is not a ring of epoch {epoch}")
        self.epoch = epoch
        self.next = 0
        """The first block not yet read."""
        self.newest = -1
        """The last block that may be read in order."""
        self._slot_bytes = self.format.slot_bytes
        self._payload_bytes = self.format.payload_bytes

    def block(self, sequence: int) -> Block | None:
        """The block if the slot still (or already) holds it whole, else None."""
        at = _RING_HEADER_BYTES + (sequence % self.format.slots) * self._slot_bytes
        slot = bytes(self.buffer[at : at + _SLOT_HEADER_BYTES + self._payload_bytes])
        epoch, found, captured_ns, stream_id, position, near_end = _SLOT_HEADER.unpack_from(slot)
        payload = memoryview(slot)[_SLOT_HEADER_BYTES:]
        if (
            found != sequence
            or epoch != self.epoch
            or _CRC.unpack_from(slot, _SLOT_HEADER.size)[0]
            != zlib.crc32(payload, zlib.crc32(slot[: _SLOT_HEADER.size]))
        ):
            return None
        samples = np.frombuffer(payload, dtype=np.float32).reshape(self.format.shape)
        return Block(epoch, sequence, captured_ns, stream_id, samples, position, near_end)

    def last_whole(self) -> Block | None:
        """The newest whole block, announced or not. For dead writers: nothing moves any more."""
        headers = np.ndarray(
            (self.format.slots, 2),
            dtype="<u8",
            buffer=self.buffer,
            offset=_RING_HEADER_BYTES,
            strides=(self._slot_bytes, 8),
        )
        sequences = headers[headers[:, 0] == self.epoch, 1].tolist()
        whole = (self.block(sequence) for sequence in sorted(sequences, reverse=True))
        return next((block for block in whole if block), None)

    def close(self) -> None:
        self.buffer.release()
        self._memory.close()


class RingReader:
    """A reader with a private position; it can neither slow nor harm the writer.

    Keeps the last two writer lives mapped, so that audio from before a restart of the writer can
    still be named and read.
    """

    KEPT_LIVES = 2
    _WINDOW_READS = 100

    def __init__(self, prefix: str, ring: str) -> None:
        self._prefix = prefix
        self._ring = ring
        self._lives: dict[int, _Life] = {}
        self._current: _Life | None = None
        self._pending: list[Block] = []
        self._gone = (0, -1)
        self.lost_blocks = 0
        """Blocks that were written for this reader and that it could no longer read whole."""
        self._reads = self._most_unread = self._most_unread_before = 0

    @property
    def most_unread_blocks(self) -> int:
        """How many blocks waited for it at most, of late: at its last `_WINDOW_READS` or more."""
        return max(self._most_unread, self._most_unread_before)

    @property
    def format(self) -> RingFormat | None:
        """Geometry of the newest segment known; None before the first."""
        return self._lives[max(self._lives)].format if self._lives else None

    def announced(self, message: BlocksReady, *, rewind_blocks: int = 0) -> bool:
        """Take note of what can be read. Returns True when this begins a new writer life.

        A reader that followed the life before gets that one to its very end, with what the dead
        writer had no time to announce, and the new one from its first block on.

        Args:
            message: the announcement.
            rewind_blocks: how many blocks before the first announced one a new reader starts.
        """
        current = self._current
        if current is not None and message.epoch <= current.epoch:
            if message.epoch == current.epoch:
                current.newest = max(current.newest, message.sequence)
            return False  # else a late word of a life already left
        life = self._map(message.epoch)
        if life is None:  # died again already: its successor will announce itself
            if current is not None:
                counted = self._gone[1] if self._gone[0] == message.epoch else -1
                self.lost_blocks += max(0, message.sequence - counted)
                self._gone = (message.epoch, max(counted, message.sequence))
            return False
        life.newest = message.sequence
        if current is None:
            oldest = message.sequence + 1 - life.format.slots
            life.next = max(0, oldest, message.sequence - rewind_blocks)
        else:
            if last := current.last_whole():
                current.newest = max(current.newest, last.sequence)
            self._pending += self._drain(current)
        self._current = life
        return True

    def read(self) -> list[Block]:
        """All blocks not yet read, in order; lost ones are skipped and counted."""
        blocks, self._pending = self._pending, []
        if self._current is not None:
            blocks += self._drain(self._current)
        return blocks

    def _drain(self, life: _Life) -> list[Block]:
        if life.next > life.newest:
            return []
        self._reads += 1
        if self._reads % self._WINDOW_READS == 0:
            self._most_unread_before, self._most_unread = self._most_unread, 0
        self._most_unread = max(self._most_unread, life.newest + 1 - life.next)
        blocks = []
        first = max(life.next, life.newest + 1 - life.format.slots)
        self.lost_blocks += first - life.next
        for sequence in range(first, life.newest + 1):
            block = life.block(sequence)
            if block is None:
                self.lost_blocks += 1
            else:
                blocks.append(block)
        life.next = life.newest + 1
        return blocks

    def attach(self, epoch: int) -> bool:
        """Map a writer life's segment, so that its audio can be read by name from now on.

        For a reader that follows no announcements and reads only what events name: what it has
        attached stays readable when the writer is replaced.

        Returns:
            False when the segment has gone: its writer died and a successor removed it.
        """
        return self._map(epoch) is not None

    def read_span(self, spans: Sequence[Span]) -> tuple[NDArray[np.float32], int]:
        """The audio that an event names, and how many of its blocks are gone.

        A lost block is replaced by silence, so that the rest keeps its place in time; at most one
        ring's length of it per span. Needs no announcement before it.

        Returns:
            samples of shape (n,) or (n, channels), and the number of lost blocks.
        """
        parts: list[NDArray[np.float32]] = []
        lost = 0
        for span in spans:
            life = self._map(span.epoch)
            fmt = life.format if life else self.format
            lost += max(0, span.last + 1 - span.first)
            if fmt is None:
                continue
            silence = np.zeros(fmt.shape, np.float32)
            for sequence in range(max(span.first, span.last + 1 - fmt.slots), span.last + 1):
                block = life.block(sequence) if life else None
                lost -= block is not None
                parts.append(silence if block is None else block.samples)
        samples = np.concatenate(parts) if parts else np.zeros(0, np.float32)
        self.lost_blocks += lost
        return samples, lost

    def _map(self, epoch: int) -> _Life | None:
        """The life of this epoch, mapped now if need be; None when its segment has gone."""
        if life := self._lives.get(epoch):
            return life
        try:
            memory = segment.attach_segment(segment.segment_name(self._prefix, self._ring, epoch))
            life = _Life(memory, epoch, self._ring)
        except (FileNotFoundError, ValueError):
            return None
        self._lives[epoch] = life
        followed = self._current.epoch if self._current else epoch
        while len(self._lives) > self.KEPT_LIVES:
            self._lives.pop(min(e for e in self._lives if e != followed)).close()
        return self._lives.get(epoch)

    def close(self) -> None:
        """Let go of all mappings."""
        for life in self._lives.values():
            life.close()
        self._lives.clear()
        self._pending.clear()
        self._current = None


def last_block(prefix: str, ring: str) -> Block | None:
    """The newest whole block that the last dead writer of this ring left behind.

    Asked by a successor, before it removes the segments, to know how much audio was lost.
    """
    lives = {int(name.rpartition(".")[2]): name for name in segment.list_segments(prefix, ring)}
    for epoch in sorted(lives, reverse=True):
        try:
            life = _Life(segment.attach_segment(lives[epoch]), epoch, ring)
        except (FileNotFoundError, ValueError):
            continue
        block = life.last_whole()
        life.close()
        if block is not None:
            return block
    return None
