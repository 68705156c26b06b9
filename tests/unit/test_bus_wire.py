"""Frames: what goes in comes out, and whatever else comes in is a counted error."""

import contextlib
import dataclasses

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from appliance.ipc.bus import WireError, decode, encode, topic_of
from appliance.messages import SCHEMA_VERSION, TOPICS, BlocksReady, Message

VERSION = bytes([SCHEMA_VERSION])
MIC = b"ring.mic\0" + VERSION


def of_type(kind) -> st.SearchStrategy:
    """Any valid message of a kind: its fields as plain data, through the schema itself."""
    info = msgspec.inspect.type_info(kind)
    return _data(info).map(lambda data: msgspec.convert(data, kind))


def _data(info) -> st.SearchStrategy:
    name = type(info).__name__
    if name == "StructType":
        fields = {f.encode_name: _data(f.type) for f in info.fields}
        if info.array_like:
            return st.tuples(*fields.values()).map(list)
        return st.fixed_dictionaries(fields)
    simple = {
        "IntType": st.integers(-(2**63), 2**63 - 1),
        "FloatType": st.floats(allow_nan=False, width=64),
        "StrType": st.text(max_size=20),
        "BoolType": st.booleans(),
        "NoneType": st.none(),
    }
    if name in simple:
        return simple[name]
    if name == "LiteralType":
        return st.sampled_from(info.values)
    if name == "TupleType":
        return st.tuples(*[_data(one) for one in info.item_types]).map(list)
    if name == "VarTupleType":
        return st.lists(_data(info.item_type), max_size=3)
    if name == "DictType":
        return st.dictionaries(st.text(max_size=8), _data(info.value_type), max_size=3)
    if name == "UnionType":
        return st.one_of(*[_data(one) for one in info.types])
    raise AssertionError(f"no strategy for {name}")


@pytest.mark.parametrize("topic", sorted(TOPICS))
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_every_message_of_the_table_comes_back_as_it_was(topic, data):
    message = data.draw(of_type(TOPICS[topic].message))
    name = topic.partition(".")[2]
    changes = {"ring": name} if topic.startswith("ring.") else {}
    changes |= {"process": name} if topic.startswith("heartbeat.") else {}
    message = msgspec.structs.replace(message, **changes)
    assert topic_of(message) == topic
    assert decode(encode(message)) == message


@given(frame=st.binary(max_size=200))
@example(frame=b"")
@example(frame=b"\0")
@example(frame=b"ring.mic")
@example(frame=b"ring.mic\0")
@example(frame=MIC)
@example(frame=MIC + b"\xc1")
@example(frame=b"\xff\xfe\0" + VERSION)
def test_garbage_is_an_error_of_the_wire_and_nothing_else(frame):
    with pytest.raises(WireError):
        decode(frame)


@settings(max_examples=300)
@given(topic=st.sampled_from(sorted(TOPICS)), body=st.binary(max_size=200))
@example(topic="ring.mic", body=b"\x91" * 5_000)  # deeply nested
@example(topic="ring.mic", body=b"\xdf\xff\xff\xff\xff")  # a map that claims 4 G entries
@example(topic="llm.reply", body=b"\x81\xa5error\xa2\xff\xfe")  # not UTF-8
def test_garbage_under_a_known_topic_is_never_fatal(topic, body):
    try:
        message = decode(topic.encode() + b"\0" + VERSION + body)
    except WireError:
        return
    assert isinstance(message, Message)


@settings(max_examples=300)
@given(
    at=st.integers(0, 200), bit=st.integers(0, 7), topic=st.just("ring.mic"), cut=st.integers(0, 60)
)
def test_damaged_frames_are_errors_or_valid_messages(at, bit, topic, cut):
    frame = bytearray(encode(BlocksReady(ring="mic", epoch=1 << 50, sequence=12345)))
    frame[at % len(frame)] ^= 1 << bit
    with contextlib.suppress(WireError):
        assert isinstance(decode(bytes(frame[: len(frame) - cut])), Message)


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (b"nobody.knows\0" + VERSION + b"\x80", "unknown topic b'nobody.knows'"),
        (b"ring.mic\0" + bytes([SCHEMA_VERSION + 1]) + b"\x80", "schema version"),
        (MIC + msgspec.msgpack.encode({"ring": "mic", "epoch": 1}), "missing required field"),
        (
            MIC + msgspec.msgpack.encode({"ring": "mic", "epoch": "1", "sequence": 2}),
            "Expected `int`, got `str`",
        ),
        (
            MIC + msgspec.msgpack.encode({"ring": "mic", "epoch": 1, "sequence": 2, "x": 3}),
            "unknown field `x`",
        ),
        (MIC + b"\xc6\x7f\xff\xff\xff", "truncated"),
    ],
)
def test_the_error_says_what_is_wrong(frame, why):
    with pytest.raises(WireError, match=why):
        decode(frame)


def test_the_table_can_not_be_changed_by_accident():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TOPICS["ring.mic"].publisher = "vad"
