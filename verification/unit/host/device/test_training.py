"""Simulations that are compiled for long runs."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tailrace.device import training
from tailrace.device.decoder import Decoder
from tailrace.device.driver import Device
from tailrace.device.training import optimised_simulation
from tailrace.gguf.describe import import_model
from tailrace.gguf.file import open_model
from tailrace.image.builds import choose
from tailrace.image.image import ImageRequest
from tailrace.models.fetch import resolve_model
from tailrace.sim.build import build_device
from tailrace.sim.verilated import VerilatedDevice
from tailrace.spec.config import parse_config
from tailrace.spec.errors import ToolError


@pytest.mark.slow
def test_the_same_bits_and_cycles() -> None:
    """Compiled with counts of its own run, and as always."""
    config = parse_config("tiny")
    model = import_model(open_model(resolve_model("shakespeare")), 4)
    memory = choose(model, ImageRequest(1, False), "tiny", simulated=True).memory
    found = []
    libraries = optimised_simulation(config), build_device(config)
    assert libraries[0] != libraries[1]
    assert optimised_simulation(config) == libraries[0]
    for library in libraries:
        with Device(VerilatedDevice(config, memory, library=library)) as device:
            decoder = Decoder(device, model)
            found.append(([decoder.step([token]) for token in (5, 9)], device.counters))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]


def test_what_does_not_run_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: dict[str, partial[None]] = {}
    monkeypatch.setattr(training, "build_device", lambda config, **options: trained.update(options) or tmp_path)
    assert optimised_simulation(parse_config("tiny")) == tmp_path
    with pytest.raises(ToolError) as error:
        trained["train"](tmp_path / "nothing.so", {})
    assert str(error.value).startswith("a simulation that was to be measured did not decode a token: ")
    assert "nothing.so" in str(error.value)
