"""Golden and the gateware, byte for byte, where a layer of the model drafts, and the drafts are verified."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailrace.gguf.describe import import_model
from tailrace.gguf.file import open_model
from verification.system.twins import Twins

pytest.importorskip("transformers")
from verification.unit.host.draft_layers import make_drafting

SEED, MEMORY = 5, 1 << 23
MODELS: dict[str, dict[str, Any]] = {"qwen35": {"rotary": 0.5}, "qwen35moe": {"rotary": 0.5}}


@pytest.mark.slow
@pytest.mark.parametrize("stalls", [{}, {"stall_seed": 3, "stall_probability": 0.2}], ids=["prompt", "stalls"])
@pytest.mark.parametrize("build", ["base,bus_width=256,right_hand_sides=2", "wide"])
@pytest.mark.parametrize("model", MODELS)
def test_a_layer_that_drafts_leaves_the_same_bytes(model: str, build: str, stalls: dict[str, Any], tmp_path: Path) -> None:
    """Behind a prompt: drafts that follow each other, and a pass that takes as many of them as it has rows."""
    path = tmp_path / "model.gguf"
    make_drafting(path, model, seed=SEED, context=96, **MODELS[model])
    tokens = [int(t) for t in np.random.default_rng(SEED).integers(0, 301, 12)]
    with Twins(import_model(open_model(path), drafts=True), build, MEMORY, gateware=stalls) as both:
        both.prefill(tokens[:-1])
        token = tokens[-1]
        for _ in range(3):
            position, said = both.decoders[0].positions[0], [token]
            for ahead in range(both.decoders[0].reversible() - 1):
                said.append(int(both.draft(said[-1], position + ahead).argmax()))
            token = int(both.take(said, "logits", 1)[0].argmax())
        both.check_memory()
