"""How fast the simulator decodes: whole decode steps of a model."""

import time
from dataclasses import dataclass

from tailrace.sim.devices import open_device
from tailrace.spec.config import parse_config

from ..device.counters import Counters
from ..device.decoder import Decoder
from ..device.driver import Device
from ..gguf.describe import import_model
from ..gguf.file import open_model

#: Positions for which there is room.
_CONTEXT = 64


@dataclass(frozen=True)
class Speed:
    """What decode steps took.

    Attributes
    ----------
    config : str
    threads : int
        Threads of the simulation.
    tokens : int
    counters : Counters
        Of all tokens.
    seconds : float
        Wall-clock time on this machine, the driver's own work included.
    """

    config: str
    threads: int
    tokens: int
    counters: Counters
    seconds: float


def measure_speed(
    path: str, config: str, *, memory_size: int, latency: int = 100, threads: int = 1, tokens: int = 2, first: int = 1
) -> Speed:
    """Decode a few tokens on the Verilated device, each with one doorbell.

    Parameters
    ----------
    path : str
        GGUF file.
    config : str
    memory_size : int
        Bytes of device memory.
    latency : int
        Cycles of the simulated memory.
    threads : int
        Threads of the simulation.
    tokens : int
    first : int
        The first token; each next one is the best.

    Raises
    ------
    ModelError, LimitError
        If the model does not run on this build.
    """
    imported = import_model(open_model(path), _CONTEXT)
    transport = open_device("verilator", parse_config(config), memory_size, latency=latency, threads=threads)
    with Device(transport) as device:
        decoder = Decoder(device, imported)
        token, start = first, time.perf_counter()
        for _ in range(tokens):
            token = int(decoder.step(token).argmax())
        seconds = time.perf_counter() - start
        return Speed(config, threads, tokens, device.counters, seconds)
