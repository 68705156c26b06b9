"""The bus: typed messages over ZeroMQ ``ipc://`` sockets, no broker.

Every process binds one PUB socket; who publishes a topic stands in the table of messages, so a
subscriber knows where to connect. The heartbeat is sent by ``receive`` itself: a process whose
loop no longer comes round falls silent, whatever its threads still do.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
import zmq

from appliance.messages import (
    SCHEMA_VERSION,
    TOPICS,
    BlocksReady,
    Heartbeat,
    Message,
    ProcessState,
    Request,
    heartbeat_topic,
    ring_topic,
)
from appliance.processes import HEARTBEAT_INTERVAL_MS, PROCESSES

_NEWS_INTERVAL_MS, _NEWS_NS = 50, 1_000_000_000
"""A new state is repeated more often for a second: a subscriber may still be reconnecting."""
_SETTLE_MS = 250
"""Longer than the longest pause between two attempts of a subscriber to reconnect."""
_NUL = b"\0"
_VERSION = bytes([SCHEMA_VERSION])
_RECONNECT_MS = 10
_RECONNECT_MAX_MS = 160  # a process that stays away must not cost 100 attempts a second
_MAX_REQUEST_BYTES = 64 << 20
_HIGH_WATER_MARK = 10_000  # messages; 100 s of announcements
_DECODE_ERRORS = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


class WireError(ValueError):
    """A frame that is not a valid message of its topic."""


_encoder = msgspec.msgpack.Encoder()
_decoders = {
    topic.encode(): msgspec.msgpack.Decoder(spec.message) for topic, spec in TOPICS.items()
}
_request_decoder: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)


def topic_of(message: Message) -> str:
    """The topic a message is published under."""
    if isinstance(message, BlocksReady):
        return ring_topic(message.ring)
    if isinstance(message, Heartbeat):
        return heartbeat_topic(message.process)
    return message.topic


def encode(message: Message) -> bytes:
    """One frame: topic, NUL, schema version, msgpack."""
    return b"".join((topic_of(message).encode(), _NUL, _VERSION, _encoder.encode(message)))


def decode(frame: bytes) -> Message:
    """The message in a frame.

    Raises:
        WireError: unknown topic, another schema version, or fields that do not fit.
    """
    topic, separator, rest = frame.partition(_NUL)
    decoder = _decoders.get(topic)
    if decoder is None or not separator:
        raise WireError(f"unknown topic {topic[:40]!r}")
    if rest[:1] != _VERSION:
        raise WireError(f"{topic.decode()}: schema version {rest[:1]!r}, expected {_VERSION!r}")
    try:
        return decoder.decode(rest[1:])
    except _DECODE_ERRORS as error:
        raise WireError(f"{topic.decode()}: {error}") from None


def publisher_endpoint(runtime_dir: Path, process: str, instance: int) -> str:
    """Where an instance of a process publishes."""
    return f"ipc://{runtime_dir}/{process}.{instance}.pub"


def request_endpoint(runtime_dir: Path, process: str, instance: int) -> str:
    """Where an instance of a process takes requests."""
    return f"ipc://{runtime_dir}/{process}.{instance}.req"


class Subscription:
    """Receives topics from whoever publishes them, across restarts of the publishers."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], runtime_dir: Path, topics: Iterable[str]
    ) -> None:
        self.socket = context.socket(zmq.SUB)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVHWM, _HIGH_WATER_MARK)
        self.socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
        self.socket.setsockopt(zmq.RECONNECT_IVL_MAX, _RECONNECT_MAX_MS)
        self.invalid_frames = 0
        """Frames that were not valid messages; they are dropped."""
        publishers = set()
        for topic in topics:
            publishers.add(TOPICS[topic].publisher)
            self.socket.setsockopt(zmq.SUBSCRIBE, topic.encode() + _NUL)
        for publisher in sorted(publishers):
            for instance in range(PROCESSES[publisher].instances):
                self.socket.connect(publisher_endpoint(runtime_dir, publisher, instance))
        self._timeout_ms: int | None = None

    def receive(self, timeout_ms: int) -> Message | None:
        """The next valid message, or None when none came in time."""
        if timeout_ms != self._timeout_ms:
            self.socket.setsockopt(zmq.RCVTIMEO, timeout_ms)
            self._timeout_ms = timeout_ms
        try:
            frame = self.socket.recv()
        except zmq.Again:
            return None
        try:
            return decode(frame)
        except WireError:
            self.invalid_frames += 1
            return None

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


class Bus:
    """What a process's loop holds: receive, publish, requests, heartbeat, stop."""

    def __init__(
        self,
        *,
        runtime_dir: Path,
        process: str,
        instance: int = 0,
        topics: Iterable[str] = (),
        restarts: int = 0,
    ) -> None:
        """Bind this instance's sockets and connect to the publishers of ``topics``."""
        self.runtime_dir = runtime_dir
        self.process = process
        self.instance = instance
        self.life = time.monotonic_ns()
        self.running = True
        self.state: ProcessState = "starting"
        self.detail = ""
        self.rings: dict[str, int] = {}
        self.counters: dict[str, float] = {}
        self.busy: Callable[[], int] = lambda: 0
        """Milliseconds the job in hand has been running."""
        self.hung: Callable[[], bool] = lambda: False
        """Whether the job in hand has outrun its bound: then the heartbeat stops."""
        self.on_ready: Callable[[], None] = lambda: None
        """Called when the process leaves the state ``starting``."""
        self._restarts = restarts
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=1)
        self._publisher = self._context.socket(zmq.PUB)
        self._publisher.setsockopt(zmq.LINGER, 100)
        self._publisher.setsockopt(zmq.SNDHWM, _HIGH_WATER_MARK)
        self._publisher.bind(publisher_endpoint(runtime_dir, process, instance))
        self._settled_ns = time.monotonic_ns() + _SETTLE_MS * 1_000_000
        self._subscription = Subscription(self._context, runtime_dir, topics)
        self._requests: zmq.Socket[bytes] | None = None
        self._pending: deque[tuple[bytes, Request]] = deque()
        if PROCESSES[process].accepts_requests:
            self._requests = self._context.socket(zmq.ROUTER)
            self._requests.setsockopt(zmq.LINGER, 100)
            self._requests.setsockopt(zmq.MAXMSGSIZE, _MAX_REQUEST_BYTES)
            self._requests.bind(request_endpoint(runtime_dir, process, instance))
        self._poller: zmq.Poller | None = None
        if self._requests:
            self._use_poller()
        self._next_beat_ns = self._news_until_ns = 0
        self._beat_ms = HEARTBEAT_INTERVAL_MS
        self._notify = _SystemdNotifier()

    def _use_poller(self) -> zmq.Poller:
        if self._poller is None:
            self._poller = zmq.Poller()
            self._poller.register(self._subscription.socket, zmq.POLLIN)
            if self._requests:
                self._poller.register(self._requests, zmq.POLLIN)
        return self._poller

    def wake_on(self, descriptor: int) -> None:
        """Let ``receive`` return when this file descriptor becomes readable."""
        self._use_poller().register(descriptor, zmq.POLLIN)

    def forget(self, descriptor: int) -> None:
        """Undo ``wake_on``."""
        self._use_poller().unregister(descriptor)

    def publish(self, message: Message) -> None:
        """Send to whoever has subscribed. Only this process's own topics, from its own loop."""
        self._publisher.send(encode(message))

    def receive(self, timeout_ms: int = HEARTBEAT_INTERVAL_MS) -> Message | None:
        """The next message, or None when the time is up or something else woke the loop.

        Publishes the heartbeat when it is due: the loop must come here to count as alive.
        """
        now_ns = time.monotonic_ns()
        if now_ns >= self._next_beat_ns and not self.hung():
            self.beat()
        timeout_ms = min(timeout_ms, self._beat_ms)
        if self._poller is None:
            return self._subscription.receive(timeout_ms)
        message = self._subscription.receive(0)
        if message is not None or timeout_ms == 0:
            return message
        for source, _ in self._poller.poll(timeout_ms):
            if source is self._subscription.socket:
                return self._subscription.receive(0)
            if source is self._requests:
                self._take_request()
        return None

    @property
    def descriptors(self) -> tuple[int, ...]:
        """For a loop of another kind (asyncio): one becomes readable when something may have come.

        ZeroMQ signals changes only, so `drain` then, and after every `reply` too; and call `beat`.
        """
        sockets = [self._subscription.socket, *([self._requests] if self._requests else [])]
        return tuple(int(socket.getsockopt(zmq.FD)) for socket in sockets)

    def drain(self) -> Iterator[Message]:
        """All that has come, without waiting; requests are left for `requests`."""
        while self._subscription.socket.poll(0):
            if message := self._subscription.receive(0):
                yield message
        while self._requests and self._requests.poll(0):
            self._take_request()

    def _take_request(self) -> None:
        assert self._requests is not None
        client, *frames = self._requests.recv_multipart()
        try:
            request = _request_decoder.decode(frames[-1] if frames else b"")
        except _DECODE_ERRORS:
            self._subscription.invalid_frames += 1
            return
        self._pending.append((client, request))

    def requests(self) -> Iterable[tuple[bytes, Request]]:
        """Requests that came in, each with the client to answer."""
        while self._pending:
            yield self._pending.popleft()

    def reply(self, client: bytes, message: Request) -> None:
        """Answer a request; dropped if the client has gone."""
        assert self._requests is not None
        self._requests.send_multipart([client, _encoder.encode(message)])

    def ready(self, state: ProcessState = "ready", detail: str = "") -> None:
        """Say in what state the process is, at once.

        After a restart the first to work waits until its predecessor's subscribers have found it:
        what is published before that, nobody hears.
        """
        if state in ("ready", "degraded"):
            time.sleep(max(0, self._settled_ns - time.monotonic_ns()) / 1e9)
        if self.state == "starting":
            self.on_ready()
        self.state, self.detail = state, detail
        self._news_until_ns = time.monotonic_ns() + _NEWS_NS
        self.beat()
        if state != "starting":
            self._notify.send("READY=1")

    def beat(self) -> None:
        """Send the heartbeat now."""
        now_ns = time.monotonic_ns()
        self._beat_ms = _NEWS_INTERVAL_MS if now_ns < self._news_until_ns else HEARTBEAT_INTERVAL_MS
        self._next_beat_ns = now_ns + self._beat_ms * 1_000_000
        self.publish(
            Heartbeat(
                process=self.process,
                instance=self.instance,
                life=self.life,
                pid=os.getpid(),
                state=self.state,
                detail=self.detail,
                restarts=self._restarts,
                busy_ms=self.busy(),
                rings=self.rings,
                counters={**self.counters, "invalid_frames": self._subscription.invalid_frames},
            )
        )
        self._notify.send("WATCHDOG=1")

    def close(self) -> None:
        """Close all sockets and take their files away."""
        self._subscription.close()
        self._publisher.close()
        if self._requests:
            self._requests.close()
        self._context.term()
        for kind in ("pub", "req"):
            (self.runtime_dir / f"{self.process}.{self.instance}.{kind}").unlink(missing_ok=True)


class Client:
    """The command line's side of a request: a DEALER to one instance of a process."""

    def __init__(self, runtime_dir: Path, process: str, instance: int = 0) -> None:
        # the common one: a context of its own would wait for ever if its owner forgot to close it
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(request_endpoint(runtime_dir, process, instance))

    def send(self, message: Request) -> None:
        """Send one request."""
        self._socket.send(_encoder.encode(message))

    def receive(self, timeout_ms: int) -> Request | None:
        """The next answer, or None.

        Raises:
            WireError: what came is no answer.
        """
        if not self._socket.poll(timeout_ms):
            return None
        try:
            return _request_decoder.decode(self._socket.recv())
        except _DECODE_ERRORS as error:
            raise WireError(f"answer: {error}") from None

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def subscribe(runtime_dir: Path, topics: Iterable[str]) -> Subscription:
    """A listener that is no process of the table: command line, tests, supervisor."""
    return Subscription(zmq.Context.instance(), runtime_dir, topics)


class _SystemdNotifier:
    """``sd_notify(3)``: one datagram; silent when systemd did not ask for it."""

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            if address
            else None
        )

    def send(self, text: str) -> None:
        if self._socket is not None:
            # systemd away for a moment (a re-exec) is no reason to die; its watchdog judges
            with contextlib.suppress(OSError):
                self._socket.sendto(text.encode(), self._address)
