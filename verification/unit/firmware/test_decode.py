"""Decode programs on the golden model against a decoder in float64."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tailrace.firmware.description import (
    Activation,
    Attention,
    Description,
    Experts,
    FeedForward,
    HeadNorm,
    Latent,
    Layer,
    LayerEmbedding,
    Norm,
    NormKind,
    Scores,
)
from tailrace.spec.config import Config

from .model import Model
from .reference import Reference

TINY = Config("test", 128, vector_blocks=64, buffer_entries=4096)
FOUR = Config("test", 256, right_hand_sides=4, vector_blocks=64, buffer_entries=8192)


RMS, LAYER = Norm(NormKind.RMS, 1e-5), Norm(NormKind.LAYER, 1e-5)
SILU, SMALL = (FeedForward(size, Activation.SILU) for size in (192, 96))
HEADS = Attention(heads=4, kv_heads=2, head_size=32, scale=32**-0.5, rotary_size=32)


def latent_heads(heads: int, size: int, key_size: int, value_size: int, rank: int = 0, rotary: int = 16) -> Attention:
    scale = (rotary + key_size) ** -0.5
    return Attention(heads, 1, rotary + size, scale, rotary, latent=Latent(size, key_size, value_size, rank))


def model_of(
    attention: Attention = HEADS, block: FeedForward | Experts = SILU, post_norms: bool = False, **changes: Any
) -> Description:
    layers = (Layer(attention, block, post_norms),) * changes.pop("count", 2)
    return replace(Description("test", 64, 150, layers, RMS), **changes)


def compare(model: Model, tokens: int = 5, first: int = 0, **options: bool) -> None:
    program = model.program(**options)
    references = [Reference(model.description, model.tensors) for _ in range(model.batch)]
    rng = np.random.default_rng(model.seed)
    for position in range(tokens):
        chosen = rng.integers(0, model.description.vocabulary, model.batch)
        logits, best = model.run(program, chosen.tolist(), [position] * model.batch)
        for s, reference in enumerate(references):
            expected = reference.step(int(chosen[s]), position)
            # What is left is the rounding of activations to 16 bits, and where that changes a code of a key or value.
            error = np.abs(logits[s] - expected) / np.abs(expected).max()
            where = f"seed {model.seed}, position {position}, sequence {s}"
            assert error.max() < 1e-2, f"{where}: error {error.max():.2e}"
            assert error.mean() < 2e-3, f"{where}: mean error {error.mean():.2e}"
            if options.get("choose", True):
                assert best[s, 0] == logits[s].argmax(), where


FEATURES: dict[str, tuple[Description, dict[str, Any]]] = {
    "llama": (model_of(), {}),
    "one head": (model_of(replace(HEADS, heads=1, kv_heads=1, head_size=64, scale=0.125, rotary_size=64)), {}),
    "heads of 40": (model_of(replace(HEADS, head_size=40, rotary_size=40)), {}),
    "heads of 384": (model_of(replace(HEADS, heads=1, kv_heads=1, head_size=384, rotary_size=384)), {}),
    "heads of 8": (model_of(replace(HEADS, heads=8, head_size=8, rotary_size=8)), {}),
    "heads of 96": (model_of(replace(HEADS, heads=3, kv_heads=3, head_size=96, rotary_size=96)), {}),
    "part of a head is rotated": (model_of(replace(HEADS, rotary_size=16)), {}),
    "scores grow": (model_of(replace(HEADS, growing=True)), {}),
    "scores grow, with sinks": (model_of(replace(HEADS, growing=True, sinks=True)), {}),
    "scores of latent attention grow": (model_of(replace(latent_heads(5, 64, 32, 64), growing=True)), {}),
    "nothing is rotated": (model_of(replace(HEADS, rotary_size=0)), {}),
    "large groups": (model_of(replace(HEADS, heads=6, kv_heads=1)), {}),
    "head norms": (model_of(replace(HEADS, head_norm=HeadNorm.HEAD)), {}),
    "head norms after rotation": (model_of(replace(HEADS, head_norm=HeadNorm.ROTATED_HEAD)), {"biases": ("q", "k")}),
    "head norms after rotation, without weights": (model_of(replace(HEADS, head_norm=HeadNorm.PLAIN_ROTATED_HEAD)), {}),
    "norms of all heads": (model_of(replace(HEADS, head_norm=HeadNorm.ALL_HEADS)), {"biases": ("q", "k")}),
    "capped scores": (model_of(replace(HEADS, score_cap=0.5)), {}),
    "keys as values, normalised": (
        model_of(replace(HEADS, head_norm=HeadNorm.HEAD, keys_as_values=True, value_norm=True)), {"biases": ("q", "k")},
    ),
    "values normalised": (model_of(replace(HEADS, value_norm=True)), {"biases": ("v",)}),
    "keys as values of many heads": (model_of(replace(HEADS, heads=8, head_size=8, rotary_size=8, keys_as_values=True)), {}),
    "scaled outputs": (
        model_of(layers=(Layer(HEADS, SILU, output_scale=True),) * 2, residual_scale=0.5), {"biases": ("o", "down")},
    ),
    "scaled outputs of parallel blocks": (model_of(layers=(Layer(HEADS, SILU, parallel=True, output_scale=True),) * 3), {}),
    "scaled outputs, post norms": (model_of(layers=(Layer(HEADS, SILU, post_norms=True, output_scale=True),) * 3), {}),
    "sinks": (model_of(replace(HEADS, sinks=True)), {}),
    "sinks far above and below all scores": (model_of(replace(HEADS, sinks=True)), {"sink_spread": 1e4}),
    "sinks of many heads, in windows, scores capped": (
        model_of(replace(HEADS, heads=12, kv_heads=2, head_size=8, rotary_size=8, sinks=True, window=3, score_cap=2.0)), {},
    ),
    "quick GELU, limited": (
        model_of(HEADS, FeedForward(192, Activation.QUICK_GELU, limit=0.5, up_offset=1.0)), {"biases": ("gate", "up", "down")},
    ),
    "limited, without an offset": (model_of(HEADS, FeedForward(192, Activation.SILU, limit=0.3)), {}),
    "squared ReLU": (model_of(HEADS, FeedForward(192, Activation.SQUARED_RELU, gated=False)), {"biases": ("up", "down")}),
    "an offset of up": (model_of(HEADS, FeedForward(192, Activation.GELU, up_offset=-0.5)), {}),
    "no norms before, but after": (
        model_of(layers=(Layer(replace(HEADS, head_norm=HeadNorm.ALL_HEADS), SILU, post_norms=True, pre_norms=False),) * 2), {},
    ),
    "parallel": (model_of(layers=(Layer(HEADS, SILU, parallel=True),) * 3), {"biases": ("o", "down")}),
    "parallel, layer norms": (model_of(layers=(Layer(HEADS, SILU, parallel=True),) * 2, norm=LAYER), {"biases": ("norm", "q")}),
    "parallel, layer norms without biases": (
        model_of(layers=(Layer(HEADS, SILU, parallel=True),) * 2, norm=LAYER, logit_scale=0.25), {},
    ),
    "parallel experts": (
        model_of(layers=(Layer(HEADS, Experts(5, 2, FeedForward(96, Activation.SILU)), parallel=True),) * 2), {},
    ),
    "scaled residuals and logits": (model_of(residual_scale=0.25, logit_scale=0.125, embedding_scale=12.0), {}),
    "scaled residuals, all biases, post norms, scaled and capped logits": (
        model_of(HEADS, SILU, True, residual_scale=0.25, logit_scale=2.0, logit_cap=3.0), {"biases": ("norm", "o", "down", "head")},
    ),
    "scaled residuals with biases": (model_of(residual_scale=0.25), {"biases": ("o", "down")}),
    "scaled residuals of experts": (
        model_of(HEADS, Experts(5, 2, FeedForward(96, Activation.SILU)), residual_scale=0.25), {"biases": ("o", "router")},
    ),
    "scaled residuals of experts, with post norms": (
        model_of(HEADS, Experts(4, 3, FeedForward(64, Activation.GELU)), True, residual_scale=0.25), {},
    ),
    "biases of q, k and v": (model_of(), {"biases": ("q", "k", "v")}),
    "window": (model_of(replace(HEADS, window=3)), {}),
    "chunks": (model_of(replace(HEADS, window=4, chunked=True)), {}),
    "chunks, sinks, capped scores": (model_of(replace(HEADS, window=3, chunked=True, sinks=True, score_cap=2.0)), {}),
    "chunks and growing scores alternate": (
        model_of(
            layers=tuple(
                Layer(a, SILU)
                for a in (
                    replace(HEADS, window=3, chunked=True, head_norm=HeadNorm.PLAIN_ROTATED_HEAD, scale=0.05),
                    replace(HEADS, rotary_size=0, growing=True),
                    replace(HEADS, window=3),
                )
            ) * 2
        ),
        {},
    ),
    "latent attention in chunks": (model_of(replace(latent_heads(5, 64, 32, 64, rank=32), window=3, chunked=True)), {}),
    "windows and tables alternate": (
        model_of(
            layers=tuple(
                Layer(replace(HEADS, window=w, rope=r), SILU) for w, r in ((3, "local"), (3, "local"), (None, "global"), (3, "local"))
            )
        ),
        {},
    ),
    "layer norms, learned positions, biases": (
        model_of(replace(HEADS, rotary_size=0), FeedForward(192, Activation.GELU, gated=False), norm=LAYER, learned_positions=True),
        {"biases": ("norm", "q", "k", "v", "o", "gate", "up", "down", "head")},
    ),
    "GELU, gated, all biases": (
        model_of(HEADS, FeedForward(192, Activation.GELU)), {"biases": ("q", "k", "v", "o", "gate", "up", "down", "head")},
    ),
    "SILU, not gated": (model_of(HEADS, FeedForward(192, Activation.SILU, gated=False)), {}),
    "post norms, capped logits, scaled embeddings": (
        model_of(HEADS, FeedForward(192, Activation.GELU), True, logit_cap=2.0, embedding_scale=8.0), {"biases": ("o", "down")},
    ),
    "post layer norms": (model_of(HEADS, SILU, True, norm=LAYER), {"biases": ("norm",)}),
    "experts": (model_of(HEADS, Experts(5, 2, FeedForward(96, Activation.SILU))), {"biases": ("router",)}),
    "experts with biases": (
        model_of(HEADS, Experts(5, 3, FeedForward(96, Activation.QUICK_GELU, limit=0.5, up_offset=1.0))),
        {"biases": ("router", "experts_gate", "experts_up", "experts_down")},
    ),
    "one expert of many, a bias of down": (
        model_of(HEADS, Experts(9, 1, FeedForward(96, Activation.SILU))), {"biases": ("experts_down",)},
    ),
    "one expert of many": (model_of(HEADS, Experts(9, 1, FeedForward(96, Activation.SILU))), {}),
    "many experts, softmax over all": (model_of(HEADS, Experts(8, 5, FeedForward(96, Activation.SILU), normalise=False)), {}),
    "experts with post norms": (model_of(HEADS, Experts(4, 3, FeedForward(64, Activation.GELU)), True), {}),
    "sigmoid scores": (model_of(HEADS, Experts(6, 3, SMALL, scores=Scores.SIGMOID, scale=1.5)), {"biases": ("router",)}),
    "sigmoid scores, not normalised": (model_of(HEADS, Experts(6, 3, SMALL, False, Scores.SIGMOID, scale=2.5)), {}),
    "experts whose input is weighted": (
        model_of(HEADS, Experts(6, 1, SMALL, False, Scores.SIGMOID, shared=SILU, weighted_input=True)), {},
    ),
    "experts whose input is weighted, scaled, with post norms": (
        model_of(HEADS, Experts(6, 3, SMALL, False, Scores.SIGMOID, 1.5, weighted_input=True), True), {"biases": ("router",)},
    ),
    "a selection bias": (model_of(HEADS, Experts(7, 3, SMALL, scores=Scores.SIGMOID)), {"biases": ("selection",)}),
    "softmax and a selection bias": (model_of(HEADS, Experts(7, 3, SMALL, scale=0.5)), {"biases": ("selection", "router")}),
    "a selection bias, softmax over all": (model_of(HEADS, Experts(6, 2, SMALL, False)), {"biases": ("selection",)}),
    "groups of experts": (
        model_of(HEADS, Experts(16, 5, SMALL, scores=Scores.SIGMOID, groups=4, used_groups=2)), {"biases": ("selection",)},
    ),
    "groups, softmax, no bias": (model_of(HEADS, Experts(12, 3, SMALL, groups=3, used_groups=1)), {}),
    "a shared expert": (model_of(HEADS, Experts(5, 2, SMALL, shared=SMALL)), {}),
    "a large shared expert with a gate": (
        model_of(HEADS, Experts(5, 3, SMALL, False, shared=SILU, shared_gated=True)), {"biases": ("shared_up", "shared_down")},
    ),
    "a shared expert and post norms": (
        model_of(HEADS, Experts(5, 2, SMALL, scale=3.0, shared=SMALL, shared_gated=True), True, residual_scale=0.5), {},
    ),
    "latent attention": (model_of(latent_heads(4, 64, 32, 32)), {}),
    "latent attention, compressed queries": (model_of(latent_heads(6, 32, 64, 32, rank=64, rotary=8)), {"biases": ("o",)}),
    "latent attention in windows": (model_of(replace(latent_heads(5, 64, 32, 64, rank=32), window=3)), {}),
    "latent attention of one head": (model_of(latent_heads(1, 64, 32, 64, rotary=32)), {}),
    "shared keys and values": (
        model_of(
            layers=tuple(
                Layer(replace(HEADS, window=window, rope=rope, shared_cache=n > 1, head_norm=HeadNorm.HEAD), SILU)
                for n, (window, rope) in enumerate([(3, "local"), (None, "rope")] * 3)
            )
        ),
        {},
    ),
    "embeddings of layers": (
        model_of(layers=(Layer(HEADS, SILU, embedding=LayerEmbedding(64, Activation.SILU)),) * 3, embedding_scale=8.0), {},
    ),
    "embeddings of layers, scaled outputs and residuals": (
        model_of(
            layers=(Layer(HEADS, SILU, True, output_scale=True, embedding=LayerEmbedding(32, Activation.GELU)),) * 2, residual_scale=0.5,
        ),
        {},
    ),
    "experts apart": (
        model_of(HEADS, Experts(6, 3, SMALL, shared=SMALL, apart=True, router_scale=0.125), True), {},
    ),
    "experts apart, a large shared one, scaled outputs": (
        model_of(layers=(Layer(HEADS, Experts(5, 2, SMALL, False, shared=SILU, apart=True), True, output_scale=True),) * 2),
        {"biases": ("shared_up", "shared_down", "experts_down")},
    ),
    "a feed-forward layer as large as the slots": (model_of(HEADS, FeedForward(2048, Activation.SILU), count=1), {}),
}  # fmt: skip


@pytest.mark.parametrize("feature", FEATURES)
def test_feature(feature: str) -> None:
    description, options = FEATURES[feature]
    compare(Model(description, TINY, **options))


@pytest.mark.parametrize("feature", FEATURES)
def test_feature_with_several_sequences(feature: str) -> None:
    description, options = FEATURES[feature]
    compare(Model(description, FOUR, batch=3, seed=1, **options), tokens=4)


def test_keys_of_576_elements() -> None:
    compare(Model(model_of(latent_heads(2, 512, 32, 16, rotary=64), count=1), TINY), tokens=3)


HEAD_NORMS = (None, *HeadNorm)


def random_description(rng: np.random.Generator) -> Description:
    """Any shape that is not ruled out, with any of the features."""
    size = int(rng.choice([8, 16, 24, 32, 40, 64, 96, 128]))
    kv_heads, group = int(rng.integers(1, 4)), int(rng.integers(1, 5))
    # The heads' outputs must fill blocks.
    while kv_heads * group * size % 32:
        group += 1
    attention = Attention(
        kv_heads * group, kv_heads, size, float(rng.uniform(0.5, 1.5)) * size**-0.5, int(rng.choice([0, 8, size])),
        window=int(rng.choice([0, 2, 5])) or None, head_norm=HEAD_NORMS[rng.integers(len(HEAD_NORMS))],
        score_cap=(None, 2.0)[rng.integers(2)], sinks=bool(rng.integers(2)), keys_as_values=bool(rng.integers(4) == 0), value_norm=bool(rng.integers(2)),
    )  # fmt: skip
    block = FeedForward(
        32 * int(rng.integers(1, 9)), Activation(rng.choice([a.value for a in Activation])), bool(rng.integers(2))
    )
    block = replace(block, limit=(None, 0.5)[rng.integers(2)], up_offset=(0.0, 1.0)[rng.integers(2)]) if block.gated else block
    groups = (1, 1, 2, 3)[rng.integers(4)]
    mixture = Experts(
        int(rng.integers(2, 7)) if groups == 1 else 4 * groups, 2, block, bool(rng.integers(2)),
        (Scores.SOFTMAX, Scores.SIGMOID)[rng.integers(2)], (1.0, 1.5)[rng.integers(2)], groups, 1 if groups == 1 else groups - 1,
        (None, block, FeedForward(64, Activation.SILU))[rng.integers(3)], bool(rng.integers(2)),
    )  # fmt: skip
    parallel, pre_norms = bool(rng.integers(3) == 0), bool(rng.integers(3))
    layers = tuple(
        Layer(
            replace(attention, window=attention.window if n % 2 else None), mixture if n == 2 else block,
            post_norms=not parallel and (not pre_norms or bool(rng.integers(2))), pre_norms=parallel or pre_norms, parallel=parallel,
        )
        for n in range(3)
    )  # fmt: skip
    description = Description(
        "random", 32 * int(rng.integers(1, 5)), int(rng.integers(3, 400)), layers, (RMS, LAYER)[rng.integers(2)],
        embedding_scale=float(rng.uniform(0.5, 3)), learned_positions=bool(rng.integers(2)), logit_cap=(None, 4.0)[rng.integers(2)],
        residual_scale=(1.0, 0.5)[rng.integers(2)], logit_scale=(1.0, 0.5)[rng.integers(2)],
    )  # fmt: skip
    # What is drawn besides is as it would be without these.
    apart = rng.spawn(1)[0]
    if apart.integers(2):
        layers = tuple(replace(a, attention=replace(a.attention, chunked=a.attention.window is not None)) for a in layers)
    if attention.score_cap is None and apart.integers(2):
        layers = tuple(replace(a, attention=replace(a.attention, growing=True)) for a in layers)
    description = replace(description, layers=layers)
    embedding = LayerEmbedding(32 * int(rng.integers(1, 3)), block.activation) if rng.integers(2) else None
    changed = [replace(layer, embedding=embedding) for layer in layers]
    # The last layer may share the keys and values of the first, which has no window either, and the second those of none.
    if rng.integers(2):
        changed[2] = replace(changed[2], attention=replace(changed[2].attention, shared_cache=True))
    last = changed[2]
    if description.norm is RMS and last.pre_norms and last.post_norms and mixture.shared and not mixture.shared_gated:
        changed[2] = replace(last, feed_forward=replace(mixture, apart=True, router_scale=0.5))
    return replace(description, layers=tuple(changed))


@pytest.mark.parametrize("seed", range(16))
def test_random_descriptions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    config = Config(
        "test",
        int(rng.choice([128, 256, 512])),
        right_hand_sides=int(rng.choice([1, 2, 4])),
        vector_blocks=128,
        buffer_entries=16384,
    )
    description = random_description(rng)
    roles = ("norm", "q", "k", "v", "o", "gate", "up", "down", "head", "router", "selection")
    roles += ("experts_gate", "experts_up", "experts_down")
    biases = [b for b in roles if rng.integers(2)]
    if any(isinstance(layer.feed_forward, Experts) and layer.feed_forward.apart for layer in description.layers):
        # Their norms have none.
        biases = [b for b in biases if b != "norm"]
    batch = int(rng.integers(1, config.right_hand_sides + 1))
    compare(Model(description, config, seed=seed, batch=batch, biases=tuple(biases)), tokens=4)
