"""Hugging Face models that are made of GGUF files."""

import re
import threading
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from tailrace.gguf.file import open_model
from tailrace.huggingface.placement import make_plan
from tailrace.image.geometry import Geometry
from tailrace.spec.config import parse_config
from tailrace.spec.errors import ConfigError, ModelError
from verification.unit.host.tiny_models import split, write_model, write_undescribed

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from tailrace.huggingface.loader import load_model, load_tokenizer  # noqa: E402
from verification.unit.host.transformers_models import make_model  # noqa: E402


def load(path: Path, device: str = "cpu", dtype: str = "float32") -> Any:
    return load_model(make_plan(open_model(path), Geometry.of_config(parse_config("tiny"))), None, device, dtype).model


@pytest.mark.parametrize(
    ("architecture", "sizes"),
    [
        *((name, {}) for name in ("llama", "mixtral", "qwen2", "qwen3", "qwen3moe", "gemma3", "gpt2")),
        ("phi3", {"head_size": 16}),
        ("phi3", {"head_size": 16, "rotary": 0.5, "window": 8}),
        ("gemma3", {"layers": 7, "window": 8}),
        ("gemma3", {"layers": 6, "rope": {"rope_type": "linear", "factor": 8.0}}),
        ("llama", {"tied": True, "rope": {"rope_type": "linear", "factor": 4.0}}),
        ("qwen3", {"rope": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}}),
    ],
)
def test_the_host_has_hugging_faces_model(tmp_path: Path, architecture: str, sizes: dict[str, Any]) -> None:
    """Built from the description of the file, it computes what the model computes that was written to the file."""
    original = make_model(tmp_path / "m.gguf", architecture, **sizes)
    host = load(tmp_path / "m.gguf")
    ids = torch.randint(3, 250, (1, 40), generator=torch.Generator().manual_seed(50))
    got, expected = host(input_ids=ids).logits, original(input_ids=ids).logits
    assert type(host) is type(original)
    np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=0, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("architecture", ["undescribed", "llama", "qwen2"])
def test_it_is_what_transformers_loads(architecture: str, tmp_path: Path) -> None:
    """The same parameters, and a configuration that computes the same."""
    path = tmp_path / "m.gguf"
    write_undescribed(path) if architecture == "undescribed" else write_model(path, architecture)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(str(tmp_path), gguf_file=path.name, dtype=torch.float32).eval()
    ours = load(path)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for name, weight in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], weight), name
    ids = torch.randint(3, 250, (1, 40), generator=torch.Generator().manual_seed(50))
    with torch.no_grad():
        assert torch.equal(ours(ids).logits, theirs(ids).logits)


def test_a_model_in_parts(tmp_path: Path) -> None:
    """Which transformers does not read: nor do we, where we depend on it."""
    make_model(tmp_path / "m.gguf", "qwen3")
    names = split(tmp_path / "m.gguf", tmp_path / "part", 3)
    whole, parts = load(tmp_path / "m.gguf"), load(names[1])
    assert all(torch.equal(parts.state_dict()[name], weight) for name, weight in whole.state_dict().items())
    first = split(write_undescribed(tmp_path / "s.gguf"), tmp_path / "undescribed", 2)[0]
    text = f"{first} is in 2 parts, which transformers does not read: join them with llama.cpp's `llama-gguf-split --merge`"
    with pytest.raises(ModelError, match=f"^{re.escape(text)}$"):
        load(first)


def test_what_transformers_does_not_compute(tmp_path: Path) -> None:
    """Its llamas rotate whole heads."""
    path = write_model(tmp_path / "m.gguf", metadata={"llama.rope.dimension_count": 16})
    text = (
        f"{path} is not what transformers computes: layers.0.attention.rotary_size is 16 in the file, and 32 in the model. Let"
        " the device compute the prompt"
    )
    with pytest.raises(ModelError, match=f"^{re.escape(text)}$"):
        load(path)


def test_two_threads_load_their_own_files(tmp_path: Path) -> None:
    """Nothing that all share is changed in between."""
    originals = [make_model(tmp_path / f"{n}.gguf", "llama", seed=n, layers=2 + n) for n in range(2)]
    before = gguf.GGUFReader, gguf.get_tensor_name_map, torch.nn.init.normal_, torch.get_default_dtype()
    found: dict[int, list[Any]] = {0: [], 1: []}
    together = threading.Barrier(2)

    def work(index: int) -> None:
        together.wait()
        for dtype in ("float32", "bfloat16"):
            found[index].append(load(tmp_path / f"{index}.gguf", dtype=dtype))
            found[index].append(open_model(tmp_path / f"{index}.gguf"))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, original in enumerate(originals):
        exact, file, short, _ = found[index]
        assert file.layers == 2 + index
        for name, weight in original.state_dict().items():
            assert torch.equal(exact.state_dict()[name], weight)
            assert torch.equal(short.state_dict()[name], weight.bfloat16())
    assert (gguf.GGUFReader, gguf.get_tensor_name_map, torch.nn.init.normal_, torch.get_default_dtype()) == before


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_it_has_the_type_that_was_asked_for(dtype: str, tmp_path: Path) -> None:
    """All parameters; RoPE's angles stay float32, as in models that transformers loads itself."""
    make_model(tmp_path / "m.gguf", "gemma3", layers=6, window=8)
    host = load(tmp_path / "m.gguf", dtype=dtype)
    assert {p.dtype for p in host.parameters()} == {getattr(torch, dtype)} == {host.dtype}
    assert {b.dtype for name, b in host.named_buffers()} == {torch.float32}
    assert host.lm_head.weight is host.model.embed_tokens.weight
    assert host(torch.tensor([[3, 4]])).logits.dtype == getattr(torch, dtype)


def test_the_type_by_itself(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", default_type="BF16")
    plan = make_plan(open_model(path), Geometry.of_config(parse_config("tiny")), "Q8_0")
    assert load_model(plan, None, "cpu", "auto").model.dtype == torch.float32


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf")
    with pytest.raises(ConfigError, match="^PyTorch can't use the device 'gpu': "):
        load(path, "gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="^PyTorch can't use the device 'cuda': "):
            load(path, "cuda")
    text = "'int8' is no type of a model on the host: choose auto or one of float32, bfloat16, float16"
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        load(path, dtype="int8")


def test_rope_factors_and_scaling(tmp_path: Path) -> None:
    plain = load(write_model(tmp_path / "m.gguf")).model.rotary_emb.inv_freq
    factors = np.linspace(1, 8, 16)
    scaled = load(write_model(tmp_path / "f.gguf", extra={"rope_freqs.weight": factors})).model.rotary_emb.inv_freq
    np.testing.assert_allclose(scaled.numpy() * factors, plain.numpy(), rtol=1e-6)
    linear = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
    scaled = load(write_model(tmp_path / "l.gguf", metadata=linear)).model.rotary_emb.inv_freq
    np.testing.assert_allclose(scaled.numpy() * 4, plain.numpy(), rtol=1e-6)


def test_rope_of_a_model_without_a_description(tmp_path: Path) -> None:
    path = write_undescribed(tmp_path / "m.gguf", metadata={"llama.rope.scaling.type": "yarn"})
    text = (
        f"{path} scales RoPE, which transformers does not read from files of the architecture 'llama': choose a model"
        " without it"
    )
    with pytest.raises(ModelError, match=f"^{re.escape(text)}$"):
        load(path)


def test_an_architecture_for_the_device_alone(tmp_path: Path) -> None:
    make_model(tmp_path / "m.gguf", "granite")
    text = (
        f"{tmp_path / 'm.gguf'} can't be computed by PyTorch here, which is for the architectures llama, qwen2, qwen3, qwen3moe,"
        " gemma3, phi3, gpt2, qwen35, qwen35moe, qwen3next, granitehybrid, falcon-h1, mamba2, lfm2, and not for granite. The"
        " device computes all of it, prompts too: leave out --prefill torch and --path operations"
    )
    with pytest.raises(ModelError, match=f"^{re.escape(text)}$"):
        load(tmp_path / "m.gguf")


def test_tokenizer(tmp_path: Path) -> None:
    model = open_model(write_model(tmp_path / "m.gguf"))
    tokenizer = load_tokenizer(model)
    assert tokenizer.decode(tokenizer("Hello, abc!")["input_ids"]) == "Hello, abc!"


def test_matrices_with_scales_of_their_own_are_not_for_the_host(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", extra={"blk.0.ffn_up.scale": np.array([0.5])})
    text = (
        f"{path} multiplies what a matrix computes with a number (blk.0.ffn_up.scale), which is done on the device only: leave"
        " --prefill torch, --path operations and --allow-host out"
    )
    with pytest.raises(ModelError, match=f"^{re.escape(text)}$"):
        load(path)
