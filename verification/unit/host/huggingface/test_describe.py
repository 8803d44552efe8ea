"""Descriptions of Hugging Face models: those of the files that hold them, role by role; and what can't be described."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailrace.gguf.describe import NoDescriptionError, import_model
from tailrace.gguf.file import open_model
from tailrace.spec.errors import LimitError, ModelError, TailraceError
from tailrace.spec.formats import BY_NAME

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tailrace.huggingface.describe import describe_model  # noqa: E402
from tailrace.huggingface.match import differences  # noqa: E402
from tailrace.huggingface.parameters import ParameterSource, ParameterTensor  # noqa: E402
from verification.unit.host.transformers_models import make_config, make_model  # noqa: E402

MODELS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in ("llama", "mixtral", "qwen2", "qwen3", "qwen3moe", "gemma3", "gpt2")),
    ("phi3", {"head_size": 16}),
    ("phi3", {"head_size": 16, "rotary": 0.5, "window": 8}),
    ("gemma3", {"layers": 7, "window": 8}),
    ("llama", {"tied": True, "rope": {"rope_type": "linear", "factor": 4.0}}),
    ("qwen3", {"rope": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}}),
]
BLOCKS = BY_NAME["Q8_0"]


def build(architecture: str = "llama", changes: dict[str, Any] | None = None, **sizes: Any) -> Any:
    """A random model that no file holds."""
    torch.manual_seed(1)
    config = make_config(architecture, **sizes)
    for name, value in (changes or {}).items():
        setattr(config, name, value)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize(("architecture", "sizes"), MODELS)
def test_it_is_that_of_the_file(architecture: str, sizes: dict[str, Any], tmp_path: Path) -> None:
    """The same description, angles, and bits of every role."""
    model = make_model(tmp_path / "m.gguf", architecture, **sizes)
    file = import_model(open_model(tmp_path / "m.gguf"))
    ours = describe_model(model)
    assert list(differences("", ours.description, file.description)) == []
    assert ours.context == file.context == 128
    for name in {layer.attention.rope for layer in ours.description.layers} if ours.ropes else ():
        np.testing.assert_allclose(ours.ropes[name].frequencies(), file.ropes[name].frequencies(), rtol=1e-6, atol=0)
        assert ours.ropes[name].magnitude == pytest.approx(file.ropes[name].magnitude, rel=1e-6)
    assert ours.tables.keys() == file.tables.keys()
    assert ours.matrices.keys() == file.matrices.keys()
    for role, source in ours.tables.items():
        assert np.array_equal(source.numbers(), file.tables[role].numbers()), role
    for role, source in ours.matrices.items():
        for expert in range(max(source.experts, 1)):
            assert np.array_equal(source.numbers(expert=expert), file.matrices[role].numbers(expert=expert)), role
            if file.matrices[role].tensor.format is not None:
                # Q8_0 made again of what Q8_0 stands for.
                blocks = (s.blocks(2, 7, BLOCKS, expert) for s in (source, file.matrices[role]))
                assert np.array_equal(*blocks), role


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_nothing_is_copied(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources refer to the model's own memory, and numbers are converted rows at a time."""
    model = build().to(getattr(torch, dtype))
    described = describe_model(model)
    pointers = {p.data_ptr() for p in model.parameters()}
    for source in [*described.matrices.values(), *described.tables.values()]:
        assert isinstance(source.tensor, ParameterTensor)
        assert source.tensor.weight.data_ptr() in pointers
        assert source.tensor.weight.dtype == getattr(torch, dtype)
        assert source.tensor.data.size == 0
    sizes = []
    convert = torch.Tensor.to

    def note(tensor: Any, *args: Any, **kwargs: Any) -> Any:
        sizes.append(tensor.numel())
        return convert(tensor, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "to", note)
    head = described.matrices["head"]
    assert isinstance(head, ParameterSource)
    assert np.array_equal(head.numbers(3, 5), model.lm_head.weight.detach()[3:5].float().numpy())
    assert sizes == [2 * 64]


def test_mistral_has_windows() -> None:
    sizes = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, intermediate_size=96)
    config = transformers.MistralConfig(**sizes, vocab_size=300, max_position_embeddings=128, sliding_window=32)
    model = transformers.AutoModelForCausalLM.from_config(config)
    assert [layer.attention.window for layer in describe_model(model).description.layers] == [32, 32]
    assert [layer.attention.window for layer in describe_model(model, 32).description.layers] == [None, None]


def refused(model: Any, reason: str, kind: type[TailraceError] = NoDescriptionError, context: int | None = None) -> None:
    with pytest.raises(kind, match=f"^{re.escape(reason)}$"):
        describe_model(model, context)


def test_another_type_of_model() -> None:
    refused(
        build("starcoder2"),
        "Starcoder2ForCausalLM can't be decoded as a whole: its type 'starcoder2' is none of llama, mistral, mixtral, qwen2, qwen3,"
        " qwen3_moe, gemma3_text, phi3, gpt2, qwen3_5_text, qwen3_5_moe_text, qwen3_next, granitemoehybrid, mamba2, lfm2. Its"
        " linear layers can run on the device one by one, from a GGUF file: tailrace.huggingface.operations",
    )


def test_a_model_by_its_name() -> None:
    model = build()
    model.config.name_or_path = "somebody/a-model"
    refused(model, "somebody/a-model was made for a context of 128 tokens: ask for 1 to 128, not 129", LimitError, context=129)


@pytest.mark.parametrize(
    ("architecture", "changes", "reason"),
    [
        ("llama", {"hidden_act": "relu"}, "its activation is relu, and llama models have silu"),
        ("gemma3", {"use_bidirectional_attention": True}, "its configuration has use_bidirectional_attention = True"),
        ("gpt2", {"add_cross_attention": True}, "its configuration has add_cross_attention = True"),
    ],
)
def test_other_arithmetic(architecture: str, changes: dict[str, Any], reason: str) -> None:
    model = build(architecture, changes)
    refused(model, f"{type(model).__name__} can't be decoded as a whole: {reason}")


def test_layers_of_another_type() -> None:
    model = build("qwen2")
    model.config.layer_types = ["full_attention", "linear_attention"]
    refused(model, "Qwen2ForCausalLM can't be decoded as a whole: layer 1 is of the type linear_attention")


def test_heads_that_do_not_fit() -> None:
    refused(
        build(head_size=20),
        "LlamaForCausalLM can't be decoded as a whole: its heads have 20 elements, which is not a multiple of 8 up to 576",
    )


def test_parameters_that_are_left_over() -> None:
    model = build()
    model.model.layers[1].mlp.extra = torch.nn.Linear(2, 2)
    refused(
        model,
        "LlamaForCausalLM can't be decoded as a whole: it has parameters that no other llama model has, such as"
        " model.layers.1.mlp.extra.bias (adapters have to be merged)",
    )


def test_a_parameter_of_another_shape() -> None:
    model = build()
    model.model.layers[0].mlp.up_proj = torch.nn.Linear(64, 80, bias=False)
    refused(
        model,
        "LlamaForCausalLM can't be decoded as a whole: model.layers.0.mlp.up_proj.weight is 80 x 64, and its configuration speaks"
        " of 96 x 64",
    )


def test_weights_that_are_no_plain_numbers() -> None:
    model = build()
    weight = torch.zeros(96, 64, dtype=torch.int8)
    model.model.layers[0].mlp.gate_proj.weight = torch.nn.Parameter(weight, requires_grad=False)
    refused(
        model,
        "model.layers.0.mlp.gate_proj.weight has the type torch.int8, and the weights of torch.float32, torch.float16,"
        " torch.bfloat16 can be quantised: load the model without quantisation",
        ModelError,
    )


def test_weights_that_are_not_there() -> None:
    with torch.device("meta"):
        model = build()
    refused(
        model,
        "model.embed_tokens.weight is on the device meta, without numbers: load the model without offloading to disk or CPU",
        ModelError,
    )


def test_angles_that_change_with_the_length() -> None:
    factors = {"short_factor": [1.0] * 8, "long_factor": [4.0] * 8, "original_max_position_embeddings": 64}
    model = build("phi3", head_size=16, rope={"rope_type": "longrope", **factors})
    reason = (
        "Phi3ForCausalLM can't be decoded as a whole: its angles of RoPE (longrope) change once a sequence is longer than 64"
        " tokens: ask for a context of at most 64"
    )
    refused(model, reason)
    short = describe_model(model, 64).ropes["rope"]
    # What a long prompt has left behind is not what short ones get.
    model(torch.zeros(1, 70, dtype=torch.long))
    assert describe_model(model, 64).ropes["rope"] == short
    dynamic = build(rope={"rope_type": "dynamic", "factor": 2.0})
    refused(
        dynamic,
        "LlamaForCausalLM can't be decoded as a whole: its angles of RoPE (dynamic) change once a sequence is longer than 128"
        " tokens: ask for a context of at most 128",
        context=None,
    )


def test_a_number_that_is_not_finite() -> None:
    model = build()
    model.model.layers[1].mlp.up_proj.weight.data[5, 3] = float("nan")
    tensor = describe_model(model).matrices["layers.1.up"].tensor
    with pytest.raises(
        ModelError,
        match=r"^model\.layers\.1\.mlp\.up_proj\.weight is damaged: a value in row 5 is not finite\. Load the model again\.$",
    ):
        tensor.check_finite()
