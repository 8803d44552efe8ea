"""The longest context is the last one that can be laid out, whatever the model, the build, the batch and the memory."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tailrace.benchmark.models import imported_shape
from tailrace.gguf.describe import ImportedModel, import_model
from tailrace.gguf.file import open_model
from tailrace.image.builds import lay_out
from tailrace.image.geometry import Geometry
from tailrace.image.image import ImageRequest
from tailrace.image.kinds import kinds_of_layers, one_of_each
from tailrace.image.layout import fits, layout_of, longest_context
from tailrace.models.published import PUBLISHED
from tailrace.spec.attention import CHUNK
from tailrace.spec.config import CONFIGS, Config
from tailrace.spec.errors import LimitError
from verification.unit.host.tiny_models import write_model

TRAINED = 1 << 15


def drawn_model(path: Path, rng: np.random.Generator) -> ImportedModel:
    """A model of any shape; qwen2 has biases, qwen3 norms of heads, and one layer may have another format."""
    architecture = str(rng.choice(["llama", "qwen2", "qwen3"]))
    kv_heads, group, head_size = (int(n) for n in (rng.integers(1, 5), rng.integers(1, 5), rng.choice([32, 64, 96])))
    types = {"blk.1.ffn_gate.weight": "Q4_0"} if rng.integers(2) else {}
    write_model(
        path, architecture, hidden=32 * int(rng.integers(1, 17)), heads=kv_heads * group, kv_heads=kv_heads, head_size=head_size,
        feed_forward=32 * int(rng.integers(1, 33)), layers=3, context=TRAINED, types=types, tied=bool(rng.integers(2)),
    )  # fmt: skip
    return import_model(open_model(path), 64)


def drawn_build(rng: np.random.Generator) -> Config:
    sides = int(rng.choice([1, 2, 4]))
    blocks, entries = 1 << int(rng.integers(6, 10)), 1 << int(rng.integers(11, 15))
    return Config("drawn", int(rng.choice([128, 256, 512])), sides, blocks, entries)


@pytest.mark.parametrize("n", range(12))
def test_the_longest_context_is_the_last_one(n: int, seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng([seed, n])
    model, config = drawn_model(tmp_path / "m.gguf", rng), drawn_build(rng)
    geometry = Geometry.of_config(config)
    request = ImageRequest(int(rng.integers(1, config.right_hand_sides + 1)), bool(rng.integers(2)))
    longest = longest_context(model, geometry, request)
    assert longest % 64 == 0
    # A build that has room for a chunk of attention takes any context.
    assert longest < CHUNK or longest == TRAINED
    for context in {longest, int(rng.integers(1, longest + 1))} if longest else ():
        lay_out(model.at(context), geometry, request)
    if longest == TRAINED:
        return
    with pytest.raises(LimitError) as caught:
        lay_out(model.at(longest + 1), geometry, request)
    whose = f" for a batch of {request.batch}" if request.batch > 1 else ""
    assert (f"The longest context of this model on this device{whose} is {longest} tokens" in str(caught.value)) == (
        longest > 0
    )


@pytest.mark.parametrize("n", range(2))
def test_memory_limits_the_context_too(n: int, seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng([seed, n])
    model = drawn_model(tmp_path / "m.gguf", rng)
    geometry, request = Geometry.of_config(Config("roomy", 128, 1, 4096, 65536)), ImageRequest()
    most = layout_of(model.at(int(rng.integers(1000, 2000))), geometry, request).size + int(rng.integers(0, 10_000))
    longest = longest_context(model, geometry, request, most)
    assert lay_out(model.at(longest), geometry, request, most).size <= most
    with pytest.raises(LimitError, match=f"or ask for a context of up to {longest} tokens with --context$"):
        lay_out(model.at(longest + 1), geometry, request, most)
    with pytest.raises(LimitError, match="or choose a smaller model$"):
        lay_out(model.at(64), geometry, request, 1 << 10)


def test_no_context_is_longer_than_the_trained_one(tmp_path: Path) -> None:
    model = import_model(open_model(write_model(tmp_path / "m.gguf", context=100)), 7)
    geometry = Geometry.of_config(Config("small", 128, 1, 128, 4096))
    assert longest_context(model, geometry, ImageRequest()) == 100
    lay_out(model.at(100), geometry, ImageRequest())


def test_one_layer_of_each_kind_is_enough(tmp_path: Path) -> None:
    types = {"blk.2.ffn_up.weight": "Q4_0", "blk.4.ffn_up.weight": "Q4_0"}
    model = import_model(open_model(write_model(tmp_path / "m.gguf", layers=6, types=types)), 64)
    formats = {role: source.tensor.type_name for role, source in model.matrices.items()}
    assert kinds_of_layers(model, formats) == [[0, 1, 3, 5], [2, 4]]
    small = one_of_each(model)
    assert len(small.description.layers) == 2
    assert small.matrices["layers.1.up"] == model.matrices["layers.2.up"]
    assert small.matrices.keys() == {
        r for r in model.matrices if not r.startswith(("layers.2", "layers.3", "layers.4", "layers.5"))
    }
    for entries in (1024, 2048):
        geometry = Geometry.of_config(Config("small", 128, 1, 64, entries))
        for context in (64, 256, 1024):
            wanted = replace(model, context=context)
            try:
                layout_of(wanted, geometry, ImageRequest())
            except LimitError:
                assert not fits(wanted, geometry, ImageRequest())
            else:
                assert fits(wanted, geometry, ImageRequest())


def test_sliding_windows_reach_so_far() -> None:
    """Where every layer has a window, the buffer sets no limit; the register with the row does."""
    phi = next(shape for shape in PUBLISHED if shape.name == "Phi-3-mini-4k")
    model, geometry = imported_shape(replace(phi, context=1 << 18), 1 << 18, 1), Geometry.of_config(CONFIGS["wide"])
    assert longest_context(model, geometry, ImageRequest()) == 1 << 17
    with pytest.raises(
        LimitError, match="^programs with sliding windows reach 131072 tokens, and 262144 were asked for. The longest"
    ):
        lay_out(model, geometry, ImageRequest())
