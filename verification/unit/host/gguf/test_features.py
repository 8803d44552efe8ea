"""What is said of architectures is what the importer obeys."""

from dataclasses import replace

import pytest

from tailrace.gguf.architectures import ARCHITECTURES, Architecture, architecture_of
from tailrace.gguf.features import features

PLAIN = Architecture("plain")


def test_a_plain_decoder_has_none() -> None:
    assert features(PLAIN) == ""
    assert features(ARCHITECTURES["llama"]) == ""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("smollm3", "every 4th layer without RoPE"),
        ("llama4", "norms of q and k after their rotation, without weights; attention in chunks, but for every 4th layer, which has no RoPE then;"
         " scores of layers without RoPE grow with the position; experts scored by a sigmoid; weights of experts multiply their input"),
        ("mistral3", "scores grow behind the first context"),
        ("olmo2", "norms after each block, none before; norms of all heads of q and k together; sliding windows, but for every 4th"
         " layer; angles of their own in windows"),
        ("cohere2", "LayerNorm without biases; attention and feed-forward in parallel, where one norm is before both; sliding windows, but for every 4th layer,"
         " which has no RoPE then; scaled logits"),
        ("deepseek2", "latent attention (MLA); YaRN scales scores; experts scored by a softmax or as the file says, scaled, in groups;"
         " layers that predict further tokens are left out"),
        ("qwen3vl", "norms of q and k; angles in sections, all alike in a text"),
        ("arcee", "squared ReLU without a gate"),
        ("nemotron", "LayerNorm; squared ReLU without a gate"),
        ("gemma", "gated GELU; embeddings times the root of their length"),
        ("gpt2", "LayerNorm; GELU without a gate; learned positions"),
    ],
)  # fmt: skip
def test_what_is_special(name: str, text: str) -> None:
    assert features(ARCHITECTURES[name]) == text


def test_no_two_say_the_same_and_are_not_the_same() -> None:
    """Whatever tells two architectures apart, beside the order of rows in the file, is said."""
    seen: dict[str, set[Architecture]] = {}
    for architecture in ARCHITECTURES.values():
        bare = replace(
            architecture, name="", models="", paired_rope=False, fused_qkv=False, fused_gate_up=False,
            feed_forward_norm="", normalised_experts=True, default_window=0, default_logit_cap=0.0, fused_rates=False,
                tiled_heads=False,
        )  # fmt: skip
        seen.setdefault(features(architecture), set()).add(bare)
    assert {text: len(found) for text, found in seen.items() if len(found) > 1} == {}


def test_every_one_names_models() -> None:
    assert all(architecture.models for architecture in ARCHITECTURES.values())


def test_whether_q_k_and_v_are_in_one_matrix_is_seen_from_the_tensors() -> None:
    assert not architecture_of("phi2").fused_qkv
    assert architecture_of("phi2", {"blk.0.attn_qkv.weight"}).fused_qkv
    assert architecture_of("phi3", {"blk.0.attn_q.weight"}).fused_qkv
    assert not architecture_of("something").known
