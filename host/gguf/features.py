"""How an architecture differs from a plain decoder, in words."""

from collections.abc import Iterator

from tailrace.firmware.description import Activation, HeadNorm, NormKind, Scores

from .architectures import Architecture

_HEAD_NORMS = {
    HeadNorm.HEAD: "norms of q and k",
    HeadNorm.ROTATED_HEAD: "norms of q and k after their rotation",
    HeadNorm.PLAIN_ROTATED_HEAD: "norms of q and k after their rotation, without weights",
    HeadNorm.ALL_HEADS: "norms of all heads of q and k together",
}


_ACTIVATIONS = {
    Activation.SILU: "SiLU",
    Activation.GELU: "GELU",
    Activation.QUICK_GELU: "quick GELU",
    Activation.SQUARED_RELU: "squared ReLU",
}


def features(architecture: Architecture) -> str:
    """What is special about an architecture, beside RMS norms before each block, gated SiLU and RoPE."""
    return "; ".join(_features(architecture))


def _features(a: Architecture) -> Iterator[str]:
    if a.norm is NormKind.LAYER:
        yield "LayerNorm" + ("" if a.norm_biases else " without biases")
    if not a.pre_norms:
        yield "norms after each block, none before"
    elif a.post_norms:
        yield "norms before and after each block"
    if a.short_convolutions:
        yield "short convolutions in place of attention, where a layer has no KV heads"
    if a.state_space:
        yield "state spaces (Mamba-2) in place of attention, where a layer has one"
    if a.state_space_beside:
        yield "a state space (Mamba-2) beside attention"
    if a.linear_attention:
        yield "gated delta rule in place of attention, but for every n-th layer"
    if a.latent_attention:
        yield "latent attention (MLA)"
    if a.gated_attention:
        yield "gated attention"
    if a.apart:
        yield "attention and feed-forward are layers of their own"
    if a.parallel:
        yield "attention and feed-forward in parallel, where one norm is before both"
    if a.head_norm is not None:
        yield _HEAD_NORMS[a.head_norm] + (" where a file has them" if a.optional_head_norm else "")
    if not a.gated:
        yield f"{_ACTIVATIONS[a.activation]} without a gate"
    elif a.activation is not Activation.SILU:
        yield f"gated {_ACTIVATIONS[a.activation]}"
    if a.limit:
        yield f"gate and up limited to {a.limit:g}"
    if a.up_offset:
        yield f"{a.up_offset:g} added to up"
    yield from _positions(a)
    yield from _experts(a)
    if a.predicts_ahead:
        drafts = "a layer that predicts a further token drafts, where a file has one"
        yield drafts if a.linear_attention else "layers that predict further tokens are left out"
    if a.scaled_embedding:
        yield "embeddings times the root of their length"
    if a.scalars:
        yield "scales of embeddings, scores, residuals and logits"
    if a.scaled_logits:
        yield "scaled logits"
    if a.score_scale:
        yield "scores as they are" if a.score_scale == 1.0 else f"scores times {a.score_scale:g}"
    if a.optional_values:
        yield "keys that are values too where there is no v"
    if a.value_norm:
        yield "norms of values without weights"
    if a.shared_caches:
        yield "keys and values of earlier layers at the end, if the file says so"
    if a.layer_embeddings:
        yield "an embedding for each layer, if the file has them"
    if a.sinks:
        yield "sinks of attention"
    if a.score_cap:
        yield "capped scores"
    if a.capped_logits:
        yield "capped logits"


def _positions(a: Architecture) -> Iterator[str]:
    if a.learned_positions:
        yield "learned positions"
    if a.unrotated_every:
        yield f"every {_ordinal(a.unrotated_every)} layer without RoPE"
    if not a.rotated:
        yield "no RoPE"
    if a.stated_rope:
        yield "RoPE unless the file says otherwise"
    if a.windowed:
        windows = "attention in chunks" if a.chunked else "sliding windows"
        apart = f", but for every {_ordinal(a.global_every)} layer" if a.global_every else ""
        yield f"{windows}{apart}{'' if a.global_rotated else ', which has no RoPE then'}"
    if a.local_sizes:
        yield "heads of another size in windows"
    if a.local_rope_base is not None:
        yield "angles of their own in windows"
    if a.plain_yarn:
        yield "scores grow behind the first context"
    if a.unrotated_growth:
        yield "scores of layers without RoPE grow with the position"
    if a.sectioned_rope:
        yield "angles in sections, all alike in a text"
    if a.yarn_scores:
        yield "YaRN scales scores"
    if a.exact_yarn:
        yield "YaRN between pairs"


def _experts(a: Architecture) -> Iterator[str]:
    if a.scores is not Scores.SOFTMAX or a.stated_router:
        yield f"experts scored by a {a.scores.value}" + (" or as the file says, scaled, in groups" if a.stated_router else "")
    elif not a.normalised_experts:
        yield "weights of experts that do not add up to 1"
    if a.weighted_inputs:
        yield "weights of experts multiply their input"
    if a.experts_apart:
        yield "experts beside a feed-forward, between norms of their own"


def _ordinal(number: int) -> str:
    return {2: "second"}.get(number, f"{number}th")
