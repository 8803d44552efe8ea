from typing import Any

import numpy as np
import pytest

from tailrace.hdl.vector.activation_buffer import ActivationBuffer
from tailrace.spec.config import Config
from tailrace.spec.isa import BUFFER_UNIT

from ..simulate import simulate
from ..widths import WITH_WIDE_BEATS, ports

ENTRIES = 1024


@pytest.mark.parametrize(("beat_width", "vector_width"), WITH_WIDE_BEATS)
def test_against_a_model(beat_width: int, vector_width: int, rng: np.random.Generator) -> None:
    """Words of both units at any place, also over the end of a row and of the buffer; only what the mask says is written."""
    config = Config("test", **ports(beat_width), buffer_entries=ENTRIES, vector_width=vector_width)
    dut, elements, lanes = ActivationBuffer(config), config.word_elements, config.lanes
    entries = np.zeros(ENTRIES, dtype=np.int64)
    refused = 0

    async def testbench(ctx: Any) -> None:
        nonlocal refused
        #: What was written in the last cycle but one, and what was asked for in the last one.
        late: list[tuple[np.ndarray, np.ndarray]] = []
        asked: list[np.ndarray] = []
        for _ in range(1500):
            shown = []
            for port, places in zip((dut.a, dut.b), asked, strict=False):
                shown.append(np.array([ctx.get(port.data[n]) for n in range(elements)]))
                assert np.array_equal(shown[-1], entries[places])
            written = None
            for writer, size, unit in ((dut.vector, elements, elements), (dut.matrix, lanes, min(lanes, BUFFER_UNIT))):
                enabled, address = int(rng.integers(2)), int(rng.integers(ENTRIES // unit))
                data, mask = rng.integers(0, 1 << 32, size), rng.random(size) < 0.7
                ctx.set(writer.enable, enabled)
                ctx.set(writer.address, address)
                ctx.set(writer.data, [int(x) for x in data])
                ctx.set(writer.mask, sum(1 << n for n in np.flatnonzero(mask).tolist()))
                if enabled:
                    refused += writer is dut.matrix and written is not None
                    written = (unit * address + np.arange(size)[mask]) % ENTRIES, data[mask]
            assert ctx.get(dut.vector_ready) == (not ctx.get(dut.matrix.enable))
            late.append(written or (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)))
            busy = {int(place) for places, _ in late for place in places}
            asked = []
            for port in (dut.a, dut.b):
                # What is being written may be anything.
                while True:
                    word = int(rng.integers(ENTRIES // elements))
                    places = elements * word + np.arange(elements)
                    if not busy & set(places.tolist()):
                        break
                ctx.set(port.enable, 1)
                ctx.set(port.address, word)
                asked.append(places)
            await ctx.tick()
            if len(late) == 2:
                places, data = late.pop(0)
                entries[places] = data

    simulate(dut, testbench)
    assert refused > 100
