"""The products of linear attention's heads with states and lists, and the vectors that they are multiplied with.

Streams of both units come through one queue, in the order of the commands: a vector command that reads a stream keeps back all
weights behind it, and one behind a product waits for that. So what heads stream beside codes is fetched for several at a
time, and what a product is multiplied with is made while the product before is streamed.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tailrace.spec.floats import Function
from tailrace.spec.formats import BLOCK, I8, Q8_0
from tailrace.spec.isa import STREAM_UNIT, Combine, Multiplier
from tailrace.spec.linear_attention import ENTRIES, FOLD, LOWER_EXPONENT, SCALES

from .buffer_map import slot_map
from .command_list import Length, Loaded, Slot
from .description import LinearAttention
from .recent_rows import scratch_size
from .state_places import SCORES, StatePlaces
from .workspace import Workspace

#: Sets of the slots: what the output matrix reads; what the list is multiplied with, its keys and then its deltas; and what the
#: states of heads are, in turn: the second one is free when all products with the layer's input, in set 0, are done.
OUTPUT_SET, LIST_SET, STATE_SETS = 1, 3, (2, 0)
#: Heads of a group, at most: so many that what is done for all of them takes little longer than for one, and so few that what
#: follows the last group is short.
GROUP = 8


@dataclass(frozen=True)
class Group:
    """Value heads whose results are worked on together; in turn they lie in one of two places."""

    sequence: int
    first: int
    heads: int
    turn: int


class StateProducts(StatePlaces):
    """What is read of state and list, and where it is put.

    Parameters
    ----------
    workspace : Workspace
    roles : str
    mixer : int
    a : LinearAttention
        See `StatePlaces`.
    vectors : int
        How many vectors of a key head state and list are multiplied with.
    """

    def __init__(self, workspace: Workspace, roles: str, mixer: int, a: LinearAttention, vectors: int) -> None:
        super().__init__(workspace, roles, mixer, a)
        self.count = vectors
        #: Vectors that share a pass, if there are slots for all.
        self.width = min(workspace.build.right_hand_sides, vectors)

    def allocate_products(self) -> None:
        """Reserve entries for a convolution, for the planes of what is appended, and for products, none of which meet."""
        w, a, count = self.w, self.a, self.count
        allocate, start = w.buffer.allocate, w.buffer.mark()
        self.rows = allocate("recent rows", scratch_size(a.channels, a.kernel))
        with w.buffer.over(start):
            self.apart = allocate("planes of keys and deltas", max(2 * a.keys, a.values))
        with w.buffer.over(start):
            self._scores = allocate("the products with a list", a.key_heads * count * SCORES)
            results = 3 * count * a.value_size
            per_head = 2 * results + 2 * a.key_size + 3 * SCALES
            self.group = min(w.buffer.free // per_head, a.value_heads, GROUP) or 1
            turns = range(2)
            self._state_scales = allocate("the scales of states", self.group * 2 * a.key_size)
            self._scales = allocate("the scales of deltas", self.group * SCALES)
            self._weights = [allocate("the weights of lists", self.group * SCALES) for _ in turns]
            size = self.group * count * a.value_size
            self.state = [allocate("the products with states", size) for _ in turns]
            self.deltas = [[allocate("the products with deltas", size) for _ in range(2)] for _ in turns]
        self._slot_plan()

    def _slot_plan(self) -> None:
        w, a = self.w, self.a
        blocks = slot_map(w.build.vector_blocks)
        blocks.allocate("the input of linear attention and its output", max(w.hidden, a.values) // BLOCK)
        # With one slot, all vectors lie side by side in it.
        self._passes = range(self.count // self.width)
        copies = len(self._passes)
        self._list_blocks = blocks.allocate("keys and queries", copies * a.key_heads * self.layout.key_blocks)
        self._state_size, self._delta_size = 2 * a.key_size // STREAM_UNIT, -(-ENTRIES // STREAM_UNIT)
        self._state_blocks = [blocks.allocate("what a state is multiplied with", copies * self._state_size) for _ in STATE_SETS]
        self._delta_blocks = blocks.allocate("what deltas are multiplied with", copies * self._delta_size)

    def groups(self, s: int) -> list[Group]:
        """All value heads of a sequence."""
        firsts = range(0, self.a.value_heads, self.group)
        return [Group(s, first, min(self.group, self.a.value_heads - first), n % 2) for n, first in enumerate(firsts)]

    def length(self, sequence: int) -> Length:
        """Entries of a list."""
        return Length(self.entries(sequence), ENTRIES, FOLD)

    # The list's keys.

    def load_list_vectors(self, s: int, vectors: tuple[Callable[..., int], ...]) -> None:
        """The vectors of each key head, each followed by what its lower plane counts for."""
        for n, vector in enumerate(vectors):
            for head in range(self.a.key_heads):
                joined = head > 0 or n >= self.width
                target = Slot(n % self.width, LIST_SET, self._list_place(n // self.width, head), join=joined)
                self.w.commands.elementwise(
                    vector(s, head), self.a.key_size, 2, p=Loaded(self.planes, advance=True), to=target
                )  # fmt: skip

    def _list_place(self, copy: int, head: int) -> int:
        return self._list_blocks + (copy * self.a.key_heads + head) * self.layout.key_blocks

    def multiply_keys(self, s: int) -> None:
        """Scores of all key heads."""
        entries, layout = self.length(s), self.layout
        for head in range(self.a.key_heads):
            for copy in self._passes:
                self.w.commands.gemv(
                    self.part(s, "keys", head * layout.key_stride), number=Q8_0.number, rows=entries,
                    blocks=layout.key_blocks, slots=self.width, vector_set=LIST_SET,
                    first_block=self._list_place(copy, head),
                    offset=self._scores + (self.count * head + copy * self.width) * SCORES, slot_stride=SCORES, kind="keys",
                )  # fmt: skip

    # Value heads: the state, then the list's deltas.

    def load_group(self, group: Group) -> None:
        """The scales of a group's states, and what each entry of its lists counts for: its scale, decayed."""
        s, commands, layout, heads = group.sequence, self.w.commands, self.layout, group.heads
        states = self.part(s, "state_scales", group.first * layout.state_scale_stride)
        commands.elementwise(states, 2 * self.a.key_size * heads, to=self._state_scales)
        offset = group.first * layout.scale_stride
        commands.elementwise(self.part(s, "scales", offset), SCALES * heads, to=self._scales)
        commands.elementwise(
            self.part(s, "logs", offset), SCALES, heads, p=-1.0, q=self.each(self.logs, s, group.first), function=Function.EXP,
            b=self._scales, b_stride=SCALES, multiplier=Multiplier.B, to=self._weights[group.turn], d_stride=SCALES,
        )  # fmt: skip

    def load_state_vectors(self, group: Group, head: int, vectors: tuple[Callable[..., int], ...]) -> None:
        """What a head's state is multiplied with: each vector times the scales, once for each plane."""
        size, turn = self.a.key_size, head % 2
        scales = self._state_scales + (head - group.first) * 2 * size
        for n, vector in enumerate(vectors):
            copy, slot = divmod(n, self.width)
            target = Slot(
                slot, STATE_SETS[turn], self._state_blocks[turn] + copy * self._state_size, duplicate=True, join=copy > 0
            )  # fmt: skip
            self.w.commands.elementwise(
                vector(group.sequence, self.a.key_head(head)), size, 2, b=scales, b_stride=size, combine=Combine.PRODUCT,
                to=target,
            )  # fmt: skip

    def multiply_state(self, group: Group, head: int) -> None:
        """Multiply a head's state."""
        a, layout, turn = self.a, self.layout, head % 2
        source = self.part(group.sequence, "state", head * layout.state_stride)
        for copy in self._passes:
            self.w.commands.gemv(
                source, number=I8.number, rows=a.value_size, blocks=self._state_size, slots=self.width,
                vector_set=STATE_SETS[turn], first_block=self._state_blocks[turn] + copy * self._state_size,
                offset=self._result(self.state[group.turn], group, head, copy), slot_stride=group.heads * a.value_size,
                stride=layout.state_row_stride, kind="state",
            )  # fmt: skip

    def load_delta_vectors(self, group: Group, head: int) -> None:
        """What a head's deltas are multiplied with: the scores of its key head, times what each entry counts for."""
        weights = self._weights[group.turn] + (head - group.first) * SCALES
        for copy in self._passes:
            scores = self._scores + (self.count * self.a.key_head(head) + copy * self.width) * SCORES
            target = Slot(
                0, LIST_SET, self._delta_blocks + copy * self._delta_size, next_slot=True, duplicate=True, join=copy > 0
            )  # fmt: skip
            self.w.commands.elementwise(
                scores, self.length(group.sequence), self.width, a_stride=SCORES, b=weights, combine=Combine.PRODUCT, to=target
            )  # fmt: skip

    def multiply_deltas(self, group: Group, head: int) -> None:
        """Multiply both planes of a head's deltas."""
        a, layout, s = self.a, self.layout, group.sequence
        blocks = Length(self.w.length_registers[s % 2][1], self._delta_size, FOLD)
        for plane, (name, exponent) in enumerate((("deltas", 0), ("lower_deltas", LOWER_EXPONENT))):
            for copy in self._passes:
                self.w.commands.gemv(
                    self.part(s, name, head * layout.delta_stride), number=I8.number, rows=a.value_size, blocks=blocks,
                    slots=self.width, vector_set=LIST_SET, first_block=self._delta_blocks + copy * self._delta_size,
                    offset=self._result(self.deltas[group.turn][plane], group, head, copy),
                    slot_stride=group.heads * a.value_size, exponent=exponent, stride=layout.delta_row_stride, kind="values",
                )  # fmt: skip

    def _result(self, entry: int, group: Group, head: int, copy: int) -> int:
        """Where the results of a head begin: those of all heads with one vector lie together."""
        return entry + (head - group.first + copy * self.width * group.heads) * self.a.value_size
