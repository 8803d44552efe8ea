"""GGUF files: what is read from good ones, and what is said about bad ones."""

import re
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest

from tailrace.gguf.file import Tensor, open_model
from tailrace.gguf.quantisation import can_dequantise
from tailrace.gguf.types import TENSOR_TYPES
from tailrace.gguf.writer import NewTensor, write_gguf
from tailrace.spec.errors import ModelError
from verification.unit.host.tiny_models import split, write_model


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write_model(tmp_path / "tiny.gguf")


def refuses(path: Path, text: str) -> None:
    with pytest.raises(ModelError, match=f"^{re.escape(text)}$"):
        open_model(path)


def test_reads_what_is_there(good: Path) -> None:
    model = open_model(good)
    assert (model.architecture.name, model.layers, model.context_length) == ("llama", 2, 64)
    tensor = model.tensors["blk.0.ffn_down.weight"]
    assert (tensor.rows, tensor.columns, tensor.type_name, tensor.bits_per_weight) == (64, 96, "Q8_0", 8.5)
    assert tensor.data.shape == (64, 3 * 34)
    assert tensor.data.dtype == np.uint8
    assert len(model.matrices) == 2 * 7 + 1
    assert model.head is model.tensors["token_embd.weight"]


def test_head_of_its_own(tmp_path: Path) -> None:
    model = open_model(write_model(tmp_path / "tiny.gguf", tied=False))
    assert model.head is model.tensors["output.weight"]


def test_every_cut_of_the_header_is_noticed(good: Path, tmp_path: Path) -> None:
    data = good.read_bytes()
    end = gguf.GGUFReader(good).data_offset
    path = tmp_path / "cut.gguf"
    for size in {8, 20, 24, 31, *range(40, end - 64, 1009), end - 64}:
        path.write_bytes(data[:size])
        with pytest.raises(ModelError, match=f"^{re.escape(str(path))} is truncated: .*Download it again.$"):
            open_model(path)


@pytest.mark.parametrize("missing", [1, 100, 1000, 20000])
def test_truncated_weights(good: Path, missing: int) -> None:
    size = good.stat().st_size
    ends = {t.name: int(t.data_offset + t.n_bytes) for t in gguf.GGUFReader(good).tensors}
    # The file ends with the padding of its last tensor.
    assert size - 32 < max(ends.values()) <= size
    left = max(ends.values()) - missing
    name, end = next((n, e) for n, e in ends.items() if e > left)
    good.write_bytes(good.read_bytes()[:left])
    refuses(good, f"{good} is truncated: {name} ends at byte {end}, but the file has {left}. Download it again.")


def test_damaged_lengths_end_with_a_message(good: Path) -> None:
    """Every 8-byte field of the header's start overwritten: a message, never a hang or another exception."""
    data = good.read_bytes()
    for position in range(8, 600, 7):
        good.write_bytes(data[:position] + b"\xff" * 8 + data[position + 8 :])
        try:
            open_model(good)
        except ModelError as error:
            assert str(error)


def value_of(data: bytes, name: str) -> int:
    """Where the value of a metadata entry starts, behind its name and its type."""
    return data.index(name.encode()) + len(name) + 4


@pytest.mark.parametrize("layers", [0, 1 << 20, (1 << 32) - 1])
def test_damaged_number_of_layers(good: Path, layers: int) -> None:
    tensors = len(open_model(good).tensors)
    data = bytearray(good.read_bytes())
    struct.pack_into("<I", data, value_of(data, "llama.block_count"), layers)
    good.write_bytes(data)
    refuses(
        good,
        f"{good} is corrupt: its header speaks of {layers} layers, but it has {tensors} tensors. Download it again.",
    )


def test_damaged_text(good: Path) -> None:
    data = bytearray(good.read_bytes())
    data[value_of(data, "general.name") + 8] = 0xFF
    good.write_bytes(data)
    assert open_model(good).layers == 2  # which nobody has asked for
    data[value_of(data, "general.architecture") + 8] = 0xFF
    good.write_bytes(data)
    refuses(good, f"{good} is corrupt: general.architecture is not text in UTF-8. Download it again.")


def test_damaged_length_in_a_list_of_texts(good: Path) -> None:
    data = bytearray(good.read_bytes())
    # The type of the items and their number come first.
    struct.pack_into("<Q", data, value_of(data, "tokenizer.ggml.tokens") + 12, (1 << 64) - 1)
    good.write_bytes(data)
    refuses(good, f"{good} is truncated: its header goes on after the end of the file. Download it again.")


def test_damaged_shape(good: Path) -> None:
    data = bytearray(good.read_bytes())
    place = data.index(b"blk.0.attn_q.weight") + len("blk.0.attn_q.weight")
    struct.pack_into("<I", data, place, 77)
    good.write_bytes(data)
    refuses(good, f"{good} is corrupt: tensor blk.0.attn_q.weight has 77 dimensions. Download it again.")
    struct.pack_into("<IQ", data, place, 2, 0)
    good.write_bytes(data)
    refuses(good, f"{good} is corrupt: tensor blk.0.attn_q.weight has the shape [0, 64]. Download it again.")
    struct.pack_into("<IQ", data, place, 2, 33)
    good.write_bytes(data)
    refuses(
        good, f"{good} is corrupt: the rows of blk.0.attn_q.weight have 33 elements, not whole blocks of 32. Download it again."
    )


def test_unknown_tensor_type(good: Path) -> None:
    data = bytearray(good.read_bytes())
    place = data.index(b"blk.0.attn_q.weight") + len("blk.0.attn_q.weight") + 4 + 16
    struct.pack_into("<I", data, place, 250)
    good.write_bytes(data)
    refuses(
        good,
        f"{good}: blk.0.attn_q.weight has the unknown tensor type 250: the file is damaged, or newer than this version of Tailrace",
    )


def test_unknown_architecture(tmp_path: Path) -> None:
    """Its matrices are known by their shapes; whether anything can run it shows later."""
    model = open_model(write_model(tmp_path / "tiny.gguf", "mamba"))
    assert not model.architecture.known
    assert len(model.matrices) == 2 * 7 + 1


def test_experts_and_missing_tensors(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_model(path, metadata={"llama.expert_count": 8})
    assert open_model(path).experts == 8
    assert len(open_model(path).matrices) == 2 * 4 + 1
    write_model(path, leave_out=("blk.1.ffn_up.weight", "blk.1.ffn_gate.weight"))
    refuses(path, f"{path} is not a complete llama model: it lacks blk.1.ffn_gate.weight and 1 more. Convert it again.")


def test_the_same_as_the_gguf_package_reads(tmp_path: Path) -> None:
    types = {
        "blk.0.attn_q.weight": "F32",
        "blk.0.attn_k.weight": "F16",
        "blk.0.attn_v.weight": "BF16",
        "blk.0.ffn_up.weight": "Q4_1",
    }
    path = write_model(tmp_path / "tiny.gguf", types=types)
    model = open_model(path)
    read = gguf.GGUFReader(path).tensors
    assert [t.name for t in read] == list(model.tensors)
    for theirs in read:
        tensor = model.tensors[theirs.name]
        assert (tensor.type_name, tensor.shape) == (theirs.tensor_type.name, tuple(reversed(theirs.shape.tolist())))
        assert np.array_equal(tensor.data, theirs.data)
        numbers = gguf.dequantize(theirs.data, theirs.tensor_type)
        assert np.array_equal(tensor.dequantised(), numbers.reshape(tensor.rows, tensor.columns))


@pytest.mark.parametrize("kind", ["Q1_0", "Q8_1", "Q8_K"])
def test_types_that_nothing_turns_into_numbers(kind: str, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", "x", {}, [NewTensor("a", (2, 256), kind)])
    text = f"a has the type {kind}, which nothing here turns into numbers: get the model in another one"
    with pytest.raises(ModelError, match=f"^{re.escape(text)}$"):
        open_model(path).tensors["a"].dequantised()


def test_all_types_that_gguf_dequantises_are_numbers() -> None:
    theirs = {int(kind) for kind in gguf.quants._type_traits} | {0, 1}
    plain = {number for number, kind in TENSOR_TYPES.items() if kind.plain}
    assert {number for number in TENSOR_TYPES if can_dequantise(number)} == theirs | plain


def test_parts_are_one_model(tmp_path: Path) -> None:
    whole = open_model(write_model(tmp_path / "whole.gguf"))
    names = split(whole.path, tmp_path / "m", 3)
    for path in names:
        model = open_model(path)
        assert (model.path, model.parts, model.layers) == (names[0], 3, 2)
        assert all(np.array_equal(model.tensors[n].data, t.data) for n, t in whole.tensors.items())


@pytest.mark.parametrize(("kind", "place"), [("Q8_0", 0), ("Q4_0", 0), ("Q4_1", 0), ("Q4_1", 2), ("Q5_0", 0)])
@pytest.mark.parametrize("bits", [0x7C00, 0xFC00, 0x7E01])
def test_scales_that_are_not_finite(kind: str, place: int, bits: int) -> None:
    raw = gguf.quantize(np.ones((5, 64), dtype=np.float32), gguf.GGMLQuantizationType[kind])
    tensor = Tensor("blk.0.ffn_up.weight", kind, int(gguf.GGMLQuantizationType[kind]), (5, 64), raw)
    tensor.check_finite()
    raw[3, raw.shape[1] // 2 + place : raw.shape[1] // 2 + place + 2] = np.frombuffer(np.uint16(bits).tobytes(), dtype=np.uint8)
    text = (
        "blk.0.ffn_up.weight is damaged: a scale or minimum in row 3 is not finite."
        " Download the model again, or quantise it again from its source."
    )
    with pytest.raises(ModelError, match=f"^{re.escape(text)}$"):
        tensor.check_finite()


@pytest.mark.parametrize("scale", [0x7F, 0x80, 0xFF])
def test_scales_of_fp8_that_are_not_finite(scale: int) -> None:
    raw = np.full((3, 2 * 36), 0x7E, dtype=np.uint8)
    tensor = Tensor("m", "NVFP4", 40, (3, 128), raw)
    tensor.check_finite()
    raw[1, 36 + 3] = scale
    with pytest.raises(ModelError, match="^m is damaged: a scale or minimum in row 1 is not finite. Download the model again"):
        tensor.check_finite()


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
def test_numbers_that_are_not_finite(kind: str) -> None:
    ggml_type = gguf.GGMLQuantizationType[kind]
    values = np.ones((4, 32), dtype=np.float32)
    Tensor("x", kind, int(ggml_type), (4, 32), gguf.quantize(values, ggml_type)).check_finite()
    values[2, 5] = np.inf
    with pytest.raises(ModelError, match=r"^x is damaged: a value in row 2 is not finite\."):
        Tensor("x", kind, int(ggml_type), (4, 32), gguf.quantize(values, ggml_type)).check_finite()
