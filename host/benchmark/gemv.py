"""Cycles of one large product in each format and bus width."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tailrace.sim.devices import open_device
from tailrace.spec.config import BUS_WIDTHS, parse_config
from tailrace.spec.formats import HOLDERS, Q8_0X3, WEIGHT_FORMATS, Format

from ..device.counters import Counters
from ..device.driver import Device
from ..device.products import upload
from ..gguf.blocks import Bytes, random_blocks

#: Whatever a matrix of a model may be in.
MATRIX_FORMATS: tuple[Format, ...] = (*WEIGHT_FORMATS, Q8_0X3, *HOLDERS)
#: Distinct rows of the random matrix; the matrix repeats them. Cycles do not depend on values.
_DISTINCT_ROWS = 64


@dataclass(frozen=True)
class Product:
    """A measured product.

    Attributes
    ----------
    format : Format
    bus_width : int
    vectors : int
        Vectors that the matrix was multiplied with, in one pass.
    rows, columns : int
    counters : Counters
        From the doorbell until the last result was written.
    seconds : float
        Wall-clock time of the run on this machine.
    """

    format: Format
    bus_width: int
    vectors: int
    rows: int
    columns: int
    counters: Counters
    seconds: float

    @property
    def utilisation(self) -> float:
        """Bytes of the matrix in its format over bus bytes in all cycles."""
        return self.counters.model_utilisation(self.bus_width // 8)

    @property
    def products_per_second(self) -> float:
        """Products of a weight and an element that the simulator makes in a second of this machine."""
        return self.vectors * self.rows * self.columns / self.seconds


def _matrix(rng: np.random.Generator, fmt: Format, rows: int, columns: int) -> Bytes:
    """A random matrix whose rows repeat themselves, so that it is made in no time."""
    distinct = random_blocks(rng, fmt, min(rows, _DISTINCT_ROWS), columns)
    return np.resize(distinct, (rows, fmt.row_bytes(columns)))


def measure_products(
    rows: int,
    columns: int,
    *,
    config: str = "base",
    latency: int = 100,
    bus_widths: Sequence[int] = BUS_WIDTHS,
    formats: Sequence[Format] = MATRIX_FORMATS,
    seed: int = 1,
) -> Iterator[Product]:
    """Measure one product in each format and bus width on the Verilated device, with a vector in each slot.

    Parameters
    ----------
    rows, columns : int
        Columns are a multiple of 256, which rows of every format can have.
    config : str
        Configuration; the bus width is replaced.
    latency : int
        Cycles of the simulated memory, which otherwise answers a beat in every cycle.
    bus_widths : sequence of int
    formats : sequence of Format
    seed : int

    Yields
    ------
    Product
    """
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((parse_config(config).right_hand_sides, columns), dtype=np.float32)
    for width in bus_widths:
        memory = (8 << 20) + 2 * rows * sum(fmt.row_bytes(columns) for fmt in formats)
        transport = open_device(
            "verilator", parse_config(f"{config},bus_width={width}"), -(-memory // 4096) * 4096, latency=latency
        )
        with Device(transport) as device:
            for fmt in formats:
                matrix = upload(device, fmt.name, fmt, _matrix(rng, fmt, rows, columns))
                before, start = device.counters, time.perf_counter()
                matrix.multiply(x)
                yield Product(fmt, width, len(x), rows, columns, device.counters - before, time.perf_counter() - start)
