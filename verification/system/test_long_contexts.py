"""Golden and the gateware, byte for byte, in contexts of several chunks, which are 256 tokens here."""

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
from verification.unit.host.device.test_long_contexts import shorten
from verification.unit.host.transformers_models import make_model

SEED, MEMORY, LENGTH, CONTEXT = 17, 1 << 23, 256, 640
#: Groups of heads; capped scores, and windows of several chunks; sinks; a latent.
MODELS: dict[str, dict[str, Any]] = {
    "llama": {}, "gemma2": {"window": 300, "layers": 2, "hidden": 128}, "gpt-oss": {"window": 40, "layers": 2}, "deepseek2": {},
}  # fmt: skip
STALLS: dict[str, dict[str, Any]] = {"prompt": {}, "stalls": {"stall_seed": 3, "stall_probability": 0.2}}


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("stalls", STALLS)
@pytest.mark.parametrize("build", ["base", "wide"])
def test_chunks_leave_the_same_bytes(
    model: str, build: str, stalls: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Passes before the end of a chunk, over it, and behind it; a step in the third one."""
    shorten(monkeypatch, LENGTH, LENGTH // 2)
    path = tmp_path / "model.gguf"
    make_model(path, model, seed=SEED, context=CONTEXT, **MODELS[model])
    imported = import_model(open_model(path))
    tokens = [int(t) for t in np.random.default_rng(SEED).integers(0, 301, CONTEXT)]
    ahead = Decoder(Device(open_device("emulator", parse_config(build), MEMORY)), imported)
    with Twins(imported, build, MEMORY, gateware=STALLS[stalls]) as both:
        for start, end in ((LENGTH - 3, LENGTH + 3), (2 * LENGTH - 2, 2 * LENGTH + 4)):
            ahead.prefill(tokens[ahead.positions[0] : start])
            for decoder in both.decoders:
                decoder.restore(ahead.snapshot())
            both.prefill(tokens[start:end])
            both.step(tokens[end])
            both.check_memory()
        assert both.decoders[0].programs.most_tokens == CONTEXT
