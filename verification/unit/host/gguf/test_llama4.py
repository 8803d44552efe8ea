"""Llama 4: chunks, layers without RoPE whose scores grow, head norms without weights, experts whose input is weighted."""

import re
from pathlib import Path
from typing import Any

import pytest

from tailrace.firmware.description import SCORE_SCALES, Activation, Attention, Experts, FeedForward, HeadNorm, Scores
from tailrace.gguf.describe import ImportedModel, import_model
from tailrace.gguf.file import open_model
from tailrace.gguf.growth import Growth
from tailrace.spec.errors import ModelError
from verification.unit.host.small_shapes import MIXTURE, MIXTURE_HEADER, write

#: Of every second layer the feed-forward is a mixture.
HEADER: dict[str, Any] = {
    **MIXTURE_HEADER, "block_count": 4, "context_length": 1 << 17, "feed_forward_length": 128, "expert_used_count": 1,
    "expert_feed_forward_length": 96, "interleave_moe_layer_step": 2,
}  # fmt: skip
PLAIN, MIXED = (0, 2), (1, 3)


def shapes(experts: int = 4) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {n: s for n, s in MIXTURE.items() if "exps" not in n and "gate_inp" not in n}
    for n in PLAIN:
        found |= {f"blk.{n}.ffn_{name}.weight": (128, 64) for name in ("gate", "up")}
        found[f"blk.{n}.ffn_down.weight"] = (64, 128)
    for n in MIXED:
        found[f"blk.{n}.ffn_gate_inp.weight"] = (experts, 64)
        for name, shape in (("gate", (96, 64)), ("up", (96, 64)), ("down", (64, 96))):
            found |= {f"blk.{n}.ffn_{name}_exps.weight": (experts, *shape), f"blk.{n}.ffn_{name}_shexp.weight": shape}
    return found


def imported(folder: Path, context: int | None = None, experts: int = 4, **header: Any) -> ImportedModel:
    values = {**HEADER, "expert_count": experts, **{key.replace("__", "."): value for key, value in header.items()}}
    return import_model(open_model(write(folder / "m.gguf", "llama4", values, shapes(experts))), context)


def attentions(model: ImportedModel) -> list[Attention]:
    return list(model.description.attentions)


def test_what_converters_leave_unsaid(tmp_path: Path) -> None:
    model = imported(tmp_path)
    near = Attention(
        4, 2, 16, pytest.approx(0.25), 16, window=8192, chunked=True, head_norm=HeadNorm.PLAIN_ROTATED_HEAD,
    )  # fmt: skip
    assert attentions(model) == [near] * 3 + [Attention(4, 2, 16, pytest.approx(0.25), growing=True)]
    small, large = (FeedForward(size, Activation.SILU) for size in (96, 128))
    mixture = Experts(4, 1, small, False, Scores.SIGMOID, shared=small, weighted_input=True)
    assert [layer.feed_forward for layer in model.description.layers] == [large, mixture] * 2
    assert model.growth == Growth(pytest.approx(0.25), 0.1, 8192, ahead=1)
    assert list(model.position_tables) == ["rope", SCORE_SCALES]
    # Neighbours are rotated together, and there are no weights of head norms.
    assert model.matrices["layers.0.q"].order is not None
    assert not any("q_norm" in role for role in model.tables)


def test_scores_grow_from_the_last_position_of_a_period_on(tmp_path: Path) -> None:
    """Whatever context is used, the description is the same: sessions go from one to another."""
    short, longer = (imported(tmp_path, context) for context in (512, 16384))
    assert (short.description, short.growth) == (longer.description, longer.growth)
    assert short.growth is not None
    assert (short.growth.table(8190, 2)[:, 0] / 0.25).tolist() == pytest.approx([1.0, 1.0693147])


def test_what_headers_may_say(tmp_path: Path) -> None:
    model = imported(tmp_path, 512, attention__chunk_size=64, attention__sliding_window=64, use_qk_norm=False)
    assert [(a.window, a.chunked) for a in attentions(model)] == [(64, True)] * 3 + [(None, False)]
    assert {a.head_norm for a in attentions(model)} == {None}
    model = imported(tmp_path, 512, attention__temperature_scale=0.5, attention__temperature_length=100)
    assert model.growth == Growth(pytest.approx(0.25), 0.5, 100, ahead=1)
    assert imported(tmp_path, attention__temperature_scale=0.0).growth is None


def test_a_chunk_that_nothing_leaves_is_none(tmp_path: Path) -> None:
    model = imported(tmp_path, context_length=8192)
    assert [(a.window, a.chunked, a.rotary_size) for a in attentions(model)] == [(None, False, 16)] * 3 + [(None, False, 0)]


def test_the_model_with_128_experts_has_no_head_norms(tmp_path: Path) -> None:
    """Llama.cpp goes by their number, too."""
    assert {a.head_norm for a in attentions(imported(tmp_path, experts=128))} == {None}
    stated = imported(tmp_path, experts=128, use_qk_norm=True)
    assert [a.head_norm for a in attentions(stated)] == [HeadNorm.PLAIN_ROTATED_HEAD] * 3 + [None]


@pytest.mark.parametrize("window", [0, 4096])
def test_windows_that_are_no_chunks_are_refused(window: int, tmp_path: Path) -> None:
    text = f"llama4.attention.sliding_window in its header is {window}, and 8192 is expected"
    with pytest.raises(ModelError, match=re.escape(text)):
        imported(tmp_path, attention__sliding_window=window)
