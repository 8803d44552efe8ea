"""Queries, keys and values of a token: computed, rotated, cached, and quantised for the attention that follows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

from tailrace.spec.errors import ModelError
from tailrace.spec.floats import Function
from tailrace.spec.formats import BLOCK
from tailrace.spec.isa import Combine

from .cache_writer import CacheWriter
from .command_list import Slot, Stage, interleaved
from .description import Attention, HeadNorm, layer_role
from .groups import Bundle, Group
from .norms import normalise_all_heads, normalise_heads
from .placement import CachePlace, MatrixPart, MatrixPlace
from .workspace import Workspace

#: The set of the slots that the input belongs to, and the one beside it.
INPUT_SET, OTHER_SET = 0, 1
#: First operand, its length, segments and distance between them, and target of a command.
Operands = tuple[int, int, int, int, Slot]
#: Queries that share a pass over keys: a bundle, its turn, and the KV head.
Share = tuple[Bundle, int, int]


@dataclass(frozen=True)
class Portion:
    """What a part of q gives: the queries of some KV heads, of all rows.

    Attributes
    ----------
    part : MatrixPart
    entry : int
        Where they begin, those of row 0 first. That of the portion after the next one is the same.
    kv_heads : range
    heads : int
        Queries of a row.
    """

    part: MatrixPart
    entry: int
    kv_heads: range
    heads: int


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
        self._filled = attention.head_size % BLOCK == 0

    def place(self, bundle: Bundle, turn: int, kv_head: int) -> int:
        """First block of the queries of a group."""
        before = sum(other.passes for other in self.bundles[: self.bundles.index(bundle)]) * self._kv_heads
        number = kv_head * bundle.passes + turn if self.in_order(bundle) else turn * self._kv_heads + kv_head
        return self._first_block + (before + number) * self._head_blocks

    def in_order(self, bundle: Bundle) -> bool:
        """Whether the queries of a row lie side by side in its slot: of several rows, each with one head in a pass."""
        return len(bundle.rows) > 1 and bundle.width == 1 and self._filled

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
    short : bool
        Whether room is short: the queries of a part of q take the place of others, which are in the slots by then.

    Attributes
    ----------
    append : callable
        Appends keys and values of some rows.
    """

    def __init__(
        self, workspace: Workspace, layer: int, attention: Attention, queries: QuerySlots, caches: list[CachePlace],
        row_registers: list[int], turns: Sequence[Sequence[int]], *, short: bool = False,
    ) -> None:  # fmt: skip
        w = self._workspace = workspace
        self._attention, self._queries = attention, queries
        self._layer, heads, kv_heads, size = layer, attention.heads, attention.kv_heads, attention.head_size
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
        self._query_matrix = self._matrix_of_queries()
        self._biases: dict[str, int] = {}
        entries: dict[str, list[int]] = {}
        names = {"q": "queries", "k": "keys", "v": "values"}
        parts = self._query_matrix.parts
        for role in "qkv":
            if role == "k":
                # Where keys and values are until they are in the cache; then that is free.
                self.end = w.buffer.mark()
            if w.bias(layer_role(layer, role)):
                self._biases[role] = allocate(f"the bias of {role}", widths[role])
            sizes = [widths[role]]
            if role == "q":
                sizes = [max(part.rows for part in parts)] * 2 if short and len(parts) > 2 else [part.rows for part in parts]
            entries[role] = [allocate(names[role], w.batch * size) for size in sizes]
        self._writer.reserve()
        (self._keys,), (self._values,) = entries["k"], entries["v"]
        self._portions = self._portions_of(entries["q"])
        shares = [
            (bundle, turn, kv_head)
            for bundle in self._queries.bundles for kv_head in range(kv_heads) for turn in range(bundle.passes)
        ]  # fmt: skip
        #: Queries whose keys may be streamed before they are there: behind a product with all of q there is work for long.
        self._later = shares[1:] if len(self._portions) == 1 else []
        self._first = shares[: len(shares) - len(self._later)]
        #: Slots of a set that have a vector: the next one is joined with that.
        self._written: dict[int, set[int]] = {INPUT_SET: set(), OTHER_SET: set()}
        #: Sets of the slots that later queries belong to, and the outputs of heads: behind the last product that of the input
        #: is free, and behind the scores of the first group that of its queries.
        self._later_set, self.output_set = (INPUT_SET, OTHER_SET) if self._later else (OTHER_SET, INPUT_SET)

    def vector_set(self, group: Group) -> int:
        """Set of the slots that the queries of a group belong to."""
        return self._later_set if group.number else OTHER_SET

    def _matrix_of_queries(self) -> MatrixPlace:
        w, attention = self._workspace, self._attention
        role, rows = layer_role(self._layer, "q"), attention.group * attention.head_size
        place = w.matrix(role, attention.kv_heads * rows, w.hidden)
        if any(part.first_row % rows or part.rows % rows for part in place.parts):
            raise ModelError(f"parts of {role} must have a multiple of {rows} rows: the queries of whole KV heads")
        return place

    def _portions_of(self, places: Sequence[int]) -> list[Portion]:
        """The portions, whose results take turns in `places`."""
        rows, portions = self._attention.group * self._attention.head_size, list[Portion]()
        for n, part in enumerate(self._query_matrix.parts):
            kv_heads = range(part.first_row // rows, (part.first_row + part.rows) // rows)
            portions.append(Portion(part, places[n % len(places)], kv_heads, len(kv_heads) * self._attention.group))
        return portions

    def emit(self, queries_too: bool = True, ahead: Callable[[], None] | None = None) -> bool:
        """Emit the products, and the work on values and keys, which end in the cache.

        Parameters
        ----------
        queries_too : bool
            Whether there is attention behind that.
        ahead : callable or None
            Emitted in front of the last product, if keys and values are in the cache by then.

        Returns
        -------
        bool
            Whether `ahead` has been emitted.
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
        cached = [] if attention.shared_cache else [*values, keys]
        gate = [(product("output_gate", self.gate, attention.heads), self._finish_gate)] if attention.gated else []
        if not queries_too:
            interleaved(cached)
            return False
        queries = [(partial(self._multiply, portion), partial(self._finish_portion, portion)) for portion in self._portions]
        stages: list[Stage] = [*cached, *queries, *gate]
        # What is done with a product is emitted behind the next one.
        if ahead is None or len(queries) + len(gate) < 2:
            interleaved(stages)
            return False
        product_behind, work = stages.pop()

        def last() -> None:
            ahead()
            product_behind()

        interleaved([*stages, (last, work)])
        return True

    def _multiply(self, portion: Portion) -> None:
        self._workspace.product(self._query_matrix, portion.part, portion.entry, portion.part.rows)

    def _finish_gate(self) -> None:
        w, size = self._workspace, self._attention.heads * self._attention.head_size
        w.commands.elementwise(self.gate, w.batch * size, function=Function.SIGMOID, to=self.gate)

    def _prepare(self, role: str, start: int, heads: int, first: int, count: int, column: int = 0) -> None:
        """Bias, head norm and rotation of heads `first` to ``first + count - 1`` of all sequences' keys or queries.

        `column`: what the bias has for the first of them.
        """
        w, attention, size = self._workspace, self._attention, self._attention.head_size
        parts = [(s, range(max(first - s * heads, 0), min(first + count - s * heads, heads))) for s in w.sequences]
        parts = [(s, part) for s, part in parts if part]
        if attention.head_norm is HeadNorm.ALL_HEADS:
            if first == 0:
                self._add_bias(role, start, heads, [(s, range(heads)) for s in w.sequences], column)
                weight = w.address(w.table(layer_role(self._layer, f"{role}_norm")).address)
                normalise_all_heads(w, start, heads * size, weight, self._head_sums)
        else:
            self._add_bias(role, start, heads, parts, column)
        if attention.head_norm is HeadNorm.HEAD:
            normalise_heads(w, start + first * size, count, size, self._weights[role], self._head_sums)
        if attention.rotary_size:
            for s, part in parts:
                place, table = start + (s * heads + part.start) * size, w.position_rows[attention.rope, s]
                w.commands.rotate(place, table, attention.rotary_size // 2, len(part), size)
        if attention.head_norm in (HeadNorm.ROTATED_HEAD, HeadNorm.PLAIN_ROTATED_HEAD):
            normalise_heads(w, start + first * size, count, size, self._weights.get(role), self._head_sums)

    def _add_bias(self, role: str, start: int, heads: int, parts: list[tuple[int, range]], column: int) -> None:
        """Add the bias of q or k to some of the `heads` heads of each sequence."""
        size = self._attention.head_size
        for s, part in parts if role in self._biases else ():
            place, bias = start + (s * heads + part.start) * size, self._biases[role] + column + part.start * size
            self._workspace.commands.elementwise(place, len(part) * size, b=bias, combine=Combine.SUM, to=place)

    def _finish_keys(self) -> None:
        heads = self._attention.kv_heads
        self._prepare("k", self._keys, heads, 0, self._workspace.batch * heads)
        self._writer.keys(self._keys)

    def _finish_portion(self, portion: Portion) -> None:
        """The queries of a portion, but those that come later: the keys of the first ones are streamed meanwhile."""
        first = self._queries.bundles[0]
        # Those of several rows do not lie side by side.
        self._prepared = first.width if self._later and len(first.rows) == 1 else self._workspace.batch * portion.heads
        self._prepare("q", portion.entry, portion.heads, 0, self._prepared, portion.part.first_row)
        self._place([share for share in self._first if share[2] in portion.kv_heads], OTHER_SET)

    def finish_later_queries(self) -> None:
        """All queries that are not there yet."""
        if self._later:
            (portion,) = self._portions
            heads = self._workspace.batch * portion.heads - self._prepared
            if heads:
                self._prepare("q", portion.entry, portion.heads, self._prepared, heads)
            self._place(self._later, self._later_set)

    def _place(self, shares: Sequence[Share], vector_set: int) -> None:
        """Quantise queries to the slots, with as few commands as there can be."""
        commands = self._by_group(shares, vector_set)
        if not any(self._queries.in_order(bundle) for bundle in self._queries.bundles):
            commands = min(commands, self._by_head(shares, vector_set), key=len)
        for operands in commands:
            # A set's first vector must not be joined with what was there before it.
            for start, count, segments, stride, target in _parts(operands, self._written[vector_set]):
                self._workspace.commands.elementwise(start, count, segments, a_stride=stride, to=target)

    def _entry(self, row: int, kv_head: int, head: int) -> tuple[int, int]:
        """Where the query of a head of a group lies, and the distance to that of the next row."""
        attention = self._attention
        portion = next(portion for portion in self._portions if kv_head in portion.kv_heads)
        number = row * portion.heads + (kv_head - portion.kv_heads.start) * attention.group + head
        return portion.entry + number * attention.head_size, portion.heads * attention.head_size

    def _by_group(self, shares: Sequence[Share], vector_set: int) -> list[Operands]:
        """The commands for each group: heads of one row, or a head of all rows at a time, to different slots.

        Those of more slots come first, so that few begin some of their slots and not others. Heads of all rows that lie side by
        side in the slots, too, share a command.
        """
        attention, commands = self._attention, list[Operands]()
        size = attention.head_size
        for bundle, turn, kv_head in shares:
            rows, heads = bundle.rows, bundle.heads(turn, attention.group)
            target = Slot(0, vector_set, self._queries.place(bundle, turn, kv_head), next_slot=True)
            if len(rows) == 1:
                entry, _ = self._entry(rows[0], kv_head, heads.start)
                commands.append((entry, size, len(heads), size, target))
                continue
            for h, head in enumerate(heads):
                entry, stride = self._entry(rows[0], kv_head, head)
                before = commands[-1] if commands else None
                if before and self._queries.in_order(bundle):
                    start, count, segments, distance, place = before
                    beside = replace(place, first_block=place.first_block + count // BLOCK)
                    if (start + count, segments, distance, beside) == (entry, len(rows), stride, target):
                        commands[-1] = (start, count + size, segments, distance, place)
                        continue
                commands.append((entry, size, len(rows), stride, replace(target, slot=h * len(rows))))
        return sorted(commands, key=lambda command: -command[2])

    def _by_head(self, shares: Sequence[Share], vector_set: int) -> list[Operands]:
        """A command for each head of a group: that head of all KV heads to one slot."""
        attention, commands = self._attention, list[Operands]()
        for bundle in self._queries.bundles:
            for turn in range(bundle.passes):
                kv_heads = [share[2] for share in shares if share[:2] == (bundle, turn)]
                if not kv_heads:
                    continue
                place = self._queries.place(bundle, turn, kv_heads[0])
                for h, head in enumerate(bundle.heads(turn, attention.group)):
                    for r, row in enumerate(bundle.rows):
                        entry, _ = self._entry(row, kv_heads[0], head)
                        target = Slot(h * len(bundle.rows) + r, vector_set, place)
                        stride = attention.group * attention.head_size
                        commands.append((entry, attention.head_size, len(kv_heads), stride, target))
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
    start, count, segments, stride, target = operands
    if not target.next_slot:
        joined = target.slot in written
        written.add(target.slot)
        return [(start, count, segments, stride, replace(target, join=joined))]
    parts: list[Operands] = []
    slots = range(target.slot, target.slot + segments)
    for joined, run in groupby(range(segments), lambda n: slots[n] in written):
        part = [*run]
        here = replace(target, slot=slots[part[0]], join=joined)
        parts.append((start + part[0] * stride, count, len(part), stride, here))
    written |= {*slots}
    return parts
