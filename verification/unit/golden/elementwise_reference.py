"""`ELEMENTWISE` and `ROTATE` as the text of `tailrace.spec.isa` says it: one number after the other."""

from collections.abc import Sequence

import numpy as np

from tailrace.spec import floats
from tailrace.spec.floats import Function
from tailrace.spec.isa import Combine, Multiplier, Reduce, Target


def number(bits: int) -> np.ndarray:
    """A flushed float32, shape (1,)."""
    return floats.flush(np.array([bits], dtype=np.uint32).view(np.float32))


def bits_of(x: np.ndarray) -> int:
    return int(x.astype(np.float32).view(np.uint32)[0])


def elementwise(entries: list[int], fields: dict[str, int], stream: Sequence[int]) -> list[list[int]]:
    """Change the entries; returns the bits of v for each segment. `stream`: bits, 16 for each unit."""
    before = list(entries)
    size, count = len(entries), fields["count"]
    units = -(-count // 16)
    results = []
    for s in range(fields["segments"]):
        # Only what an argmax removes is seen by later segments.
        source = entries if fields["reduce"] == Reduce.ARGMAX_REMOVE else before

        def scalar(name: str, source: list[int] = source, s: int = s) -> np.ndarray:
            bit = "pqmn".index(name)
            if not fields["load"] >> bit & 1:
                return number(fields[name])
            return number(source[((fields[name] & 0xFFFF) + (s if fields["advance"] >> bit & 1 else 0)) % size])

        us, vs = [], []
        for i in range(count):
            streamed = number(stream[s * units * 16 + i]) if len(stream) else number(0)
            a = streamed if fields["a_stream"] else number(source[(fields["a"] + s * fields["a_stride"] + i) % size])
            b = number(source[(fields["b"] + s * fields["b_stride"] + i) % size])
            if fields["combine"] == Combine.SCALE:
                t = floats.add(floats.multiply(a, scalar("p")), scalar("q"))
            elif fields["combine"] == Combine.SUM:
                t = floats.add(floats.multiply(a, scalar("p")), floats.multiply(b, scalar("q")))
            elif fields["combine"] == Combine.LIMIT:
                scaled, limit = floats.multiply(a, scalar("p")), floats.flush(scalar("q"))
                t = scaled if scaled[0] < limit[0] else limit
            else:
                t = floats.multiply(a, b)
            u = floats.apply(Function(fields["function"]), t)
            factor = {Multiplier.STREAM: streamed, Multiplier.B: b, Multiplier.A: a}.get(fields["multiplier"], scalar("m"))
            addend = streamed if fields["n_stream"] else scalar("n")
            v = floats.add(floats.multiply(u, factor), addend)
            us.append(u)
            vs.append(v)
        if fields["target"] == Target.BUFFER:
            for i, v in enumerate(vs):
                entries[(fields["d"] + s * fields["d_stride"] + i) % size] = bits_of(v)
        _reduce(entries, before, fields, s, us if fields["reduce_u"] else vs)
        results.append([bits_of(v) for v in vs])
    return results


def _reduce(entries: list[int], before: list[int], fields: dict[str, int], s: int, values: list[np.ndarray]) -> None:
    reduce, size, resume = fields["reduce"], len(entries), fields["resume"]
    if reduce == Reduce.NONE:
        return
    if reduce in (Reduce.ARGMAX, Reduce.ARGMAX_REMOVE):
        r = (fields["r"] + 2 * s) % size
        best, position = (float(number(before[r])[0]), None) if resume else (-np.inf, 0)
        for i, value in enumerate(values):
            if value[0] > best:
                best, position = float(value[0]), i
        if position is not None:
            entries[r] = bits_of(np.array([best], dtype=np.float32))
            entries[(r + 1) % size] = (position + fields["index"]) % (1 << 32)
            if reduce == Reduce.ARGMAX_REMOVE and not fields["a_stream"]:
                entries[(fields["a"] + s * fields["a_stride"] + position) % size] = 0xFF80_0000
        return
    r = (fields["r"] + s) % size
    old = number(before[r])
    x = np.concatenate(values)
    if reduce in (Reduce.SUM, Reduce.SUM_OF_SQUARES):
        total = np.array([floats.total(x if reduce == Reduce.SUM else floats.multiply(x, x))])
        result = floats.add(old, total) if resume else total
    else:
        candidates = [abs(v) for v in values] if reduce == Reduce.ABSOLUTE_MAXIMUM else list(values)
        result = max([old, *candidates] if resume else candidates, key=lambda v: float(v[0]))
    entries[r] = bits_of(floats.flush(-result) if fields["negate"] else result)


def rotate(entries: list[int], fields: dict[str, int]) -> None:
    """Change the entries."""
    before, size, count = list(entries), len(entries), fields["count"]
    for s in range(fields["segments"]):
        for i in range(count):
            start = fields["a"] + s * fields["a_stride"]
            x, y = number(before[(start + i) % size]), number(before[(start + i + count) % size])
            c, w = number(before[(fields["table"] + i) % size]), number(before[(fields["table"] + i + count) % size])
            d = fields["d"] + s * fields["d_stride"]
            entries[(d + i) % size] = bits_of(floats.add(floats.multiply(x, c), -floats.multiply(y, w)))
            entries[(d + i + count) % size] = bits_of(floats.add(floats.multiply(y, c), floats.multiply(x, w)))
