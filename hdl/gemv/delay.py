"""Delay lines, which keep the stages of a pipeline together."""

from typing import Any

from amaranth.hdl import Module, Signal


def delayed(m: Module, value: Any, cycles: int, *, name: str, reset: bool = False) -> Any:
    """`value`, as it was so many cycles ago.

    Parameters
    ----------
    m : Module
        Where the registers go.
    value : Value or view
    cycles : int
        0 or more.
    name : str
        Of the registers.
    reset : bool
        Whether the registers have a reset: for valid bits, not for what they accompany.
    """
    for _ in range(cycles):
        stage = Signal(value.shape(), name=name, reset_less=not reset)
        m.d.sync += stage.eq(value)
        value = stage
    return value
