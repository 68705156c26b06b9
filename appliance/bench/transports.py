"""Ways to get blocks from one process to several: the product's rings, and what to compare with.

All are given the same blocks and hand out the same ``Received``. ``ring`` is the product's own
code, heartbeat included. The baselines are what one would write without it.
"""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.queues import Queue
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import zmq
from numpy.typing import NDArray

from appliance.ipc import segment
from appliance.ipc.audio_ring import MIC_RING, RingFormat, RingReader, RingWriter
from appliance.ipc.bus import Bus, publisher_endpoint
from appliance.messages import BlocksReady, ring_topic

RING_TOPIC = ring_topic(MIC_RING.name)
_PAYLOAD_HEADER = struct.Struct("<Qq")
_ANNOUNCEMENT = struct.Struct("<Q")
_COPIED_SLOT = struct.Struct("<QqI4x")
_COPIED_SLOTS = 1_000
_POLL_MS = 500

Sample = NDArray[np.float32]
QueueItem = tuple[int, int, Sample]


class Received(NamedTuple):
    """One block at its reader; ``mark`` says to which part of a run it belongs."""

    mark: int
    sent_ns: int
    samples: Sample


@dataclass(frozen=True)
class Place:
    """Where a run has its sockets and segments."""

    runtime_dir: Path
    shm_prefix: str
    ring: RingFormat = MIC_RING
    queues: Mapping[str, Queue[QueueItem]] = field(default_factory=dict)


Send = Callable[[int, Sample], None]
"""Sends one block with its mark to all readers."""
Receive = Callable[[], list[Received]]
"""What has come, after waiting at most half a second."""


class Ring:
    """The product: slots that prove themselves, announced over the bus."""

    @staticmethod
    def writer(place: Place) -> tuple[Send, Callable[[], None]]:
        """The capture process's side."""
        bus = Bus(runtime_dir=place.runtime_dir, process="capture")
        ring = RingWriter(place.shm_prefix, place.ring)

        def send(mark: int, samples: Sample) -> None:
            bus.publish(ring.write(samples, time.monotonic_ns(), mark))

        def close() -> None:
            ring.close()
            bus.close()

        return send, close

    @staticmethod
    def reader(place: Place, name: str) -> Receive:
        """The side of process ``name``."""
        bus = Bus(runtime_dir=place.runtime_dir, process=name, topics=[RING_TOPIC])
        ring = RingReader(place.shm_prefix, place.ring.name)

        def receive() -> list[Received]:
            message = bus.receive(_POLL_MS)
            if not isinstance(message, BlocksReady):
                return []
            ring.announced(message)
            return [Received(b.stream_id, b.captured_ns, b.samples) for b in ring.read()]

        return receive


class CopyCrc:
    """Plain ZeroMQ SUB behind a poller, copy out of shared memory, CRC: the bare minimum."""

    @staticmethod
    def writer(place: Place) -> tuple[Send, Callable[[], None]]:
        """Binds a PUB socket and makes a segment of bare slots."""
        context, socket = _publisher(place)
        slot_bytes = _COPIED_SLOT.size + place.ring.payload_bytes
        name = segment.segment_name(place.shm_prefix, "plain", 0)
        memory, held = segment.create_segment(name, slot_bytes * _COPIED_SLOTS)
        buffer = segment.view(memory)
        sequence = -1

        def send(mark: int, samples: Sample) -> None:
            nonlocal sequence
            sequence += 1
            at = sequence % _COPIED_SLOTS * slot_bytes
            payload = samples.tobytes()
            _COPIED_SLOT.pack_into(buffer, at, mark, time.monotonic_ns(), zlib.crc32(payload))
            buffer[at + _COPIED_SLOT.size : at + slot_bytes] = payload
            socket.send(_ANNOUNCEMENT.pack(sequence))

        def close() -> None:
            segment.unlink_segment(name)
            buffer.release()
            memory.close()
            held.release()
            socket.close()
            context.term()

        return send, close

    @staticmethod
    def reader(place: Place, name: str, /) -> Receive:
        """Attaches when the first announcement comes."""
        socket = _subscriber(place)
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        slot_bytes = _COPIED_SLOT.size + place.ring.payload_bytes
        buffer: memoryview | None = None

        def receive() -> list[Received]:
            nonlocal buffer
            if not poller.poll(_POLL_MS):
                return []
            (sequence,) = _ANNOUNCEMENT.unpack(socket.recv())
            if buffer is None:
                name = segment.segment_name(place.shm_prefix, "plain", 0)
                buffer = segment.view(segment.attach_segment(name))
            at = sequence % _COPIED_SLOTS * slot_bytes
            slot = bytes(buffer[at : at + slot_bytes])
            mark, sent_ns, crc = _COPIED_SLOT.unpack_from(slot)
            payload = memoryview(slot)[_COPIED_SLOT.size :]
            if zlib.crc32(payload) != crc:
                return []
            return [Received(mark, sent_ns, np.frombuffer(payload, np.float32))]

        return receive


class Payload:
    """The samples themselves in the ZeroMQ message."""

    @staticmethod
    def writer(place: Place) -> tuple[Send, Callable[[], None]]:
        """Binds a PUB socket."""
        context, socket = _publisher(place)

        def send(mark: int, samples: Sample) -> None:
            socket.send(_PAYLOAD_HEADER.pack(mark, time.monotonic_ns()) + samples.tobytes())

        def close() -> None:
            socket.close()
            context.term()

        return send, close

    @staticmethod
    def reader(place: Place, name: str, /) -> Receive:
        """Blocks in ``recv``."""
        socket = _subscriber(place)
        socket.setsockopt(zmq.RCVTIMEO, _POLL_MS)

        def receive() -> list[Received]:
            try:
                frame = socket.recv()
            except zmq.Again:
                return []
            mark, sent_ns = _PAYLOAD_HEADER.unpack_from(frame)
            return [Received(mark, sent_ns, np.frombuffer(frame, np.float32, offset=16))]

        return receive


class MpQueue:
    """``multiprocessing.Queue``, one for each reader."""

    @staticmethod
    def writer(place: Place) -> tuple[Send, Callable[[], None]]:
        """Puts each block into every queue; feeder threads pickle it."""

        def send(mark: int, samples: Sample) -> None:
            item = (mark, time.monotonic_ns(), samples)
            for one in place.queues.values():
                one.put(item)

        def close() -> None:
            for one in place.queues.values():
                one.close()
                one.join_thread()

        return send, close

    @staticmethod
    def reader(place: Place, name: str) -> Receive:
        """Blocks in ``get``."""
        mine = place.queues[name]
        return lambda: [Received(*mine.get())]


class Transport(Protocol):
    """One way to get blocks across."""

    @staticmethod
    def writer(place: Place) -> tuple[Send, Callable[[], None]]:
        """The writer's side: how to send, and how to end."""
        ...

    @staticmethod
    def reader(place: Place, name: str, /) -> Receive:
        """The side of reader ``name``."""
        ...


TRANSPORTS: dict[str, type[Transport]] = {
    "ring": Ring,
    "copy_crc": CopyCrc,
    "payload": Payload,
    "mp_queue": MpQueue,
}


def _publisher(place: Place) -> tuple[zmq.Context[zmq.Socket[bytes]], zmq.Socket[bytes]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.PUB)
    socket.setsockopt(zmq.LINGER, 100)
    socket.bind(publisher_endpoint(place.runtime_dir, "capture", 0))
    return context, socket


def _subscriber(place: Place) -> zmq.Socket[bytes]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SUBSCRIBE, b"")
    socket.setsockopt(zmq.RECONNECT_IVL, 10)
    socket.connect(publisher_endpoint(place.runtime_dir, "capture", 0))
    return socket
