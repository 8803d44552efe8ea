"""A GGUF file of another model is found out, with what differs."""

import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from tailrace.gguf.describe import import_model
from tailrace.gguf.file import open_model
from tailrace.spec.errors import ModelError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tailrace.huggingface.describe import describe_model  # noqa: E402
from tailrace.huggingface.match import check_same  # noqa: E402
from verification.unit.host.transformers_models import make_model  # noqa: E402


def check(model: Any, path: Path, context: int = 64) -> None:
    check_same(describe_model(model, context), import_model(open_model(path), context))


def differs(model: Any, path: Path, reason: str) -> None:
    text = f"{path} was not made of {type(model).__name__}: {reason}. Give the file of this model"
    with pytest.raises(ModelError, match=f"^{re.escape(text)}$"):
        check(model, path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "m.gguf"


@pytest.mark.parametrize("format", ["Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "MXFP4", "F16"])
def test_the_file_of_the_model(format: str, path: Path) -> None:
    """Quantised from the model, in every format that the device reads and that can be made here."""
    model = make_model(path, "llama", format=format)
    # What the file was quantised from is not what it stands for: as far away again as the file is from it.
    kind = gguf.GGMLQuantizationType[format]
    random = np.random.default_rng(3)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            noise = random.standard_normal(parameter.shape).astype(np.float32) * float(parameter.std())
            rounding = gguf.dequantize(gguf.quantize(noise, kind), kind).reshape(noise.shape) - noise
            parameter += torch.from_numpy(rounding)
    check(model, path)
    for parameter in model.parameters():
        parameter.copy_(parameter.bfloat16())
    check(model, path)


def test_another_model_of_the_same_shape(path: Path) -> None:
    make_model(path, "llama", seed=2)
    model = make_model(path.with_name("other.gguf"), "llama")
    with pytest.raises(
        ModelError,
        match=r"blk\.0\.attn_norm\.weight is \d\d\.\d% away from model\.layers\.0\.input_layernorm\.weight, of which F32"
        r" explains at most 0\.8%\. Give the file of this model$",
    ):
        check(model, path)


def test_a_model_that_was_trained_further(path: Path) -> None:
    """A norm that has moved by 2 % is enough."""
    model = make_model(path, "llama")
    model.model.layers[1].post_attention_layernorm.weight *= 1.02
    differs(
        model,
        path,
        "blk.1.ffn_norm.weight is 2.0% away from model.layers.1.post_attention_layernorm.weight, of which F32 explains at most"
        " 0.8%",
    )


def test_one_expert_of_another_model(path: Path) -> None:
    model = make_model(path, "qwen3moe")
    model.model.layers[1].mlp.experts.down_proj[7] *= -1
    differs(
        model,
        path,
        "blk.1.ffn_down_exps.weight is 200.0% away from model.layers.1.mlp.experts.down_proj, of which Q8_0 explains at most"
        " 5.0%",
    )


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ({"layers": 3}, "the number of layers is 3 in the file, and 2 in the model"),
        ({"kv_heads": 4}, "layers.0.attention.kv_heads is 4 in the file, and 2 in the model"),
        ({"feed_forward": 128}, "layers.0.feed_forward.size is 128 in the file, and 96 in the model"),
        ({"vocabulary": 333}, "vocabulary is 333 in the file, and 301 in the model"),
        (
            {"rope": {"rope_theta": 20_000.0}},
            "its angles of RoPE are others (those of a model that was cast with .to(dtype) are rounded: load with dtype=)",
        ),
    ],
)
def test_other_sizes(sizes: dict[str, Any], reason: str, path: Path) -> None:
    make_model(path, "llama", **sizes)
    differs(make_model(path.with_name("other.gguf"), "llama"), path, reason)


def test_another_architecture(path: Path) -> None:
    make_model(path, "qwen2")
    differs(
        make_model(path.with_name("other.gguf"), "llama"), path, "architecture is qwen2 in the file, and llama in the model"
    )


def test_experts_in_place_of_one(path: Path) -> None:
    make_model(path, "mixtral")
    differs(
        make_model(path.with_name("other.gguf"), "llama"),
        path,
        "layers.0.feed_forward is Experts in the file, and FeedForward in the model",
    )


def test_another_epsilon(path: Path) -> None:
    model = make_model(path, "llama")
    model.config.rms_norm_eps = 1e-6
    differs(model, path, "norm.epsilon is 1e-05 in the file, and 1e-06 in the model")


def test_a_bias_that_the_file_does_not_have(path: Path) -> None:
    model = make_model(path, "llama")
    model.model.layers[0].self_attn.o_proj = torch.nn.Linear(128, 64).requires_grad_(False)
    differs(model, path, "the model has a tensor for layers.0.o_bias, and the file has none")


def test_angles_that_a_cast_has_rounded(path: Path) -> None:
    differs(
        make_model(path, "llama").to(torch.bfloat16),
        path,
        "its angles of RoPE are others (those of a model that was cast with .to(dtype) are rounded: load with dtype=)",
    )


def test_a_window_that_nothing_leaves(path: Path) -> None:
    """Mistral's files say nothing of its window: within the context it makes no difference, beyond it does."""
    model = make_model(path, "phi3", head_size=16, window=64)
    check(model, path)
    model.config.sliding_window = 100
    check(model, path)
    model.config.sliding_window = 32
    differs(model, path, "layers.0.attention.window is None in the file, and 32 in the model")
