"""From GGUF files to descriptions and to the rows behind each role."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailrace.firmware.description import (
    Activation,
    Attention,
    Experts,
    FeedForward,
    HeadNorm,
    LayerEmbedding,
    NormKind,
    Scores,
)
from tailrace.gguf.architectures import ARCHITECTURES
from tailrace.gguf.describe import ImportedModel, NoDescriptionError, UnknownArchitectureError, check_operations, import_model
from tailrace.gguf.file import open_model
from tailrace.gguf.header import Header
from tailrace.gguf.missing import MISSING
from tailrace.gguf.rope import Rope, Yarn
from tailrace.gguf.writer import tensor_of, write_gguf
from tailrace.spec.errors import LimitError, ModelError
from tailrace.spec.formats import BY_NAME
from verification.unit.host.small_shapes import (
    GEMMA3,
    GEMMA3_HEADER,
    GPT2,
    GPT2_HEADER,
    MIXTURE,
    MIXTURE_HEADER,
    PHI3,
    PHI3_HEADER,
    write,
)
from verification.unit.host.tiny_models import write_model

from .conftest import Limit


def imported(path: Path, context: int | None = None) -> ImportedModel:
    return import_model(open_model(path), context)


def test_llama(tmp_path: Path) -> None:
    model = imported(write_model(tmp_path / "m.gguf", tied=False))
    d = model.description
    assert (d.architecture, d.hidden, d.vocabulary, len(d.layers)) == ("llama", 64, 288, 2)
    assert d.layers[1].attention == Attention(2, 1, 32, pytest.approx(32**-0.5), 32)
    assert d.layers[1].feed_forward == FeedForward(96, Activation.SILU)
    assert (d.norm.kind, d.norm.epsilon) == (NormKind.RMS, pytest.approx(1e-5))
    assert (d.embedding_scale, d.learned_positions, d.logit_cap) == (1.0, False, None)
    assert model.ropes == {"rope": Rope(32, 10_000.0)}
    assert model.matrices["head"].tensor.name == "output.weight"
    assert set(model.tables) == {
        "embedding",
        "final_norm",
        *(f"layers.{n}.{t}" for n in (0, 1) for t in ("attention_norm", "feed_forward_norm")),
    }


def test_rows_of_q_and_k_are_put_in_order(tmp_path: Path) -> None:
    """Llama's files have neighbours where a description has halves; with a partial rotation, only what is rotated moves."""
    for rotary in (32, 16):
        file = open_model(write_model(tmp_path / "m.gguf", metadata={"llama.rope.dimension_count": rotary}))
        model = import_model(file)
        one = [*range(0, rotary, 2), *range(1, rotary, 2), *range(rotary, 32)]
        for role, heads in (("q", 2), ("k", 1)):
            source = model.matrices[f"layers.0.{role}"]
            order = [head * 32 + row for head in range(heads) for row in one]
            found = source.blocks(0, source.rows, BY_NAME["Q8_0"])
            assert np.array_equal(found, file.tensors[f"blk.0.attn_{role}.weight"].data[order])
            # In parts, too.
            assert np.array_equal(source.blocks(5, 20, BY_NAME["Q8_0"]), found[5:20])
        assert model.matrices["layers.0.v"].order is None


def test_rows_lie_in_halves_where_angles_have_sections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = pytest.importorskip("verification.unit.host.transformers_models")
    models.make_model(tmp_path / "a.gguf", "glm4")
    monkeypatch.setattr(models, "_scalars", lambda *_: {"rope.dimension_sections": [8, 4, 4, 0]})
    models.make_model(tmp_path / "b.gguf", "glm4")
    plain, sectioned = imported(tmp_path / "a.gguf"), imported(tmp_path / "b.gguf")
    assert plain.description == sectioned.description
    for role in "qk":
        assert plain.matrices[f"layers.0.{role}"].order is not None
        assert sectioned.matrices[f"layers.0.{role}"].order is None


def test_biases_move_with_their_rows_and_head_norms_are_repeated(tmp_path: Path) -> None:
    extra = {"blk.0.attn_q.bias": np.arange(64.0), "blk.1.attn_output.bias": np.arange(64.0)}
    model = imported(write_model(tmp_path / "m.gguf", extra=extra))
    one = [*range(0, 32, 2), *range(1, 32, 2)]
    assert model.tables["layers.0.q_bias"].numbers().tolist() == [[*one, *(32 + i for i in one)]]
    assert "layers.1.o_bias" in model.tables
    model = imported(write_model(tmp_path / "m.gguf", "qwen3"))
    norm = open_model(tmp_path / "m.gguf").tensors["blk.0.attn_q_norm.weight"].data
    assert np.array_equal(model.tables["layers.0.q_norm"].numbers(), [norm, norm])
    assert model.tables["layers.0.k_norm"].repeats == 1
    assert model.description.layers[0].attention.head_norm is HeadNorm.HEAD


def test_scales_of_matrices_are_a_table_of_their_layer(tmp_path: Path) -> None:
    extra = {"blk.1.ffn_up.scale": [0.5], "blk.1.attn_q.scale": [2.0], "blk.1.attn_q.input_scale": [3.0]}
    model = imported(write_model(tmp_path / "m.gguf", extra={name: np.array(x) for name, x in extra.items()}))
    assert model.tables["layers.1.scales"].numbers().tolist() == [[2.0, 0.5]]
    assert [model.matrices[f"layers.1.{role}"].scale for role in ("q", "up", "down")] == [0, 1, None]
    assert "layers.0.scales" not in model.tables
    extra = {"blk.0.ffn_up.scale": np.array([np.nan])}
    with pytest.raises(ModelError, match="^blk.0.ffn_up.scale is damaged: a value in row 0 is not finite."):
        imported(write_model(tmp_path / "m.gguf", extra=extra))


def test_a_scale_of_the_head_is_one_of_logits(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"

    def write(**extra: Any) -> Path:
        return write_model(path, tied=False, extra={f"output.{name}": np.array(x) for name, x in extra.items()})

    model = imported(write(scale=[0.5], input_scale=[3.0]))
    assert model.description.logit_scale == 0.5
    biased = write(scale=[0.5], bias=np.zeros(model.description.vocabulary))
    refuses(biased, "its output has a scale and a bias, and the program scales both")
    with pytest.raises(ModelError, match="^output.scale is damaged: a value in row 0 is not finite."):
        imported(write(scale=[np.inf]))


def test_phi3_is_taken_apart(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", "phi3", {**PHI3_HEADER, "attention.sliding_window": 16}, PHI3)
    model = imported(path)
    assert model.description.layers[0].attention == Attention(4, 2, 16, 0.25, 8, window=16)
    tensors = model.model.tensors
    rows = {"q": (0, 64), "k": (64, 96), "v": (96, 128)}
    for role, (first, end) in rows.items():
        source = model.matrices[f"layers.0.{role}"]
        assert np.array_equal(source.blocks(0, source.rows, BY_NAME["Q8_0"]), tensors["blk.0.attn_qkv.weight"].data[first:end])
    for role, first in (("gate", 0), ("up", 96)):
        source = model.matrices[f"layers.0.{role}"]
        assert np.array_equal(
            source.blocks(1, 96, BY_NAME["Q8_0"]), tensors["blk.0.ffn_up.weight"].data[first + 1 : first + 96]
        )


def test_a_window_that_nothing_leaves_is_none(tmp_path: Path) -> None:
    for window in (0, 64, 100):
        path = write(tmp_path / "m.gguf", "phi3", {**PHI3_HEADER, "attention.sliding_window": window}, PHI3)
        assert imported(path).description.layers[0].attention.window is None


def test_long_rope_depends_on_the_context(tmp_path: Path) -> None:
    header = {**PHI3_HEADER, "rope.scaling.original_context_length": 32, "rope.scaling.attn_factor": 1.25}
    factors = {"rope_factors_long.weight": (4,), "rope_factors_short.weight": (4,)}
    path = write(tmp_path / "m.gguf", "phi3", header, {**PHI3, **factors})
    tensors = open_model(path).tensors
    for context, name in ((32, "short"), (33, "long"), (None, "long")):
        model = imported(path, context)
        assert model.context == (context or 64)
        rope = model.ropes["rope"]
        assert rope == Rope(8, 10_000.0, tuple(map(float, tensors[f"rope_factors_{name}.weight"].data)), 1.25)


def test_the_context_is_one_that_the_model_was_trained_for(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf")
    model = imported(path)
    assert (model.context, model.at(3).context, model.at(3).description) == (64, 3, model.description)
    for wrong in (-1, 0, 65):
        text = f"{path} was made for a context of 64 tokens: ask for 1 to 64, not {wrong}"
        with pytest.raises(LimitError, match=f"^{re.escape(text)}$"):
            model.at(wrong)


def test_gemma3(tmp_path: Path) -> None:
    model = imported(write(tmp_path / "m.gguf", "gemma3", GEMMA3_HEADER, GEMMA3))
    d = model.description
    assert [layer.attention.window for layer in d.layers] == [8, 8, 8, 8, 8, None, 8]
    assert [layer.attention.rope for layer in d.layers] == [*["rope_local"] * 5, "rope", "rope_local"]
    # Only the layers that see everything are stretched.
    assert model.ropes == {"rope": Rope(32, 1e6, (8.0,) * 16), "rope_local": Rope(32, 1e4)}
    assert d.embedding_scale == 8.0
    assert all(layer.post_norms and layer.attention.head_norm for layer in d.layers)
    assert d.layers[0].feed_forward == FeedForward(96, Activation.GELU)
    assert model.matrices["head"].tensor.name == "token_embd.weight"


def test_gpt2(tmp_path: Path) -> None:
    model = imported(write(tmp_path / "m.gguf", "gpt2", GPT2_HEADER, GPT2))
    assert model.description.learned_positions
    assert model.description.layers[0].attention == Attention(4, 4, 16, 0.25)
    assert model.description.layers[0].feed_forward == FeedForward(96, Activation.GELU, gated=False)
    assert model.ropes == {}
    bias = model.model.tensors["blk.0.attn_qkv.bias"].data
    assert np.array_equal(model.tables["layers.0.k_bias"].numbers(), [bias[64:128]])
    assert {"final_norm_bias", "layers.0.attention_norm_bias", "layers.0.down_bias", "position_embedding"} <= set(model.tables)


def test_gemma4(tmp_path: Path) -> None:
    """Two sizes of heads, keys that are values where there is no v, and a scale of each layer."""
    shapes = dict(GEMMA3.items()) | {"blk.{n}.layer_output_scale.weight": (1,), "rope_freqs.weight": (16,)}
    header = {k: v for k, v in GEMMA3_HEADER.items() if not k.startswith("rope.scaling")} | {"rope.dimension_count_swa": 16}
    model = imported(write(tmp_path / "m.gguf", "gemma4", header, shapes))
    layers = model.description.layers
    assert all(layer.output_scale and layer.attention.value_norm and layer.attention.scale == 1.0 for layer in layers)
    assert [layer.attention.rotary_size for layer in layers] == [16, 16, 16, 16, 16, 32, 16]
    assert not any(layer.attention.keys_as_values for layer in layers)
    assert len(model.ropes["rope"].divisors) == 16
    assert not model.ropes["rope_local"].divisors
    without = imported(write(tmp_path / "n.gguf", "gemma4", header, {k: v for k, v in shapes.items() if "attn_v" not in k}))
    assert all(layer.attention.keys_as_values for layer in without.description.layers)


@pytest.mark.parametrize("fused", [True, False])
def test_gemma4_with_experts(fused: bool, tmp_path: Path) -> None:
    """Experts beside a feed-forward, in layers that have a router; gate and up in one tensor, or in two."""
    shapes = dict(GEMMA3.items()) | {
        f"blk.1.{name}.weight": (64,) for name in ("post_ffw_norm_1", "post_ffw_norm_2", "pre_ffw_norm_2")
    }
    shapes |= {"blk.1.ffn_gate_inp.weight": (8, 64), "blk.1.ffn_gate_inp.scale": (64,), "blk.1.ffn_down_exps.scale": (8,)}
    shapes |= (
        {"blk.1.ffn_gate_up_exps.weight": (8, 64, 64)}
        if fused
        else {f"blk.1.ffn_{p}_exps.weight": (8, 32, 64) for p in ("gate", "up")}
    )
    shapes["blk.1.ffn_down_exps.weight"] = (8, 64, 32)
    header = {k: v for k, v in GEMMA3_HEADER.items() if not k.startswith("rope.scaling")}
    header |= {"expert_count": 8, "expert_used_count": 3, "expert_feed_forward_length": 32}
    model = imported(write(tmp_path / "m.gguf", "gemma4", header, shapes))
    layers = model.description.layers
    dense = FeedForward(96, Activation.GELU)
    assert layers[0].feed_forward == dense
    assert layers[1].feed_forward == Experts(
        8, 3, FeedForward(32, Activation.GELU), shared=dense, apart=True, router_scale=0.125
    )
    roles = {"router_norm", "experts_norm", "experts_post_norm", "shared_post_norm", "scales"}
    assert roles == {role.split(".")[2] for role in model.tables if role.startswith("layers.1.")} - {
        role.split(".")[2] for role in model.tables if role.startswith("layers.0.")
    }
    tensors = model.model.tensors
    if fused:
        whole = tensors["blk.1.ffn_gate_up_exps.weight"].dequantised().reshape(8, 64, 64)
        parts = {"gate": whole[:, :32], "up": whole[:, 32:]}
    else:
        parts = {part: tensors[f"blk.1.ffn_{part}_exps.weight"].dequantised().reshape(8, 32, 64) for part in ("gate", "up")}
    for part, expected in parts.items():
        source = model.matrices[f"layers.1.experts_{part}"]
        assert all(np.array_equal(source.numbers(expert=e), expected[e]) for e in range(8))


def small_gemma4(tmp_path: Path, more: dict[str, Any] | None = None, unread: dict[str, tuple[int, ...]] | None = None) -> Path:
    """Four layers, every second of which sees all; the last two share keys and values, and each has an embedding."""
    shapes = {k: v for k, v in GEMMA3.items() if "attn_k" not in k and "attn_v" not in k} | (unread or {})
    for n in (0, 1):
        shapes |= {f"blk.{n}.attn_{part}.weight": (32, 64) for part in "kv"} | {f"blk.{n}.attn_k_norm.weight": (32,)}
    shapes |= {"blk.{n}.inp_gate.weight": (32, 64), "blk.{n}.proj.weight": (64, 32), "blk.{n}.post_norm.weight": (64,)}
    shapes |= {
        "per_layer_token_embd.weight": (40, 128),
        "per_layer_model_proj.weight": (128, 64),
        "per_layer_proj_norm.weight": (32,),
    }
    header = {k: v for k, v in GEMMA3_HEADER.items() if not k.startswith("rope.scaling")} | {
        "block_count": 4, "attention.sliding_window_pattern": [True, False, True, False], "attention.shared_kv_layers": 2,
        "embedding_length_per_layer_input": 32, **(more or {}),
    }  # fmt: skip
    return write(tmp_path / "m.gguf", "gemma4", header, shapes)


def test_gemma4_with_shared_caches_and_embeddings_of_layers(tmp_path: Path) -> None:
    model = imported(small_gemma4(tmp_path))
    description = model.description
    assert [layer.attention.shared_cache for layer in description.layers] == [False, False, True, True]
    assert [description.cache_layer(n) for n in range(4)] == [0, 1, 0, 1]
    assert description.owners == (0, 1)
    assert all(layer.embedding == LayerEmbedding(32, Activation.GELU) for layer in description.layers)
    assert "layers.1.k" in model.matrices
    assert not {"layers.2.k", "layers.3.v"} & set(model.matrices)
    whole = model.model.tensors["per_layer_model_proj.weight"].dequantised().reshape(128, 64)
    assert np.array_equal(model.matrices["layers.2.embedding_projection"].numbers(), whole[64:96])
    assert model.tables["layer_embeddings"].columns == 128
    assert model.model.matrix_names.count("blk.2.attn_k.weight") == 0


def test_what_makes_keys_and_values_that_are_shared_is_left_out(tmp_path: Path) -> None:
    """Some files have it."""
    expected = imported(small_gemma4(tmp_path)).description
    unread = {"blk.2.attn_k.weight": (32, 64), "blk.2.attn_k_norm.weight": (32,), "blk.2.attn_v.weight": (32, 64)}
    assert imported(small_gemma4(tmp_path, unread=unread)).description == expected


def test_shared_caches_that_there_are_not(tmp_path: Path) -> None:
    path = small_gemma4(tmp_path, {"attention.sliding_window_pattern": [True, True, True, False]})
    reason = "its layer 3 has the keys and values of an earlier layer of its kind, and there is no such layer"
    with pytest.raises(NoDescriptionError) as error:
        imported(path)
    assert str(error.value) == f"{path} can't be decoded as a whole: {reason}"


def test_embeddings_of_layers_of_another_size(tmp_path: Path) -> None:
    path = small_gemma4(tmp_path, {"embedding_length_per_layer_input": 24})
    with pytest.raises(NoDescriptionError) as error:
        imported(path)
    assert str(error.value) == (
        f"{path} can't be decoded as a whole: its layers' embeddings have 24 elements, which is not a multiple of 32"
    )


@pytest.mark.parametrize(("layers", "by_width"), [(46, True), (45, False)])
def test_scores_of_the_largest_gemma2_go_by_the_width(layers: int, by_width: bool, tmp_path: Path) -> None:
    header = {k: v for k, v in GEMMA3_HEADER.items() if not k.startswith("rope.scaling")} | {"block_count": layers}
    header |= {"attention.key_length": 16, "attention.value_length": 16}
    shapes = {k: v for k, v in GEMMA3.items() if "attn" not in k or k.endswith("attn_norm.weight")}
    shapes |= {"blk.{n}.attn_q.weight": (32, 64), "blk.{n}.attn_k.weight": (16, 64), "blk.{n}.attn_v.weight": (16, 64)}
    shapes |= {"blk.{n}.attn_output.weight": (64, 32), "blk.{n}.post_attention_norm.weight": (64,)}
    model = imported(write(tmp_path / "m.gguf", "gemma2", header, shapes))
    assert model.description.attentions[0].scale == pytest.approx((32 if by_width else 16) ** -0.5)


def test_gpt_oss(tmp_path: Path) -> None:
    kept = {k: v for k, v in MIXTURE.items() if "ffn_norm" not in k}
    shapes: dict[str, tuple[int, ...]] = {"blk.{n}.post_attention_norm.weight": (64,), "blk.{n}.attn_sinks.weight": (4,)}
    shapes |= {"blk.{n}.ffn_gate_inp.weight": (8, 64), "blk.{n}.ffn_gate_inp.bias": (8,)}
    for name in ("gate", "up", "down"):
        shapes |= {f"blk.{{n}}.ffn_{name}_exps.weight": (8, 64, 64), f"blk.{{n}}.ffn_{name}_exps.bias": (8, 64)}
    header = {**MIXTURE_HEADER, "expert_count": 8, "expert_used_count": 3, "expert_feed_forward_length": 64}
    header["attention.sliding_window"] = 16
    header |= {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 16}
    model = imported(write(tmp_path / "m.gguf", "gpt-oss", header, {**kept, **shapes}))
    layers = model.description.layers
    assert [layer.attention.window for layer in layers] == [16]
    assert all(layer.attention.sinks for layer in layers)
    assert layers[0].feed_forward == Experts(8, 3, FeedForward(64, Activation.QUICK_GELU, limit=7.0, up_offset=1.0))
    assert model.ropes["rope"].yarn == Yarn(4.0, 16, whole_pairs=False)
    biases = model.model.tensors["blk.0.ffn_up_exps.bias"].dequantised()
    assert np.array_equal(model.tables["layers.0.experts_up_bias"].numbers(2, 5), biases[2:5])
    assert np.array_equal(model.tables["layers.0.sinks"].numbers(), [model.model.tensors["blk.0.attn_sinks.weight"].data])


def routed(
    tmp_path: Path, architecture: str, more: dict[str, Any], shapes: dict[str, tuple[int, ...]], without: str = "nothing"
) -> Path:
    """A mixture of 8 experts, 3 of them used."""
    base = {k: v for k, v in MIXTURE.items() if not any(part in k for part in ("exps", "gate_inp", without))}
    experts = {f"blk.{{n}}.ffn_{name}_exps.weight": (8, 64, 64) for name in ("gate", "up", "down")}
    header = {**MIXTURE_HEADER, "expert_count": 8, "expert_used_count": 3, "expert_feed_forward_length": 64, **more}
    return write(
        tmp_path / "m.gguf", architecture, header, {**base, "blk.{n}.ffn_gate_inp.weight": (8, 64), **experts, **shapes}
    )


def glm(tmp_path: Path, more: dict[str, Any], shapes: dict[str, tuple[int, ...]] | None = None) -> Path:
    """The same as a GLM, which calls the norm before its feed-forward by another name."""
    norm = {"blk.{n}.post_attention_norm.weight": (64,)}
    return routed(tmp_path, "glm4moe", more, {**norm, **(shapes or {})}, without="ffn_norm")


def test_a_router_that_the_header_describes(tmp_path: Path) -> None:
    header = {
        "expert_gating_func": 2, "expert_weights_norm": True, "expert_weights_scale": 2.5, "expert_group_count": 2,
        "expert_group_used_count": 1, "expert_shared_count": 2,
    }  # fmt: skip
    shapes = {f"blk.{{n}}.ffn_{name}_shexp.weight": (128, 64) for name in ("gate", "up")}
    shapes |= {"blk.{n}.ffn_down_shexp.weight": (64, 128), "blk.{n}.exp_probs_b.bias": (8,)}
    model = imported(glm(tmp_path, header, shapes))
    expert, shared = (FeedForward(size, Activation.SILU) for size in (64, 128))
    assert model.description.layers[0].feed_forward == Experts(8, 3, expert, True, Scores.SIGMOID, 2.5, 2, 1, shared)
    bias = model.model.tensors["blk.0.exp_probs_b.bias"].data
    assert np.array_equal(model.tables["layers.0.selection_bias"].numbers(), [bias])


def test_a_selection_bias_may_be_a_matrix_of_one_row(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", *_ernie((1, 8)))
    tensor = open_model(path).tensors["blk.0.exp_probs_b.bias"]
    assert np.array_equal(imported(path).tables["layers.0.selection_bias"].numbers(), tensor.dequantised())
    wrong = write(tmp_path / "n.gguf", *_ernie((2, 8)))
    text = f"{wrong} is not a complete ernie4_5-moe model: blk.0.exp_probs_b.bias is 2 x 8, and its header speaks of 1 x 8. Convert it again."
    with pytest.raises(ModelError, match=f"^{re.escape(text)}$"):
        imported(wrong)


def _ernie(bias: tuple[int, ...]) -> tuple[str, dict[str, Any], dict[str, tuple[int, ...]]]:
    header = {**MIXTURE_HEADER, "expert_count": 8}
    shapes = {name: (8, *shape[1:]) if "exps" in name or "gate_inp" in name else shape for name, shape in MIXTURE.items()}
    return "ernie4_5-moe", header, {**shapes, "blk.{n}.exp_probs_b.bias": bias}


def test_all_groups_are_none(tmp_path: Path) -> None:
    header = {"expert_group_count": 4, "expert_group_used_count": 4}
    experts = imported(glm(tmp_path, header)).description.layers[0].feed_forward
    assert experts == Experts(8, 3, FeedForward(64, Activation.SILU), False, Scores.SIGMOID)


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ({"expert_gating_func": 4}, "can't be run: its router is not a sigmoid (expert_gating_func 4)"),
        (
            {"expert_group_count": 3, "expert_group_used_count": 1},
            "can't be used: glm4moe.expert_group_count in its header is 3, and a divisor of 8 experts is expected. Convert the model"
            " again.",
        ),
        (
            {"expert_group_count": 4, "expert_group_used_count": 1},
            "can't be used: glm4moe.expert_group_used_count in its header is 1, and so many groups that 3 experts are in them is"
            " expected. Convert the model again.",
        ),
        (
            {"expert_group_count": 4, "expert_group_used_count": 2},
            "can't be decoded as a whole: its experts are in groups of 2, which is not a multiple of 4",
        ),
        (
            {"expert_shared_count": 1},
            "can't be run: its header has glm4moe.expert_shared_count = 1, which no other glm4moe model has that is known here, so"
            " its results would be wrong",
        ),
    ],
)  # fmt: skip
def test_routers_that_are_refused(header: dict[str, Any], text: str, tmp_path: Path) -> None:
    path = glm(tmp_path, header)
    with pytest.raises(ModelError, match=f"^{re.escape(f'{path} {text}')}$"):
        imported(path)


def test_other_routers_score_as_their_architecture_does(tmp_path: Path) -> None:
    path = routed(tmp_path, "llama", {"expert_gating_func": 2}, {})
    text = f"{path} can't be run: its router is not a softmax (expert_gating_func 2)"
    with pytest.raises(ModelError, match=f"^{re.escape(text)}$"):
        imported(path)


@pytest.mark.parametrize("shape", [(64,), (1, 64)])
def test_the_gate_of_a_shared_expert_is_a_vector_or_a_row(shape: tuple[int, ...], tmp_path: Path) -> None:
    shapes: dict[str, tuple[int, ...]] = {f"blk.{{n}}.ffn_{name}_shexp.weight": (96, 64) for name in ("gate", "up")}
    shapes |= {"blk.{n}.ffn_down_shexp.weight": (64, 96), "blk.{n}.ffn_gate_inp_shexp.weight": shape}
    model = imported(routed(tmp_path, "qwen2moe", {}, shapes))
    experts = model.description.layers[0].feed_forward
    assert experts == Experts(
        8, 3, FeedForward(64, Activation.SILU), False, shared=FeedForward(96, Activation.SILU), shared_gated=True
    )
    source = model.matrices["layers.0.shared_router"]
    assert source.numbers().shape == (source.rows, source.columns) == (1, 64)


def test_layers_without_experts_and_layers_that_are_left_out(tmp_path: Path) -> None:
    """The first of three layers has no experts, and the last one predicts further tokens."""
    header = {**MIXTURE_HEADER, "block_count": 3, "nextn_predict_layers": 1, "leading_dense_block_count": 1}
    header |= {"attention.head_count_kv": [2, 2, 2], "expert_feed_forward_length": 96}
    shapes: dict[str, tuple[int, ...]] = {"blk.0.ffn_down.weight": (64, 96), "blk.2.nextn.eh_proj.weight": (64, 128)}
    shapes |= {f"blk.0.ffn_{name}.weight": (96, 64) for name in ("gate", "up")}
    for name, shape in MIXTURE.items():
        for n in range(3) if "{n}" in name else (0,):
            if n or not ("exps" in name or "gate_inp" in name):
                shapes[name.replace("{n}", str(n)).replace("ffn_norm", "post_attention_norm")] = shape
    model = imported(write(tmp_path / "m.gguf", "glm4moe", header, shapes))
    dense = FeedForward(96, Activation.SILU)
    assert [layer.feed_forward for layer in model.description.layers] == [dense, Experts(4, 2, dense, False, Scores.SIGMOID)]
    assert not any("layers.2." in role for role in (*model.matrices, *model.tables))
    assert (model.model.blocks, model.model.layers) == (3, 2)


def test_experts_of_their_own_size(tmp_path: Path) -> None:
    header = {**MIXTURE_HEADER, "feed_forward_length": 32, "expert_feed_forward_length": 96}
    experts = imported(write(tmp_path / "m.gguf", "llama", header, MIXTURE)).description.layers[0].feed_forward
    assert experts == Experts(4, 2, FeedForward(96, Activation.SILU), normalise=True)


def test_experts(tmp_path: Path) -> None:
    model = imported(write(tmp_path / "m.gguf", "llama", MIXTURE_HEADER, MIXTURE))
    assert model.description.layers[0].feed_forward == Experts(4, 2, FeedForward(96, Activation.SILU), normalise=True)
    source = model.matrices["layers.0.experts_down"]
    assert (source.rows, source.columns, source.experts) == (64, 96, 4)
    data = model.model.tensors["blk.0.ffn_down_exps.weight"].data.reshape(4, 64, -1)
    assert np.array_equal(source.blocks(3, 9, BY_NAME["Q8_0"], expert=2), data[2, 3:9])


@pytest.mark.parametrize(
    ("metadata", "rope"),
    [
        ({"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}, Rope(32, 1e4, (4.0,) * 16)),
        ({"rope.scaling.factor": 4.0}, Rope(32, 1e4, (4.0,) * 16)),
        ({"rope.scale_linear": 4.0}, Rope(32, 1e4, (4.0,) * 16)),
        ({"rope.scaling.type": "none", "rope.scaling.factor": 4.0}, Rope(32, 1e4)),
        ({"rope.scaling.type": "linear", "rope.scaling.attn_factor": 1.25}, Rope(32, 1e4, magnitude=1.25)),
        (
            {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 16},
            Rope(32, 1e4, magnitude=0.1 * np.log(4.0) + 1, yarn=Yarn(4.0, 16)),
        ),
        ({"rope.scaling.type": "none", "rope.scaling.factor": 0.0}, Rope(32, 1e4)),
    ],
)
def test_scaled_rope(metadata: dict[str, Any], rope: Rope, tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", metadata={f"llama.{k}": v for k, v in metadata.items()})
    assert imported(path).ropes == {"rope": rope}


def test_scaling_that_nobody_understands(tmp_path: Path) -> None:
    for kind in ("dynamic", "llama3", "[/x]"):
        path = write_model(tmp_path / "m.gguf", metadata={"llama.rope.scaling.type": kind})
        is_not_run(path, f"can't be run: it scales RoPE with '{kind}', which is not known here")
    path = write_model(tmp_path / "m.gguf", metadata={"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 0.5})
    is_not_run(
        path,
        "can't be used: llama.rope.scaling.factor in its header is 0.5, and a number of at least 1 is expected. Convert the model"
        " again.",
    )
    path = write_model(tmp_path / "m.gguf", metadata={"llama.rope.scaling.type": "longrope"})
    is_not_run(path, "is not a complete model: it lacks rope_factors_long.weight. Convert it again.")


def test_factors_come_on_top_of_scaling(tmp_path: Path) -> None:
    """As llama.cpp has it: verification/system/test_llama_cpp.py compares the logits."""
    extra, factors = {"rope_freqs.weight": np.arange(1.0, 17.0)}, tuple(float(i) for i in range(1, 17))
    linear = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
    path = write_model(tmp_path / "m.gguf", extra=extra, metadata=linear)
    assert imported(path).ropes == {"rope": Rope(32, 1e4, tuple(4 * f for f in factors))}
    path = write_model(tmp_path / "m.gguf", extra=extra, metadata={**linear, "llama.rope.scaling.type": "none"})
    assert imported(path).ropes == {"rope": Rope(32, 1e4, factors)}
    path = write_model(tmp_path / "m.gguf", extra=extra, metadata={**linear, "llama.rope.scaling.type": "yarn"})
    rope = imported(path).ropes["rope"]
    assert (rope.divisors, rope.yarn) == (factors, Yarn(4.0, 64))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, -1.0])
def test_factors_that_are_none(bad: float, tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", extra={"rope_freqs.weight": np.r_[np.ones(15), bad]})
    is_not_run(path, "is damaged: rope_freqs.weight has values that are no positive numbers. Download it again.")


def test_factors_on_frequencies(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", extra={"rope_freqs.weight": np.arange(1.0, 17.0)})
    assert imported(path).ropes == {"rope": Rope(32, 1e4, tuple(float(i) for i in range(1, 17)))}
    path = write_model(tmp_path / "m.gguf", extra={"rope_freqs.weight": np.ones(8)})
    with pytest.raises(ModelError, match="rope_freqs.weight is 8, and its header speaks of 16. Convert it again."):
        imported(path)


def refuses(path: Path, reason: str) -> None:
    """No description fits, but what computes every operation by itself may run it."""
    text = f"{path} can't be decoded as a whole: {reason}"
    with pytest.raises(NoDescriptionError, match=f"^{re.escape(text)}$"):
        imported(path)


def is_not_run(path: Path, text: str) -> None:
    """Nothing here runs it."""
    with pytest.raises(ModelError, match=f"^{re.escape(f'{path} {text}')}$") as caught:
        imported(path)
    assert not isinstance(caught.value, NoDescriptionError)


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("attn_logit_softcapping", 50.0, "50"),
        ("final_logit_softcapping", 30.0, "30"),
        ("attention.max_alibi_bias", 8.0, "8"),
        ("attention.clamp_kqv", 1.5, "1.5"),
        ("attention.causal", False, "false"),
        ("attention.temperature_length", 8192, "8192"),
        ("expert_shared_count", 1, "1"),
        ("expert_weights_scale", 2.5, "2.5"),
        ("logit_scale", 0.25, "0.25"),
        ("residual_scale", 0.5, "0.5"),
        ("rope.freq_base_swa", 500.0, "500"),
        ("rope.dimension_count_swa", 16, "16"),
        ("attention.key_length_swa", 64, "64"),
        ("attention.value_length_swa", 16, "16"),
        ("embedding_length_out", 128, "128"),
        ("attention.output_scale", 0.5, "0.5"),
        ("rope.dimension_sections", [8, 8, 0, 0], "an array of 4 numbers"),
        ("nextn_predict_layers", 1, "1"),
        ("ssm.state_size", 128, "128"),
        ("something.new", "yes", "'yes'"),
        ("something.n\x1bew", True, "true"),
    ],
)
def test_values_that_nobody_understands(key: str, value: Any, shown: str, tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", metadata={f"llama.{key}": value})
    name = key.replace("\x1b", "\\x1b")
    is_not_run(
        path,
        f"can't be run: its header has llama.{name} = {shown}, which no other llama model has that is known here, so its"
        " results would be wrong",
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attn_logit_softcapping", 0.0),
        ("final_logit_softcapping", 0.0),
        ("attention.causal", True),
        ("expert_shared_count", 0),
        ("expert_group_count", 1),
        ("expert_weights_scale", 1.0),
        ("expert_weights_norm", True),
        ("logit_scale", 1.0),
        ("rope.dimension_sections", [0, 0, 0, 0]),
        ("attention.layer_norm_epsilon", 1e-5),
        ("tensor_data_layout", "Meta AI original pth"),
        ("attention.sliding_window", 16),
        ("pooling_type", 1),
        ("mm.tokens_per_image", 256),
        ("vision.attention.layer_norm_epsilon", 1e-6),
        ("vision.block_count", 27),
        ("something.new", ""),
        ("something.new", False),
        ("rope.scaling.finetuned", True),
        ("rope.scaling.yarn_ext_factor", -1.0),
        ("rope.scaling.yarn_attn_factor", 1.0),
        ("attention.scale", 0.0),
        ("attention.scale", 32**-0.5),
        ("rope.scaling.original_context_length", 0),
        ("rope.freq_base_swa", 10000.0),
        ("rope.dimension_count_swa", 32),
        ("attention.key_length_swa", 32),
        ("attention.value_length_swa", 32),
        ("embedding_length_out", 64),
        ("decoder_block_count", 2),
        ("decoder_start_token_id", 7),
        ("attention.output_scale", 1.0),
        ("attention.sliding_window_pattern", [True, False]),
        ("attention.group_norm_groups", 8),
        ("expert_gating_func", 2),
        ("expert_shared_feed_forward_length", 512),
        ("interleave_moe_layer_step", 1),
        ("full_attention_interval", 1),
        ("rope.scaling.yarn_log_multiplier", 1.0),
        ("rope.scaling.yarn_beta_fast", 16.0),
    ],
)
def test_values_that_change_nothing(key: str, value: Any, tmp_path: Path) -> None:
    plain = imported(write_model(tmp_path / "a.gguf"))
    model = imported(write_model(tmp_path / "b.gguf", metadata={f"llama.{key}": value}))
    assert (model.description, model.ropes) == (plain.description, plain.ropes)


def test_the_same_base_in_windows(tmp_path: Path) -> None:
    """Float32 has no 0.1 of Python's, and a base need not be the usual one."""
    yarn = {"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 4.0, "llama.rope.freq_base": 123456.7}
    plain = imported(write_model(tmp_path / "a.gguf", metadata=yarn))
    more = {"llama.rope.freq_base_swa": 123456.7, "llama.rope.scaling.yarn_log_multiplier": 0.1}
    model = imported(write_model(tmp_path / "b.gguf", metadata=yarn | more))
    assert model.ropes == plain.ropes
    path = write_model(tmp_path / "c.gguf", metadata=yarn | {"llama.rope.scaling.yarn_log_multiplier": 0.7})
    is_not_run(
        path,
        "can't be run: its header has llama.rope.scaling.yarn_log_multiplier = 0.7, which no other llama model has that is known"
        " here, so its results would be wrong",
    )


def test_the_old_name_of_a_factor(tmp_path: Path) -> None:
    """It holds where the new one is missing, as in llama.cpp, even if that is 0; it must not contradict it."""
    plain = imported(write_model(tmp_path / "m.gguf"))
    both = {"llama.rope.scaling.factor": 4.0, "llama.rope.scale_linear": 1.0}
    assert imported(write_model(tmp_path / "m.gguf", metadata=both)).ropes["rope"].divisors == (4.0,) * 16
    old = {"llama.rope.scale_linear": 4.0}
    assert imported(write_model(tmp_path / "m.gguf", metadata=old)).ropes["rope"].divisors == (4.0,) * 16
    off = {"llama.rope.scaling.factor": 0.0, "llama.rope.scale_linear": 1.0}
    assert imported(write_model(tmp_path / "m.gguf", metadata=off)).ropes == plain.ropes
    path = write_model(tmp_path / "m.gguf", metadata={**old, "llama.rope.scaling.factor": 0.0})
    is_not_run(
        path,
        "can't be run: its header has llama.rope.scale_linear = 4, which no other llama model has that is known here, so its"
        " results would be wrong",
    )


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("attention.head_count", (1 << 31) - 1, "a whole number from 0 to 65536"),
        ("attention.head_count", 2.0, "a whole number from 0 to 65536"),
        ("attention.head_count", "2", "a whole number from 0 to 65536"),
        ("attention.head_count", [2, 2, 2], "an array of 2 whole numbers from 0 to 65536"),
        ("attention.head_count", [2.0, 2.0], "an array of 2 whole numbers from 0 to 65536"),
        ("feed_forward_length", -96, "a whole number from 0 to 16777216"),
        ("embedding_length", 0, "a whole number from 1 to 16777216"),
        ("context_length", 0, "a whole number from 1 to 2147483647"),
        ("attention.key_length", 0, "a whole number from 1 to 16777216"),
        ("rope.dimension_count", True, "a whole number from 0 to 16777216"),
        ("attention.layer_norm_rms_epsilon", 0.0, "a number from 1e-15 to 1"),
        ("attention.layer_norm_rms_epsilon", float("nan"), "a number from 1e-15 to 1"),
        ("rope.freq_base", 0.0, "a number from 2 to 1e+12"),
        ("rope.freq_base", float("inf"), "a number from 2 to 1e+12"),
        ("rope.freq_base", -10000.0, "a number from 2 to 1e+12"),
        ("rope.scaling.factor", float("nan"), "a number from 0 to 1e+06"),
        ("rope.scaling.factor", 1e-9, "a number from 0.001 to 1e+06"),
        ("rope.scaling.type", 1, "a text"),
        ("rope.scaling.attn_factor", 0.0, "a number from 0.001 to 1000"),
        ("rope.scaling.original_context_length", -1, "a whole number from 0 to 2147483647"),
        ("rope.scaling.yarn_ext_factor", 1.0, "0"),
        ("rope.scaling.yarn_attn_factor", 1.2, "1"),
        ("attention.scale", -1.0, "a number from 0 to 1e+06"),
        ("attention.scale", 0.5, "0.1768"),
        ("expert_count", 1 << 20, "a whole number from 0 to 65536"),
    ],
)
def test_values_out_of_range(key: str, value: Any, expected: str, tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", metadata={f"llama.{key}": value})
    is_not_run(
        path,
        f"can't be used: llama.{key} in its header is {Header(path).shown(f'llama.{key}')}, and {expected} is expected."
        " Convert the model again.",
    )


@pytest.mark.parametrize("count", [9, 4096, 65536])
def test_nothing_is_allocated_for_sizes_that_no_tensor_has(count: int, tmp_path: Path, at_most: Limit) -> None:
    model = open_model(write_model(tmp_path / "m.gguf", metadata={"llama.attention.head_count": count}))
    text = f"blk.0.attn_q.weight is 64 x 64, and its header speaks of {32 * count} x 64. Convert"
    with at_most(1 << 20), pytest.raises(ModelError, match=text):
        import_model(model)


def test_layers_may_differ(tmp_path: Path) -> None:
    """Head counts and sizes one for each layer: as one number where they are equal, else layer by layer."""
    same = {
        "llama.attention.head_count": [2, 2],
        "llama.attention.head_count_kv": [1, 1],
        "llama.feed_forward_length": [96, 96],
    }
    plain = imported(write_model(tmp_path / "a.gguf"))
    assert imported(write_model(tmp_path / "b.gguf", metadata=same)).description == plain.description
    sizes = {"heads": (2, 4), "kv_heads": (1, 2), "feed_forward": (96, 64)}
    first, second = imported(write_model(tmp_path / "c.gguf", **sizes)).description.layers  # type: ignore[arg-type]
    assert (first.attention.heads, first.attention.kv_heads, first.feed_forward) == (2, 1, FeedForward(96, Activation.SILU))
    assert (second.attention.heads, second.attention.kv_heads, second.feed_forward) == (4, 2, FeedForward(64, Activation.SILU))


def test_layers_without_heads_or_feed_forward(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    refuses(write_model(path, metadata={"llama.attention.head_count": [2, 0]}), "its layer 1 has no heads")
    refuses(write_model(path, metadata={"llama.feed_forward_length": [0, 96]}), "its layer 0 has no feed-forward")


def test_sizes_that_a_description_can_not_say(tmp_path: Path) -> None:
    refuses(write_model(tmp_path / "a.gguf", head_size=36, heads=8), "its heads have 36 elements, which is not a multiple of 8")
    refuses(write_model(tmp_path / "b.gguf", head_size=608), "its heads have 608 elements, and the device takes up to 576")
    refuses(write_model(tmp_path / "c.gguf", heads=4, kv_heads=3), "it has 4 heads and 3 KV heads, which is not a multiple")


@pytest.mark.parametrize("name", ["falcon", "foo", "[/x]", "ä", ""])
def test_unknown_architectures(name: str, tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", name)
    text = f"{path} can't be run: its architecture '{name}' is not known here: `tailrace models` lists those that are"
    with pytest.raises(UnknownArchitectureError, match=f"^{re.escape(text)}$"):
        imported(path)


@pytest.mark.parametrize(
    ("name", "feature"),
    [
        ("gemma3n", "several streams of activations (AltUp), and low-rank matrices beside attention (Laurel)"),
        ("mamba", "state spaces with decays for each channel (Mamba-1)"),
        ("bert", "attention in both directions (an encoder)"),
    ],
)
def test_architectures_that_are_refused_say_what_they_need(name: str, feature: str, tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", name)
    text = (
        f"{path} can't be run: its architecture '{name}' needs {feature}, which is not there: `tailrace models` lists those that"
        " run"
    )
    with pytest.raises(UnknownArchitectureError, match=f"^{re.escape(text)}$"):
        imported(path)


def test_no_architecture_that_runs_is_said_to_miss_something() -> None:
    assert not MISSING.keys() & ARCHITECTURES.keys()


def test_what_runs_by_operations(tmp_path: Path) -> None:
    check_operations(open_model(write_model(tmp_path / "m.gguf")))
    with pytest.raises(UnknownArchitectureError, match="can't be run: its architecture 'falcon' is not known here: "):
        check_operations(open_model(write_model(tmp_path / "m.gguf", "falcon")))


def test_unknown_architectures_need_nothing_else(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", "flux\x1b[31m", {}, [tensor_of("x", np.zeros(4))])
    with pytest.raises(UnknownArchitectureError, match=r"its architecture 'flux\\x1b\[31m' is not known here"):
        imported(path)


@pytest.mark.parametrize(
    "name", ["blk.0.attn_sinks.weight", "blk.0.ffn_up_shexp.weight", "v.patch_embd.weight", "[/x]", "\x1b"]
)
def test_tensors_that_nobody_understands(name: str, tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", extra={name: np.zeros((2, 3, 4, 4))})
    shown = name.replace("\x1b", "\\x1b")
    is_not_run(
        path,
        f"can't be run: it has tensors that no other llama model has that is known here, such as {shown}, so its results would"
        " be wrong",
    )


def test_tensors_that_nobody_reads(tmp_path: Path) -> None:
    imported(write_model(tmp_path / "m.gguf", extra={"blk.0.attn_rot_embd.weight": np.zeros(16)}))


def test_norms_that_nothing_turns_into_numbers(tmp_path: Path) -> None:
    change = {"output_norm.weight": np.zeros(1 * 292, np.uint8)}
    path = write_model(tmp_path / "m.gguf", hidden=256, types={"output_norm.weight": "Q8_K"}, change=change)
    text = "output_norm.weight has the type Q8_K, which nothing here turns into numbers: get the model in another one"
    with pytest.raises(ModelError, match=f"^{re.escape(text)}$"):
        imported(path)


def test_incomplete_files(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", leave_out=("blk.1.ffn_norm.weight",))
    text = f"{path} is not a complete llama model: it lacks blk.1.ffn_norm.weight. Convert it again."
    with pytest.raises(ModelError, match=f"^{re.escape(text)}$"):
        imported(path)
    write_model(path, metadata={"llama.feed_forward_length": 64})
    text = f"{path} is not a complete llama model: blk.0.ffn_gate.weight is 96 x 64, and its header speaks of 64 x 64. Convert it again."
    with pytest.raises(ModelError, match=f"^{re.escape(text)}$"):
        imported(path)
    write_model(path, without=("llama.attention.layer_norm_rms_epsilon",))
    text = f"{path} is not a complete model: its header lacks llama.attention.layer_norm_rms_epsilon. Convert it again."
    with pytest.raises(ModelError, match=f"^{re.escape(text)}$"):
        imported(path)
