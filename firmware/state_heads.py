"""The heads of linear attention: what every rule has in common between the norm and the output matrix of a layer."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tailrace.spec.floats import Function
from tailrace.spec.formats import BLOCK, I8, Q8_0
from tailrace.spec.isa import ADDRESS_UNIT, STREAM_UNIT, Cache, Combine, Multiplier, Reduce
from tailrace.spec.linear_attention import ENTRIES, FOLD, FOLD_SHIFT, LOWER, LOWER_EXPONENT

from .buffer_map import slot_map
from .command_list import Address, Length, Loaded, Slot, interleaved
from .description import LinearAttention
from .recent_rows import convolve, keep, piece_size
from .state_list import append_deltas, append_keys
from .state_places import SCORES, StatePlaces
from .workspace import POSITION, Workspace

#: Sets of the slots: what all products before read, the list's keys are multiplied with, and the output matrix reads; and those
#: of the heads in turn.
INPUT_SET, LIST_SET, OUTPUT_SET, HEAD_SETS = 0, 0, 1, (2, 3)


@dataclass(frozen=True)
class Group:
    """Value heads whose results are in the buffer at the same time."""

    sequence: int
    first: int
    heads: int


class StateHeads(StatePlaces, ABC):
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
        super().__init__(workspace, roles, mixer, a)
        w, allocate = workspace, workspace.buffer.allocate
        self.vectors: tuple[Callable[..., int], ...] = self.seen()
        count = len(self.vectors)
        #: Vectors that share a pass, if there are slots for all.
        self.width = min(w.build.right_hand_sides, count)
        self.allocate_norm()
        start = w.buffer.mark()
        self._piece = allocate("a piece of recent rows", piece_size(a.channels))
        with w.buffer.over(start):
            self.apart = allocate("planes of keys and deltas", max(2 * a.keys, a.values))
        with w.buffer.over(start):
            self._scales = allocate("the scales of deltas", SCORES)
            self._weights = [allocate("the weights of a list", SCORES) for _ in range(2)]
            self._scores = allocate("the products with a list", a.key_heads * count * SCORES)
            per_head = 3 * count * a.value_size
            self._at_a_time = min(w.buffer.free // per_head, a.value_heads)
            if not self._at_a_time:
                allocate("the results of a head", per_head)
            size = self._at_a_time * count * a.value_size
            self.state = allocate("the products with states", size)
            self.deltas = [allocate("the products with deltas", size) for _ in range(2)]
        self._slot_plan()

    def _slot_plan(self) -> None:
        w, a, count = self.w, self.a, len(self.vectors)
        blocks = slot_map(w.build.vector_blocks)
        first = blocks.allocate("the input of linear attention and its output", max(w.hidden, a.values) // BLOCK)
        del first
        # With one slot, all vectors lie side by side in it.
        copies = count // self.width
        self._list_blocks = blocks.allocate("keys and queries", copies * a.key_heads * self.layout.key_blocks)
        size = max(2 * a.key_size // STREAM_UNIT, -(-ENTRIES // STREAM_UNIT))
        self._head_blocks = [blocks.allocate("the vectors of a head", copies * size) for _ in HEAD_SETS]
        self._head_size = size

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
    def finish(self, group: Group) -> None:
        """From the products of a group's heads to its deltas, in place of its values, and its outputs."""

    @abstractmethod
    def conclude(self, s: int) -> None:
        """What follows the last group of a sequence: afterwards its outputs are in the slots."""

    def emit(self) -> None:
        """Emit from the products on, until the outputs of the heads are in the slots."""
        w, a = self.w, self.a

        def mixed() -> None:
            w.products(w.matrix(self.role("qkv"), a.channels, w.hidden), self.mixed)

        def gate() -> None:
            w.products(w.matrix(self.role("output_gate"), a.values, w.hidden), self.gate)

        interleaved([self.small(), (mixed, self._finish_mixed), (gate, self._finish_gate)])
        for turn, rows in enumerate(w.turns):
            if turn:
                self._append(w.turns[turn - 1])
                w.commands.fence(*Cache)
            for s in rows:
                self._row(s)

    def append(self) -> None:
        """Append keys and deltas of the rows of the last turn; `emit` has appended those of the others."""
        self._append(self.w.turns[-1])

    def _append(self, rows: Sequence[int]) -> None:
        for s in rows:
            self._measure(s)
            append_keys(self, s)
            append_deltas(self, s)

    def _row(self, s: int) -> None:
        """From the vectors of a row to its outputs: of state and list, to which the rows before it belong."""
        self._measure(s)
        self._load_list_vectors(s)
        self._multiply_keys(s)
        for first in range(0, self.a.value_heads, self._at_a_time):
            group = Group(s, first, min(self._at_a_time, self.a.value_heads - first))
            for head in range(group.first, group.first + group.heads):
                self._head(group, head)
            self.finish(group)
        self.conclude(s)

    def _length(self, sequence: int) -> Length:
        """Entries of a list."""
        return Length(self.entries(sequence), ENTRIES, FOLD)

    def _sum_row(self, sequence: int, back: int) -> Address:
        """Row of sums of the token's own entry, or of one before; valid for the next command only."""
        w, pitch = self.w, self.layout.sum_pitch // ADDRESS_UNIT
        w.commands.set(w.address_register, x=self.entries(sequence), factor=pitch, addend=-back * pitch)
        return self.part(sequence, "sums", 0, w.address_register)

    # Between the products.

    def _measure(self, sequence: int) -> None:
        """Set the registers with the length of a sequence's list."""
        commands, position = self.w.commands, POSITION + sequence
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

    def _finish_mixed(self) -> None:
        """Convolution and SiLU, and what a rule makes of queries and keys."""
        w, a = self.w, self.a
        weights, bias = w.table(self.role("convolution")), w.bias(self.role("convolution"))
        inputs = [self.mixed + s * a.channels for s in w.sequences]
        rings = [w.state(s, self.mixer).address + self.layout.offsets["rows"] for s in w.sequences]
        keep(w, inputs, self.layout.rows, rings)
        for s, place in enumerate(inputs):
            convolve(w, place, self._piece, self.layout.rows, rings[s], weights, s, bias)
            w.commands.elementwise(place, a.channels, function=Function.SIGMOID, multiplier=Multiplier.A, to=place)
            self.finish_vectors(s)

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

    def _finish_gate(self) -> None:
        w, size = self.w, self.w.batch * self.a.values
        w.commands.elementwise(self.gate, size, function=Function.SIGMOID, multiplier=Multiplier.A, to=self.gate)

    # The list's keys.

    def _load_list_vectors(self, s: int) -> None:
        """The vectors of each key head, each followed by what its lower plane counts for."""
        for n, vector in enumerate(self.vectors):
            for head in range(self.a.key_heads):
                joined = head > 0 or n >= self.width
                target = Slot(n % self.width, LIST_SET, self._list_place(n, head), join=joined)
                self.w.commands.elementwise(
                    vector(s, head), self.a.key_size, 2, p=Loaded(self.planes, advance=True), to=target
                )  # fmt: skip

    def _list_place(self, vector: int, head: int) -> int:
        return self._list_blocks + (vector // self.width * self.a.key_heads + head) * self.layout.key_blocks

    def _multiply_keys(self, s: int) -> None:
        entries, layout, count = self._length(s), self.layout, len(self.vectors)
        for head in range(self.a.key_heads):
            for first in range(0, count, self.width):
                self.w.commands.gemv(
                    self.part(s, "keys", head * layout.key_stride), number=Q8_0.number, rows=entries,
                    blocks=layout.key_blocks, slots=self.width, vector_set=LIST_SET,
                    first_block=self._list_place(first, head), offset=self._scores + (count * head + first) * SCORES,
                    slot_stride=SCORES, kind="keys",
                )  # fmt: skip

    # A value head: the state, then the list's deltas.

    def _head(self, group: Group, head: int) -> None:
        w, a, layout, s, turn = self.w, self.a, self.layout, group.sequence, head % 2
        commands, key_head, size, count = w.commands, a.key_head(head), a.key_size, len(self.vectors)
        at, vector_set, place = (head - group.first) * a.value_size, HEAD_SETS[turn], self._head_blocks[turn]
        between = group.heads * a.value_size

        def slot(n: int) -> Slot:
            return Slot(
                n % self.width, vector_set, place + n // self.width * self._head_size, duplicate=True, join=n >= self.width
            )  # fmt: skip

        passes = [(first, place + first // self.width * self._head_size) for first in range(0, count, self.width)]
        scales = self.part(s, "state_scales", head * layout.state_scale_stride)
        for n, vector in enumerate(self.vectors):
            commands.elementwise(vector(s, key_head), size, 2, stream=scales, multiplier=Multiplier.STREAM, to=slot(n))
        for first, block in passes:
            commands.gemv(
                self.part(s, "state", head * layout.state_stride), number=I8.number, rows=a.value_size,
                blocks=2 * size // STREAM_UNIT, slots=self.width, vector_set=vector_set, first_block=block,
                offset=self.state + at + first * between, slot_stride=between, stride=layout.state_row_stride, kind="state",
            )  # fmt: skip
        self._weigh(s, head, self._weights[turn])
        entries, blocks = self._length(s), Length(w.length_registers[s % 2][1], -(-ENTRIES // STREAM_UNIT), FOLD)
        scores = self._scores + count * key_head * SCORES
        for n in range(count):
            commands.elementwise(
                scores + n * SCORES, entries, b=self._weights[turn], combine=Combine.PRODUCT, to=slot(n)
            )  # fmt: skip
        for plane, (name, exponent) in enumerate((("deltas", 0), ("lower_deltas", LOWER_EXPONENT))):
            for first, block in passes:
                commands.gemv(
                    self.part(s, name, head * layout.delta_stride), number=I8.number, rows=a.value_size, blocks=blocks,
                    slots=self.width, vector_set=vector_set, first_block=block,
                    offset=self.deltas[plane] + at + first * between, slot_stride=between, exponent=exponent,
                    stride=layout.delta_row_stride, kind="values",
                )  # fmt: skip

    def _weigh(self, s: int, head: int, weights: int) -> None:
        """What each entry of the list counts for: its scale, decayed."""
        commands, entries, layout = self.w.commands, self._length(s), self.layout
        offset = head * layout.scale_stride
        commands.elementwise(self.part(s, "scales", offset), entries, to=self._scales)
        commands.elementwise(
            self.part(s, "logs", offset), entries, p=-1.0, q=Loaded(self.logs + s * self.stride + head),
            function=Function.EXP, b=self._scales, multiplier=Multiplier.B, to=weights,
        )  # fmt: skip

    def add_up(self, group: Group) -> None:
        """What state and list together give for each vector and head of a group, at `state`."""
        commands, size, heads, count = self.w.commands, self.a.value_size, group.heads, group.heads * self.a.value_size
        for first in range(0, len(self.vectors) * count, count):
            commands.elementwise(
                self.state + first, size, heads, a_stride=size, p=self.each(self.decays, group.sequence, group.first),
                b=self.deltas[0] + first, b_stride=size, combine=Combine.SUM, to=self.state + first, d_stride=size,
            )  # fmt: skip
        whole = len(self.vectors) * count
        commands.elementwise(self.state, whole, b=self.deltas[1], combine=Combine.SUM, to=self.state)
