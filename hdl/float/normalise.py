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
    magnitude = Cat(C(0, width + sum(places) - len(magnitude)), magnitude)
    counts = _clear(m, magnitude, places)
    for n, clear in zip(places, counts, strict=True):
        left, lost = Signal(len(magnitude) - n, name=f"left_{n}"), Signal(name=f"lost_{n}")
        m.d.comb += [
            left.eq(Mux(clear, magnitude[:-n], magnitude[n:])),
            lost.eq(below | (~clear & magnitude[:n].any())),
        ]
        magnitude, below = left, lost
    return magnitude, below, _lowered(places, counts)


def _clear(m: Module, magnitude: Value, places: tuple[int, ...]) -> list[Value]:
    """By which of `places` a magnitude is to be shifted.

    No shift waits for the one before it: the bits that it depends on are looked at where they are before, for each number of
    places by which they may be moved, and one of the answers is chosen.
    """
    chosen: list[Value] = []
    for n in places:
        offsets = [0]
        for before in places[: len(chosen)]:
            offsets = [*offsets, *(offset + before for offset in offsets)]
        tops = [len(magnitude) - offset for offset in offsets]
        answers: list[Value] = [~magnitude[max(top - n, 0) : top].any() for top in tops]
        for clear in reversed(chosen):
            half = len(answers) // 2
            answers = [Mux(clear, far, near) for near, far in zip(answers[:half], answers[half:], strict=True)]
        [answer] = answers
        clear = Signal(name=f"clear_{n}")
        m.d.comb += clear.eq(answer)
        chosen.append(clear)
    return chosen


def _lowered(places: tuple[int, ...], counts: list[Value]) -> Value:
    """By how many places a magnitude is shifted."""
    return Cat(C(0, places[-1].bit_length() - 1), *reversed(counts))
