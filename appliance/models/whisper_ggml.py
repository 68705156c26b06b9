"""Whisper weights from CTranslate2's `model.bin` to whisper.cpp's ggml file, exactly.

Both layouts are those of the projects' own writers: CTranslate2's `ModelSpec._serialize`
(binary version 6) and whisper.cpp's `models/convert-pt-to-ggml.py`. Every value is copied or
widened from f16 to f32, never rounded, and the output is the same byte for byte on every run,
so that the manifest can carry its sha256.
"""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import numpy.typing as npt

from appliance.models.errors import ModelError

GgmlType = Literal["f16", "q8_0"]
Array = npt.NDArray[np.generic]

_CT2_VERSION = 6
_CT2_DTYPES = ("<f4", "i1", "<i2", "<i4", "<f2")
_END_OF_TEXT = "<|endoftext|>"

_GGML_MAGIC = 0x67676D6C
_BLOCK = 32  # values that share one scale in a quantised row
_TYPE_F32, _TYPE_F16, _TYPE_Q8_0 = 0, 1, 8  # ggml_type of a tensor
# ggml_ftype of a file; quantised ones add GGML_QNT_VERSION × GGML_QNT_VERSION_FACTOR.
_FILE_TYPES: dict[GgmlType, int] = {"f16": 1, "q8_0": 7 + 2 * 1000}

_SAMPLE_RATE_HZ = 16_000
_FFT_SIZE = 400
_MELS = 80


@dataclass(frozen=True)
class Tensor:
    """One named array as the ggml file wants it."""

    name: str
    values: Array


def convert(model_bin: Path, vocabulary: Path, output: BinaryIO, kind: GgmlType = "f16") -> None:
    """Write the ggml file for a CTranslate2 Whisper model with f16 or f32 weights.

    `vocabulary` is the `vocabulary.txt` or `.json` beside `model.bin`. Raises `ModelError` when
    either is not what a Whisper conversion writes.
    """
    with model_bin.open("rb") as file:
        # Not closed by hand: the arrays are views of the map, which goes when they go.
        variables = read_ct2(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), str(model_bin))
    tokens = read_vocabulary(vocabulary)
    try:
        tensors = list(to_openai(variables))
        output.write(_header(variables, kind))
    except KeyError as error:
        raise ModelError(f"{model_bin} is not a Whisper model: it has no {error}") from error
    _write_mel_filters(output)
    _write_vocabulary(output, tokens)
    for tensor in tensors:
        _write_tensor(output, tensor, kind)


def read_ct2(data: mmap.mmap | bytes, label: str) -> dict[str, Array]:
    """Variables by name, as views of `data`; aliases are left out."""
    position = 0

    def take(layout: str) -> int:
        nonlocal position
        (value,) = struct.unpack_from("<" + layout, data, position)
        position += struct.calcsize("<" + layout)
        return int(value)

    def text() -> str:
        nonlocal position
        size = take("H")
        raw = data[position : position + size - 1]  # the last byte is the terminating zero
        position += size
        return raw.decode()

    try:
        version, spec, _revision = take("I"), text(), take("I")
        if version != _CT2_VERSION or spec != "WhisperSpec":
            raise ModelError(f"{label} holds {spec} version {version}, not WhisperSpec version 6")
        variables: dict[str, Array] = {}
        for _ in range(take("I")):
            name = text()
            shape = tuple(take("I") for _ in range(take("B")))
            dtype = np.dtype(_CT2_DTYPES[take("B")])
            size_bytes = take("I")
            count = size_bytes // dtype.itemsize
            variables[name] = np.frombuffer(data, dtype, count, position).reshape(shape)
            position += size_bytes
    except (struct.error, IndexError, ValueError) as error:
        raise ModelError(f"{label} is not a complete CTranslate2 model: {error}") from error
    return variables


def read_vocabulary(path: Path) -> list[bytes]:
    """The tokens before `<|endoftext|>` as raw bytes: 50256 for `.en` models, else 50257."""
    content = path.read_text(encoding="utf-8")
    tokens: list[str] = json.loads(content) if path.suffix == ".json" else content.split("\n")
    if _END_OF_TEXT not in tokens:
        raise ModelError(f"{path} is not a Whisper vocabulary: it has no {_END_OF_TEXT}")
    byte_of = {character: byte for byte, character in enumerate(_byte_alphabet())}
    return [
        bytes(byte_of[character] for character in token)
        for token in tokens[: tokens.index(_END_OF_TEXT)]
    ]


def _byte_alphabet() -> list[str]:
    """GPT-2's printable stand-in for each byte value: itself, or the next one from U+0100 on."""
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]


def to_openai(variables: dict[str, Array]) -> Iterator[Tensor]:
    """The variables under OpenAI's names: fused projections split, convolution biases (n, 1)."""
    for side in ("encoder", "decoder"):
        yield Tensor(
            f"{side}.positional_embedding", variables[f"{side}/position_encodings/encodings"]
        )
        if side == "encoder":
            for conv in ("conv1", "conv2"):
                yield Tensor(f"encoder.{conv}.weight", variables[f"encoder/{conv}/weight"])
                bias = variables[f"encoder/{conv}/bias"]
                yield Tensor(f"encoder.{conv}.bias", bias.reshape(-1, 1))
        else:
            yield Tensor("decoder.token_embedding.weight", variables["decoder/embeddings/weight"])
        for layer in range(_layers(variables, side)):
            yield from _block(variables, f"{side}/layer_{layer}", f"{side}.blocks.{layer}", side)
        final = "ln_post" if side == "encoder" else "ln"
        yield from _norm(variables, f"{side}/layer_norm", f"{side}.{final}")


def _block(variables: dict[str, Array], old: str, new: str, side: str) -> Iterator[Tensor]:
    yield from _norm(variables, f"{old}/self_attention/layer_norm", f"{new}.attn_ln")
    yield from _projections(
        variables, f"{old}/self_attention/linear_0", f"{new}.attn", ("query", "key", "value")
    )
    yield from _projections(variables, f"{old}/self_attention/linear_1", f"{new}.attn", ("out",))
    if side == "decoder":
        yield from _norm(variables, f"{old}/attention/layer_norm", f"{new}.cross_attn_ln")
        for index, parts in enumerate((("query",), ("key", "value"), ("out",))):
            yield from _projections(
                variables, f"{old}/attention/linear_{index}", f"{new}.cross_attn", parts
            )
    yield from _norm(variables, f"{old}/ffn/layer_norm", f"{new}.mlp_ln")
    yield from _projections(variables, f"{old}/ffn/linear_0", f"{new}.mlp", ("0",))
    yield from _projections(variables, f"{old}/ffn/linear_1", f"{new}.mlp", ("2",))


def _norm(variables: dict[str, Array], old: str, new: str) -> Iterator[Tensor]:
    yield Tensor(f"{new}.weight", variables[f"{old}/gamma"])
    yield Tensor(f"{new}.bias", variables[f"{old}/beta"])


def _projections(
    variables: dict[str, Array], old: str, new: str, parts: tuple[str, ...]
) -> Iterator[Tensor]:
    weights = np.split(variables[f"{old}/weight"], len(parts))
    biases = np.split(variables[f"{old}/bias"], len(parts))
    for part, weight, bias in zip(parts, weights, biases, strict=True):
        yield Tensor(f"{new}.{part}.weight", weight)
        if part != "key":  # Whisper's keys have none; the fused matrix carries zeros for it
            yield Tensor(f"{new}.{part}.bias", bias)


def _layers(variables: dict[str, Array], side: str) -> int:
    prefix = f"{side}/layer_"
    names = (name.removeprefix(prefix) for name in variables if name.startswith(prefix))
    return len({name.split("/")[0] for name in names if name[0].isdigit()})


def _header(variables: dict[str, Array], kind: GgmlType) -> bytes:
    n_vocab, text_state = variables["decoder/embeddings/weight"].shape
    audio_ctx, audio_state = variables["encoder/position_encodings/encodings"].shape
    text_ctx = variables["decoder/position_encodings/encodings"].shape[0]
    n_mels = variables["encoder/conv1/weight"].shape[1]
    if n_mels != _MELS:
        raise ModelError(f"Whisper models with {n_mels} mel bands are not supported, only {_MELS}")
    return struct.pack(
        "<12i",
        _GGML_MAGIC,
        n_vocab,
        audio_ctx,
        audio_state,
        int(variables["encoder/num_heads"]),
        _layers(variables, "encoder"),
        text_ctx,
        text_state,
        int(variables["decoder/num_heads"]),
        _layers(variables, "decoder"),
        n_mels,
        _FILE_TYPES[kind],
    )


def _write_mel_filters(output: BinaryIO) -> None:
    filters = mel_filters()
    output.write(struct.pack("<2i", *filters.shape))
    output.write(filters.astype("<f4").tobytes())


def mel_filters() -> npt.NDArray[np.float32]:
    """Slaney's mel filter bank, area-normalised, (80, 201): what Whisper was trained with."""
    bins_hz = np.linspace(0, _SAMPLE_RATE_HZ / 2, _FFT_SIZE // 2 + 1)
    edges_hz = _mel_to_hz(np.linspace(0, _hz_to_mel(_SAMPLE_RATE_HZ / 2), _MELS + 2))
    widths_hz = np.diff(edges_hz)
    slopes = edges_hz[:, None] - bins_hz[None, :]
    rising = -slopes[:-2] / widths_hz[:-1, None]
    falling = slopes[2:] / widths_hz[1:, None]
    triangles = np.maximum(0, np.minimum(rising, falling)) + 0.0  # no machine's -0.0
    return (triangles * (2 / (edges_hz[2:] - edges_hz[:-2]))[:, None]).astype(np.float32)


# Slaney's scale: 3 mel per 200 Hz up to 1 kHz, then 27 mel per factor of 6.4.
_LINEAR_HZ_PER_MEL = 200 / 3
_KNEE_HZ = 1000.0
_KNEE_MEL = _KNEE_HZ / _LINEAR_HZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27


def _hz_to_mel(hz: float) -> float:
    return float(_KNEE_MEL + np.log(hz / _KNEE_HZ) / _LOG_STEP)


def _mel_to_hz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    linear = mel * _LINEAR_HZ_PER_MEL
    return np.where(mel < _KNEE_MEL, linear, _KNEE_HZ * np.exp(_LOG_STEP * (mel - _KNEE_MEL)))


def _write_vocabulary(output: BinaryIO, tokens: list[bytes]) -> None:
    output.write(struct.pack("<i", len(tokens)))
    for token in tokens:
        output.write(struct.pack("<i", len(token)) + token)


def _write_tensor(output: BinaryIO, tensor: Tensor, kind: GgmlType) -> None:
    values, name = tensor.values, tensor.name.encode()
    if _keeps_f32(tensor):
        type_id, payload = _TYPE_F32, values.astype("<f4").tobytes()
    elif kind == "q8_0" and values.ndim == 2:
        type_id, payload = _TYPE_Q8_0, encode_q8_0(values.astype(np.float32))
    else:
        type_id, payload = _TYPE_F16, values.astype("<f2").tobytes()
    output.write(struct.pack("<3i", values.ndim, len(name), type_id))
    output.write(struct.pack(f"<{values.ndim}i", *reversed(values.shape)))
    output.write(name)
    output.write(payload)


def _keeps_f32(tensor: Tensor) -> bool:
    return (
        tensor.values.ndim < 2
        or tensor.values.shape[1] == 1
        or tensor.name.endswith("positional_embedding")
    )


def encode_q8_0(values: npt.NDArray[np.float32]) -> bytes:
    """ggml's Q8_0: blocks of 32 values in a row as an f16 scale and 32 signed bytes."""
    blocks = values.reshape(-1, _BLOCK)
    scales = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    inverse = np.divide(np.float32(1), scales, out=np.zeros_like(scales), where=scales != 0)
    scaled = blocks * inverse
    # C's roundf takes halves away from zero; numpy's round takes them to even.
    quants = np.trunc(scaled + np.copysign(np.float32(0.5), scaled)).astype(np.int8)
    return np.hstack([scales.astype("<f2").view(np.uint8), quants.view(np.uint8)]).tobytes()
