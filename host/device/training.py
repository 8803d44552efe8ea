"""Simulations that are compiled for long runs: first one decodes a token of the model that comes along, and is measured."""

import os
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from tailrace.sim.build import build_device
from tailrace.sim.verilated import VerilatedDevice
from tailrace.spec.config import Config
from tailrace.spec.errors import ToolError

from ..gguf.describe import import_model
from ..gguf.file import open_model
from ..image.builds import choose
from ..image.image import ImageRequest
from ..models.fetch import resolve_model
from .decoder import Decoder
from .driver import Device

#: Decoded tokens: what runs often is known after one.
_TOKENS = 2


def optimised_simulation(config: Config, *, trace: bool = False, probe: bool = False, threads: int = 1) -> Path:
    """Build the simulation of a configuration for long runs, or find it in the cache.

    It is compiled twice, so it takes twice as long to make, and is a tenth to a quarter faster than the one of
    `tailrace.sim.build.build_device`. Bits and cycles are the same.

    Parameters
    ----------
    config : Config
        One that `tailrace.spec.config.parse_config` has made of its name.
    trace, probe, threads
        See `tailrace.sim.build.build_device`.

    Returns
    -------
    Path
        The shared object, for `tailrace.sim.verilated.VerilatedDevice`.

    Raises
    ------
    ToolError
        If a tool is missing or fails.
    """
    return build_device(config, trace=trace, probe=probe, threads=threads, train=partial(_train, config.name, threads))


def _train(config: str, threads: int, library: Path, environment: Mapping[str, str]) -> None:
    command = [sys.executable, "-m", __name__, config, str(threads), str(library)]
    paths = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ended = subprocess.run(command, env={**os.environ, **paths, **environment}, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise ToolError(f"a simulation that was to be measured did not decode a token: {ended.stderr.strip()[-500:]}")


def decode_tokens(config: str, threads: int, library: Path) -> None:
    """Decode a few tokens with a simulation that was compiled for this configuration."""
    model = import_model(open_model(resolve_model("shakespeare")), _TOKENS)
    choice = choose(model, ImageRequest(1, False), config, simulated=True)
    with Device(VerilatedDevice(choice.config, choice.memory, threads=threads, library=library)) as device:
        decoder = Decoder(device, model)
        for token in range(_TOKENS):
            decoder.step([token])


if __name__ == "__main__":
    decode_tokens(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
