"""Cutting an ONNX model in two: the parts compute what the whole did."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.tts.onnx_split import OnnxGraph


def field(number: int, content: bytes | str) -> bytes:
    data = content.encode() if isinstance(content, str) else content
    assert len(data) < 128
    return bytes([number << 3 | 2, len(data)]) + data


def number(number: int, value: int) -> bytes:
    return bytes([number << 3, value])


def node(operator: str, inputs: list[str], output: str) -> bytes:
    names = b"".join(field(1, name) for name in inputs)
    return field(1, names + field(2, output) + field(4, operator))


def value(place: int, name: str) -> bytes:
    shape = field(2, field(1, field(2, "n")))
    return field(place, field(1, name) + field(2, field(1, number(1, 1) + shape)))


def weight(name: str, content: float) -> bytes:
    data = np.float32(content).tobytes()
    return field(5, number(1, 1) + number(2, 1) + field(8, name) + field(9, data))


def model() -> bytes:
    """out = (in + two) * three, and ceil(in) on the side."""
    graph = (
        node("Add", ["in", "two"], "middle")
        + node("Ceil", ["in"], "side")
        + node("Mul", ["middle", "three"], "out")
        + field(2, "g")
        + weight("two", 2.0)
        + weight("three", 3.0)
        + value(11, "in")
        + value(12, "out")
    )
    length = len(graph)
    header = number(1, 8) + field(8, number(2, 17))
    return header + bytes([7 << 3 | 2, length & 127 | 128, length >> 7]) + graph


def run(part: bytes, **inputs: list[float]) -> list[np.ndarray]:
    session = ort.InferenceSession(part, providers=["CPUExecutionProvider"])
    feed = {name: np.array(data, np.float32) for name, data in inputs.items()}
    return list(session.run(None, feed))


def test_the_parts_are_the_whole() -> None:
    (whole,) = run(model(), **{"in": [0.5, -1]})
    graph = OnnxGraph(model())
    middle, side = run(graph.part(["middle", "side"]), **{"in": [0.5, -1]})
    (out,) = run(graph.part(["out"], ["middle"]), middle=list(middle))
    np.testing.assert_array_equal(out, whole)
    np.testing.assert_array_equal(side, [1, -1])


def test_what_is_where() -> None:
    graph = OnnxGraph(model())
    assert graph.input_of("three") == "middle"
    assert graph.input_of("four") is None
    assert graph.output_of("Ceil") == "side"
    assert graph.output_of("Floor") is None
    assert graph.inputs_of(["out"]) == {"in"}
    assert graph.inputs_of(["out"], ["middle"]) == set()


@given(st.binary(max_size=200))
def test_what_is_no_model_is_refused_or_empty(data: bytes) -> None:
    try:
        graph = OnnxGraph(data)
    except ValueError:
        return
    assert graph.inputs_of(["output"]) <= {"output", ""}


@pytest.mark.parametrize("cut", [1, 10, 60, 100])
def test_a_model_that_is_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(ValueError, match="not an ONNX model"):
        OnnxGraph(model()[:-cut])
