"""Right shifts that leave what rounding has to know."""

from amaranth.hdl import Cat, Mux, Value


def shift_sticky(value: Value, places: Value, unit: int = 1) -> Value:
    """`value` shifted right by ``places * unit``, with all bits that fall out gathered in the lowest bit.

    By a power of two at a time, as what is gathered stays in the lowest bit. The largest comes first: most bits are gathered
    while the others are still to be moved.
    """
    for n, moves in reversed(list(enumerate(places))):
        lost = unit << n
        value = Mux(moves, Cat(value[: lost + 1].any(), value[lost + 1 :]), value)
    return value


def shift_losing(value: Value, places: Value, unit: int = 1) -> tuple[Value, Value]:
    """`value` shifted right by ``places * unit``, and whether anything fell out: a bit for each bit of `places`.

    Whoever gathers these bits a cycle later waits for no bit that still has to be moved.
    """
    lost = []
    for n, moves in reversed(list(enumerate(places))):
        lost.append(moves & value[: unit << n].any())
        value = Mux(moves, value[unit << n :], value)
    return value, Cat(*lost)
