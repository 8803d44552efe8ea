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


def narrowed(m: Module, magnitude: Value, below: Value, places: tuple[int, ...], width: int) -> tuple[Value, Value, Value]:
    """The same, where only the top bits are wanted, and whether anything is below them: the others are not shifted.

    Parameters
    ----------
    m : Module
    magnitude : Value
        At most `width` and the sum of `places` bits; as if there were zeros below it if it has fewer.
    below : Value
        Whether anything is below the magnitude.
    places : tuple of int
        As `normalised` has them.
    width : int
        Bits that are wanted.

    Returns
    -------
    magnitude, below, lowered : Value
        Magnitude of `width` bits, whether anything is below it, and by how many places it was shifted.
    """
    counts = []
    magnitude = Cat(C(0, width + sum(places) - len(magnitude)), magnitude)
    for n in places:
        clear, lost = Signal(name=f"clear_{n}"), Signal(name=f"lost_{n}")
        left = Signal(len(magnitude) - n, name=f"left_{n}")
        m.d.comb += [
            clear.eq(magnitude[-n:] == 0),
            left.eq(Mux(clear, magnitude[:-n], magnitude[n:])),
            lost.eq(below | (~clear & magnitude[:n].any())),
        ]
        magnitude, below = left, lost
        counts.append(clear)
    least = places[-1].bit_length() - 1
    return magnitude, below, Cat(C(0, least), *reversed(counts)) if least else Cat(*reversed(counts))
