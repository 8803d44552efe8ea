from typing import Any

import numpy as np
import pytest

from tailrace.hdl.vector.store import Store
from tailrace.spec.commands import encode
from tailrace.spec.config import Config
from tailrace.spec.isa import Opcode

from ..simulate import simulate
from ..streams import STALLS, Cycles, send
from ..widths import WITH_WIDE_BEATS, ports
from .memory_bench import Buffer, Written


@pytest.mark.parametrize("seed", STALLS)
@pytest.mark.parametrize(("bus_width", "vector_width"), WITH_WIDE_BEATS)
def test_writes_what_the_buffer_holds(bus_width: int, vector_width: int, seed: int | None) -> None:
    settings = Config("test", **ports(bus_width), buffer_entries=1024, vector_width=vector_width)
    dut = Store(settings)
    words = settings.unit_width // 32 // settings.word_elements
    buffer, written, cycles = Buffer(settings, dut.a, 5), Written(settings, dut.write, seed), Cycles()
    # First entry and count; two commands wrap around the end of the buffer. One begins within a wide beat.
    jobs = [(0, 1), (1020, 1), (4, 2), (8, 3), (12, 4), (16, 5), (100, 40), (1020, 9), (1000, 33), (8, 1), (64, 257), (0, 1024)]

    async def testbench(ctx: Any) -> None:
        for n, (first, count) in enumerate(jobs):
            command = encode(Opcode.STORE, pending=3, a=first, destination=((n + 1) << 10) + n, count=count)
            ctx.set(dut.index, 100 + n)
            start, before = cycles.now, written.beats
            await send(ctx, dut.command, [int.from_bytes(command, "little")])
            assert written.beats - before == -(-4 * count // settings.unit_bytes)
            if seed is None:
                assert cycles.now - start == Store.overhead + words * (written.beats - before)

    simulate(dut, testbench, background=[cycles.count, buffer.answer, written.take])
    expected = {
        ((n + 1) << 16) + 64 * n: buffer.entries[(first + np.arange(count)) % 1024].tobytes()
        for n, (first, count) in enumerate(jobs)
    }
    written.check(expected, f"stall seed {seed}")
    assert written.commands == set(range(100, 100 + len(jobs)))
