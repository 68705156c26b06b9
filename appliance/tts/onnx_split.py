"""Cuts an ONNX model in two at one tensor, without the `onnx` library. Pure.

A model file is a Protocol Buffer (onnx.proto); here it is only taken apart into its nodes and
weights and put together again, which takes 0.1 s and no import.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

_FLOAT = 1

# field numbers of onnx.proto
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_NAME, _GRAPH_WEIGHT, _GRAPH_INPUT, _GRAPH_OUTPUT = 1, 2, 5, 11, 12
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR = 1, 2, 4
_WEIGHT_NAME = 8
_VALUE_NAME = 1


@dataclass(frozen=True)
class _Node:
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    operator: str
    encoded: memoryview


class OnnxGraph:
    """The graph of a model, to cut parts out of.

    Args:
        model: a whole model file.

    Raises:
        ValueError: it is not one.
    """

    def __init__(self, model: bytes) -> None:
        try:
            self._read(memoryview(model))
        except (IndexError, UnicodeDecodeError) as error:
            raise ValueError("not an ONNX model") from error

    def _read(self, model: memoryview) -> None:
        self._header = b""
        self._common = b""
        self._nodes: list[_Node] = []
        self._weights: dict[str, memoryview] = {}
        self._inputs: dict[str, memoryview] = {}
        for field, value, encoded in _fields(model):
            if field != _MODEL_GRAPH:
                self._header += encoded
                continue
            for part, content, whole in _fields(value):
                if part == _GRAPH_NODE:
                    self._nodes.append(
                        _Node(
                            tuple(_texts(content, _NODE_INPUT)),
                            tuple(_texts(content, _NODE_OUTPUT)),
                            next(_texts(content, _NODE_OPERATOR), ""),
                            whole,
                        )
                    )
                elif part == _GRAPH_WEIGHT:
                    self._weights[next(_texts(content, _WEIGHT_NAME), "")] = whole
                elif part == _GRAPH_INPUT:
                    self._inputs[next(_texts(content, _VALUE_NAME), "")] = whole
                elif part == _GRAPH_NAME:
                    self._common += whole

    def input_of(self, weight: str) -> str | None:
        """The first input of the node that uses a weight."""
        return next((node.inputs[0] for node in self._nodes if weight in node.inputs), None)

    def output_of(self, operator: str) -> str | None:
        """The output of the only node with this operator; None if there are more or none."""
        outputs = [node.outputs[0] for node in self._nodes if node.operator == operator]
        return outputs[0] if len(outputs) == 1 else None

    def inputs_of(self, outputs: Iterable[str], given: Collection[str] = ()) -> set[str]:
        """Which of the model's inputs the outputs need when the values in `given` are known."""
        return self._needed(outputs, given) & self._inputs.keys()

    def part(self, outputs: Collection[str], given: Collection[str] = ()) -> bytes:
        """A model of its own that computes some values.

        Args:
            outputs: names of float values.
            given: the same of values that become inputs.
        """
        needed = self._needed(outputs, given)
        graph = b"".join(
            [
                *(node.encoded for node in self._nodes if needed.intersection(node.outputs)),
                *(encoded for name, encoded in self._weights.items() if name in needed),
                *(encoded for name, encoded in self._inputs.items() if name in needed),
                *(_value(_GRAPH_INPUT, name) for name in given),
                *(_value(_GRAPH_OUTPUT, name) for name in outputs),
                self._common,
            ]
        )
        return self._header + _tagged(_MODEL_GRAPH, graph)

    def _needed(self, outputs: Iterable[str], given: Collection[str]) -> set[str]:
        made_by = {output: node for node in self._nodes for output in node.outputs}
        needed: set[str] = set()
        waiting = list(outputs)
        while waiting:
            name = waiting.pop()
            if name in given or name in needed:
                continue
            needed.add(name)
            if name in made_by:
                waiting += made_by[name].inputs
        return needed


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """(number, content, encoded) of each field."""
    position = 0
    while position < len(message):
        start = position
        key, position = _varint(message, position)
        content = position
        match key & 7:
            case 0:
                _, position = _varint(message, position)
            case 1:
                position += 8
            case 2:
                length, content = _varint(message, position)
                position = content + length
            case 5:
                position += 4
            case _:
                raise ValueError("not an ONNX model")
        if position > len(message):
            raise ValueError("not an ONNX model")
        yield key >> 3, message[content:position], message[start:position]


def _texts(message: memoryview, number: int) -> Iterator[str]:
    return (str(content, "utf-8") for field, content, _ in _fields(message) if field == number)


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7


def _encoded_varint(value: int) -> bytes:
    result = bytearray()
    while value > 127:
        result.append(value & 127 | 128)
        value >>= 7
    result.append(value)
    return bytes(result)


def _tagged(number: int, content: bytes) -> bytes:
    return b"".join((_encoded_varint(number << 3 | 2), _encoded_varint(len(content)), content))


def _value(number: int, name: str) -> bytes:
    """A ValueInfoProto of a float tensor of any shape."""
    tensor = bytes([1 << 3, _FLOAT])
    return _tagged(number, _tagged(1, name.encode()) + _tagged(2, _tagged(1, tensor)))
