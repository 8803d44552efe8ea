"""Matrices of AWQ and GPTQ: packed here by their publishers' formulas, number by number, and read back exactly."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tailrace.device.decoder import Decoder
from tailrace.device.driver import Device
from tailrace.gguf.describe import import_model
from tailrace.gguf.file import Model, open_model
from tailrace.sim.devices import open_device
from tailrace.spec.config import parse_config
from tailrace.spec.errors import ModelError
from verification.unit.host.gguf.checkpoint.test_damaged import CONFIG, SHAPES
from verification.unit.host.references import divergence

SEED = 7
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm"}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False, "sym": False}
_MATRICES = [name for name, shape in SHAPES.items() if "_proj" in name]
Tensors = dict[str, NDArray[Any]]


def packed_awq(codes: NDArray[Any]) -> NDArray[np.uint32]:
    """Eight columns in each word."""
    words = np.zeros((codes.shape[0], codes.shape[1] // 8), np.uint32)
    for nibble, column in enumerate((0, 2, 4, 6, 1, 3, 5, 7)):
        words |= codes[:, column::8].astype(np.uint32) << np.uint32(4 * nibble)
    return words


def packed(codes: NDArray[Any], bits: int) -> NDArray[np.uint32]:
    """Rows, as many as a word has room for, in each word."""
    words = np.zeros((codes.shape[0] * bits // 32, codes.shape[1]), np.uint32)
    for place in range(32 // bits):
        words |= codes[place :: 32 // bits].astype(np.uint32) << np.uint32(bits * place)
    return words


def write(
    folder: Path, how: dict[str, Any], zero: int | None = None, change: Callable[[Tensors], object] = lambda t: None
) -> tuple[Path, dict[str, NDArray[np.float64]]]:
    """A model with packed matrices, and their weights; `zero`: of all groups."""
    random = np.random.default_rng(SEED)
    print("seed", SEED)
    tensors, weights, bits = {}, {}, how["bits"]
    for name, shape in SHAPES.items():
        if name not in _MATRICES:
            tensors[f"{name}.weight"] = random.standard_normal(shape).astype(np.float32)
            continue
        rows, columns = shape
        group = columns if how["group_size"] == -1 else how["group_size"]
        codes = random.integers(0, 1 << bits, (columns, rows))
        scales = random.uniform(1e-3, 1e-1, (columns // group, rows)).astype(np.float16)
        zeros = random.integers(1, 1 << bits, scales.shape) if zero is None else np.full(scales.shape, zero)
        weights[name] = ((codes - np.repeat(zeros, group, axis=0)) * np.repeat(scales, group, axis=0).astype(np.float64)).T
        awq = how["quant_method"] == "awq"
        stored = zeros - (not awq and how.get("checkpoint_format", "gptq") == "gptq")
        tensors[f"{name}.qweight"] = packed_awq(codes) if awq else packed(codes, bits)
        tensors[f"{name}.qzeros"] = packed_awq(stored) if awq else packed(stored.T, bits).T
        tensors[f"{name}.scales"] = scales
        if not awq:
            tensors[f"{name}.g_idx"] = (np.arange(columns) // group).astype(np.int32)
    change(tensors)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**CONFIG, "quantization_config": how}))
    entries, data = {}, b""
    kinds = {"float32": "F32", "float16": "F16", "uint32": "I32", "int32": "I32"}
    for name, values in tensors.items():
        raw = np.ascontiguousarray(values).tobytes()
        place = [len(data), len(data) + len(raw)]
        entries[name] = {"dtype": kinds[str(values.dtype)], "shape": list(values.shape), "data_offsets": place}
        data += raw
    header = json.dumps(entries).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + data)
    return folder, weights


def places(model: Model) -> dict[str, Any]:
    """The matrices by the folder's names."""
    names = {"self_attn.o_proj": "attn_output", **{f"self_attn.{n}_proj": f"attn_{n}" for n in "qkv"}}
    names |= {f"mlp.{n}_proj": f"ffn_{n}" for n in ("gate", "up", "down")}
    return {f"model.layers.0.{ours}": model.tensors[f"blk.0.{theirs}.weight"] for ours, theirs in names.items()}


@pytest.mark.parametrize(
    ("how", "zero", "kind"),
    [
        (AWQ, None, "Q5_0"),
        (AWQ, 8, "Q4_0"),
        (AWQ, 0, "Q5_0"),
        ({**AWQ, "group_size": -1}, None, "Q5_0"),
        (GPTQ, None, "Q5_0"),
        (GPTQ, 16, "Q5_0"),
        ({**GPTQ, "sym": True}, 8, "Q4_0"),
        ({**GPTQ, "checkpoint_format": "gptq_v2"}, None, "Q5_0"),
        ({**GPTQ, "bits": 8, "sym": True}, 128, "Q8_0"),
    ],
)
def test_every_weight_is_exact(how: dict[str, Any], zero: int | None, kind: str, tmp_path: Path) -> None:
    folder, weights = write(tmp_path / "m", how, zero)
    model = open_model(folder)
    for name, tensor in places(model).items():
        assert tensor.type_name == kind
        assert np.array_equal(tensor.dequantised().astype(np.float64), weights[name])
        tensor.check_finite()
    imported = import_model(model)
    source = imported.matrices["layers.0.down"]
    assert source.tensor.format is not None
    some = source.blocks(3, 9, source.tensor.format)
    assert np.array_equal(some, np.asarray(source.tensor.data)[3:9])


def test_it_decodes_as_the_plain_numbers_do(tmp_path: Path) -> None:
    packed_folder, weights = write(tmp_path / "packed", AWQ)

    def as_numbers(tensors: Tensors) -> None:
        for name in weights:
            for part in ("qweight", "qzeros", "scales"):
                del tensors[f"{name}.{part}"]
            tensors[f"{name}.weight"] = weights[name].astype(np.float32)

    plain_folder, _ = write(tmp_path / "plain", AWQ, change=as_numbers)
    found = []
    for folder in (packed_folder, plain_folder):
        imported = import_model(open_model(folder), 16)
        decoder = Decoder(Device(open_device("golden", parse_config("base"), 1 << 26)), imported)
        found.append(np.array([np.array(decoder.step(token)) for token in (1, 5, 3, 9)]))
    assert open_model(plain_folder).tensors["blk.0.ffn_up.weight"].type_name == "F32"
    # Plain numbers are taken apart into planes, within 2^-21 of the largest of a block.
    assert divergence(found[1], found[0]).max() < 1e-8


@pytest.mark.parametrize(
    ("how", "zero", "text"),
    [
        ({**AWQ, "quant_method": "fp8"}, None, "quantization_config.quant_method is \"fp8\", and 'awq' or 'gptq' is expected"),
        ({**AWQ, "version": "gemv"}, None, "quantization_config.version is \"gemv\", and 'gemm' is expected"),
        ({**AWQ, "group_size": 16}, None, "quantization_config.group_size is 16, and a multiple of 32, or -1 is expected"),
        ({**GPTQ, "bits": 8}, 100, "has 8 bits with zero points, which no block holds exactly"),
    ],
)  # fmt: skip
def test_other_ways_are_refused(how: dict[str, Any], zero: int | None, text: str, tmp_path: Path) -> None:
    folder, _ = write(tmp_path / "m", how, zero)
    with pytest.raises(ModelError, match=re.escape(text)):
        open_model(folder)


_DOWN = "model.layers.0.mlp.down_proj"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda t: t.pop(f"{_DOWN}.qzeros"), f"is not complete: it lacks {_DOWN}.qzeros. Download it again."),
        (lambda t: t.update({f"{_DOWN}.qzeros": t[f"{_DOWN}.qzeros"][:1]}), f"{_DOWN}.qzeros is I32 of [1, 4], and I32 of [2, 4] is"),
        (lambda t: t.update({f"{_DOWN}.scales": t[f"{_DOWN}.scales"].astype("f4")}), f"{_DOWN}.scales is F32 of [2, 32], and F16 of"),
        (lambda t: t.update({f"{_DOWN}.g_idx": t[f"{_DOWN}.g_idx"][::-1]}), f"the groups of {_DOWN} are in the order of activations"),
    ],
)  # fmt: skip
def test_parts_that_do_not_fit(change: Callable[[Tensors], object], text: str, tmp_path: Path) -> None:
    folder, _ = write(tmp_path / "m", GPTQ, change=change)
    with pytest.raises(ModelError, match=re.escape(text)):
        open_model(folder)
