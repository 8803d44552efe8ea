"""A shift to the left until the top bit is set."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value


def normalised(m: Module, magnitude: Value, places: tuple[int, ...]) -> tuple[Value, Value]:
    """One stage of a shift to the left: the magnitude shifted, and by how many places.

    Parameters
    ----------
    m : Module
    magnitude : Value
    places : tuple of int
        By how many places to shift if that many of the top bits are zero, one after the other: powers of two, each half of the
        one before it.
    """
    counts = []
    for n in places:
        clear = Signal(name=f"clear_{n}")
        left = Signal(len(magnitude), name=f"left_{n}")
        m.d.comb += [clear.eq(magnitude[-n:] == 0), left.eq(Mux(clear, magnitude << n, magnitude))]
        magnitude = left
        counts.append(clear)
    least = places[-1].bit_length() - 1
    return magnitude, Cat(C(0, least), *reversed(counts)) if least else Cat(*reversed(counts))
