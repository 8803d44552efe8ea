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
    counts = _clear(m, magnitude, places)
    for n, clear in zip(places, counts, strict=True):
        left = Signal(len(magnitude), name=f"left_{n}")
        m.d.comb += left.eq(Mux(clear, magnitude << n, magnitude))
        magnitude = left
    return magnitude, _lowered(places, counts)


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
    magnitude = whole = Cat(C(0, width + sum(places) - len(magnitude)), magnitude)
    counts = _clear(m, magnitude, places)
    dropped = below
    for k, (n, clear) in enumerate(zip(places, counts, strict=True)):
        left, lost = Signal(len(magnitude) - n, name=f"left_{n}"), Signal(name=f"lost_{n}")
        seen = [whole[sum(places[:k]) - distance :][:n].any() for distance in _distances(places[:k])]
        m.d.comb += [left.eq(Mux(clear, magnitude[:-n], magnitude[n:])), lost.eq(~clear & _choose(seen, counts[:k]))]
        magnitude, dropped = left, dropped | lost
    return magnitude, dropped, _lowered(places, counts)


def _clear(m: Module, magnitude: Value, places: tuple[int, ...]) -> list[Value]:
    """By which of `places` a magnitude is to be shifted.

    No shift waits for the one before it: what it depends on is looked at for each distance by which the magnitude may have been
    shifted, and one of the answers is chosen.
    """
    chosen: list[Value] = []
    for k, n in enumerate(places):
        clear = Signal(name=f"clear_{n}")
        seen = [~(magnitude << distance)[: len(magnitude)][-n:].any() for distance in _distances(places[:k])]
        m.d.comb += clear.eq(_choose(seen, chosen))
        chosen.append(clear)
    return chosen


def _distances(places: tuple[int, ...]) -> list[int]:
    """By how many places a magnitude may be shifted: first without the last of `places`, then with it."""
    distances = [0]
    for n in places:
        distances += [distance + n for distance in distances]
    return distances


def _choose(seen: list[Value], chosen: list[Value]) -> Value:
    """What is seen, of what would be seen at each of `_distances`; `chosen` are those of the places that are shifted by."""
    for clear in reversed(chosen):
        half = len(seen) // 2
        seen = [Mux(clear, far, near) for near, far in zip(seen[:half], seen[half:], strict=True)]
    return seen[0]


def _lowered(places: tuple[int, ...], counts: list[Value]) -> Value:
    """By how many places a magnitude is shifted."""
    return Cat(C(0, places[-1].bit_length() - 1), *reversed(counts))
