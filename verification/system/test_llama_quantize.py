"""Files that llama.cpp's own quantiser has mixed run whole, and mean the same to llama.cpp.

llama.cpp rounds activations to 8 bits, with one scale for 256 of them where blocks have 256 weights, which costs more than all
that is to be seen here. So it has the weights back as float32, from itself, and multiplies them with float32 activations.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailrace.benchmark.llama_cpp import without_its_log
from tailrace.gguf.file import open_model
from verification.unit.host.references import divergence
from verification.unit.host.tiny_models import with_tensors, write_model

llama_cpp = pytest.importorskip("cyllama.llama.llama_cpp")

from verification.llama_cpp_logits import in_llama_cpp  # noqa: E402
from verification.system.test_llama_cpp import TOKENS, on_golden  # noqa: E402

#: Numbers of llama.cpp's `llama_ftype`, and some types that a file of it has.
MIXES = {
    "F16": (1, {"F16"}),
    "BF16": (32, {"BF16"}),
    "IQ4_NL": (25, {"IQ4_NL", "Q6_K"}),
    "IQ4_XS": (30, {"IQ4_XS", "IQ4_NL"}),
    "Q3_K_M": (12, {"Q3_K"}),
    "Q2_K": (10, {"Q2_K", "Q3_K"}),
    "TQ1_0": (36, {"TQ1_0"}),
    "TQ2_0": (37, {"TQ2_0"}),
}
FLOAT32 = 0
#: Matrices of a layer, with rows and columns.
SHAPES = (
    ("attn_q", 64, 64), ("attn_k", 32, 64), ("attn_v", 32, 64), ("attn_output", 64, 64), ("ffn_gate", 128, 64),
    ("ffn_up", 128, 64), ("ffn_down", 64, 128),
)  # fmt: skip
LIMIT = 3e-3


def quantised(source: Path, target: Path, number: int) -> Path:
    parameters = llama_cpp.LlamaModelQuantizeParams()
    parameters.ftype, parameters.nthread, parameters.allow_requantize = number, 1, True
    with without_its_log():
        llama_cpp.model_quantize(str(source), str(target), parameters)
    return target


@pytest.mark.parametrize("mix", MIXES)
def test_a_mix_of_the_quantiser(mix: str, tmp_path: Path) -> None:
    number, types = MIXES[mix]
    plain = write_model(tmp_path / "plain.gguf", default_type="F32", hidden=256, feed_forward=512)
    mixed = quantised(plain, tmp_path / "mixed.gguf", number)
    found = {tensor.type_name for tensor in open_model(mixed).tensors.values()}
    assert types <= found, found
    apart = divergence(in_llama_cpp(quantised(mixed, tmp_path / "float32.gguf", FLOAT32), TOKENS), on_golden(mixed))
    assert apart.mean() < LIMIT, apart


def any_nvfp4(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Rows of any codes."""
    raw = rng.integers(0, 256, (rows, columns // 64, 36), dtype=np.uint8)
    raw[..., :4] = rng.integers(0x04, 0x18, raw[..., :4].shape)
    return raw.reshape(rows, -1)


def write_nvfp4(path: Path, extra: dict[str, np.ndarray]) -> Path:
    """A model whose layers are of any codes in NVFP4, which this version of the quantiser does not write."""
    rng, blocks = np.random.default_rng(6), {}
    for n in range(2):
        for name, rows, columns in SHAPES:
            blocks[f"blk.{n}.{name}.weight"] = any_nvfp4(rng, rows, columns)
    return write_model(
        path, types=dict.fromkeys(blocks, "NVFP4"), change=blocks, extra=extra, hidden=64, feed_forward=128, default_type="F32"
    )


def test_nvfp4_with_scales_of_whole_matrices(tmp_path: Path) -> None:
    numbers = np.random.default_rng(5).uniform(0.3, 2.0, (2, len(SHAPES))).astype(np.float32)
    scales = {f"blk.{n}.{shape[0]}.scale": numbers[n, i : i + 1] for n in range(2) for i, shape in enumerate(SHAPES)}
    path = write_nvfp4(tmp_path / "m.gguf", scales)
    found = on_golden(path)
    reference = in_llama_cpp(quantised(path, tmp_path / "float32.gguf", FLOAT32), TOKENS)
    assert divergence(reference, found).mean() < LIMIT
    # They matter; what others round activations with does not.
    assert divergence(reference, on_golden(write_nvfp4(tmp_path / "a.gguf", {}))).mean() > 10 * LIMIT
    rounding = {name.replace(".scale", ".input_scale"): np.ones(1, dtype=np.float32) for name in scales}
    assert np.array_equal(on_golden(write_nvfp4(tmp_path / "b.gguf", scales | rounding)), found)


def test_a_head_in_nvfp4_with_its_scale(tmp_path: Path) -> None:
    """Which llama.cpp obeys in this format only."""
    vocabulary = open_model(write_model(tmp_path / "plain.gguf")).head.rows
    changes: dict[str, Any] = {
        "tied": False, "types": {"output.weight": "NVFP4"}, "default_type": "F32",
        "change": {"output.weight": any_nvfp4(np.random.default_rng(7), vocabulary, 64)},
    }  # fmt: skip
    path = write_model(tmp_path / "m.gguf", extra={"output.scale": np.array([2.5])}, **changes)
    reference = in_llama_cpp(path, TOKENS)
    assert divergence(reference, on_golden(path)).mean() < LIMIT
    assert divergence(reference, on_golden(write_model(tmp_path / "a.gguf", **changes))).mean() > 10 * LIMIT


def test_scales_of_experts(tmp_path: Path) -> None:
    """Each expert's matrices have a number of their own."""
    pytest.importorskip("transformers")
    from verification.unit.host.transformers_models import make_model

    make_model(tmp_path / "plain.gguf", "qwen3moe", layers=2)
    experts = open_model(tmp_path / "plain.gguf").experts
    rng = np.random.default_rng(8)
    names = [f"blk.{n}.ffn_{name}_exps.scale" for n in range(2) for name in ("gate", "up", "down")]
    path = with_tensors(tmp_path / "plain.gguf", tmp_path / "m.gguf", {n: rng.uniform(0.2, 3.0, experts) for n in names})
    reference = in_llama_cpp(quantised(path, tmp_path / "float32.gguf", FLOAT32), TOKENS)
    assert np.median(divergence(reference, on_golden(path))) < LIMIT
    assert np.median(divergence(reference, on_golden(tmp_path / "plain.gguf"))) > 10 * LIMIT
