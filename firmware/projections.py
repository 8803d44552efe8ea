"""Queries, keys and values of a token: computed, rotated, cached, and quantised for the attention that follows."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby

from tailrace.spec.floats import Function
from tailrace.spec.isa import Combine

from .cache_writer import CacheWriter
from .command_list import Slot, interleaved
from .description import Attention, HeadNorm, layer_role
from .groups import Bundle
from .norms import normalise_all_heads, normalise_heads
from .placement import CachePlace
from .workspace import Workspace

#: The set of the slots that the input belongs to, and the one beside it.
INPUT_SET, OTHER_SET = 0, 1
#: Cycles in which the vector unit begins and ends a command, and in which a fence holds up the stream.
COMMAND_CYCLES, FENCE_CYCLES = 40, 200

#: First operand, segments and distance between them, and target of a command.
Operands = tuple[int, int, int, Slot]


class QuerySlots:
    """Where queries lie in the vector slots: those of a group side by side in as many slots.

    Parameters
    ----------
    attention : Attention
    bundles : sequence of Bundle
    first_block : int
    """

    def __init__(self, attention: Attention, bundles: Sequence[Bundle], first_block: int) -> None:
        self.bundles, self._first_block = bundles, first_block
        self._kv_heads, self._head_blocks = attention.kv_heads, attention.head_blocks

    def place(self, bundle: Bundle, turn: int, kv_head: int) -> int:
        """First block of the queries of a group."""
        before = sum(other.passes for other in self.bundles[: self.bundles.index(bundle)])
        return self._first_block + ((before + turn) * self._kv_heads + kv_head) * self._head_blocks

    @property
    def blocks(self) -> int:
        """Blocks that they take."""
        return sum(bundle.passes for bundle in self.bundles) * self._kv_heads * self._head_blocks


class Projections:
    """The products k, q and v of a layer, and what is done with them.

    Parameters
    ----------
    workspace : Workspace
    layer : int
        The (first) layer whose matrices they are.
    attention : Attention
    queries : QuerySlots
    caches : list of CachePlace
        For each sequence.
    row_registers : list of int
        For each row the register with the row of the cache that is written.
    turns : sequence of sequences of int
        Rows whose keys and values are appended together. `emit` appends those of the first turn, `append` others.

    Attributes
    ----------
    append : callable
        Appends keys and values of some rows.
    """

    def __init__(
        self, workspace: Workspace, layer: int, attention: Attention, queries: QuerySlots, caches: list[CachePlace],
        row_registers: list[int], turns: Sequence[Sequence[int]],
    ) -> None:  # fmt: skip
        w = self._workspace = workspace
        self._attention, self._queries = attention, queries
        self._layer, heads, kv_heads, size = layer, attention.heads, attention.kv_heads, attention.head_size
        #: Whether the product with k is the last one, not that with q.
        self.keys_last = self._keys_cost_less()
        #: Sets of the slots that the queries of the first group belong to, all other queries, and the outputs of heads. Behind
        #: the last product that of the input is free, and behind the scores of the first group that of its queries.
        self.first_set = OTHER_SET
        self.other_set, self.output_set = (OTHER_SET, INPUT_SET) if self.keys_last else (INPUT_SET, OTHER_SET)
        allocate = w.buffer.allocate
        self._writer = CacheWriter(w, attention, caches, row_registers, turns)
        self.append = self._writer.append
        normalised = attention.head_norm is not None or attention.value_norm
        self._head_sums = allocate("the sums of head norms", w.batch * heads) if normalised else 0
        each_head = attention.head_norm in (HeadNorm.HEAD, HeadNorm.ROTATED_HEAD)
        own = "q" if attention.shared_cache else "kq"
        self._weights = {r: allocate(f"the weights of {r}_norm", size) for r in own} if each_head else {}
        #: The sigmoids that the outputs of heads are multiplied with.
        self.gate = allocate("the gate of attention", w.batch * heads * size) if attention.gated else 0
        cached = 0 if attention.shared_cache else kv_heads * size
        widths = {"k": cached, "q": heads * size, "v": cached}
        self._biases: dict[str, int] = {}
        entries: dict[str, int] = {}
        for role in "qkv":
            if role == "k":
                # Where keys and values are until they are in the cache; then that is free.
                self.end = w.buffer.mark()
            if w.bias(layer_role(layer, role)):
                self._biases[role] = allocate(f"the bias of {role}", widths[role])
            entries[role] = allocate({"q": "queries", "k": "keys", "v": "values"}[role], w.batch * widths[role])
        self._heads, self._keys, self._values = entries.values()

    def emit(self, queries_too: bool = True) -> None:
        """Emit the products, and the work on values and keys, which end in the cache.

        `queries_too`: whether there is attention behind that.
        """
        w, attention, size = self._workspace, self._attention, self._attention.head_size
        for role, entry in self._weights.items():
            w.commands.elementwise(w.address(w.table(layer_role(self._layer, f"{role}_norm")).address), size, to=entry)
        for role, entry in self._biases.items():
            table = w.table(f"{layer_role(self._layer, role)}_bias")
            w.commands.elementwise(w.address(table.address), table.columns, to=entry)

        def product(role: str, entry: int, heads: int) -> Callable[[], None]:
            return lambda: w.products(w.matrix(layer_role(self._layer, role), heads * size, w.hidden), entry)

        keys = (product("k", self._keys, attention.kv_heads), self._finish_keys)
        values = [] if attention.keys_as_values else [(product("v", self._values, attention.kv_heads), self._finish_values)]
        if attention.keys_as_values:
            keys = (keys[0], self._finish_values_and_keys)
        queries = product("q", self._heads, attention.heads)
        cached = [] if attention.shared_cache else [*values, keys]
        gate = [(product("output_gate", self.gate, attention.heads), self._finish_gate)] if attention.gated else []
        if not queries_too:
            interleaved(cached)
        elif self.keys_last:
            interleaved([*values, (queries, self._finish_all_queries), *gate, keys])
        else:
            interleaved([*cached, (queries, self._finish_first_queries), *gate])

    def _keys_cost_less(self) -> bool:
        """Whether the work on keys takes the vector unit less time than that on queries: the lesser one is not hidden."""
        attention, lanes = self._attention, self._workspace.build.lanes
        if attention.shared_cache:
            return False
        passes = bool(attention.rotary_size) + 2 * bool(attention.head_norm)
        queries = (passes + 1) * attention.heads * attention.head_size // lanes
        keys = (passes + 4) * attention.kv_heads * attention.head_size // lanes
        return keys + 4 * COMMAND_CYCLES + FENCE_CYCLES < queries

    def _finish_gate(self) -> None:
        w, size = self._workspace, self._attention.heads * self._attention.head_size
        w.commands.elementwise(self.gate, w.batch * size, function=Function.SIGMOID, to=self.gate)

    def _finish_all_queries(self) -> None:
        self._finish_first_queries()
        self.finish_other_queries()

    def _prepare(self, role: str, start: int, heads: int, first: int, count: int) -> None:
        """Bias, head norm and rotation of heads `first` to ``first + count - 1`` of all sequences' keys or queries."""
        w, attention, size = self._workspace, self._attention, self._attention.head_size
        parts = [(s, range(max(first - s * heads, 0), min(first + count - s * heads, heads))) for s in w.sequences]
        parts = [(s, part) for s, part in parts if part]
        if attention.head_norm is HeadNorm.ALL_HEADS:
            if first == 0:
                self._add_bias(role, start, [(s, range(heads)) for s in w.sequences])
                weight = w.address(w.table(layer_role(self._layer, f"{role}_norm")).address)
                normalise_all_heads(w, start, heads * size, weight, self._head_sums)
        else:
            self._add_bias(role, start, parts)
        if attention.head_norm is HeadNorm.HEAD:
            normalise_heads(w, start + first * size, count, size, self._weights[role], self._head_sums)
        if attention.rotary_size:
            for s, part in parts:
                place, table = start + (s * heads + part.start) * size, w.position_rows[attention.rope, s]
                w.commands.rotate(place, table, attention.rotary_size // 2, len(part), size)
        if attention.head_norm in (HeadNorm.ROTATED_HEAD, HeadNorm.PLAIN_ROTATED_HEAD):
            normalise_heads(w, start + first * size, count, size, self._weights.get(role), self._head_sums)

    def _add_bias(self, role: str, start: int, parts: list[tuple[int, range]]) -> None:
        """Add the bias of q or k to some heads of each sequence."""
        size = self._attention.head_size
        heads = self._attention.heads if role == "q" else self._attention.kv_heads
        for s, part in parts if role in self._biases else ():
            place, bias = start + (s * heads + part.start) * size, self._biases[role] + part.start * size
            self._workspace.commands.elementwise(place, len(part) * size, b=bias, combine=Combine.SUM, to=place)

    def _finish_keys(self) -> None:
        heads = self._attention.kv_heads
        self._prepare("k", self._keys, heads, 0, self._workspace.batch * heads)
        self._writer.keys(self._keys)

    def _finish_first_queries(self) -> None:
        """The queries of the first group, so that its keys can be streamed while the vector unit works on the others."""
        first, heads = self._queries.bundles[0], self._attention.heads
        # Those of several rows do not lie side by side.
        self._prepared = first.width if len(first.rows) == 1 else self._workspace.batch * heads
        self._prepare("q", self._heads, heads, 0, self._prepared)
        for operands in self._of_group(first, 0, 0, self.first_set):
            self._place_queries(operands)

    def finish_other_queries(self) -> None:
        """All queries but those of the first group."""
        heads = self._workspace.batch * self._attention.heads - self._prepared
        if heads:
            self._prepare("q", self._heads, self._attention.heads, self._prepared, heads)
        by_group, by_head = self._other_groups(), self._other_heads()
        # A set's first vector must not be joined with what was there before it.
        first = self._queries.bundles[0]
        written = set(range(first.sides)) if self.first_set == self.other_set else set()
        for operands in by_group if len(by_group) <= len(by_head) else by_head:
            for part in _parts(operands, written):
                self._place_queries(part)

    def _place_queries(self, operands: Operands) -> None:
        start, segments, stride, target = operands
        self._workspace.commands.elementwise(start, self._attention.head_size, segments, a_stride=stride, to=target)

    def _of_group(self, bundle: Bundle, turn: int, kv_head: int, vector_set: int) -> list[Operands]:
        """The commands for a group: heads of one row, or a head of all rows at a time, to different slots."""
        attention, size, rows = self._attention, self._attention.head_size, len(bundle.rows)
        heads = bundle.heads(turn, attention.group)
        place, target = self._queries.place(bundle, turn, kv_head), Slot(0, vector_set, 0, next_slot=True)
        entries = [
            self._heads + ((bundle.rows[0] * attention.kv_heads + kv_head) * attention.group + head) * size for head in heads
        ]
        if rows == 1:
            return [(entries[0], len(heads), size, replace(target, first_block=place))]
        stride = attention.heads * size
        return [(entry, rows, stride, replace(target, slot=h * rows, first_block=place)) for h, entry in enumerate(entries)]

    def _other_groups(self) -> list[Operands]:
        """The commands for each group; those of more slots first, so that few begin some of their slots and not others."""
        commands: list[Operands] = []
        for bundle in self._queries.bundles:
            for kv_head in range(self._attention.kv_heads):
                for turn in range(bundle.passes):
                    if bundle is not self._queries.bundles[0] or kv_head or turn:
                        commands += self._of_group(bundle, turn, kv_head, self.other_set)
        return sorted(commands, key=lambda command: -command[1])

    def _other_heads(self) -> list[Operands]:
        """A command for each head of a group: that head of all groups to one slot."""
        attention, size = self._attention, self._attention.head_size
        commands: list[Operands] = []
        for bundle in self._queries.bundles:
            for turn in range(bundle.passes):
                # Of the first groups of a bundle's KV heads the very first one is there.
                first = int(bundle is self._queries.bundles[0] and turn == 0)
                if first == attention.kv_heads:
                    continue
                place = self._queries.place(bundle, turn, first)
                for h, j in enumerate(bundle.heads(turn, attention.group)):
                    for r, row in enumerate(bundle.rows):
                        head = (row * attention.kv_heads + first) * attention.group + j
                        target = Slot(h * len(bundle.rows) + r, self.other_set, place)
                        commands.append((self._heads + head * size, attention.kv_heads - first, attention.group * size, target))
        return commands

    def _finish_values_and_keys(self) -> None:
        """Where they are the results of one product."""
        w, attention = self._workspace, self._attention
        w.commands.elementwise(self._keys, w.batch * attention.kv_heads * attention.head_size, to=self._values)
        self._finish_values()
        self._finish_keys()

    def _finish_values(self) -> None:
        w, attention, size = self._workspace, self._attention, self._attention.head_size
        heads = attention.kv_heads
        role = "k" if attention.keys_as_values else "v"
        if role in self._biases:
            width = heads * size
            w.commands.elementwise(
                self._values,
                width,
                w.batch,
                a_stride=width,
                b=self._biases[role],
                combine=Combine.SUM,
                to=self._values,
                d_stride=width,
            )
        if attention.value_norm:
            normalise_heads(w, self._values, w.batch * heads, size, None, self._head_sums)
        self._writer.values(self._values)


def _parts(operands: Operands, written: set[int]) -> list[Operands]:
    """A command in parts whose slots all have a vector, to be joined with, or all have none; notes that they have one then."""
    start, segments, stride, target = operands
    if not target.next_slot:
        joined = target.slot in written
        written.add(target.slot)
        return [(start, segments, stride, replace(target, join=joined))]
    parts: list[Operands] = []
    slots = range(target.slot, target.slot + segments)
    for joined, run in groupby(range(segments), lambda n: slots[n] in written):
        part = [*run]
        here = replace(target, slot=slots[part[0]], join=joined)
        parts.append((start + part[0] * stride, len(part), stride, here))
    written |= {*slots}
    return parts
