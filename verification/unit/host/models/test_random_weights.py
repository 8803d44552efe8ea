"""Random weights in the shape of a model: a file that runs, the same every time."""

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

import tailrace
from tailrace.gguf.file import open_model
from tailrace.models.published import PUBLISHED
from tailrace.models.random_weights import main, write_random_weights
from tailrace.models.shapes import Shape

MIXTURES = (
    "Qwen1.5-MoE-A2.7B",
    "GLM-4.5-Air",
    "ERNIE-4.5-21B-A3B",
    "Ling-mini-2.0",
    "Hunyuan-A13B",
    "MiniMax-M2",
    "Llama-4-Scout-17B-16E",
)


@pytest.mark.parametrize(
    "name", ["GPT-2", "Llama-2-7B", "Qwen2.5-0.5B", "Qwen3-30B-A3B", "Gemma-3-1B", "Phi-4-mini", *MIXTURES]
)
def test_a_small_one_of_each_kind_runs(name: str, tmp_path: Path) -> None:
    full = next(shape for shape in PUBLISHED if shape.name == name)
    kv_heads = min(full.kv_heads, 2) if full.kv_heads < full.heads else 2
    shape = replace(
        full, layers=2, hidden=64, heads=2 * kv_heads if full.kv_heads < full.heads else 2, kv_heads=kv_heads, head_size=32,
        feed_forward=96, vocabulary=300, context=64, experts=min(full.experts, 4 * full.groups), used=min(full.used, 2),
        shared=min(full.shared, 64), dense=min(full.dense, 128), window=min(full.window, 8), original=min(full.original, 16), rotary=min(full.rotary, 16),
    )  # fmt: skip
    path = write_random_weights(tmp_path / "m.gguf", shape)
    assert path.read_bytes() == write_random_weights(tmp_path / "again.gguf", shape).read_bytes()
    with tailrace.load(path) as model:
        assert model.generate("ab", max_tokens=2).prompt_tokens


def test_the_file_has_the_shape(tmp_path: Path) -> None:
    small = Shape("small", "llama", 2, 128, 4, 2, 32, 192, 320, context=64)
    model = open_model(write_random_weights(tmp_path / "m.gguf", small))
    assert {t.type_name for t in model.matrices} == {"Q4_0"}
    assert model.tensors["blk.1.ffn_down.weight"].shape == (128, 192)
    assert model.tensors["blk.1.ffn_down.weight"].data.any(axis=1).all()
    assert model.tensors["blk.0.attn_norm.weight"].data.mean() == pytest.approx(1, abs=0.1)


def test_the_command_knows_the_published_ones(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["Llama-9", "-o", str(tmp_path / "m.gguf")])
    assert (result.exit_code, "'Llama-9' is not one of 'GPT-2'" in result.output) == (2, True)
