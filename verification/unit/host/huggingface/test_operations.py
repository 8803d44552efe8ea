"""The Hugging Face side: small random models, decoded on the golden device, against the same models on the host."""

import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from tailrace.device.driver import Device
from tailrace.device.geometry import Geometry
from tailrace.gguf.file import open_model
from tailrace.golden.device import GoldenDevice
from tailrace.huggingface.placement import make_plan
from tailrace.spec.config import parse_config
from tailrace.spec.errors import ModelError, TailraceError
from verification.unit.host.tiny_models import write_model

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from tailrace.huggingface import loader  # noqa: E402
from tailrace.huggingface.loader import load_model, load_tokenizer  # noqa: E402
from tailrace.huggingface.operations import OperationOffload  # noqa: E402
from verification.unit.host.transformers_models import make_model  # noqa: E402

SEED = 50
MIXED = {
    "blk.0.attn_q.weight": "Q4_0",
    "blk.0.attn_k.weight": "Q5_0",
    "blk.0.ffn_down.weight": "Q4_1",
    "blk.1.attn_output.weight": "Q4_0",
    "blk.1.ffn_gate.weight": "Q5_0",
}
#: By name: what `write_model` is given.
MODELS = {
    "llama": dict(architecture="llama", heads=4, kv_heads=2, types=MIXED),
    "llama, head of its own": dict(architecture="llama", tied=False),
    "llama, one key head": dict(architecture="llama", heads=2, kv_heads=1, default_type="Q4_1"),
    "qwen2": dict(architecture="qwen2", heads=2, kv_heads=2, types=MIXED),
    "qwen3": dict(architecture="qwen3", heads=2, kv_heads=1, head_size=64, types=MIXED, tied=False),
}


def open_offload(path: Path, config: str = "tiny", quantise: str | None = None, allow_host: bool = False) -> OperationOffload:
    device = Device(GoldenDevice(parse_config(config), 4 << 20))
    plan = make_plan(open_model(path), device.geometry, quantise)
    plan.check(4 << 20, allow_host=allow_host)
    return OperationOffload(load_model(plan, None, "cpu"), plan, device)


def tokens(batch: int = 1, length: int = 9) -> "torch.Tensor":
    generator = torch.Generator().manual_seed(SEED)
    return torch.randint(3, 250, (batch, length), generator=generator)


def close(got: "torch.Tensor", expected: "torch.Tensor") -> None:
    """Equal but for activations of 16 bits: 2**-16 of the largest, through two layers."""
    scale = expected.abs().max().item()
    np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=0, atol=3e-4 * scale, err_msg=f"seed {SEED}")


@pytest.fixture(params=list(MODELS))
def offload(request: pytest.FixtureRequest, tmp_path: Path) -> OperationOffload:
    return open_offload(write_model(tmp_path / "m.gguf", **MODELS[request.param]))


def test_logits_are_those_of_the_host(offload: OperationOffload) -> None:
    ids = tokens(length=12)
    with torch.no_grad():
        expected = offload.model(input_ids=ids).logits
    close(offload.logits(ids), expected)


def test_generate_is_that_of_hugging_face(offload: OperationOffload) -> None:
    ids = tokens()
    arguments = dict(max_new_tokens=6, min_new_tokens=6, do_sample=False, return_dict_in_generate=True, output_logits=True)
    expected = offload.model.generate(ids, **arguments)
    got = offload.generate(ids, **arguments)
    assert torch.equal(got.sequences, expected.sequences)
    for mine, theirs in zip(got.logits, expected.logits, strict=True):
        close(mine, theirs)
    # The prompt's last position and every new token but the last are steps, each with every matrix once.
    assert len(offload.steps) == 6
    assert {s.weight_bytes for s in offload.steps} == {sum(t.bytes for t in offload.plan.model.matrices)}


def test_the_model_itself_stays_as_it_is(offload: OperationOffload) -> None:
    ids = tokens()
    before = offload.model(input_ids=ids).logits
    offload.generate(ids, max_new_tokens=2, do_sample=False)
    runs = offload.device.counters.runs
    assert torch.equal(offload.model(input_ids=ids).logits, before)
    assert offload.device.counters.runs == runs


def test_prompt_of_one_token(tmp_path: Path) -> None:
    offload = open_offload(write_model(tmp_path / "m.gguf"))
    ids = tokens(length=1)
    expected = offload.model.generate(ids, max_new_tokens=3, do_sample=False)
    assert torch.equal(offload.generate(ids, max_new_tokens=3, do_sample=False), expected)


def test_batch_shares_passes_over_the_weights(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", heads=4, kv_heads=2)
    ids, mask = tokens(batch=4, length=7), torch.ones(4, 7, dtype=torch.long)
    mask[1, :3] = 0
    ids[1, :3] = 2
    outputs = {}
    for slots in (1, 2, 4):
        offload = open_offload(path, f"tiny,right_hand_sides={slots}")
        arguments = dict(attention_mask=mask, max_new_tokens=4, min_new_tokens=4, do_sample=False)
        outputs[slots] = offload.generate(ids, **arguments)
        assert torch.equal(outputs[slots], offload.model.generate(ids, **arguments))
        matrices = sum(t.bytes for t in open_model(path).matrices)
        assert offload.steps[0].weight_bytes == matrices * 4 // slots
    assert torch.equal(outputs[1], outputs[4])


def test_prefill_in_chunks_and_sampling(tmp_path: Path) -> None:
    offload = open_offload(write_model(tmp_path / "m.gguf"))
    ids = tokens(length=11)
    torch.manual_seed(SEED)
    expected = offload.model.generate(ids, max_new_tokens=6, do_sample=True, temperature=0.8)
    torch.manual_seed(SEED)
    got = offload.generate(ids, max_new_tokens=6, do_sample=True, temperature=0.8, prefill_chunk_size=4)
    assert torch.equal(got, expected)


def test_the_hook_works_without_our_generate(tmp_path: Path) -> None:
    offload = open_offload(write_model(tmp_path / "m.gguf"))
    ids = tokens()
    got = offload.model.generate(ids, max_new_tokens=3, do_sample=False, custom_generate=offload.custom_generate())
    assert torch.equal(got, offload.model.generate(ids, max_new_tokens=3, do_sample=False))
    assert len(offload.steps) == 3


def test_what_the_hook_refuses(tmp_path: Path) -> None:
    offload = open_offload(write_model(tmp_path / "m.gguf"))
    text = "^the device decodes greedily or by sampling: set num_beams=1, and leave out an assistant model$"
    with pytest.raises(ModelError, match=text):
        offload.generate(tokens(), max_new_tokens=2, num_beams=2)
    text = "^the device decodes token by token: call generate with input_ids and use_cache=True$"
    with pytest.raises(ModelError, match=text):
        offload.generate(tokens(), max_new_tokens=2, use_cache=False)


def test_an_error_in_the_middle_leaves_the_model_usable(tmp_path: Path) -> None:
    offload = open_offload(write_model(tmp_path / "m.gguf"))
    ids = tokens()
    expected = offload.generate(ids, max_new_tokens=3, do_sample=False)

    def stop(step: object) -> None:
        raise KeyboardInterrupt

    offload.on_step = stop
    with pytest.raises(KeyboardInterrupt):
        offload.generate(ids, max_new_tokens=3, do_sample=False)
    assert not any("forward" in vars(m) for m in offload.model.modules())
    offload.on_step = None
    assert torch.equal(offload.generate(ids, max_new_tokens=3, do_sample=False), expected)


def test_quantise_gives_host_and_device_the_same_weights(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", default_type="F16", heads=4, kv_heads=2)
    offload = open_offload(path, quantise="Q4_0")
    source = open_model(path).tensors["blk.0.attn_v.weight"]
    kind = gguf.GGMLQuantizationType.Q4_0
    expected = gguf.dequantize(gguf.quantize(source.data.astype(np.float32), kind), kind)
    assert np.array_equal(offload.model.model.layers[0].self_attn.v_proj.weight.numpy(), expected)
    close(offload.logits(tokens()), offload.model(input_ids=tokens()).logits)


def test_allowed_matrices_run_on_the_host(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", types={"blk.1.ffn_up.weight": "TQ2_0"}, hidden=256)
    offload = open_offload(path, allow_host=True)
    assert offload.on_host == ["blk.1.ffn_up.weight"]
    close(offload.logits(tokens()), offload.model(input_ids=tokens()).logits)
    total = sum(t.bytes for t in open_model(path).matrices if t.name not in offload.on_host)
    assert offload.steps[0].weight_bytes == total * 9


def test_tensors_that_transformers_would_ignore(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", extra={"blk.0.attn_q.bias": np.ones(64)})
    text = (
        f"{path} has tensors that transformers' llama does not use, such as blk.0.attn_q.bias:"
        " its results would be wrong. This variant of the architecture is not supported."
    )
    with pytest.raises(ModelError, match=f"^{re.escape(text)}$"):
        open_offload(path)


def test_missing_norm(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", leave_out=("blk.1.ffn_norm.weight",))
    with pytest.raises(
        ModelError, match=f"^{re.escape(f'{path} is not a complete llama model: it lacks blk.1.ffn_norm.weight.')}"
    ):
        open_offload(path)


def test_rope_factors_and_scaling(tmp_path: Path) -> None:
    plain = open_offload(write_model(tmp_path / "m.gguf")).model.model.rotary_emb.inv_freq
    factors = np.linspace(1, 8, 16)
    scaled = open_offload(
        write_model(tmp_path / "f.gguf", extra={"rope_freqs.weight": factors})
    ).model.model.rotary_emb.inv_freq
    np.testing.assert_allclose(scaled.numpy() * factors, plain.numpy(), rtol=1e-6)
    linear = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
    scaled = open_offload(write_model(tmp_path / "l.gguf", metadata=linear)).model.model.rotary_emb.inv_freq
    np.testing.assert_allclose(scaled.numpy() * 4, plain.numpy(), rtol=1e-6)


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
    model = open_model(tmp_path / "m.gguf")
    host = load_model(make_plan(model, Geometry.of_config(parse_config("tiny"))), None, "cpu").model
    ids = tokens(length=40)
    got, expected = host(input_ids=ids).logits, original(input_ids=ids).logits
    assert type(host) is type(original)
    np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=0, atol=1e-5 * expected.abs().max().item())


def stable_lm(path: Path) -> Path:
    """A model of an architecture that nothing describes: LayerNorms with biases, a quarter of each head rotated."""
    norms = [f"blk.{layer}.{name}.bias" for layer in range(2) for name in ("attn_norm", "ffn_norm")]
    extra = {name: np.full(64, 0.1) for name in [*norms, "output_norm.bias"]}
    header = {"stablelm.attention.layer_norm_epsilon": 1e-5}
    return write_model(path, "stablelm", kv_heads=2, tied=False, extra=extra, metadata=header, types=MIXED)


def test_an_architecture_without_a_description(tmp_path: Path) -> None:
    """Transformers loads it, and its linear layers run on the device."""
    offload = open_offload(stable_lm(tmp_path / "m.gguf"))
    ids = tokens(length=12)
    close(offload.logits(ids), offload.model(input_ids=ids).logits)
    assert offload.steps[0].weight_bytes == sum(t.bytes for t in offload.plan.model.matrices) * 12


def test_a_weight_that_is_not_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transformers that loads something else than the file holds is found out."""
    load = loader._load

    def load_wrongly(model: Any) -> Any:
        host = load(model)
        host.state_dict()["model.layers.0.self_attn.q_proj.weight"].mul_(2)
        return host

    monkeypatch.setattr(loader, "_load", load_wrongly)
    with pytest.raises(
        ModelError, match="^transformers loaded model.layers.0.self_attn.q_proj.weight with other values than blk.0.attn_q"
    ):
        open_offload(stable_lm(tmp_path / "m.gguf"))


def test_rope_of_an_architecture_without_a_description(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", "stablelm", metadata={"stablelm.rope.scaling.type": "yarn"})
    text = (
        f"{path} scales RoPE, which transformers does not read from files of the architecture 'stablelm': choose a model"
        " without it"
    )
    with pytest.raises(ModelError, match=f"^{re.escape(text)}$"):
        open_offload(path)


def test_damaged_scales_are_found_before_the_upload(tmp_path: Path) -> None:
    raw = gguf.quantize(np.ones((96, 64), dtype=np.float32), gguf.GGMLQuantizationType.Q8_0)
    raw[7, 34:36] = (0x00, 0x7C)
    path = write_model(tmp_path / "m.gguf", change={"blk.0.ffn_up.weight": raw})
    with pytest.raises(ModelError, match=r"^blk.0.ffn_up.weight is damaged: a scale or minimum in row 7 is not finite\."):
        open_offload(path)


def test_activations_that_overflow_are_named(tmp_path: Path) -> None:
    offload = open_offload(write_model(tmp_path / "m.gguf"))
    with torch.no_grad():
        offload.model.model.layers[1].input_layernorm.weight.fill_(float("inf"))
    with pytest.raises(TailraceError, match=r"^the input of blk.1.attn_q.weight is not finite"):
        offload.generate(tokens(length=1), max_new_tokens=2, do_sample=False)


def test_tokenizer(tmp_path: Path) -> None:
    model = open_model(write_model(tmp_path / "m.gguf"))
    tokenizer = load_tokenizer(model)
    assert tokenizer.decode(tokenizer("Hello, abc!")["input_ids"]) == "Hello, abc!"
