"""Models with states, all the way: made of a file by PyTorch, matched with one, and under `generate`."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tailrace.command.cli import main
from tailrace.gguf.file import open_model
from tailrace.huggingface.placement import make_plan
from tailrace.image.geometry import Geometry
from tailrace.spec.config import parse_config
from tailrace.spec.errors import ModelError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tailrace.gguf.describe import NoDescriptionError, import_model  # noqa: E402
from tailrace.gguf.writer import NewTensor, tensor_of  # noqa: E402
from tailrace.huggingface import internals, offload  # noqa: E402
from tailrace.huggingface.hybrid_match import check_same_hybrid  # noqa: E402
from tailrace.huggingface.loader import load_model  # noqa: E402
from verification.unit.host import transformers_models  # noqa: E402
from verification.unit.host.huggingface.test_generate import GREEDY, agree, ids  # noqa: E402
from verification.unit.host.huggingface.test_state_handover import SHAPES, text  # noqa: E402
from verification.unit.host.transformers_models import make_model  # noqa: E402

SEED = 29
#: What PyTorch computes from a file.
LOADED = (
    "qwen35", "qwen35, other sizes", "qwen35moe", "qwen3next", "granitehybrid", "granitehybridmoe", "falcon-h1", "mamba2", "lfm2",
    "lfm2, long kernels",
)  # fmt: skip
#: What is tried under `generate`: each kind of state.
OFFLOADED = ("qwen35", "qwen3next", "granitehybrid", "mamba2", "lfm2")


def build(path: Path, shape: str, **changes: Any) -> Any:
    return make_model(path, seed=SEED, context=256, **(SHAPES[shape] | changes))


def load(path: Path) -> Any:
    return load_model(make_plan(open_model(path), Geometry.of_config(parse_config("base"))), None, "cpu").model


@pytest.mark.parametrize("shape", LOADED)
def test_pytorch_has_the_model_of_the_file(shape: str, tmp_path: Path) -> None:
    """Orders of heads, decays, norms and convolutions: it computes what the model computes that was written."""
    original = build(tmp_path / "m.gguf", shape)
    host = load(tmp_path / "m.gguf")
    tokens = torch.tensor([text(100, SEED)])
    with torch.no_grad():
        got, expected = host(tokens).logits, original(tokens).logits
    np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=0, atol=1e-5 * expected.abs().max().item())


def test_a_tied_head(tmp_path: Path) -> None:
    original = build(tmp_path / "m.gguf", "mamba2", tied=True)
    host = load(tmp_path / "m.gguf")
    tokens = torch.tensor([text(9, SEED)])
    assert host.config.tie_word_embeddings
    with torch.no_grad():
        assert torch.allclose(host(tokens).logits, original(tokens).logits, rtol=0, atol=1e-4)


def test_blocks_that_predict_further_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the layers: transformers does without them, and so does the device."""
    write = transformers_models.write_gguf

    def with_another(path: Path, name: str, values: dict[str, Any], tensors: list[NewTensor]) -> None:
        more = {"qwen35.block_count": 3, "qwen35.nextn_predict_layers": 1}
        write(path, name, values | more, [*tensors, tensor_of("blk.2.nextn.eh_proj.weight", np.zeros((64, 128), np.float32))])

    monkeypatch.setattr(transformers_models, "write_gguf", with_another)
    original = build(tmp_path / "m.gguf", "qwen35")
    assert load(tmp_path / "m.gguf").state_dict().keys() == original.state_dict().keys()


@pytest.mark.parametrize("shape", OFFLOADED)
def test_generate(shape: str, tmp_path: Path) -> None:
    """The tokens of plain `generate`: one token, a short prompt and one over a fold; two of them padded, at once and in chunks."""
    model = build(tmp_path / "m.gguf", shape)
    arguments = dict(**GREEDY, max_new_tokens=4, min_new_tokens=4)
    with offload(model, "emulator", gguf=tmp_path / "m.gguf", context=128, batch=2, config="wide") as offloaded:
        for prompt in (ids(1), ids(11), ids(70)):
            plain = model.generate(prompt, **arguments)
            agree(model.generate(prompt, custom_generate=offloaded, **arguments), plain)
        both, mask = ids(70, 2), torch.ones(2, 70, dtype=torch.long)
        mask[1, :30] = 0
        plain = model.generate(both, attention_mask=mask, **arguments)
        for chunks in ({}, {"prefill_chunk_size": 16}):
            agree(model.generate(both, attention_mask=mask, custom_generate=offloaded, **chunks, **arguments), plain)


def test_a_second_turn_goes_on_from_the_cache(tmp_path: Path) -> None:
    """The model computes what the cache lacks, and all of it is handed over again."""
    from transformers import DynamicCache

    model = build(tmp_path / "m.gguf", "qwen35")
    cache, arguments = DynamicCache(config=model.config), dict(**GREEDY, max_new_tokens=4, min_new_tokens=4)
    seen: list[int] = []
    model.model.embed_tokens.register_forward_pre_hook(lambda module, given: seen.append(given[0].shape[1]))
    with offload(model, "emulator", gguf=tmp_path / "m.gguf", context=128) as offloaded:
        first = model.generate(ids(20), custom_generate=offloaded, **{internals.CACHE: cache}, **arguments)
        question = torch.cat([first.sequences, ids(50, seed=SEED)], dim=1)
        second = model.generate(question, custom_generate=offloaded, **{internals.CACHE: cache}, **arguments)
    assert seen == [19, 54]
    agree(second, model.generate(question, **arguments))


def test_a_prompt_in_chunks(tmp_path: Path) -> None:
    model = build(tmp_path / "m.gguf", "mamba2")
    seen: list[int] = []
    model.backbone.embeddings.register_forward_pre_hook(lambda module, given: seen.append(given[0].shape[1]))
    with offload(model, "emulator", gguf=tmp_path / "m.gguf", context=128) as offloaded:
        model.generate(ids(20), custom_generate=offloaded, prefill_chunk_size=8, max_new_tokens=2)
    assert seen == [8, 8, 3]


def test_a_cache_that_does_not_say_its_length(tmp_path: Path) -> None:
    """One of states alone can't be gone on from: nobody knows from where."""
    from transformers import DynamicCache

    model = build(tmp_path / "m.gguf", "mamba2")
    cache = DynamicCache(config=model.config)
    with offload(model, "emulator", gguf=tmp_path / "m.gguf", context=128) as offloaded:
        model.generate(ids(5), custom_generate=offloaded, **{internals.CACHE: cache}, max_new_tokens=2)
        with pytest.raises(ModelError) as caught:
            model.generate(ids(9), custom_generate=offloaded, **{internals.CACHE: cache}, max_new_tokens=2)
    assert str(caught.value) == "a cache without keys and values does not say how many tokens it has seen: leave it out"


@pytest.mark.parametrize("shape", ["qwen35", "mamba2", "falcon-h1", "lfm2"])
def test_run_with_a_prompt_from_pytorch(shape: str, tmp_path: Path) -> None:
    """The text that follows the device's own prefill, of a short prompt and of one over a fold."""
    build(tmp_path / "m.gguf", shape)
    for prompt in ("Hello", "x" * 100):
        command = ["run", str(tmp_path / "m.gguf"), "--raw", "-p", prompt, "-n", "6", "--context", "128"]
        device, torch_s = (CliRunner().invoke(main, [*command, *more]) for more in ([], ["--prefill", "torch"]))
        assert device.exit_code == torch_s.exit_code == 0, device.output + torch_s.output
        assert torch_s.stdout == device.stdout
        assert "tokens before the last on the device" not in torch_s.stderr


def refused(model: Any, path: Path | None, reason: str, kind: type[ModelError] = ModelError) -> None:
    with pytest.raises(kind) as caught:
        offload(model, "emulator", gguf=path, context=64, quantise=None if path else "Q8_0")
    assert str(caught.value) == reason


@pytest.fixture
def qwen(tmp_path: Path) -> tuple[Any, Path]:
    return build(tmp_path / "m.gguf", "qwen35"), tmp_path / "m.gguf"


def test_it_takes_a_file(qwen: tuple[Any, Path]) -> None:
    refused(qwen[0], None, "the weights of a model with states come from a file: give gguf='model.gguf'")


@pytest.mark.parametrize(
    ("shape", "changes", "reason"),
    [
        ("mamba2", {}, "architecture is mamba2 in the file, and qwen35 in the model"),
        ("qwen35", {"linear": (3, 6, 32, 64)}, "linear_num_key_heads is 3 in the file, and 2 in the model"),
        ("qwen35", {"layers": 4}, "num_hidden_layers is 4 in the file, and 2 in the model"),
        ("qwen35", {"rotary": 0.5}, "its angles of RoPE are others (those of a model that was cast with .to(dtype) are rounded: load with dtype=)"),
        ("qwen35", {"kernel": 3}, "linear_conv_kernel_dim is 3 in the file, and 4 in the model"),
    ],
)  # fmt: skip
def test_the_file_of_another_model(
    qwen: tuple[Any, Path], shape: str, changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    other = tmp_path / "other.gguf"
    build(other, shape, **changes)
    refused(qwen[0], other, f"{other} was not made of {type(qwen[0]).__name__}: {reason}. Give the file of this model")


@pytest.mark.parametrize(
    ("parameter", "tensor"),
    [
        ("model.layers.0.linear_attn.A_log", "blk.0.ssm_a"),
        ("model.layers.0.linear_attn.conv1d.weight", "blk.0.ssm_conv1d.weight"),
        ("model.layers.0.linear_attn.out_proj.weight", "blk.0.ssm_out.weight"),
        ("model.layers.1.self_attn.k_proj.weight", "blk.1.attn_k.weight"),
        ("model.norm.weight", "output_norm.weight"),
    ],
)
def test_a_model_that_was_trained_further(qwen: tuple[Any, Path], parameter: str, tensor: str) -> None:
    model, path = qwen
    weight = model.get_parameter(parameter)
    weight += 0.5 * weight.std() * torch.randn(weight.shape, generator=torch.Generator().manual_seed(SEED))
    with pytest.raises(ModelError) as caught:
        offload(model, "emulator", gguf=path, context=64)
    assert str(caught.value).startswith(f"{path} was not made of Qwen3_5ForCausalLM: {tensor} is ")
    assert f"% away from {parameter}, of which " in str(caught.value)


def test_two_names_of_no_angles(tmp_path: Path) -> None:
    """Granite's configurations say "nope", or nothing; but not "rope"."""
    model, path = build(tmp_path / "m.gguf", "granitehybrid"), tmp_path / "m.gguf"
    model.config.position_embedding_type = "nope"
    check_same_hybrid(model, import_model(open_model(path), 64))
    model.config.position_embedding_type = "rope"
    refused(
        model, path,
        f"{path} was not made of GraniteMoeHybridForCausalLM: position_embedding_type is None in the file, and rope in the model."
        " Give the file of this model",
    )  # fmt: skip


def test_other_arithmetic(qwen: tuple[Any, Path]) -> None:
    model, path = qwen
    model.config.hidden_act = "gelu"
    refused(
        model, path,
        f"{path} was not made of Qwen3_5ForCausalLM: hidden_act is silu in the file, and gelu in the model. Give the file of this"
        " model",
    )  # fmt: skip


@pytest.mark.parametrize("shape", ["falcon-h1", "nemotron_h", "lfm2moe"])
def test_types_that_are_not_matched_with_files(shape: str, tmp_path: Path) -> None:
    model = build(tmp_path / "m.gguf", shape)
    with pytest.raises(NoDescriptionError) as caught:
        offload(model, "emulator", gguf=tmp_path / "m.gguf", context=64)
    assert str(caught.value) == (
        f"{type(model).__name__} can't be decoded as a whole: its type {model.config.model_type!r} is none of llama, mistral,"
        " mixtral, qwen2, qwen3, qwen3_moe, gemma3_text, phi3, gpt2, qwen3_5_text, qwen3_5_moe_text, qwen3_next,"
        " granitemoehybrid, mamba2, lfm2. Its linear layers can run on the device one by one, from a GGUF file:"
        " tailrace.huggingface.operations"
    )


def test_operations_are_not_run_one_by_one(tmp_path: Path) -> None:
    build(tmp_path / "m.gguf", "qwen35")
    command = ["run", str(tmp_path / "m.gguf"), "--raw", "-p", "x", "-n", "2", "--path", "operations"]
    result = CliRunner().invoke(main, command, env={"COLUMNS": "400"})
    assert result.exit_code == 1, result.output
    assert (
        f"{tmp_path / 'm.gguf'} has layers with states, whose operations do not run one by one: leave out --path operations and"
        " --allow-host"
    ) in result.output
