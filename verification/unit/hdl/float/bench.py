"""Streams operands through a unit that has no handshake."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..simulate import simulate

Context = Any


def run(dut: Any, operands: dict[str, Any], *, rng: np.random.Generator | None = None) -> NDArray[np.uint32]:
    """The results of a unit for operands that arrive in every cycle, or, given `rng`, with gaps in both `enable` and `valid`.

    Asserts that each result comes `latency` enabled cycles after its operands, and that none comes out of turn.
    """
    ports = {name: [int(v) for v in values] for name, values in operands.items()}
    count = len(next(iter(ports.values())))
    results: list[int] = []

    async def drive(ctx: Context) -> None:
        sent = enabled = 0
        due: list[int] = []
        while len(results) < count:
            enable = rng is None or rng.random() < 0.7
            valid = sent < count and (rng is None or rng.random() < 0.7)
            ctx.set(dut.enable, enable)
            ctx.set(dut.valid, valid)
            for name, values in ports.items():
                # Operands that do not count must not matter.
                ctx.set(getattr(dut, name), values[sent] if valid else values[-1 - sent % count])
            here = bool(ctx.get(dut.o_valid))
            assert here == (bool(due) and due[0] == enabled), (
                f"result {len(results)} at enabled cycle {enabled}, due at {due[:1]}"
            )
            if enable:
                if here:
                    due.pop(0)
                    results.append(ctx.get(dut.o))
                if valid:
                    due.append(enabled + dut.latency)
                    sent += 1
                enabled += 1
            await ctx.tick()

    simulate(dut, drive)
    return np.array(results, dtype=np.uint32)


def compare(got: NDArray[np.uint32], expected: NDArray[np.uint32], **operands: Any) -> None:
    """Fail with the first operands whose results differ."""
    wrong = np.flatnonzero(got != expected)
    if len(wrong):
        n = int(wrong[0])
        shown = ", ".join(f"{name}={int(values[n]):#010x}" for name, values in operands.items())
        raise AssertionError(
            f"{len(wrong)} of {len(got)} differ, first {shown}: got {got[n]:#010x}, expected {expected[n]:#010x}"
        )
