"""The Hugging Face side: small random models, decoded on the golden device, against the same models on the host."""

import re
from pathlib import Path

import gguf
import numpy as np
import pytest

from tailrace.device.driver import Device
from tailrace.gguf.file import open_model
from tailrace.golden.device import GoldenDevice
from tailrace.huggingface.placement import make_plan
from tailrace.spec.config import parse_config
from tailrace.spec.errors import ModelError, TailraceError
from verification.unit.host.tiny_models import write_model, write_undescribed

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from tailrace.huggingface.loader import load_model  # noqa: E402
from tailrace.huggingface.operations import OperationOffload  # noqa: E402

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
    with pytest.raises(ModelError, match=text):
        offload.generate(tokens(), max_new_tokens=2, assistant_model=offload.model)
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
    path = write_model(
        tmp_path / "m.gguf",
        types={"blk.1.ffn_up.weight": "F64"},
        hidden=256,
    )
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


def test_a_model_without_a_description(tmp_path: Path) -> None:
    """Transformers loads it, and its linear layers run on the device."""
    offload = open_offload(write_undescribed(tmp_path / "m.gguf", MIXED))
    ids = tokens(length=12)
    close(offload.logits(ids), offload.model(input_ids=ids).logits)
    assert offload.steps[0].weight_bytes == sum(t.bytes for t in offload.plan.model.matrices) * 12


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
