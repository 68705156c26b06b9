import hashlib
import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from appliance.models import whisper_ggml
from appliance.models.errors import ModelError
from appliance.models.store import ensure_model
from appliance.models.whisper_ggml import convert, encode_q8_0, mel_filters, read_ct2, to_openai

RECORDING = Path("/usr/share/pocketsphinx/test/data/goforward.raw")
STATE = 32


def ct2_bytes(
    variables: dict[str, np.ndarray], spec: str = "WhisperSpec", version: int = 6
) -> bytes:
    """What CTranslate2's ModelSpec writes."""
    types = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}

    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    out = struct.pack("<I", version) + text(spec) + struct.pack("<II", 3, len(variables))
    for name, value in variables.items():
        out += text(name) + struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape)
        out += struct.pack("<BI", types[value.dtype.name], value.nbytes) + value.tobytes()
    return out + struct.pack("<I", 0)


def small_whisper() -> dict[str, np.ndarray]:
    """A Whisper of one layer and 32 wide, with random weights."""
    random = np.random.default_rng(0)

    def array(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float16)

    def linear(rows: int, columns: int, name: str) -> dict[str, np.ndarray]:
        return {f"{name}/weight": array(rows, columns), f"{name}/bias": array(rows)}

    def norm(name: str) -> dict[str, np.ndarray]:
        return {f"{name}/gamma": array(STATE), f"{name}/beta": array(STATE)}

    variables: dict[str, np.ndarray] = {"decoder/embeddings/weight": array(7, STATE)}
    for side, positions in (("encoder", 11), ("decoder", 5)):
        layer = f"{side}/layer_0"
        variables |= {
            f"{side}/num_heads": np.array(2, np.int16),
            f"{side}/position_encodings/encodings": array(positions, STATE),
            **norm(f"{side}/layer_norm"),
            **norm(f"{layer}/self_attention/layer_norm"),
            **linear(3 * STATE, STATE, f"{layer}/self_attention/linear_0"),
            **linear(STATE, STATE, f"{layer}/self_attention/linear_1"),
            **norm(f"{layer}/ffn/layer_norm"),
            **linear(4 * STATE, STATE, f"{layer}/ffn/linear_0"),
            **linear(STATE, 4 * STATE, f"{layer}/ffn/linear_1"),
        }
    variables |= {
        "encoder/conv1/weight": array(STATE, 80, 3),
        "encoder/conv1/bias": array(STATE),
        "encoder/conv2/weight": array(STATE, STATE, 3),
        "encoder/conv2/bias": array(STATE),
        **norm("decoder/layer_0/attention/layer_norm"),
        **linear(STATE, STATE, "decoder/layer_0/attention/linear_0"),
        **linear(2 * STATE, STATE, "decoder/layer_0/attention/linear_1"),
        **linear(STATE, STATE, "decoder/layer_0/attention/linear_2"),
    }
    return variables


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.bin").write_bytes(ct2_bytes(small_whisper()))
    (tmp_path / "vocabulary.txt").write_text("a\nĠthe\nĊ\n<|endoftext|>\n<|en|>\n", "utf-8")
    return tmp_path


def read_ggml(
    data: bytes,
) -> tuple[tuple[int, ...], list[bytes], dict[str, tuple[int, np.ndarray]]]:
    """Header, tokens and tensors (type, raw bytes or values), as whisper.cpp reads them."""
    file = io.BytesIO(data)

    def ints(count: int) -> tuple[int, ...]:
        return struct.unpack(f"<{count}i", file.read(4 * count))

    header = ints(12)
    rows, columns = ints(2)
    file.read(4 * rows * columns)
    tokens = [file.read(ints(1)[0]) for _ in range(ints(1)[0])]
    tensors = {}
    while prefix := file.read(12):
        n_dims, name_bytes, kind = struct.unpack("<3i", prefix)
        shape = tuple(reversed(ints(n_dims)))
        name = file.read(name_bytes).decode()
        count = int(np.prod(shape))
        if kind == 8:
            values = np.frombuffer(file.read(count // 32 * 34), np.uint8)
        else:
            dtype = np.dtype("<f4" if kind == 0 else "<f2")
            values = np.frombuffer(file.read(count * dtype.itemsize), dtype).reshape(shape)
        tensors[name] = (kind, values)
    return header, tokens, tensors


def converted(folder: Path, kind: whisper_ggml.GgmlType = "f16") -> bytes:
    output = io.BytesIO()
    convert(folder / "model.bin", folder / "vocabulary.txt", output, kind)
    return output.getvalue()


def test_every_value_arrives_under_its_openai_name(folder: Path) -> None:
    source = small_whisper()
    header, tokens, tensors = read_ggml(converted(folder))
    assert header == (0x67676D6C, 7, 11, STATE, 2, 1, 5, STATE, 2, 1, 80, 1)
    assert tokens == [b"a", b" the", b"\n"]
    query, key, value = np.split(source["encoder/layer_0/self_attention/linear_0/weight"], 3)
    for name, expected in (("query", query), ("key", key), ("value", value)):
        np.testing.assert_array_equal(tensors[f"encoder.blocks.0.attn.{name}.weight"][1], expected)
    cross = source["decoder/layer_0/attention/linear_1/weight"]
    np.testing.assert_array_equal(
        tensors["decoder.blocks.0.cross_attn.value.weight"][1], cross[STATE:]
    )
    assert "encoder.blocks.0.attn.key.bias" not in tensors
    assert tensors["encoder.conv1.bias"][1].shape == (STATE, 1)
    total = sum(array.size for name, array in source.items() if array.ndim)
    keyless = 3 * STATE  # the zero biases of the three keys are left out
    assert sum(array.size for _, array in tensors.values()) == total - keyless


def test_vectors_and_positions_are_f32_and_matrices_f16(folder: Path) -> None:
    _, _, tensors = read_ggml(converted(folder))
    for name, (kind, values) in tensors.items():
        small = values.ndim == 1 or values.shape[1] == 1 or name.endswith("positional_embedding")
        assert kind == (0 if small else 1), name


def test_q8_0_keeps_convolutions_and_halves_matrices(folder: Path) -> None:
    header, _, tensors = read_ggml(converted(folder, "q8_0"))
    assert header[-1] == 2007
    assert tensors["encoder.conv1.weight"][0] == 1
    kind, raw = tensors["encoder.blocks.0.mlp.0.weight"]
    assert kind == 8
    blocks = raw.reshape(-1, 34)
    scales = blocks[:, :2].copy().view("<f2").astype(np.float32)
    values = scales * blocks[:, 2:].copy().view(np.int8)
    source = small_whisper()["encoder/layer_0/ffn/linear_0/weight"].astype(np.float32)
    assert np.abs(values.ravel() - source.ravel()).max() <= scales.max()


@given(hnp.arrays(np.float32, (2, 64), elements=st.floats(-100, 100, width=16)))
def test_q8_0_error_is_half_a_step(values: np.ndarray) -> None:
    blocks = np.frombuffer(encode_q8_0(values), np.uint8).reshape(-1, 34)
    steps = np.abs(values.reshape(-1, 32)).max(axis=1, keepdims=True) / np.float32(127)
    restored = steps * blocks[:, 2:].copy().view(np.int8)
    assert np.all(np.abs(restored - values.reshape(-1, 32)) <= steps * 0.501)


def test_mel_filters_are_slaneys() -> None:
    filters = mel_filters()
    assert filters.shape == (80, 201)
    # The corner of OpenAI's own mel_filters.npz.
    corner = [[0, 0.02486259, 0], [0, 0.00199082, 0.02287177]]
    np.testing.assert_allclose(filters[:2, :3], corner, atol=1e-8)
    assert not np.signbit(filters).any()
    peaks_hz = filters.argmax(axis=1) * 40  # 40 Hz a bin
    assert np.all(np.diff(peaks_hz) >= 0)
    assert peaks_hz[-1] == 7680
    areas = filters[30:].sum(axis=1) * 40  # the lower triangles are narrower than some bins
    np.testing.assert_allclose(areas, 1, rtol=0.15)


@pytest.mark.parametrize("size", [0, 3, 40, 1000, -100])
def test_truncated_model_is_one_clear_error(folder: Path, size: int) -> None:
    whole = (folder / "model.bin").read_bytes()
    with pytest.raises(ModelError, match="not a complete CTranslate2 model"):
        read_ct2(whole[:size], "model.bin")


def test_other_models_are_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="TransformerSpec version 6"):
        read_ct2(ct2_bytes(small_whisper(), "TransformerSpec"), "model.bin")
    variables = small_whisper()
    del variables["decoder/layer_0/ffn/linear_1/weight"]
    (folder / "model.bin").write_bytes(ct2_bytes(variables))
    with pytest.raises(ModelError, match=r"not a Whisper model: it has no .*ffn/linear_1/weight"):
        converted(folder)
    (folder / "model.bin").write_bytes(ct2_bytes(small_whisper()))
    (folder / "vocabulary.txt").write_text("a\nb\n")
    with pytest.raises(ModelError, match="not a Whisper vocabulary"):
        converted(folder)


def test_vocabulary_as_json(folder: Path) -> None:
    path = folder / "vocabulary.json"
    path.write_text(json.dumps(["Ġx", "Ã¤", "", "<|endoftext|>"]), "utf-8")
    assert whisper_ggml.read_vocabulary(path) == [b" x", "ä".encode(), b""]


def test_names_are_unique(folder: Path) -> None:
    names = [tensor.name for tensor in to_openai(small_whisper())]
    assert len(set(names)) == len(names)


@pytest.mark.models
def test_tiny_en_converts_to_what_the_manifest_says_and_hears(tmp_path: Path) -> None:
    from pywhispercpp.model import Model

    folder = ensure_model("whisper-tiny.en")
    with (tmp_path / "ggml.bin").open("wb") as output:
        convert(folder / "model.bin", folder / "vocabulary.txt", output)
    made = (tmp_path / "ggml.bin").read_bytes()
    kept = (folder / "ggml-tiny.en.bin").read_bytes()
    assert len(made) == 77_704_698
    assert hashlib.sha256(made).digest() == hashlib.sha256(kept).digest()

    audio = np.frombuffer(RECORDING.read_bytes(), "<i2").astype(np.float32) / 32768
    for name in ("ggml-tiny.en.bin", "ggml-tiny.en-q8_0.bin"):
        model = Model(str(folder / name), n_threads=2, redirect_whispercpp_logs_to=None)
        text = " ".join(segment.text for segment in model.transcribe(audio, language="en"))
        assert text.strip().lower().rstrip(".").replace("10", "ten") == "go forward ten meters"
