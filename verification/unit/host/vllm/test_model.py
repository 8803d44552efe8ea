"""What is said of vLLM's model, and what can't be handed over."""

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import transformers

from tailrace import ModelError
from tailrace.huggingface.internals import rotations
from tailrace.vllm.angles import angles
from tailrace.vllm.model import handed_model, layer_numbers
from verification.unit.host.transformers_models import make_config
from verification.unit.host.vllm.fakes import FullAttentionSpec, MambaSpec, cache_config, vllm_config


def test_what_is_said() -> None:
    found = handed_model(vllm_config("/folder"), cache_config(), "0.32.0")
    assert (found.name, found.layers, found.kv_heads, found.head_size) == ("tiny", 2, 2, 32)
    assert found.metadata == {
        "format": "tailrace-handover",
        "version": "1",
        "writer": "vllm 0.32.0",
        "model": "tiny",
        "architecture": "llama",
        "vocabulary": "288",
        "rope_magnitude": "1",
    }
    assert found.frequencies is not None
    assert found.frequencies.tolist() == pytest.approx([10000 ** (-n / 16) for n in range(16)])


@pytest.mark.parametrize(
    ("configs", "text"),
    [
        ((vllm_config("x", {"use_mla": True}), cache_config()), "it has latent attention (MLA), and no keys and values to hand over"),
        ((vllm_config("x", parallel={"tensor_parallel_size": 2}), cache_config()), "it is spread over several workers (tensor_parallel_size), each with a part of the keys and values"),
        ((vllm_config("x", parallel={"pipeline_parallel_size": 2}), cache_config()), "it is spread over several workers (pipeline_parallel_size)"),
        ((vllm_config("x"), cache_config(FullAttentionSpec(), MambaSpec())), "its layers have different caches (FullAttentionSpec, MambaSpec), such as sliding windows or states"),
        ((vllm_config("x"), cache_config(MambaSpec())), "its cache is of the kind MambaSpec, and only full attention is handed over"),
        ((vllm_config("x"), cache_config(FullAttentionSpec(sliding_window=8))), "it has sliding windows"),
        ((vllm_config("x", {"hf_text_config": SimpleNamespace(rope_parameters={"rope_type": "dynamic"})}), cache_config()), "its angles (RoPE) are of the kind 'dynamic': default, linear, llama3, yarn are known"),
    ],
)  # fmt: skip
def test_models_that_are_refused(configs: tuple[Any, Any], text: str) -> None:
    with pytest.raises(ModelError) as refused:
        handed_model(*configs, "0.32.0")
    assert str(refused.value).startswith(f"prompts of tiny can't be handed over: {text}")
    assert str(refused.value).endswith(". Serve it without this connector, or another model")


def test_drafts_are_refused() -> None:
    config = vllm_config("x")
    config.speculative_config = object()
    with pytest.raises(ModelError, match=r"it drafts \(speculative_config\), which has caches of its own"):
        handed_model(config, cache_config(), "0.32.0")


def test_layers_by_their_numbers() -> None:
    names = ["model.layers.1.self_attn.attn", "model.layers.0.self_attn.attn"]
    assert layer_numbers(names, 2, "tiny") == {names[0]: 1, names[1]: 0}
    for wrong in (
        names[:1],
        [*names, "model.layers.2.self_attn.attn"],
        [names[0], names[0].replace(".attn", ".other")],
        ["model.attn"] * 2,
    ):
        with pytest.raises(ModelError, match="it has 2 layers, and caches for "):
            layer_numbers(wrong, 2, "tiny")


@pytest.mark.parametrize(
    "rope",
    [
        {},
        {"rope_type": "linear", "factor": 4.0},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64},
    ],
)  # fmt: skip
def test_angles_are_those_of_hugging_face(rope: dict[str, Any]) -> None:
    config = make_config("llama", rope=rope)
    (expected,) = rotations(transformers.AutoModelForCausalLM.from_config(config)).values()
    found = angles(config, 32)
    assert found is not None
    assert found[0].tolist() == pytest.approx(expected.frequencies.tolist(), rel=1e-6)
    assert found[1] == pytest.approx(expected.magnitude)


def test_angles_that_are_others() -> None:
    assert angles(SimpleNamespace(), 32) is None
    partial = angles(SimpleNamespace(rope_parameters={"rope_theta": 1e4, "partial_rotary_factor": 0.5}), 32)
    assert partial is not None
    assert len(partial[0]) == 8
    with pytest.raises(ModelError, match="its layers have different angles"):
        angles(SimpleNamespace(rope_parameters={"full_attention": {}, "sliding_attention": {}}), 32)
    with pytest.raises(ModelError, match="of the kind 'default'"):
        angles(SimpleNamespace(rope_parameters={"rope_theta": 1e4, "mrope_section": [8, 12]}), 32)
