"""Layers that draft in GGUF files: what is described, and which are left out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailrace.command.inspect import describe
from tailrace.firmware.description import LastHidden
from tailrace.gguf.describe import DescribedModel, ImportedModel, import_model, with_or_without_drafts
from tailrace.gguf.file import open_model
from tailrace.spec.errors import LimitError, ModelError
from verification.unit.host.small_shapes import QWEN3NEXT, QWEN3NEXT_HEADER, write

#: A layer of linear attention, one of attention, and one that drafts.
HEADER = QWEN3NEXT_HEADER | {"block_count": 3, "nextn_predict_layers": 1}
NEXTN: dict[str, tuple[int, ...]] = {
    "eh_proj": (64, 128), "enorm": (64,), "hnorm": (64,), "shared_head_norm": (64,),
}  # fmt: skip


def shapes(**nextn: tuple[int, ...] | None) -> dict[str, tuple[int, ...]]:
    """Tensors of the file; None: it lacks one of those that make a layer draft."""
    found = {name.replace("{n}", "0"): shape for name, shape in QWEN3NEXT.items()}
    for n in (1, 2):
        found |= {
            name.replace("{n}", str(n)): shape for name, shape in QWEN3NEXT.items() if "{n}" in name and "ssm" not in name
        }
        found |= {f"blk.{n}.attn_{part}.weight": (64, 64) for part in ("k", "v", "output")}
        found |= {f"blk.{n}.attn_q.weight": (128, 64), **{f"blk.{n}.attn_{part}_norm.weight": (16,) for part in "qk"}}
    kept = {name: shape for name, shape in (NEXTN | nextn).items() if shape is not None}
    return found | {f"blk.2.nextn.{name}.weight": shape for name, shape in kept.items()}


def imported(path: Path, header: dict[str, Any] | None = None, drafts: bool = True, **nextn: Any) -> ImportedModel:
    file = write(path / "m.gguf", "qwen3next", HEADER if header is None else header, shapes(**nextn))
    return import_model(open_model(file), 32, drafts=drafts)


def test_it_is_described(tmp_path: Path) -> None:
    model = imported(tmp_path)
    drafts = model.description.draft_layer
    assert drafts is not None
    assert drafts.layer == model.description.layers[1]
    assert drafts.vocabulary == model.description.vocabulary == 40
    assert [mixer for _, mixer in model.description.mixers[2:]] == [drafts.layer.attention, LastHidden()]
    for role, name in (
        ("layers.2.embedding_norm", "nextn.enorm"), ("layers.2.hidden_norm", "nextn.hnorm"),
        ("layers.2.head_norm", "nextn.shared_head_norm"), ("layers.2.attention_norm", "attn_norm"),
    ):  # fmt: skip
        expected = model.model.tensors[f"blk.2.{name}.weight"].dequantised()
        assert np.array_equal(model.tables[role].numbers(), expected), role
    merge = model.model.tensors["blk.2.nextn.eh_proj.weight"].dequantised()
    assert np.array_equal(model.matrices["layers.2.merge"].numbers(), merge)
    assert any("layer 2 drafts (multi-token prediction) the first 40 tokens" in line for line in describe(model))
    assert model.at(16).description == model.description


def test_without_a_norm_of_its_own_it_takes_the_models(tmp_path: Path) -> None:
    model = imported(tmp_path, shared_head_norm=None)
    assert np.array_equal(model.tables["layers.2.head_norm"].numbers(), model.tables["final_norm"].numbers())


@pytest.mark.parametrize(
    "changes",
    [{"drafts": False}, {"eh_proj": None}, {"hnorm": None}, {"embed_tokens": (40, 64)}, {"shared_head_head": (40, 64)}],
    ids=str,
)
def test_it_is_left_out(changes: dict[str, Any], tmp_path: Path) -> None:
    """Where nobody asks for it, or it is of a kind that is not known."""
    model = imported(tmp_path, **changes)
    assert model.description.draft_layer is None
    assert not any("layers.2." in role for role in (*model.matrices, *model.tables))
    assert not any("drafts" in line for line in describe(model))


def test_the_same_without(tmp_path: Path) -> None:
    model, plain = imported(tmp_path), imported(tmp_path, drafts=False)
    less = model.without_drafts()
    assert less.description == plain.description
    assert (less.matrices.keys(), less.tables.keys()) == (plain.matrices.keys(), plain.tables.keys())
    assert plain.without_drafts() is plain
    # Files with sessions tell models by this.
    assert repr(model.description) == repr(plain.description)


def test_it_must_be_whole(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="its header speaks of 64 x 128"):
        imported(tmp_path, eh_proj=(64, 64))


def test_where_there_is_no_room_for_it(tmp_path: Path) -> None:
    model = imported(tmp_path)

    def use(one: DescribedModel) -> int:
        if one.description.draft_layer is not None or one.context < 32:
            raise LimitError("no room")
        return len(one.matrices)

    less, found = with_or_without_drafts(model, use)
    assert less.description.draft_layer is None
    assert found == len(less.matrices)
    with pytest.raises(LimitError, match="^no room$"):
        with_or_without_drafts(model.at(16), use)
    with pytest.raises(LimitError, match="^no room$"):
        with_or_without_drafts(model.at(16).without_drafts(), use)
