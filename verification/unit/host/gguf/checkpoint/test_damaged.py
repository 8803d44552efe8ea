"""Folders that are not complete, not sound, or not known here: what is said of them."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailrace.gguf.file import open_model
from tailrace.spec.errors import ModelError

CONFIG: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
    "intermediate_size": 64, "max_position_embeddings": 64, "vocab_size": 16, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    "hidden_act": "silu", "tie_word_embeddings": True,
}  # fmt: skip
SHAPES = {
    "model.embed_tokens": (16, 32), "model.norm": (32,), "model.layers.0.input_layernorm": (32,),
    "model.layers.0.post_attention_layernorm": (32,), "model.layers.0.self_attn.q_proj": (32, 32),
    "model.layers.0.self_attn.k_proj": (16, 32), "model.layers.0.self_attn.v_proj": (16, 32),
    "model.layers.0.self_attn.o_proj": (32, 32), "model.layers.0.mlp.gate_proj": (64, 32),
    "model.layers.0.mlp.up_proj": (64, 32), "model.layers.0.mlp.down_proj": (32, 64),
}  # fmt: skip
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def header() -> dict[str, Any]:
    found, offset = {}, 0
    for name, shape in SHAPES.items():
        size = 4 * int(np.prod(shape))
        found[f"{name}.weight"] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    return found


def write(folder: Path, change: Callable[[dict[str, Any]], object] = lambda entries: None, **config: Any) -> Path:
    """A whole model; `change` changes the header of its tensors, `config` its configuration."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    entries = header()
    size = max(entry["data_offsets"][1] for entry in entries.values())
    change(entries)
    text = json.dumps(entries).encode()
    (folder / SINGLE).write_bytes(len(text).to_bytes(8, "little") + text + bytes(size))
    return folder


def refuses(folder: Path, text: str) -> None:
    with pytest.raises(ModelError, match=re.escape(text)):
        open_model(folder)


def test_it_is_whole(tmp_path: Path) -> None:
    assert open_model(write(tmp_path / "m")).layers == 1


_Q = "model.layers.0.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda e: e.pop(_Q), "it lacks blk.0.attn_q.weight"),
        (lambda e: e[_Q].update(shape=[32, 31]), f"{_Q} has 4096 bytes for its shape [32, 31]. Download it again."),
        (lambda e: e[_Q].update(shape=[1 << 60]), f"its header does not say what {_Q} is"),
        (lambda e: e[_Q].update(shape="32"), f"its header does not say what {_Q} is"),
        (lambda e: e[_Q].update(data_offsets=[0, -4096]), f"its header does not say what {_Q} is"),
        (lambda e: e[_Q].update(data_offsets=[0, 4096]), "overlap. Download it again."),
        (lambda e: e[_Q].update(data_offsets=[1 << 40, (1 << 40) + 4096]), f"is truncated: {_Q} ends at byte"),
        (lambda e: e[_Q].update(dtype="F128"), f"{_Q} has the type F128, which is not known here"),
        (lambda e: e[_Q].update(dtype="I32"), f"{_Q} has the type I32, and of plain numbers F32, F16, BF16 are known here"),
        (lambda e: e.update({"model.layers.0.odd\x1b": e.pop(_Q)}), "such as model.layers.0.odd\\x1b, so its results"),
    ],
)  # fmt: skip
def test_a_header_that_lies(change: Callable[[dict[str, Any]], object], text: str, tmp_path: Path) -> None:
    refuses(write(tmp_path / "m", change), text)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "is truncated: its header goes on after the end of the file. Download it again."),
        ((1 << 62).to_bytes(8, "little") + b"{}", "is truncated: its header goes on after the end of the file."),
        ((4).to_bytes(8, "little") + b"{{{{", "is corrupt: its header is not JSON. Download it again."),
        ((2).to_bytes(8, "little") + b"[]", "is corrupt: its header is no object. Download it again."),
        ((13).to_bytes(8, "little") + b'{"a":1,"a":2}', "is corrupt: its header has a name twice. Download it again."),
    ],
)
def test_a_file_that_is_none(data: bytes, text: str, tmp_path: Path) -> None:
    (write(tmp_path / "m") / SINGLE).write_bytes(data)
    refuses(tmp_path / "m", text)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"model_type": "mamba\x1b"}, "model_type is 'mamba\\x1b', and known in folders are"),
        ({"model_type": None}, "config.json can't be used: it lacks model_type"),
        ({"hidden_size": "32"}, 'hidden_size is "32", and a whole number from 1 to 16777216 is expected'),
        ({"hidden_act": "relu"}, "hidden_act is \"relu\", and 'silu' is expected"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "it scales RoPE with 'dynamic', which is not known here"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0, "odd": 3}}, "rope_scaling.odd is 3, and nothing, in RoPE of this kind"),
        ({"rope_scaling": 7}, "rope_scaling is 7, and an object is expected"),
        ({"odd": 0.5}, "odd is 0.5, and nothing, as in the other models of this family"),
        ({"layer_types": ["mamba"]}, "layer_types is [\"mamba\"], and an array of 'full_attention' and 'sliding_attention'"),
    ],
)  # fmt: skip
def test_a_configuration_that_is_not_understood(config: dict[str, Any], text: str, tmp_path: Path) -> None:
    refuses(write(tmp_path / "m", **config), text)


def test_what_changes_nothing_is_let_pass(tmp_path: Path) -> None:
    assert open_model(write(tmp_path / "m", odd=False, even=None, torch_dtype="float16", attention_dropout=0.1)).layers == 1


def test_files_are_missing(tmp_path: Path) -> None:
    folder = write(tmp_path / "m")
    (folder / SINGLE).rename(folder / "a.safetensors")
    assert open_model(folder).layers == 1
    (folder / "b.safetensors").write_bytes(b"")
    refuses(folder, f"has 2 safetensors files and lacks {INDEX}, which says what is in them: download that too")
    (folder / "a.safetensors").unlink(), (folder / "b.safetensors").unlink()
    refuses(folder, f"lacks {SINGLE}: download all files of the model into one folder")
    (folder / "pytorch_model.bin").write_bytes(b"")
    refuses(folder, "has its weights as PyTorch pickles, which can run anything when they are read: save it with")
    (folder / "config.json").write_text("{")
    refuses(folder, "config.json is corrupt: it is not JSON. Download it again.")


@pytest.mark.parametrize(
    ("places", "text"),
    [
        ({"a": "x.safetensors", "b": "y.safetensors"}, "lacks x.safetensors and 1 more, which model.safetensors.index.json speaks of"),
        ({"a": SINGLE}, "lacks a, which model.safetensors.index.json says is in it: download it again"),
        ({"a": "../m.safetensors"}, "is corrupt: it names m.safetensors, which is not in its folder"),
        ({}, "lacks model.safetensors, which model.safetensors.index.json speaks of"),
        ({"a": 3}, "weight_map.a is 3, and a text is expected"),
    ],
)  # fmt: skip
def test_an_index_that_lies(places: dict[str, Any], text: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "m")
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    refuses(folder, text)
