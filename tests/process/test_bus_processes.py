"""The bus over real sockets and between real processes."""

import os
import threading
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection

import msgspec
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.ipc.bus import (
    Bus,
    Client,
    WireError,
    publisher_endpoint,
    request_endpoint,
    subscribe,
)
from appliance.ipc.worker import Worker
from appliance.messages import (
    SCHEMA_VERSION,
    Accepted,
    AskText,
    AudioGap,
    BlocksReady,
    Floor,
    Heartbeat,
    InjectAudio,
    Refused,
    heartbeat_topic,
    ring_topic,
)
from appliance.processes import HEARTBEAT_INTERVAL_MS

spawn = get_context("spawn")
_NUL_AND_VERSION = bytes([0, SCHEMA_VERSION])
MIC = ring_topic("mic")


def until(receive, wanted, timeout_s=10.0):
    """Receive until ``wanted(message)``, or fail."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        message = receive(50)
        if message is not None and wanted(message):
            return message
    raise AssertionError("not received in time")


def joined(publish, receive):
    """Publish until it arrives: a subscription takes a moment to reach its publisher."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        publish()
        if (message := receive(20)) is not None:
            return message
    raise AssertionError("never joined")


@pytest.fixture
def bus(place):
    made = []

    def make(process, **settings):
        made.append(Bus(runtime_dir=place.runtime_dir, process=process, **settings))
        return made[-1]

    yield make
    for it in made:
        it.close()


@pytest.fixture
def raw_capture(place):
    """A PUB socket in capture's place, to publish what capture never would."""
    context = zmq.Context()
    socket = context.socket(zmq.PUB)
    socket.setsockopt(zmq.LINGER, 0)
    socket.bind(publisher_endpoint(place.runtime_dir, "capture", 0))
    yield socket
    socket.close()
    context.term()
    (place.runtime_dir / "capture.0.pub").unlink()


def block(sequence):
    return BlocksReady(ring="mic", epoch=1, sequence=sequence)


def test_messages_arrive_in_order_and_only_those_subscribed_to(bus):
    capture, vad = bus("capture"), bus("vad", topics=[MIC])
    joined(lambda: capture.publish(block(0)), vad.receive)
    capture.publish(AudioGap(session_id="local", lost_ms=1.0, reason="not asked for"))
    for sequence in range(1, 200):
        capture.publish(block(sequence))
    seen = []
    while (message := vad.receive(200)) is not None:
        seen.append(message.sequence)
    assert [s for s in seen if s] == list(range(1, 200))


def test_a_subscriber_hears_all_instances_of_a_publisher(bus):
    vad = bus("vad", topics=[MIC])
    for instance in (0, 1):
        capture = bus("capture", instance=instance)
        message = BlocksReady(ring="mic", epoch=instance + 10, sequence=0)
        heard = joined(lambda c=capture, m=message: c.publish(m), vad.receive)
        while heard != message:
            heard = joined(lambda c=capture, m=message: c.publish(m), vad.receive)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(frames=st.lists(st.binary(max_size=64), min_size=1, max_size=8))
def test_garbage_frames_are_counted_and_never_fatal(place, raw_capture, frames):
    subscription = subscribe(place.runtime_dir, [MIC])
    good = MIC.encode() + _NUL_AND_VERSION + msgspec.msgpack.encode(block(7))
    try:
        assert joined(lambda: raw_capture.send(good), subscription.receive) == block(7)
        while subscription.receive(30) is not None:
            pass
        before = subscription.invalid_frames
        for frame in frames:
            raw_capture.send(MIC.encode() + b"\0\xff" + frame)  # another schema version
            raw_capture.send(MIC.encode() + _NUL_AND_VERSION + b"\xc1" + frame)  # no msgpack
        raw_capture.send(good)
        assert until(subscription.receive, lambda m: True) == block(7)
        assert subscription.invalid_frames - before == 2 * len(frames)
    finally:
        subscription.close()


def test_a_huge_frame_is_counted_and_the_next_message_still_comes(place, raw_capture):
    subscription = subscribe(place.runtime_dir, [MIC])
    good = MIC.encode() + _NUL_AND_VERSION + msgspec.msgpack.encode(block(7))
    joined(lambda: raw_capture.send(good), subscription.receive)
    raw_capture.send(MIC.encode() + _NUL_AND_VERSION + bytes(50_000_000))
    raw_capture.send(good)
    assert until(subscription.receive, lambda m: subscription.invalid_frames) == block(7)
    assert subscription.invalid_frames == 1
    subscription.close()


def test_frames_of_other_processes_do_not_stop_the_heartbeat(bus, place, raw_capture):
    vad = bus("vad", topics=[MIC])
    listener = subscribe(place.runtime_dir, [heartbeat_topic("vad")])

    def beat(timeout_ms):
        raw_capture.send(MIC.encode() + _NUL_AND_VERSION + b"junk")
        vad.receive(10)
        return listener.receive(timeout_ms)

    heard = until(beat, lambda m: m.counters["invalid_frames"] > 0)
    assert isinstance(heard, Heartbeat)
    listener.close()


def publish_for_ever(place, connection: Connection) -> None:
    bus = Bus(runtime_dir=place.runtime_dir, process="capture")
    connection.send(bus.life)
    sequence = 0
    while True:
        bus.publish(BlocksReady(ring="mic", epoch=bus.life, sequence=sequence))
        sequence += 1
        time.sleep(0.01)


def test_a_killed_publisher_restarted_at_once_is_heard_within_a_second(place):
    subscription = subscribe(place.runtime_dir, [MIC])
    processes = []
    try:
        for _ in range(3):
            ours, theirs = spawn.Pipe()
            process = spawn.Process(target=publish_for_ever, args=(place, theirs), daemon=True)
            process.start()
            processes.append(process)
            assert ours.poll(30)
            life, up_ns = ours.recv(), time.monotonic_ns()
            until(subscription.receive, lambda m, life=life: m.epoch == life)
            assert time.monotonic_ns() - up_ns < 1_000_000_000
            process.kill()
            process.join()
            # long enough for the back-off to reach its longest wait
            while subscription.receive(700) is not None:
                pass
    finally:
        for process in processes:
            process.kill()
            process.join()
        subscription.close()
        place.forget_sockets()


def test_the_heartbeat_comes_from_the_loop_and_ends_with_it(bus, place):
    vad = bus("vad")
    vad.counters = {"lost_blocks": 3.0}
    vad.rings = {"mic": 5}
    listener = subscribe(place.runtime_dir, [heartbeat_topic("vad")])
    joined(vad.beat, listener.receive)
    vad.ready(detail="fine")
    beat = until(listener.receive, lambda m: m.state == "ready")
    assert (beat.process, beat.pid, beat.life) == ("vad", os.getpid(), vad.life)
    assert (beat.detail, beat.rings) == ("fine", {"mic": 5})
    assert beat.counters == {"lost_blocks": 3.0, "invalid_frames": 0.0}
    while listener.receive(20) is not None:
        pass
    assert listener.receive(2 * HEARTBEAT_INTERVAL_MS) is None, "no loop, no sign of life"
    vad.receive(1)
    assert isinstance(until(listener.receive, lambda m: True), Heartbeat)
    listener.close()


def test_a_hung_job_silences_the_heartbeat_though_the_loop_goes_on(bus, place):
    asr = bus("asr")
    worker = Worker("model")
    asr.busy, asr.hung = worker.busy_ms, worker.hung
    asr.wake_on(worker.descriptor)
    listener = subscribe(place.runtime_dir, [heartbeat_topic("asr")])
    joined(asr.beat, listener.receive)
    release = threading.Event()
    finished = Floor(session_id="local", state="idle", turn_id="done", since_ns=0)

    def hang(emit, cancelled):
        release.wait(30)
        emit(finished)

    worker.submit("1", hang, bound_ms=100, on_error=lambda text: finished)
    deadline = time.monotonic() + 10
    while not worker.hung() and time.monotonic() < deadline:
        asr.receive(20)
    assert worker.hung()
    while listener.receive(20) is not None:
        pass
    silent_until = time.monotonic() + 3 * HEARTBEAT_INTERVAL_MS / 1000
    while time.monotonic() < silent_until:
        asr.receive(50)
        assert listener.receive(0) is None
    release.set()

    def loop(timeout_ms):
        asr.receive(20)
        return listener.receive(timeout_ms)

    assert until(loop, lambda m: m.busy_ms == 0)
    assert list(worker.messages()) == [finished]
    listener.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_job_that_kills_its_thread_counts_as_hung():
    worker = Worker("model")

    def fail(text):
        raise RuntimeError(text)

    worker.submit("1", lambda emit, cancelled: 1 / 0, bound_ms=60_000, on_error=fail)
    worker._thread.join(10)
    assert worker.hung()


def test_a_finished_job_wakes_the_loop_at_once(bus):
    asr = bus("asr", topics=[MIC])
    worker = Worker("model")
    asr.wake_on(worker.descriptor)
    asr.receive(1)
    done = Floor(session_id="local", state="idle", turn_id="1", since_ns=0)
    began = time.monotonic()
    worker.submit("1", lambda emit, cancelled: emit(done), bound_ms=100, on_error=lambda t: done)
    asr.receive(450)
    assert list(worker.messages()) == [done]
    assert time.monotonic() - began < 0.4


def test_requests_are_answered_to_whom_they_came_from(bus, place):
    conductor = bus("conductor")
    clients = [Client(place.runtime_dir, "conductor") for _ in range(3)]
    for number, client in enumerate(clients):
        client.send(AskText(text=f"question {number}"))
    answered = 0
    deadline = time.monotonic() + 10
    while answered < 3 and time.monotonic() < deadline:
        conductor.receive(50)
        for client, request in conductor.requests():
            assert isinstance(request, AskText)
            conductor.reply(client, Accepted(turn_id=request.text[-1]))
            answered += 1
    for number, client in enumerate(clients):
        assert client.receive(2_000) == Accepted(turn_id=str(number))
        client.close()


def test_an_answer_to_a_client_that_has_gone_is_dropped(bus, place):
    conductor = bus("conductor")
    client = Client(place.runtime_dir, "conductor")
    client.send(AskText(text="x"))
    deadline = time.monotonic() + 10
    waiting = []
    while not waiting and time.monotonic() < deadline:
        conductor.receive(50)
        waiting = list(conductor.requests())
    client.close()
    for _ in range(100):
        conductor.reply(waiting[0][0], Refused(reason="too late"))


def test_a_client_without_a_server_gets_no_answer(place):
    client = Client(place.runtime_dir, "conductor")
    client.send(AskText(text="x"))
    assert client.receive(50) is None
    client.close()


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(parts=st.lists(st.binary(max_size=64), min_size=1, max_size=4))
def test_garbage_requests_are_counted_and_never_fatal(request, parts):
    place, conductor, context = request.getfixturevalue("garbage_target")
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(request_endpoint(place.runtime_dir, "conductor", 0))
    socket.send_multipart([*parts, b"\xc1"])
    socket.send(msgspec.msgpack.encode(InjectAudio(samples=b"1234")))
    deadline = time.monotonic() + 10
    good = []
    while not good and time.monotonic() < deadline:
        conductor.receive(50)
        good = list(conductor.requests())
    assert [r for _, r in good] == [InjectAudio(samples=b"1234")]
    socket.close()


@pytest.fixture
def garbage_target(bus, place):
    context = zmq.Context()
    yield place, bus("conductor"), context
    context.term()


def test_a_garbage_answer_is_an_error_of_the_wire(place):
    context = zmq.Context()
    server = context.socket(zmq.ROUTER)
    server.bind(request_endpoint(place.runtime_dir, "conductor", 0))
    client = Client(place.runtime_dir, "conductor")
    client.send(AskText(text="x"))
    who, _ = server.recv_multipart()
    server.send_multipart([who, b"\xc1"])
    with pytest.raises(WireError):
        client.receive(2_000)
    client.close()
    server.close(0)
    context.term()
    (place.runtime_dir / "conductor.0.req").unlink()


def test_closing_takes_the_sockets_away(bus, place):
    one = Bus(runtime_dir=place.runtime_dir, process="conductor")
    assert place.sockets() == ["conductor.0.pub", "conductor.0.req"]
    one.close()
    assert place.sockets() == []
