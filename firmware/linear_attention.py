"""Linear attention for a token: the state and the list since are read once, and the token joins the list."""

from dataclasses import dataclass
from typing import Any

from tailrace.spec.errors import LimitError
from tailrace.spec.floats import Function
from tailrace.spec.formats import BLOCK, I8, Q8_0
from tailrace.spec.isa import ADDRESS_UNIT, STREAM_UNIT, Cache, Combine, Multiplier, Reduce
from tailrace.spec.linear_attention import ENTRIES, FOLD, FOLD_SHIFT, LOWER, LOWER_EXPONENT, StateLayout
from tailrace.spec.recent_rows import RecentRows

from .branch import Branch, enter, leave
from .buffer_map import slot_map
from .command_list import Address, Length, Loaded, Slot, interleaved
from .decays import logs
from .description import LinearAttention, layer_role
from .planes import scale_down, take_apart
from .recent_rows import convolve, piece_size
from .workspace import POSITION, Workspace

#: Sets of the slots: what all products before read, the list's keys are multiplied with, and the output matrix reads; and those
#: of the heads in turn.
INPUT_SET, LIST_SET, OUTPUT_SET, HEAD_SETS = 0, 0, 1, (2, 3)
#: Added to the square of the length that queries and keys are divided by.
EPSILON = 1e-6
#: Elements of a key at most, so that both planes are what one `APPEND` takes.
MAX_KEY_SIZE = 128
#: Entries between the results of a list's product for one vector and those for the next.
SCORES = -(-ENTRIES // 4) * 4


def layout_of(a: LinearAttention, lanes: int) -> StateLayout:
    """How what a layer keeps lies in memory."""
    return StateLayout(a.key_heads, a.value_heads, a.key_size, a.value_size, RecentRows(a.channels, a.kernel), lanes)


def attend_linearly(workspace: Workspace, layer: int, attention: LinearAttention, branch: Branch) -> None:
    """Norm, linear attention, residual of a layer."""
    w, o_role = workspace, layer_role(layer, "o")
    with w.buffer.phase():
        heads = _Token(w, layer, attention)
        enter(w, branch)
        heads.emit()
        w.products(w.matrix(o_role, w.hidden, attention.values), heads.result, vector_set=OUTPUT_SET)
        for s in w.sequences:
            heads.append(s)
        leave(w, branch, heads.result, w.bias(o_role))


@dataclass(frozen=True)
class _Group:
    """Value heads whose results are in the buffer at the same time."""

    sequence: int
    first: int
    heads: int


class _Token:
    """The commands between norm and output matrix of one layer, and those that append to the list."""

    def __init__(self, workspace: Workspace, layer: int, a: LinearAttention) -> None:
        w = self._w = workspace
        self._a, self._layer, self._layout = a, layer, layout_of(a, w.build.lanes)
        _check(a)
        #: Vectors that share a pass: key and query, if there are slots for both.
        self._width = min(w.build.right_hand_sides, 2)
        self._key_blocks = self._layout.key_blocks
        allocate, heads = w.buffer.allocate, _round4(a.value_heads)
        self.result = allocate("the results of o", w.batch * w.hidden)
        self._mixed = allocate("queries, keys and values", w.batch * a.channels)
        self._gate = allocate("the gate of linear attention", w.batch * a.values)
        self._stride = heads
        self._alpha = allocate("what decays come from", w.batch * heads)
        self._beta = allocate("rates", w.batch * heads)
        self._logs = allocate("the sums of decays", w.batch * heads)
        self._decays = allocate("decays", w.batch * heads)
        self._matches = allocate("products of keys and queries", w.batch * heads)
        self._planes = allocate("the weights of planes", 2)
        self._norm = allocate("the weights of output_norm", a.value_size)
        self._scratch = allocate("what is between", max(2 * heads, 2 * a.key_heads, 4 * a.key_heads * a.key_size // BLOCK))
        self._lengths = allocate("scales", max(2 * a.key_heads, 4 * a.key_heads * a.key_size // BLOCK, heads))
        start = w.buffer.mark()
        self._piece = allocate("a piece of recent rows", piece_size(a.channels))
        with w.buffer.over(start):
            #: Where keys and deltas are taken apart.
            self._apart = allocate("planes of keys and deltas", max(2 * a.keys, a.values))
        with w.buffer.over(start):
            self._scales = allocate("the scales of deltas", SCORES)
            self._weights = [allocate("the weights of a list", SCORES) for _ in range(2)]
            self._scores = allocate("the products with a list", a.key_heads * 2 * SCORES)
            per_head = 6 * a.value_size
            self._at_a_time = min(w.buffer.free // per_head, a.value_heads)
            if not self._at_a_time:
                allocate("the results of a head", per_head)
            size = self._at_a_time * 2 * a.value_size
            self._state = allocate("the products with states", size)
            self._deltas = [allocate("the products with deltas", size) for _ in range(2)]
        self._slot_plan()

    def _slot_plan(self) -> None:
        w, a = self._w, self._a
        blocks = slot_map(w.build.vector_blocks)
        first = blocks.allocate("the input of linear attention and its output", max(w.hidden, a.values) // BLOCK)
        del first
        # With one slot, key and query lie side by side in it.
        copies = 2 // self._width
        self._list_blocks = blocks.allocate("keys and queries", copies * a.key_heads * self._key_blocks)
        size = max(2 * a.key_size // STREAM_UNIT, -(-ENTRIES // STREAM_UNIT))
        self._head_blocks = [blocks.allocate("the vectors of a head", copies * size) for _ in HEAD_SETS]
        self._head_size = size

    def emit(self) -> None:
        """Emit from the products on, until the outputs of the heads are in the slots."""
        w, a = self._w, self._a
        w.commands.elementwise(w.address(w.table(self._role("output_norm")).address), a.value_size, to=self._norm)

        def small() -> None:
            for role, entry in (("alpha", self._alpha), ("beta", self._beta)):
                place = w.matrix(self._role(role), a.value_heads, w.hidden)
                for part in place.parts:
                    w.product(place, part, entry + part.first_row, self._stride)

        def mixed() -> None:
            w.products(w.matrix(self._role("qkv"), a.channels, w.hidden), self._mixed)

        def gate() -> None:
            w.products(w.matrix(self._role("output_gate"), a.values, w.hidden), self._gate)

        interleaved([(small, self._finish_small), (mixed, self._finish_mixed), (gate, self._finish_gate)])
        for s in w.sequences:
            self._measure(s)
            self._load_list_vectors(s)
            self._multiply_keys(s)
            groups = [
                _Group(s, first, min(self._at_a_time, a.value_heads - first))
                for first in range(0, a.value_heads, self._at_a_time)
            ]
            for group in groups:
                for head in range(group.first, group.first + group.heads):
                    self._head(group, head)
                self._finish(group)

    # Places.

    def _role(self, tensor: str) -> str:
        return layer_role(self._layer, tensor)

    def _part(self, sequence: int, name: str, offset: int = 0, *registers: int) -> Address:
        """A place in what a sequence keeps."""
        place = self._w.state(sequence, self._layer)
        address = self._w.cache_address(place.address + self._layout.offsets[name] + offset)
        return Address(address.byte, (*address.registers, *registers))

    def _entries(self, sequence: int) -> int:
        """Register with the entries of a list, which is the number of the token's own entry, too."""
        return self._w.length_registers[sequence % 2][0]

    def _length(self, sequence: int) -> Length:
        """Entries of a list."""
        return Length(self._entries(sequence), ENTRIES, FOLD)

    def _query(self, sequence: int, head: int = 0) -> int:
        return self._mixed + sequence * self._a.channels + head * self._a.key_size

    def _key(self, sequence: int, head: int = 0) -> int:
        return self._query(sequence, head) + self._a.keys

    def _value(self, sequence: int, head: int = 0) -> int:
        return self._mixed + sequence * self._a.channels + 2 * self._a.keys + head * self._a.value_size

    def _sum_row(self, sequence: int, back: int) -> Address:
        """Row of sums of the token's own entry, or of one before; valid for the next command only."""
        w, pitch = self._w, self._layout.sum_pitch // ADDRESS_UNIT
        w.commands.set(w.address_register, x=self._entries(sequence), factor=pitch, addend=-back * pitch)
        return self._part(sequence, "sums", 0, w.address_register)

    # Between the products.

    def _measure(self, sequence: int) -> None:
        """Set the registers with the length of a sequence's list."""
        commands, position = self._w.commands, POSITION + sequence
        entries, blocks = self._w.length_registers[sequence % 2]
        commands.set(entries, y=position, shift=FOLD_SHIFT)
        commands.set(entries, x=entries, factor=-FOLD, y=position, addend=1)
        commands.set(blocks, y=entries, addend=STREAM_UNIT - 1, shift=STREAM_UNIT.bit_length() - 1)

    def _finish_small(self) -> None:
        """Sums of decays, decays, rates."""
        w, a, commands = self._w, self._a, self._w.commands
        heads = a.value_heads
        bias, decay = w.bias(self._role("alpha")), w.address(w.table(self._role("decay")).address)
        for s in w.sequences:
            self._measure(s)
            alpha, logs_at = self._alpha + s * self._stride, self._logs + s * self._stride
            if bias:
                commands.elementwise(alpha, heads, stream=bias, stream_n=True, to=alpha)
            logs(commands, alpha, logs_at, self._scratch, heads, decay)
            commands.elementwise(self._sum_row(s, 1), heads, b=logs_at, combine=Combine.SUM, to=logs_at)
            commands.store(logs_at, self._sum_row(s, 0), heads)
            commands.elementwise(logs_at, heads, function=Function.EXP, to=self._decays + s * self._stride)
        beta = self._beta
        for s in w.sequences:
            commands.elementwise(beta + s * self._stride, heads, function=Function.SIGMOID, to=beta + s * self._stride)
        # A rate is finite, so that this leaves the constants alone.
        commands.elementwise(beta, 1, p=0.0, q=1.0, reduce=Reduce.SUM, r=self._planes)
        commands.elementwise(beta, 1, p=0.0, q=LOWER, reduce=Reduce.SUM, r=self._planes + 1)

    def _finish_mixed(self) -> None:
        """Convolution and SiLU; queries and keys divided by their lengths; their products."""
        w, a, commands = self._w, self._a, self._w.commands
        weights, size, heads = w.table(self._role("convolution")), a.key_size, a.key_heads
        for s in w.sequences:
            place = self._mixed + s * a.channels
            ring = w.state(s, self._layer).address + self._layout.offsets["rows"]
            convolve(w, place, self._piece, self._layout.rows, ring, weights, s)
            commands.elementwise(place, a.channels, function=Function.SIGMOID, multiplier=Multiplier.A, to=place)
            commands.elementwise(place, size, 2 * heads, a_stride=size, reduce=Reduce.SUM_OF_SQUARES, r=self._lengths)
            commands.elementwise(
                self._lengths, 2 * heads, q=EPSILON, function=Function.RECIPROCAL_SQUARE_ROOT, to=self._lengths
            )
            for first, scale in ((0, size**-0.5), (heads, 1.0)):
                at = place + first * size
                commands.elementwise(
                    at, size, heads, a_stride=size, p=Loaded(self._lengths + first, advance=True), m=scale, to=at, d_stride=size
                )  # fmt: skip
            self._match(s)

    def _match(self, s: int) -> None:
        """For each value head the product of its key and its query."""
        a, size = self._a, self._a.key_size
        ratio, at = a.value_heads // a.key_heads, self._matches + s * self._stride
        runs = (
            [(0, a.key_heads, size, at + j * a.key_heads) for j in range(ratio)]
            if a.tiled
            else [(head, ratio, 0, at + head * ratio) for head in range(a.key_heads)]
        )
        for head, segments, stride, results in runs:
            self._w.commands.elementwise(
                self._key(s, head), size, segments, a_stride=stride, b=self._query(s, head), b_stride=stride,
                combine=Combine.PRODUCT, reduce=Reduce.SUM, r=results,
            )  # fmt: skip

    def _finish_gate(self) -> None:
        w, size = self._w, self._w.batch * self._a.values
        w.commands.elementwise(self._gate, size, function=Function.SIGMOID, multiplier=Multiplier.A, to=self._gate)

    # The list's keys.

    def _load_list_vectors(self, s: int) -> None:
        """Key and query of each key head, each followed by what its lower plane counts for."""
        for n, vector in enumerate((self._key, self._query)):
            for head in range(self._a.key_heads):
                joined = head > 0 or n >= self._width
                target = Slot(n % self._width, LIST_SET, self._list_place(n, head), join=joined)
                self._w.commands.elementwise(
                    vector(s, head), self._a.key_size, 2, p=Loaded(self._planes, advance=True), to=target
                )  # fmt: skip

    def _list_place(self, vector: int, head: int) -> int:
        return self._list_blocks + (vector // self._width * self._a.key_heads + head) * self._key_blocks

    def _multiply_keys(self, s: int) -> None:
        entries, layout = self._length(s), self._layout
        for head in range(self._a.key_heads):
            for first in range(0, 2, self._width):
                self._w.commands.gemv(
                    self._part(s, "keys", head * layout.key_stride), number=Q8_0.number, rows=entries, blocks=self._key_blocks,
                    slots=self._width, vector_set=LIST_SET, first_block=self._list_place(first, head),
                    offset=self._scores + (2 * head + first) * SCORES, slot_stride=SCORES, kind="keys",
                )  # fmt: skip

    # A value head: the state, then the list's deltas.

    def _head(self, group: _Group, head: int) -> None:
        w, a, layout, s, turn = self._w, self._a, self._layout, group.sequence, head % 2
        commands, key_head, size = w.commands, a.key_head(head), a.key_size
        vectors = (self._key(s, key_head), self._query(s, key_head))
        at, vector_set, place = (head - group.first) * a.value_size, HEAD_SETS[turn], self._head_blocks[turn]
        between = group.heads * a.value_size
        scales = self._part(s, "state_scales", head * layout.state_scale_stride)
        for n, vector in enumerate(vectors):
            slot, place_n = n % self._width, place + n // self._width * self._head_size
            target = Slot(slot, vector_set, place_n, duplicate=True, join=n >= self._width)
            commands.elementwise(vector, size, 2, stream=scales, multiplier=Multiplier.STREAM, to=target)
        for first in range(0, 2, self._width):
            commands.gemv(
                self._part(s, "state", head * layout.state_stride), number=I8.number, rows=a.value_size,
                blocks=2 * size // STREAM_UNIT, slots=self._width, vector_set=vector_set,
                first_block=place + first // self._width * self._head_size, offset=self._state + at + first * between,
                slot_stride=between, stride=layout.state_row_stride, kind="state",
            )  # fmt: skip
        self._weigh(s, head, self._weights[turn])
        entries, blocks = self._length(s), Length(w.length_registers[s % 2][1], -(-ENTRIES // STREAM_UNIT), FOLD)
        scores = self._scores + 2 * key_head * SCORES
        for n in range(2):
            slot, place_n = n % self._width, place + n // self._width * self._head_size
            commands.elementwise(
                scores + n * SCORES, entries, b=self._weights[turn], combine=Combine.PRODUCT,
                to=Slot(slot, vector_set, place_n, duplicate=True, join=n >= self._width),
            )  # fmt: skip
        for plane, (name, exponent) in enumerate((("deltas", 0), ("lower_deltas", LOWER_EXPONENT))):
            for first in range(0, 2, self._width):
                commands.gemv(
                    self._part(s, name, head * layout.delta_stride), number=I8.number, rows=a.value_size, blocks=blocks,
                    slots=self._width, vector_set=vector_set, first_block=place + first // self._width * self._head_size,
                    offset=self._deltas[plane] + at + first * between, slot_stride=between, exponent=exponent,
                    stride=layout.delta_row_stride, kind="values",
                )  # fmt: skip

    def _weigh(self, s: int, head: int, weights: int) -> None:
        """What each entry of the list counts for: its scale, decayed."""
        commands, entries, layout = self._w.commands, self._length(s), self._layout
        offset = head * layout.scale_stride
        commands.elementwise(self._part(s, "scales", offset), entries, to=self._scales)
        commands.elementwise(
            self._part(s, "logs", offset), entries, p=-1.0, q=Loaded(self._logs + s * self._stride + head),
            function=Function.EXP, b=self._scales, multiplier=Multiplier.B, to=weights,
        )  # fmt: skip

    def _finish(self, group: _Group) -> None:
        """Deltas of a group, in place of its values; outputs, normalised and gated, into the slots."""
        w, a, s, size = self._w, self._a, group.sequence, self._a.value_size
        commands, heads, count = w.commands, group.heads, group.heads * self._a.value_size
        own = s * self._stride + group.first

        def each(entry: int) -> Loaded:
            return Loaded(entry + own, advance=True)

        for first in (0, count):
            commands.elementwise(
                self._state + first, size, heads, a_stride=size, p=each(self._decays), b=self._deltas[0] + first, b_stride=size,
                combine=Combine.SUM, to=self._state + first, d_stride=size,
            )  # fmt: skip
        commands.elementwise(self._state, 2 * count, b=self._deltas[1], combine=Combine.SUM, to=self._state)
        value, seen, output = self._value(s, group.first), self._state, self._state + count
        commands.elementwise(value, count, b=seen, combine=Combine.SUM, q=-1.0, to=value)
        shape: dict[str, Any] = {"a_stride": size, "d_stride": size}
        commands.elementwise(value, size, heads, p=each(self._beta), to=value, **shape)
        commands.elementwise(
            value, size, heads, p=each(self._matches), b=output, b_stride=size, combine=Combine.SUM, to=output, **shape,
            reduce=Reduce.SUM_OF_SQUARES, r=self._lengths,
        )  # fmt: skip
        epsilon = w.description.norm.epsilon
        commands.elementwise(
            self._lengths, heads, p=1 / size, q=epsilon, function=Function.RECIPROCAL_SQUARE_ROOT, to=self._lengths
        )  # fmt: skip
        commands.elementwise(
            output, size, heads, p=Loaded(self._lengths, advance=True), b=self._norm, multiplier=Multiplier.B, to=output,
            **shape,
        )  # fmt: skip
        first = group.first * size
        target = Slot(s, OUTPUT_SET, first // BLOCK, join=group.first > 0)
        gate = self._gate + s * a.values + first
        commands.elementwise(output, count, b=gate, combine=Combine.PRODUCT, to=target)

    # The list grows.

    def append(self, s: int) -> None:
        """Append the token's keys and deltas."""
        self._measure(s)
        self._append_keys(s)
        self._append_deltas(s)

    def _append_keys(self, s: int) -> None:
        w, a, layout, size = self._w, self._a, self._layout, self._a.key_size
        heads, blocks, at = a.key_heads, 2 * a.keys // BLOCK, self._apart
        for half in (at, at + size):
            w.commands.elementwise(self._key(s), size, heads, a_stride=size, to=half, d_stride=2 * size)
        scale_down(w.commands, at, blocks, BLOCK, self._scratch, self._lengths, Function.HALF)
        take_apart(w.commands, at + size, at, at + size, heads, size, 2 * size)
        w.commands.append(
            Cache.KEYS, a=at, scales=self._lengths, count=2 * size, heads=heads, a_stride=2 * size,
            destination=self._part(s, "keys"), head_stride=layout.key_stride, token=self._entries(s),
        )  # fmt: skip

    def _append_deltas(self, s: int) -> None:
        w, a, layout, size = self._w, self._a, self._layout, self._a.value_size
        value, heads = self._value(s), a.value_heads
        scale_down(w.commands, value, heads, size, self._scratch, self._lengths)
        take_apart(w.commands, value, self._apart, value, heads, size, size)
        planes = (
            (self._apart, self._lengths, "deltas", "scales"),
            (value, self._logs + s * self._stride, "lower_deltas", "logs"),
        )
        for entry, scales, codes, places in planes:
            w.commands.append(
                Cache.VALUES, a=entry, scales=scales, count=size, heads=heads, a_stride=size, destination=self._part(s, codes),
                head_stride=layout.delta_stride, row_stride=layout.delta_row_stride, scale_place=self._part(s, places),
                scale_stride=layout.scale_stride, token=self._entries(s),
            )  # fmt: skip


def _check(a: LinearAttention) -> None:
    if a.key_size % BLOCK or a.value_size % BLOCK or a.key_size > MAX_KEY_SIZE:
        raise LimitError(
            f"heads of linear attention must be multiples of {BLOCK}, keys of at most {MAX_KEY_SIZE} elements, not {a.key_size}"
            f" and {a.value_size}"
        )


def _round4(count: int) -> int:
    return -(-count // 4) * 4
