"""The table of messages agrees with itself and with the table of processes."""

import msgspec
import pytest

from appliance import messages
from appliance.messages import TOPICS, BlocksReady, Heartbeat, Message, Request
from appliance.processes import HEARTBEAT_INTERVAL_MS, PROCESSES, RING_WRITERS


def all_messages() -> set[type[Message]]:
    found, todo = set(), [Message]
    while todo:
        for kind in todo.pop().__subclasses__():
            found.add(kind)
            todo.append(kind)
    return {kind for kind in found if kind.__module__.startswith(f"{messages.__name__}.")}


def test_every_message_is_had_from_the_package():
    assert {kind.__name__ for kind in all_messages()} <= set(messages.__all__)


def test_every_topic_has_one_publisher_that_exists():
    assert {spec.publisher for spec in TOPICS.values()} <= set(PROCESSES)
    assert all(name == spec.topic for name, spec in TOPICS.items())
    topics = [kind.topic for kind in all_messages() if kind.topic]
    assert len(topics) == len(set(topics))


def test_every_message_with_a_topic_is_in_the_table():
    listed = {spec.message for spec in TOPICS.values()}
    assert {kind for kind in all_messages() if kind.topic} <= listed
    assert {spec.topic for spec in TOPICS.values() if spec.message.topic} == {
        kind.topic for kind in all_messages() if kind.topic
    }


def test_every_process_has_a_heartbeat_at_the_rate_of_the_table():
    for name in PROCESSES:
        spec = TOPICS[messages.heartbeat_topic(name)]
        assert (spec.publisher, spec.message) == (name, Heartbeat)
        assert spec.rate_hz == 1000 / HEARTBEAT_INTERVAL_MS


def test_every_ring_is_announced_by_its_writer():
    for ring, writer in RING_WRITERS.items():
        spec = TOPICS[messages.ring_topic(ring)]
        assert (spec.publisher, spec.message) == (writer, BlocksReady)


def test_no_topic_is_the_beginning_of_another():
    """A subscription is a prefix; the NUL after the topic keeps them apart."""
    frames = [name.encode() + b"\0" for name in TOPICS]
    assert not [(a, b) for a in frames for b in frames if a != b and b.startswith(a)]


def test_every_process_survives_two_missed_heartbeats_before_it_counts_as_stalled():
    assert all(spec.deadline_ms > 2 * HEARTBEAT_INTERVAL_MS for spec in PROCESSES.values())


@pytest.mark.parametrize("kind", sorted(all_messages(), key=lambda kind: kind.__name__))
def test_messages_are_frozen_and_say_what_they_are(kind):
    assert kind.__doc__
    assert kind.__struct_config__.frozen
    assert kind.__struct_config__.forbid_unknown_fields


def test_requests_are_told_apart_by_a_tag():
    tags = [kind.__struct_config__.tag for kind in Request.__args__]
    assert None not in tags
    assert len(set(tags)) == len(tags)
    assert set(Request.__args__) == {
        kind for kind in all_messages() if kind.__struct_config__.tag is not None
    }


def test_times_are_integers_of_nanoseconds():
    for kind in all_messages():
        for field in msgspec.structs.fields(kind):
            if field.name.endswith("_ns"):
                assert field.type is int, f"{kind.__name__}.{field.name}"
