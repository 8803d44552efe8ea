"""Golden and the gateware, byte for byte, where passes take several tokens of a sequence: of a prompt, or drafts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailrace.device.decoder import Decoder
from tailrace.device.driver import Device
from tailrace.gguf.describe import import_model
from tailrace.gguf.file import open_model
from tailrace.sim.devices import open_device
from tailrace.spec.config import parse_config
from verification.system.twins import Twins

pytest.importorskip("transformers")
from verification.unit.host.transformers_models import make_model

SEED = 9
MEMORY = 1 << 23
#: A softmax over all tokens, windows that have closed, chunks, a state with its list, and a convolution.
MODELS: dict[str, dict[str, Any]] = {
    "llama": {}, "gpt-oss": {"window": 11, "layers": 2}, "llama4": {"window": 11, "period": 9}, "qwen35": {}, "lfm2": {},
}  # fmt: skip
STALLS: dict[str, dict[str, Any]] = {"prompt": {}, "stalls": {"stall_seed": 3, "stall_probability": 0.2}}


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("stalls", STALLS)
@pytest.mark.parametrize(
    "build",
    [
        "large,vector_width=4,right_hand_sides=4",
        "base,bus_width=256,right_hand_sides=2",
        "wide",
        "base,bus_width=256,right_hand_sides=8",
    ],
)
def test_prompts_leave_the_same_bytes(model: str, build: str, stalls: str, tmp_path: Path) -> None:
    """From the first token on, and in the middle of a text; passes of every number of rows, and a token behind them."""
    path = tmp_path / "model.gguf"
    make_model(path, model, seed=SEED, context=192, **MODELS[model])
    imported = import_model(open_model(path))
    tokens = [int(t) for t in np.random.default_rng(SEED).integers(0, 301, 72)]
    ahead = Decoder(Device(open_device("emulator", parse_config(build), MEMORY)), imported)
    ahead.prefill(tokens[:37])
    with Twins(imported, build, MEMORY, gateware=STALLS[stalls]) as both:
        assert both.decoders[0].programs.most_rows == parse_config(build).right_hand_sides
        both.prefill(tokens[:7])
        both.step(tokens[7])
        for decoder in both.decoders:
            decoder.restore(ahead.snapshot())
        both.prefill(tokens[37:43])
        both.step(tokens[43])
        both.check_memory()
        ahead.prefill(tokens[37:44])
        # Drafts of which all, or the first only, are right.
        for kind in ("logits", "tokens"):
            for all_right in (True, False):
                position, rows = both.decoders[0].positions[0], both.decoders[0].reversible()
                right = rows if all_right else 1
                found = both.take([*tokens[position : position + right], *[7] * (rows - right)], kind, right)
                expected = [ahead.step(token) for token in tokens[position : position + right]]
                if kind == "tokens":
                    expected = [logits.argmax() for logits in expected]
                assert np.array_equal(found[:right], expected)
        both.check_memory()
