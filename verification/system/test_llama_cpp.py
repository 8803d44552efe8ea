"""Small models, decoded on golden and by llama.cpp: the same file means the same to both.

llama.cpp (from the package `cyllama`, where it is installed) rounds activations to 8 bits, which alone costs a divergence of
up to 4e-3. A variant of RoPE that is read wrongly costs a hundred times as much.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tailrace.device.decoder import Decoder
from tailrace.device.driver import Device
from tailrace.gguf.describe import import_model
from tailrace.gguf.file import open_model
from tailrace.sim.devices import open_device
from tailrace.spec.config import parse_config
from verification.llama_cpp_logits import in_llama_cpp
from verification.unit.host.architectures import ARCHITECTURES, SIZED_BY_HIDDEN
from verification.unit.host.references import divergence
from verification.unit.host.tiny_models import split, write_model

llama_cpp = pytest.importorskip("cyllama.llama.llama_cpp")

TOKENS = [int(t) for t in np.random.default_rng(1).integers(3, 260, 20)]
LIMIT = 1e-2
FREQUENCIES = {"rope_freqs.weight": np.linspace(1, 8, 16)}
LINEAR = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
YARN = {**LINEAR, "llama.rope.scaling.type": "yarn", "llama.rope.scaling.original_context_length": 16}


def on_golden(path: Path) -> NDArray[np.float32]:
    model = import_model(open_model(path), len(TOKENS))
    decoder = Decoder(Device(open_device("golden", parse_config("base"), 1 << 26)), model)
    return np.array([np.array(decoder.step(token)) for token in TOKENS])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"metadata": LINEAR},
        {"metadata": {"llama.rope.scale_linear": 4.0}},
        {"metadata": {**LINEAR, "llama.rope.scaling.type": "none"}},
        {"metadata": YARN},
        {"metadata": {**LINEAR, "llama.rope.scaling.attn_factor": 1.5}},
        {"extra": FREQUENCIES},
        {"extra": FREQUENCIES, "metadata": LINEAR},
        {"extra": FREQUENCIES, "metadata": YARN},
        {"extra": FREQUENCIES, "metadata": {**LINEAR, "llama.rope.scaling.type": "none"}},
        {"metadata": {"llama.attention.sliding_window": 8}},
        {"metadata": {"llama.attention.head_count": [2, 2], "llama.attention.head_count_kv": [1, 1]}},
        {"metadata": {"general.alignment": 128}},
    ],
)
def test_the_same_file_means_the_same(options: dict[str, Any], tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", **options)
    assert divergence(in_llama_cpp(path, TOKENS), on_golden(path)).mean() < LIMIT


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture(architecture: str, tmp_path: Path) -> None:
    """Random models of transformers, written as converters do: neither of the two that are compared has made them."""
    pytest.importorskip("transformers")
    from verification.unit.host.transformers_models import make_model

    # llama.cpp's Qwen 2, EXAONE 4, LFM2 and Nemotron have no other heads, and its caches for windows and for all tokens must not be empty.
    sizes = (
        {"head_size": 16}
        if architecture in (*SIZED_BY_HIDDEN, "qwen2", "qwen2vl", "qwen2moe", "exaone4", "lfm2", "lfm2moe", "nemotron")
        else {}
    )
    if architecture == "bailingmoe2":
        sizes["groups"] = 2
    if architecture in ("olmoe", "dots1"):
        # All of whose heads have keys of their own.
        sizes["kv_heads"] = 4
    if architecture == "deepseek2-lite":
        # To llama.cpp, queries are not compressed if there are 27 layers; mixtures in all of them would be undecided somewhere.
        sizes["dense"] = 26
    if architecture == "llama4":
        # To llama.cpp, every 4th layer sees all.
        sizes["every"] = 4
    layers = {"gemma3": 6, "gemma4": 6, "deepseek2-lite": 27}.get(architecture, 4)
    make_model(tmp_path / "m.gguf", architecture, layers=layers, **sizes)
    apart = divergence(in_llama_cpp(tmp_path / "m.gguf", TOKENS), on_golden(tmp_path / "m.gguf"))
    assert np.median(apart) < LIMIT, apart


def test_layers_may_differ(tmp_path: Path) -> None:
    """Llama.cpp takes such files under the name of DeciLM, which otherwise is a llama."""
    sizes: dict[str, Any] = {"heads": (2, 4), "kv_heads": (1, 2), "feed_forward": (96, 64)}
    ours, theirs = write_model(tmp_path / "a.gguf", **sizes), write_model(tmp_path / "b.gguf", "deci", **sizes)
    assert divergence(in_llama_cpp(theirs, TOKENS), on_golden(ours)).mean() < LIMIT


def test_models_in_parts(tmp_path: Path) -> None:
    parts = split(write_model(tmp_path / "whole.gguf"), tmp_path / "m", 3)
    assert divergence(in_llama_cpp(parts[0], TOKENS), on_golden(parts[1])).mean() < LIMIT


def test_version_2(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf")
    data = path.read_bytes()
    path.write_bytes(data[:4] + b"\x02" + data[5:])
    assert divergence(in_llama_cpp(path, TOKENS), on_golden(path)).mean() < LIMIT
