"""How fast the simulator decodes: the products of a model's decode step, without attention and norms."""

import time
from dataclasses import dataclass

import numpy as np

from tailrace.sim.devices import open_device
from tailrace.spec.config import parse_config

from ..counters import Counters
from ..driver import Device
from ..geometry import Geometry
from ..model import open_model
from ..plan import Place, make_plan


@dataclass(frozen=True)
class Speed:
    """What one decode step took.

    Attributes
    ----------
    config : str
    threads : int
        Threads of the simulation.
    weights : int
        Weights that were multiplied.
    counters : Counters
    seconds : float
        Wall-clock time on this machine, the driver's own work included.
    """

    config: str
    threads: int
    weights: int
    counters: Counters
    seconds: float


def measure_speed(path: str, config: str, *, memory_size: int, latency: int = 100, threads: int = 1, seed: int = 1) -> Speed:
    """Run every product of a decode step of a model once, on the Verilated device.

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
    seed : int
        Of the vectors.

    Raises
    ------
    ModelError, LimitError
        If the model does not run on this build.
    """
    parsed = parse_config(config)
    plan = make_plan(open_model(path), Geometry.of_config(parsed))
    plan.check(memory_size)
    rng = np.random.default_rng(seed)
    with Device(open_device("verilator", parsed, memory_size, latency=latency, threads=threads)) as device:
        matrices = []
        for placement in plan.placed(Place.DEVICE):
            assert placement.format is not None
            matrices.append(device.upload(placement.tensor.name, placement.format, placement.tensor.data))
        vectors = {m.columns: rng.standard_normal((1, m.columns), dtype=np.float32) for m in matrices}
        start = time.perf_counter()
        for matrix in matrices:
            device.multiply(matrix, vectors[matrix.columns])
        seconds = time.perf_counter() - start
        return Speed(config, threads, sum(m.rows * m.columns for m in matrices), device.counters, seconds)
