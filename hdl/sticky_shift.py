"""A right shift that leaves what rounding has to know."""

from amaranth.hdl import Cat, Mux, Value


def shift_sticky(value: Value, places: Value, unit: int = 1) -> Value:
    """`value` shifted right by ``places * unit``, with all bits that fall out gathered in the lowest bit."""
    result: Value = value
    for n in range(1, 1 << len(places)):
        lost = n * unit
        shifted = Cat(value[: lost + 1].any(), value[lost + 1 :])
        result = Mux(places == n, shifted, result)
    return result
