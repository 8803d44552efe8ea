"""A program: commands, and what a reader or a driver wants to know of them."""

from dataclasses import dataclass

from tailrace.spec.formats import BY_NUMBER
from tailrace.spec.isa import ADDRESS_UNIT, COMMAND_BYTES, STREAM_UNIT


@dataclass(frozen=True)
class Traffic:
    """What one execution of a command reads from memory.

    Attributes
    ----------
    kind : str
        ``weights``, ``keys``, ``values``, ``parameters`` (float32 operands), or empty for a command that reads nothing.
    format, rows, blocks : int
        Of a matrix; `blocks` is the elements of a stretch and `rows` their number for parameters.
    cached : int
        0, or the largest number of cached tokens that the command reads: then `rows` (keys), or `blocks` (values, parameters),
        is the number of tokens in the cache, up to this one.
    period : int
        0, or after how many tokens that number begins anew, with 1 (linear attention's lists, attention in chunks).
    before : int
        Tokens in the cache that come before those that the command reads (a later chunk of attention).
    """

    kind: str = ""
    format: int = 0
    rows: int = 0
    blocks: int = 0
    cached: int = 0
    period: int = 0
    before: int = 0

    def size(self, lanes: int, context: int) -> int:
        """Bytes, with `context` tokens in the cache."""
        seen = (max(context, 1) - 1) % self.period + 1 if self.period else context
        tokens = min(max(seen - self.before, 0), self.cached)
        if self.kind == "parameters":
            count = tokens if self.cached else self.blocks
            return self.rows * -(-count // STREAM_UNIT) * ADDRESS_UNIT
        if not self.kind:
            return 0
        rows = tokens if self.kind == "keys" and self.cached else self.rows
        blocks = -(-tokens // STREAM_UNIT) if self.kind == "values" and self.cached else self.blocks
        return BY_NUMBER[self.format].matrix_bytes(rows, blocks, lanes)


NO_TRAFFIC = Traffic()


@dataclass(frozen=True)
class Program:
    """A decode program.

    Attributes
    ----------
    commands : tuple of bytes
        The queue. Arguments: ``r16 + s`` is the token of row ``s``, ``r20 + s`` its position.
    sections : tuple of (int, str)
        Where a part of the program begins, and what it does.
    traffic : tuple of Traffic
        For each command.
    repeats : tuple of int
        How often each command is executed in a pass.
    steps_command : int or None
        Index of the `SET` whose addend is the number of tokens of a run, 1 as built. None: a run is one token.
    lanes : int
        Of the build that the program is for.
    """

    commands: tuple[bytes, ...]
    sections: tuple[tuple[int, str], ...]
    traffic: tuple[Traffic, ...]
    repeats: tuple[int, ...]
    steps_command: int | None
    lanes: int

    def bytes_read(self, context: int) -> tuple[int, ...]:
        """Bytes that one execution of each command reads, with `context` tokens in the cache; 64 are the command itself."""
        return tuple(COMMAND_BYTES + traffic.size(self.lanes, context) for traffic in self.traffic)

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights that one token of every sequence reads."""
        return sum(t.size(self.lanes, 0) * n for t, n in zip(self.traffic, self.repeats) if t.kind == "weights")
