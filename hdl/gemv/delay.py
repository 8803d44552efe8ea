"""Delay lines, which keep the stages of a pipeline together."""

from amaranth.hdl import Module, Signal, ValueCastable, ValueLike


def delayed(m: Module, value: ValueLike, cycles: int, *, name: str) -> ValueLike:
    """`value`, as it was so many cycles ago; without a reset, for what a valid bit accompanies."""
    for _ in range(cycles):
        shape = value.shape()
        stage = Signal(shape, name=name, reset_less=True)
        m.d.sync += stage.eq(value)
        value = stage
    return value


def delayed_valid(m: Module, value: ValueLike, cycles: int, *, name: str) -> list[ValueLike]:
    """`value` now and in each of the stages after it, with a reset: the valid bits of a pipeline of so many cycles."""
    stages = [value]
    for _ in range(cycles):
        stage = Signal(value.shape(), name=name)
        m.d.sync += stage.eq(stages[-1])
        stages.append(stage)
    return stages
