"""Finds out whether the memory keeps what is written to it, and whether each byte is a byte of its own."""

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .examination import Examination, Fault

_BLOCK = 4096
#: Bytes of a tag, by which an address is known.
_TAG = 4
#: Seconds that a pattern may take, and most blocks that it is written to.
_SECONDS, _MOST_BLOCKS = 2.0, 256
#: Least bytes of a measurement of bandwidth, the most, and the seconds that it should take.
_LEAST, _MOST, _MEASURE = 1 << 14, 1 << 25, 0.5

_LINES = "check the pins, the voltage and the timing of the memory's data lines, and whether its controller was calibrated"
_LOST = (
    "the memory or the way to it loses data: check the timing report of the design, the memory's refresh and calibration, and"
    " that nothing else writes to this memory"
)


def check_memory(examination: Examination) -> str:
    """Write patterns: to each data line, each address line, both ends, and blocks all over the memory."""
    link = examination.link
    size = link.memory_size
    width = 8 * examination.driver.geometry.beat_bytes
    start = time.monotonic()
    moved = _walk_data(examination, width)
    examination.rate = 2 * moved / max(time.monotonic() - start, 1e-6)
    lines = _walk_addresses(examination)
    wanted = int(examination.rate * _SECONDS / (2 * _BLOCK))
    count = max(min(wanted, _MOST_BLOCKS, size // _BLOCK), 1)
    length = min(_BLOCK, size)
    places = sorted({int(n) // _BLOCK * _BLOCK for n in np.linspace(0, size - length, count)} | {size - length})
    own = [np.arange(place // 4, (place + length) // 4, dtype=np.uint64).astype("<u4").view(np.uint8) for place in places]
    _write_and_compare(examination, "own addresses", places, own)
    random = np.random.default_rng(examination.seed)
    contents = [random.integers(0, 256, length, dtype=np.uint8) for _ in places]
    _write_and_compare(examination, f"random data of seed {examination.seed}", places, contents)
    return (
        f"{width} data lines, {lines} address lines, {len(places)} blocks of {length} bytes, both ends; seed {examination.seed}"
    )


def measure_bandwidth(examination: Examination) -> str:
    """Measure how fast the host writes and reads memory."""
    link = examination.link
    size = int(min(max(examination.rate * _MEASURE, _LEAST), _MOST, link.memory_size)) // 64 * 64
    data = np.random.default_rng(examination.seed + 1).integers(0, 256, size, dtype=np.uint8).tobytes()
    examination.progress("writing", 0.0)
    times = [time.perf_counter()]
    link.write(0, data)
    times.append(time.perf_counter())
    examination.progress("reading", 0.5)
    found = link.read(0, size)
    times.append(time.perf_counter())
    if found != data:
        wrong = int((np.frombuffer(found, np.uint8) != np.frombuffer(data, np.uint8)).sum())
        raise Fault(f"{wrong} of {size} bytes differ in a long transfer, though short ones were right", _LOST)
    written, read = (size / max(b - a, 1e-9) for a, b in zip(times, times[1:]))
    examination.rate = min(written, read)
    return f"{_speed(written)} written, {_speed(read)} read, with {size:,} bytes"


def _speed(rate: float) -> str:
    return f"{rate / 1e6:,.1f} MB/s" if rate >= 1e5 else f"{rate / 1e3:,.1f} kB/s"


def _walk_data(examination: Examination, width: int) -> int:
    """A one, then a zero, on each data line; returns the bytes written."""
    beats = np.zeros((width, width // 8), dtype=np.uint8)
    for line in range(width):
        beats[line, line // 8] = 1 << line % 8
    beats = beats[: examination.link.memory_size // (width // 8)]
    for pattern in (beats, ~beats):
        examination.link.write(0, pattern.tobytes())
        found = np.frombuffer(examination.link.read(0, pattern.size), dtype=np.uint8).reshape(pattern.shape)
        if (found == pattern).all():
            continue
        # A line that is stuck shows in all beats alike.
        low = np.bitwise_or.reduce(np.unpackbits(pattern & ~found, axis=1, bitorder="little"))
        high = np.bitwise_or.reduce(np.unpackbits(found & ~pattern, axis=1, bitorder="little"))
        if (low & high).sum() > width // 8 or (low | high).sum() > width // 4:
            raise Fault(
                f"a walking {'one' if pattern is beats else 'zero'} comes back quite different:"
                f" {int((low | high).sum())} of {width} data lines are wrong",
                "check that the memory is there and answers at the address that the host writes to",
            )
        stuck = [f"{line} reads {0 if low[line] else 1}" for line in range(width) if low[line] or high[line]]
        raise Fault(f"of {width} data lines {_some(stuck)} where it should not", _LINES)
    return 2 * beats.size


def _walk_addresses(examination: Examination) -> int:
    """A tag at 0 and at each power of two; returns the address lines that were looked at."""
    link = examination.link
    places = [1 << k for k in range(2, link.memory_size.bit_length()) if (1 << k) + _TAG <= link.memory_size]
    tags = {place: (0xA5_00_00_00 | k * 0x01_03_07).to_bytes(_TAG, "little") for k, place in enumerate([0, *places], 1)}
    for place in [*places, 0]:
        link.write(place, tags[place])
    for k, place in enumerate(places, 2):  # lines 0 and 1 choose a byte of a word
        examination.progress("address lines", (k - 2) / len(places))
        found = link.read(place, _TAG)
        if found == tags[place]:
            continue
        other = next((p for p, tag in tags.items() if tag == found), None)
        if other is None:
            raise Fault(f"what was written at {place:#x} reads {found.hex()}, not {tags[place].hex()}", _LOST)
        if other == 0:
            raise Fault(
                f"address {place:#x} and address 0 are the same byte: address line {k} has no effect",
                f"if the memory has only {place:,} bytes, say so when you open it; else check address line {k} from the host's"
                " port to the memory, and the range that the interconnect maps",
            )
        raise Fault(
            f"address {place:#x} and address {other:#x} are the same byte",
            f"address lines {other.bit_length() - 1} and {k} are connected, or one of them is stuck: check them from the host's"
            " port to the memory",
        )
    return len(places)


def _write_and_compare(
    examination: Examination, what: str, places: Sequence[int], contents: Sequence[NDArray[np.uint8]]
) -> None:
    link = examination.link
    total = 2 * len(places)
    for n, (place, data) in enumerate(zip(places, contents, strict=True)):
        examination.progress(f"writing {what}", n / total)
        link.write(place, data.tobytes())
    # A block that overlaps the last one has been written over in part.
    for n, (place, data) in enumerate(zip(places, contents, strict=True)):
        examination.progress(f"reading {what}", (len(places) + n) / total)
        end = min(place + data.size, places[n + 1]) if n + 1 < len(places) else place + data.size
        found = np.frombuffer(link.read(place, data.size), dtype=np.uint8)
        wrong = np.flatnonzero(np.not_equal(found, data)[: end - place])
        if not wrong.size:
            continue
        first = int(wrong[0])
        raise Fault(
            f"{what}: {wrong.size} of {end - place} bytes from {place:#x} on are wrong, the first at {place + first:#x}:"
            f" {found[first]:#04x}, not {data[first]:#04x}",
            _advice_on_block(examination, place, data, found, wrong),
        )


def _advice_on_block(
    examination: Examination, place: int, data: NDArray[np.uint8], found: NDArray[np.uint8], wrong: NDArray[np.intp]
) -> str:
    again = np.frombuffer(examination.link.read(place, data.size), dtype=np.uint8)
    if not (again == found).all():
        return f"it reads differently each time: {_LINES}"
    if wrong.size == data.size:
        return f"none of the block is right: it was never written, or another address took its place; {_LOST}"
    return _LOST


def _some(items: Sequence[str]) -> str:
    return ", ".join(items[:4]) + (f" and {len(items) - 4} more" if len(items) > 4 else "")
