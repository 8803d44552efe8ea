"""Checkpoints as makers of models publish them, made of transformers' own."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("transformers")
import torch
from safetensors.torch import load_file

from verification.converted.apart import Apart
from verification.converted.checkpoints import save, sizes_of
from verification.converted.renamed import renamed

HEADS, KV_HEADS, SIZE, HIDDEN = 6, 2, 8, 16


def attention(rng: np.random.Generator) -> dict[str, torch.Tensor]:
    """Of one layer."""
    rows = {"q": HEADS * SIZE, "k": KV_HEADS * SIZE, "v": KV_HEADS * SIZE}
    return {
        f"model.layers.3.self_attn.{part}_proj.weight": torch.from_numpy(rng.standard_normal((count, HIDDEN)))
        for part, count in rows.items()
    }


def test_q_k_and_v_are_joined_one_after_the_other(rng: np.random.Generator) -> None:
    tensors = attention(rng)
    found = renamed("bailingmoe2", tensors, HEADS, KV_HEADS)
    assert list(found) == ["model.layers.3.attention.query_key_value.weight"]
    assert torch.equal(next(iter(found.values())), torch.cat(list(tensors.values())))


def test_q_k_and_v_are_joined_group_by_group(rng: np.random.Generator) -> None:
    tensors = attention(rng)
    found = renamed("internlm2", tensors, HEADS, KV_HEADS)
    assert list(found) == ["model.layers.3.attention.wqkv.weight"]
    groups = next(iter(found.values())).reshape(KV_HEADS, HEADS // KV_HEADS + 2, SIZE, HIDDEN)
    parts = groups[:, :-2], groups[:, -2], groups[:, -1]
    assert all(torch.equal(part.reshape(-1, HIDDEN), own) for part, own in zip(parts, tensors.values(), strict=True))


def test_other_architectures_keep_their_names(rng: np.random.Generator) -> None:
    tensors = attention(rng)
    assert renamed("llama", tensors, HEADS, KV_HEADS) == tensors


def test_a_checkpoint_is_that_of_the_maker(tmp_path: Path) -> None:
    model = save(tmp_path, "internlm2", 1)
    tensors = load_file(tmp_path / "checkpoint" / "model.safetensors")
    assert torch.equal(tensors["output.weight"], model.lm_head.weight)
    assert torch.equal(tensors["model.layers.1.feed_forward.w3.weight"], model.model.layers[1].mlp.up_proj.weight)
    config = json.loads((tmp_path / "checkpoint" / "config.json").read_text())
    assert config["architectures"] == ["InternLM2ForCausalLM"]
    assert config["hidden_size"] == sizes_of("internlm2", 1)["hidden"]


def test_a_model_without_experts_says_nothing_of_them(tmp_path: Path) -> None:
    save(tmp_path, "nemotron_h", 1)
    config = json.loads((tmp_path / "checkpoint" / "config.json").read_text())
    assert (config["hybrid_override_pattern"], config["num_hidden_layers"]) == ("M*-M-", 5)
    assert not {"num_experts_per_tok", "n_routed_experts"} & config.keys()


def test_what_ends_a_process_ends_no_other_call() -> None:
    """llama.cpp's assertions do, in the middle of a table."""
    apart = Apart()
    assert apart.call(len, "abc") == 3
    with pytest.raises(RuntimeError, match=r"^it ended its process$"):
        apart.call(os.abort)
    with pytest.raises(ValueError, match=r"^invalid literal for int"):
        apart.call(int, "x")
    assert apart.call(int, "7") == 7
