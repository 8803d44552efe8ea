"""Golden and the gateware, byte for byte, where layers keep states: from an empty list, and over a fold."""

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
from tailrace.spec.linear_attention import FOLD
from verification.system.twins import Twins

pytest.importorskip("transformers")
from verification.unit.host.transformers_models import make_model

SEED = 7
MEMORY = 1 << 23
BUILDS = [
    "base",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("base,right_hand_sides=4", "base,bus_width=512", "wide")),
]
STALLS: dict[str, dict[str, Any]] = {"prompt": {}, "stalls": {"stall_seed": 3, "stall_probability": 0.2}}


@pytest.mark.parametrize(
    "architecture",
    [
        "qwen35",
        "lfm2",
        pytest.param("granitehybrid", marks=pytest.mark.slow),
        pytest.param("falcon-h1", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("stalls", STALLS)
@pytest.mark.parametrize("build", BUILDS)
def test_same_bytes_over_a_fold(architecture: str, build: str, stalls: str, tmp_path: Path) -> None:
    """The first fold, the second one, and the tokens around them; a run of tokens that goes over a fold."""
    path = tmp_path / "model.gguf"
    make_model(path, architecture, seed=SEED, context=192)
    imported = import_model(open_model(path))
    tokens = [int(t) for t in np.random.default_rng(SEED).integers(0, 301, 2 * FOLD)]
    options: dict[str, Any] = {"tokens_per_doorbell": 4}
    ahead = Decoder(Device(open_device("emulator", parse_config(build), MEMORY)), imported, **options)
    with Twins(imported, build, MEMORY, gateware=STALLS[stalls], **options) as both:
        both.step(tokens[0])
        for first in (FOLD - 1, 2 * FOLD - 1):
            ahead.prefill(tokens[ahead.positions[0] : first])
            for decoder in both.decoders:
                decoder.restore(ahead.snapshot())
            both.run(tokens[first], 3)
            both.check_memory()
