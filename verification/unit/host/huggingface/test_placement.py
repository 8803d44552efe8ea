"""Plans: what runs where, and why not."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tailrace.device.driver import Device
from tailrace.device.products import upload
from tailrace.gguf.file import open_model
from tailrace.golden.device import GoldenDevice
from tailrace.huggingface.placement import Place, Plan, make_plan
from tailrace.image.geometry import Geometry
from tailrace.spec.config import CONFIGS, parse_config
from tailrace.spec.errors import LimitError, ModelError
from tailrace.spec.formats import Q8_0X3, WEIGHT_FORMATS
from verification.unit.host.tiny_models import write_model

#: What a device reads, as texts say it.
READ = ", ".join(f.name for f in WEIGHT_FORMATS)
TINY = Geometry.of_config(CONFIGS["tiny"])


def plan_of(path: Path, *, config: str = "tiny", quantise: str | None = None) -> Plan:
    return make_plan(open_model(path), Geometry.of_config(parse_config(config)), quantise)


def test_everything_fits(tmp_path: Path) -> None:
    plan = plan_of(write_model(tmp_path / "m.gguf", types={"blk.0.ffn_up.weight": "Q4_0", "blk.1.attn_v.weight": "Q5_0"}))
    assert not plan.placed(Place.REFUSED)
    assert {p.tensor.name for p in plan.placed(Place.DEVICE)} == {t.name for t in plan.model.matrices}
    assert plan.stream_bytes >= sum(t.bytes for t in plan.model.matrices)
    plan.check(plan.memory_bytes)
    text = (
        f"{plan.model.path} needs {plan.memory_bytes} bytes of device memory, but only {plan.memory_bytes - 64} are available:"
        " give the device more with --memory, or choose a smaller model"
    )
    with pytest.raises(LimitError, match=f"^{re.escape(text)}$"):
        plan.check(plan.memory_bytes - 64)


def test_tied_head_is_on_the_device_and_a_plain_embedding_is_not(tmp_path: Path) -> None:
    tied = {p.tensor.name: p for p in plan_of(write_model(tmp_path / "m.gguf")).placements}
    assert tied["token_embd.weight"].place is Place.DEVICE
    untied = {p.tensor.name: p for p in plan_of(write_model(tmp_path / "m.gguf", tied=False)).placements}
    assert untied["token_embd.weight"].place is Place.HOST
    assert untied["output.weight"].place is Place.DEVICE


def test_unsupported_type(tmp_path: Path) -> None:
    path = write_model(
        tmp_path / "m.gguf",
        types={"blk.0.ffn_up.weight": "F64"},
        hidden=256,
    )
    text = (
        f"{path} can't run on this device: 1 of its matrices are refused.\n"
        "  blk.0.ffn_up.weight (F64): this device does not read F64: it reads"
        f" {READ}. Get the model in one of these, for example with `llama-quantize --pure` from its 16-bit file\n"
        "--allow-host runs these, and only these, on the host instead."
    )
    with pytest.raises(ModelError, match=f"^{re.escape(text)}$"):
        plan_of(path).check(1 << 30)
    plan_of(path).check(1 << 30, allow_host=True)


def test_the_host_does_not_take_what_nothing_turns_into_numbers(tmp_path: Path) -> None:
    change = {"blk.0.ffn_up.weight": np.zeros((96, 256 // 128 * 18), np.uint8)}
    path = write_model(tmp_path / "m.gguf", types={"blk.0.ffn_up.weight": "Q1_0"}, hidden=256, change=change)
    with pytest.raises(ModelError, match=r"this device does not read Q1_0: it reads Q8_0, "):
        plan_of(path).check(1 << 30)
    text = "blk.0.ffn_up.weight has the type Q1_0, which nothing here turns into numbers: get the model in another one"
    with pytest.raises(ModelError, match=f"^{re.escape(text)}$"):
        plan_of(path).check(1 << 30, allow_host=True)


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
def test_floats_are_quantised_only_when_asked(tmp_path: Path, kind: str) -> None:
    path = write_model(tmp_path / "m.gguf", types={"blk.1.attn_output.weight": kind})
    (taken_apart,) = (p for p in plan_of(path).placements if p.format is Q8_0X3)
    assert taken_apart.tensor.name == "blk.1.attn_output.weight"
    assert taken_apart.reason == f"{kind} in 3 planes of 8 bits"
    assert not taken_apart.quantise
    plan = plan_of(path, quantise="Q8_0")
    assert not plan.placed(Place.REFUSED)
    (quantised,) = (p for p in plan.placements if p.quantise)
    assert quantised.tensor.name == "blk.1.attn_output.weight"
    assert quantised.reason == f"quantised from {kind} as asked"
    with pytest.raises(ModelError, match="^can't quantise to 'Q2_K': choose one of Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, MXFP4$"):
        plan_of(path, quantise="Q2_K")


def test_rows_that_are_not_blocks(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", default_type="F16", feed_forward=80)
    refused = plan_of(path, quantise="Q8_0").placed(Place.REFUSED)
    assert [p.tensor.name for p in refused] == ["blk.0.ffn_down.weight", "blk.1.ffn_down.weight"]
    assert refused[0].reason == "its rows have 80 elements, which is not a multiple of 32"


def test_rows_that_are_too_long(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", feed_forward=2080)
    refused = plan_of(path, config="tiny,vector_blocks=64").placed(Place.REFUSED)
    assert [p.tensor.name for p in refused] == ["blk.0.ffn_down.weight", "blk.1.ffn_down.weight"]
    assert refused[0].reason == (
        "its rows have 2080 elements, and this device takes at most 2048: use a configuration with vector_blocks of at least 128"
    )
    assert not plan_of(path).placed(Place.REFUSED)


def test_a_long_list_of_refusals_is_cut(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", default_type="F16")
    older = replace(TINY, formats=TINY.formats & ~(1 << Q8_0X3.number))
    with pytest.raises(ModelError) as caught:
        make_plan(open_model(path), older).check(1 << 30)
    assert "15 of its matrices are refused" in str(caught.value)
    assert "\n  and 10 more; `tailrace inspect` lists them all\n" in str(caught.value)


@pytest.mark.parametrize("kind", ["Q5_1", "MXFP4"])
def test_formats_for_a_model_of_floats(tmp_path: Path, kind: str) -> None:
    plan = plan_of(write_model(tmp_path / "m.gguf", default_type="F16"), quantise=kind)
    assert {p.format.name for p in plan.placed(Place.DEVICE) if p.format} == {kind}


def test_the_plan_knows_what_uploading_takes(tmp_path: Path) -> None:
    """Parts and padding included."""
    plan = plan_of(write_model(tmp_path / "m.gguf", feed_forward=2528))
    with Device(GoldenDevice(CONFIGS["tiny"], plan.memory_bytes)) as device:
        for placement in plan.placed(Place.DEVICE):
            assert placement.format is not None
            matrix = upload(device, placement.tensor.name, placement.format, placement.tensor.data)
            assert matrix.stream_bytes == placement.stream_bytes
        assert device.free_memory == plan.workspace_bytes
