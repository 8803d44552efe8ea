"""Compares products with the golden model's, bit for bit."""

import numpy as np
from numpy.typing import NDArray

from tailrace.golden.device import GoldenDevice
from tailrace.spec.formats import BLOCK, Format

from ..device.driver import Device
from ..device.products import Matrix, stream_bytes, upload, workspace_bytes
from ..gguf.blocks import random_blocks
from .examination import Examination, Fault
from .identity import config_of

#: Rows and blocks of the file in a row of the small products: neither is a multiple of what the device works on at once.
_ROWS, _BLOCKS = 37, 3
#: Rows and elements of a row of the large product, at most.
_LARGE = (1024, 2048)
#: Seconds that its upload may take.
_SECONDS = 10.0
_GOLDEN_MEMORY = 1 << 26


def check_products(examination: Examination) -> str:
    """Multiply a small matrix in each format, and a large one, and compare with golden."""
    device = examination.driver
    golden = Device(GoldenDevice(config_of(examination, device.geometry), _GOLDEN_MEMORY))
    random = np.random.default_rng([examination.seed, 2])
    formats = device.geometry.readable
    names = []
    for n, fmt in enumerate(formats):
        examination.progress(f"product in {fmt.name}", n / (len(formats) + 1))
        columns = _BLOCKS * fmt.file_elements
        if columns > device.geometry.max_blocks * BLOCK or not _fits(device, fmt, _ROWS, columns):
            continue
        _compare(examination, golden, fmt, _ROWS, columns, random)
        names.append(fmt.name)
    if not names:
        raise Fault("no product fits the device's memory", "give the device more memory: 64 KiB is the least")
    examination.progress("a large product", len(formats) / (len(formats) + 1))
    fmt = formats[0]
    rows, columns = _large(examination, fmt)
    before = device.counters
    _compare(examination, golden, fmt, rows, columns, random)
    used = device.counters - before
    bandwidth = _bandwidth(examination, used.read_beats, used.cycles)
    return f"{len(names)} formats and {rows} x {columns} in {fmt.name} equal golden; {bandwidth}"


def _large(examination: Examination, fmt: Format) -> tuple[int, int]:
    """Rows and columns of the large product: as much as the link carries in reasonable time, and the memory holds."""
    device = examination.driver
    rows, columns = _LARGE[0], min(_LARGE[1], device.geometry.max_blocks * BLOCK)
    while rows > _ROWS and (
        rows * fmt.row_bytes(columns) > examination.rate * _SECONDS or not _fits(device, fmt, rows, columns)
    ):
        rows, columns = (rows // 2, columns) if rows >= columns else (rows, columns // 2)
    return rows, columns


def _fits(device: Device, fmt: Format, rows: int, columns: int) -> bool:
    needed = stream_bytes(device.geometry, fmt, rows, columns) + workspace_bytes(device.geometry, [rows], columns, 1) + 4096
    return needed <= device.free_memory


def _compare(
    examination: Examination, golden: Device, fmt: Format, rows: int, columns: int, random: np.random.Generator
) -> None:
    blocks = random_blocks(random, fmt, rows, columns)
    x = random.standard_normal((1, columns)).astype(np.float32)
    with examination.driver.temporary(), golden.temporary():
        matrix, reference = (upload(device, f"a matrix in {fmt.name}", fmt, blocks) for device in (examination.driver, golden))
        found, expected = matrix.multiply(x), reference.multiply(x)
        wrong = np.flatnonzero(found.view(np.uint32)[0] != expected.view(np.uint32)[0])
        if not wrong.size:
            return
        row = int(wrong[0])
        raise Fault(
            f"{fmt.name}, {rows} x {columns}: {wrong.size} rows differ from golden, the first is {row}:"
            f" {found[0, row]:.9g}, not {expected[0, row]:.9g} (seed {examination.seed})",
            _advice(matrix, x, found, wrong, rows),
        )


def _advice(matrix: Matrix, x: NDArray[np.float32], found: NDArray[np.float32], wrong: NDArray[np.intp], rows: int) -> str:
    timing = "check the design's timing report, lower its clock, and check supply and temperature"
    if not np.array_equal(matrix.multiply(x).view(np.uint32), found.view(np.uint32)):
        return f"the result changes from run to run: {timing}"
    lanes = matrix.device.geometry.lanes
    bad = sorted({int(r) % lanes for r in wrong})
    if lanes > 1 and len(bad) < lanes:
        return (
            f"only rows of lane {', '.join(map(str, bad))} of {lanes} are wrong, always the same: {timing}; else build it again"
        )
    if wrong.size == rows:
        return f"all rows are wrong, always the same: read the matrix back to see whether the memory has it; {timing}"
    return f"always the same rows are wrong: {timing}; if they stay wrong at a low clock, report the seed"


def _bandwidth(examination: Examination, beats: int, cycles: int) -> str:
    if not cycles:
        return "it counts no cycles"
    text = f"{beats / cycles:.3f} beats per cycle"
    if examination.clock:
        rate = beats * examination.driver.geometry.beat_bytes * examination.clock / cycles
        text += f", {rate:,.0f} MB/s at {examination.clock:g} MHz"
    return text
