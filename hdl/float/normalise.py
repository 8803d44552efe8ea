"""A shift to the left until the top bit is set."""

from collections.abc import Callable

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
        m.d.comb += [
            left.eq(Mux(clear, magnitude[:-n], magnitude[n:])),
            lost.eq(~clear & _moved(lambda by, k=k, n=n: whole[sum(places[:k]) - by :][:n].any(), places, counts[:k])),
        ]
        magnitude, dropped = left, dropped | lost
    return magnitude, dropped, _lowered(places, counts)


def _clear(m: Module, magnitude: Value, places: tuple[int, ...]) -> list[Value]:
    """By which of `places` a magnitude is to be shifted."""
    chosen: list[Value] = []
    for n in places:
        clear = Signal(name=f"clear_{n}")
        m.d.comb += clear.eq(_moved(lambda by, n=n: ~(magnitude << by)[: len(magnitude)][-n:].any(), places, chosen))
        chosen.append(clear)
    return chosen


def _moved(look: Callable[[int], Value], places: tuple[int, ...], chosen: list[Value]) -> Value:
    """What is seen of a magnitude after its first shifts, without waiting for them.

    Parameters
    ----------
    look : callable
        What is seen if it is shifted by so many places: of all that are possible, one is chosen.
    places : tuple of int
    chosen : list of Value
        Whether it is shifted by the first of `places`, and by the second, and so on.
    """
    distances = [0]
    for n in places[: len(chosen)]:
        distances += [distance + n for distance in distances]
    seen = [look(distance) for distance in distances]
    for clear in reversed(chosen):
        half = len(seen) // 2
        seen = [Mux(clear, far, near) for near, far in zip(seen[:half], seen[half:], strict=True)]
    return seen[0]


def _lowered(places: tuple[int, ...], counts: list[Value]) -> Value:
    """By how many places a magnitude is shifted."""
    return Cat(C(0, places[-1].bit_length() - 1), *reversed(counts))
