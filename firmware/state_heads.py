"""The heads of linear attention: what every rule has in common between the norm and the output matrix of a layer."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from tailrace.spec.floats import Function
from tailrace.spec.isa import ADDRESS_UNIT, STREAM_UNIT, Cache, Combine, Multiplier, Reduce
from tailrace.spec.linear_attention import FOLD, FOLD_SHIFT, LOWER

from .command_list import Address
from .description import LinearAttention
from .parts import CONVOLUTION_PART
from .placement import MatrixPart
from .recent_rows import convolve, keep
from .state_list import append_deltas, append_keys
from .state_products import Group, StateProducts
from .workspace import Workspace

#: Commands that `StateHeads.finish` has at most, so that a group's are spread over the heads of the next one.
_STEPS = 12


class StateHeads(StateProducts, ABC):
    """The commands between norm and output matrix of one layer, and those that append to the list.

    What a rule reads of state and list for each head are the products with `vectors`, in this order.

    Parameters
    ----------
    workspace : Workspace
    roles : str
    mixer : int
    a : LinearAttention
        See `StatePlaces`.
    """

    def __init__(self, workspace: Workspace, roles: str, mixer: int, a: LinearAttention) -> None:
        self.vectors: tuple[Callable[..., int], ...] = self.seen()
        super().__init__(workspace, roles, mixer, a, len(self.vectors))
        self.allocate_norm()
        self.allocate_products()

    # What a rule is made of.

    @abstractmethod
    def seen(self) -> tuple[Callable[..., int], ...]:
        """The vectors that state and list are multiplied with, each by sequence and key head: `key` and `query`, or some."""

    @abstractmethod
    def allocate_norm(self) -> None:
        """Reserve entries for the norm of outputs, and what else lives as long."""

    @abstractmethod
    def small(self) -> tuple[Callable[[], None], Callable[[], None]]:
        """The products that decays and rates come from, and what makes them of these."""

    @abstractmethod
    def finish_vectors(self, s: int) -> None:
        """What is done with queries and keys of a sequence after their convolution."""

    @abstractmethod
    def finish(self, group: Group) -> Iterator[None]:
        """From the products of a group's heads to its deltas, in place of its values, and its outputs: a command at a time."""

    @abstractmethod
    def conclude(self, s: int) -> None:
        """What follows the last group of a sequence: afterwards its outputs are in the slots."""

    def emit(self) -> None:
        """Emit from the products on, until the outputs of the heads are in the slots."""
        w, a = self.w, self.a
        small_products, finish_small = self.small()
        small_products()
        # A stream behind a product waits for it. So a part is convolved behind the next part, and all of them before the gate's
        # last one; what follows them works in the buffer alone.
        mixed, gate = w.matrix(self.role("qkv"), a.channels, w.hidden), w.matrix(self.role("output_gate"), a.values, w.hidden)
        parts = [(mixed, part, self.mixed) for part in mixed.parts] + [(gate, part, self.gate) for part in gate.parts]
        convolved: list[MatrixPart | None] = [None, *mixed.parts, *(None for _ in gate.parts[1:])]
        for (place, part, entry), before in zip(parts, convolved, strict=True):
            w.product(place, part, entry + part.first_row, place.rows)
            if before:
                self._convolve(before)
            elif entry == self.mixed:
                finish_small()
        for s in w.sequences:
            self.finish_vectors(s)
        behind: Iterator[None] = self._finish_gate()
        for turn, rows in enumerate(w.turns):
            if turn:
                self._append(w.turns[turn - 1])
                w.commands.fence(*Cache)
            for s in rows:
                self._row(s, behind)
                behind = iter(())

    def append(self) -> None:
        """Append keys and deltas of the rows of the last turn; `emit` has appended those of the others."""
        self._append(self.w.turns[-1])

    def _append(self, rows: Sequence[int]) -> None:
        for s in rows:
            self._measure(s)
            append_keys(self, s)
            append_deltas(self, s)

    def _row(self, s: int, behind: Iterator[None]) -> None:
        """From the vectors of a row to its outputs: of state and list, to which the rows before it belong.

        Between the products of its heads come the commands of `behind`, then those of the groups before.
        """
        self._measure(s)
        self.load_list_vectors(s, self.vectors)
        groups = self.groups(s)
        heads = [(group, head) for group in groups for head in range(group.first, group.first + group.heads)]
        behind_them: list[tuple[Group, int] | None] = [*heads[1:], None]
        self.load_group(groups[0])
        self.load_state_vectors(*heads[0], self.vectors)
        self.multiply_keys(s)
        for (group, head), following in zip(heads, behind_them, strict=True):
            self.multiply_state(group, head)
            self.load_delta_vectors(group, head)
            if following:
                if following[0] is not group:
                    self.load_group(following[0])
                self.load_state_vectors(*following, self.vectors)
            self.multiply_deltas(group, head)
            for _ in islice(behind, -(-_STEPS // group.heads)):
                pass
            if not following or following[0] is not group:
                for _ in behind:
                    pass
                behind = self.finish(group)
        for _ in behind:
            pass
        self.conclude(s)

    def _sum_row(self, sequence: int, back: int) -> Address:
        """Row of sums of the token's own entry, or of one before; valid for the next command only."""
        w, pitch = self.w, self.layout.sum_pitch // ADDRESS_UNIT
        w.commands.set(w.address_register, x=self.entries(sequence), factor=pitch, addend=-back * pitch)
        return self.part(sequence, "sums", 0, w.address_register)

    # Between the products.

    def _measure(self, sequence: int) -> None:
        """Set the registers with the length of a sequence's list."""
        commands, position = self.w.commands, self.w.position(sequence)
        entries, blocks = self.w.length_registers[sequence % 2]
        commands.set(entries, y=position, shift=FOLD_SHIFT)
        commands.set(entries, x=entries, factor=-FOLD, y=position, addend=1)
        commands.set(blocks, y=entries, addend=STREAM_UNIT - 1, shift=STREAM_UNIT.bit_length() - 1)

    def small_products(self, *roles: tuple[str, int]) -> None:
        """Products with matrices of a row for each value head, each with the entry of its results."""
        w = self.w
        for role, entry in roles:
            place = w.matrix(self.role(role), self.a.value_heads, w.hidden)
            for part in place.parts:
                w.product(place, part, entry + part.first_row, self.stride)

    def add_decays(self, s: int) -> None:
        """From a token's own logarithms of decays to the sums since the fold, which are kept, and to what these stand for."""
        commands, heads, logs = self.w.commands, self.a.value_heads, self.logs + s * self.stride
        row = self.w.row_before(s)
        before = self._sum_row(s, 1) if row is None else self.logs + row * self.stride
        commands.elementwise(before, heads, b=logs, combine=Combine.SUM, to=logs)
        commands.store(logs, self._sum_row(s, 0), heads)
        commands.elementwise(logs, heads, function=Function.EXP, to=self.decays + s * self.stride)

    def weigh_planes(self) -> None:
        """Leave what upper and lower planes count for. Rates are finite, so that the constants are left alone."""
        for n, weight in enumerate((1.0, LOWER)):
            self.w.commands.elementwise(self.rates, 1, p=0.0, q=weight, reduce=Reduce.SUM, r=self.planes + n)

    def _convolve(self, part: MatrixPart) -> None:
        """Convolution and SiLU of a part of the channels."""
        w, a = self.w, self.a
        weights, bias = w.table(self.role("convolution")), w.bias(self.role("convolution"))
        channels = range(part.first_row, part.first_row + part.rows)
        inputs = [self.mixed + s * a.channels for s in w.sequences]
        rings = [w.state(s, self.mixer).address + self.layout.offsets["rows"] for s in w.sequences]
        keep(w, inputs, self.layout.rows, rings, channels)
        for s, entry in enumerate(inputs):
            convolve(w, entry, self.rows, self.layout.rows, rings[s], weights, s, bias, channels)
            place = entry + part.first_row
            w.commands.elementwise(place, part.rows, function=Function.SIGMOID, multiplier=Multiplier.A, to=place)

    def match(self, s: int) -> None:
        """For each value head the product of its key and its query."""
        a, size = self.a, self.a.key_size
        ratio, at = a.value_heads // a.key_heads, self.matches + s * self.stride
        runs = (
            [(0, a.key_heads, size, at + j * a.key_heads) for j in range(ratio)]
            if a.tiled
            else [(head, ratio, 0, at + head * ratio) for head in range(a.key_heads)]
        )
        for head, segments, stride, results in runs:
            self.w.commands.elementwise(
                self.key(s, head), size, segments, a_stride=stride, b=self.query(s, head), b_stride=stride,
                combine=Combine.PRODUCT, reduce=Reduce.SUM, r=results,
            )  # fmt: skip

    def _finish_gate(self) -> Iterator[None]:
        """SiLU of the gates, a piece at a time."""
        size = self.w.batch * self.a.values
        for first in range(0, size, CONVOLUTION_PART // 2):
            place, count = self.gate + first, min(size - first, CONVOLUTION_PART // 2)
            self.w.commands.elementwise(place, count, function=Function.SIGMOID, multiplier=Multiplier.A, to=place)
            yield

    def add_up(self, group: Group) -> Iterator[None]:
        """What state and list together give for each vector and head of a group, at `state`."""
        commands, size, heads, count = self.w.commands, self.a.value_size, group.heads, group.heads * self.a.value_size
        state, (upper, lower) = self.state[group.turn], self.deltas[group.turn]
        for first in range(0, self.count * count, count):
            commands.elementwise(
                state + first, size, heads, a_stride=size, p=self.each(self.decays, group.sequence, group.first),
                b=upper + first, b_stride=size, combine=Combine.SUM, to=state + first, d_stride=size,
            )  # fmt: skip
            yield
        commands.elementwise(state, self.count * count, b=lower, combine=Combine.SUM, to=state)
        yield
