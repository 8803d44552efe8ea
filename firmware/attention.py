"""Self-attention: keys stream while the vector unit works on the scores of the heads before."""

from dataclasses import dataclass
from typing import Any

from tailrace.spec.errors import LimitError
from tailrace.spec.floats import Function
from tailrace.spec.formats import BLOCK, I8, Q8_0
from tailrace.spec.isa import BUFFER_UNIT, STREAM_UNIT, Cache, Multiplier, Reduce, SetMode

from .branch import Branch, enter, leave
from .buffer_map import slot_map
from .command_list import Length, Loaded, Slot
from .description import Attention, layer_role
from .projections import Projections, QuerySlots
from .workspace import POSITION, Workspace

#: Sets of the probabilities, which alternate.
PROBABILITY_SETS = (2, 3)


def effective_window(attention: Attention, capacity: int) -> int | None:
    """The window, unless the cache is so small that it never closes."""
    return attention.window if attention.window is not None and attention.window <= capacity else None


def attend(workspace: Workspace, layer: int, attention: Attention, branch: Branch) -> None:
    """Norm, attention, residual of a layer."""
    w, o_role = workspace, layer_role(layer, "o")
    with w.buffer.phase():
        heads = _Heads(w, layer, attention)
        enter(w, branch)
        heads.emit()
        o = w.matrix(o_role, w.hidden, attention.heads * attention.head_size)
        w.products(o, heads.result, vector_set=heads.output_set)
        leave(w, branch, heads.result, w.bias(o_role))


@dataclass(frozen=True)
class Group:
    """Heads of a sequence that share one pass over the keys and values of a KV head."""

    sequence: int
    kv_head: int
    turn: int
    first_head: int
    heads: int


class _Heads:
    """The commands between norm and output matrix of one layer.

    Scores, probabilities and outputs of a group and of the next one lie in different places, if there is room, so that one is
    streamed while the vector unit works on the other.
    """

    def __init__(self, workspace: Workspace, layer: int, attention: Attention) -> None:
        w = self._workspace = workspace
        self._layer, self._attention, size = layer, attention, attention.head_size
        self._caches = [w.cache(s, layer) for s in w.sequences]
        capacity = min(cache.capacity for cache in self._caches)
        self._window = effective_window(attention, capacity)
        self._tokens = self._window or capacity
        if self._tokens > w.build.buffer_entries:
            size = w.build.buffer_entries
            raise LimitError(f"{self._tokens} cached tokens need as many buffer_entries, and this build has {size}")
        self._width = min(w.build.right_hand_sides, attention.group)
        start = w.buffer.mark()
        columns = attention.heads * size
        # Heads that do not fill their blocks are gathered in the buffer.
        self._gathered = w.buffer.allocate("the outputs of all heads", w.batch * columns) if size % BLOCK else None
        self._outputs = [w.buffer.allocate("the outputs of heads", self._width * size) for _ in range(2)]
        #: Entries of a sequence's largest scores: one for each head if they start as the sinks, else for a group.
        self._maxima_stride = -(-attention.heads // BUFFER_UNIT) * BUFFER_UNIT if attention.sinks else 0
        self._maxima = w.buffer.allocate("the largest scores", max(w.batch * self._maxima_stride, self._width))
        self._sinks = w.buffer.allocate("the sinks, and a one", attention.heads + BUFFER_UNIT) if attention.sinks else None
        self._sums = [w.buffer.allocate("the sums of probabilities", self._width) for _ in range(2)]
        self._queries, self._probabilities = self._slot_plan(columns)
        rows = [w.rows[self._window, s] for s in w.sequences]
        self._projections = Projections(w, layer, attention, self._queries, self._caches, rows)
        self.output_set = self._projections.output_set
        self._groups = list(self._all_groups())
        self._stride = -(-self._tokens // 4) * 4
        size = self._width * self._stride
        with w.buffer.over(self._projections.end):
            self._scales = w.buffer.allocate("the scales of values", self._stride)
            copies = 2 if len(self._groups) > 1 and 2 * size <= w.buffer.free else 1
            self._scores = [w.buffer.allocate("the scores of attention", size) for _ in range(copies)]
        with w.buffer.over(start):
            #: The results of o, which take the place of what went before.
            self.result = w.buffer.allocate("the results of o", w.batch * w.hidden)

    def _slot_plan(self, columns: int) -> tuple[QuerySlots, list[int]]:
        """Where queries and probabilities lie in the slots."""
        w, blocks = self._workspace, slot_map(self._workspace.build.vector_blocks)
        if columns % BLOCK:
            raise LimitError(f"heads times head_size must be a multiple of {BLOCK}, not {columns}")
        blocks.allocate("the input of attention and its output", max(w.hidden, columns) // BLOCK)
        queries = QuerySlots(self._attention, self._width, 0)
        queries = QuerySlots(self._attention, self._width, blocks.allocate("queries", queries.blocks(w.batch)))
        size = -(-self._tokens // STREAM_UNIT)
        copies = 2 if 2 * size <= blocks.free else 1
        return queries, [blocks.allocate("the probabilities of attention", size) for _ in range(copies)]

    def _all_groups(self) -> list[Group]:
        attention, width = self._attention, self._width
        return [
            Group(s, kv_head, turn, kv_head * attention.group + turn * width, min(width, attention.group - turn * width))
            for s in self._workspace.sequences
            for kv_head in range(attention.kv_heads)
            for turn in range(self._queries.passes)
        ]

    def emit(self) -> None:
        """Emit from the products q, k and v on, until the outputs of the heads are in the slots."""
        w, groups = self._workspace, self._groups
        self._load_sinks()
        self._projections.emit()
        w.commands.fence(Cache.KEYS, Cache.VALUES)
        self._measure(groups[0])
        self._load_scales(0)
        self._keys(0)
        if not self._projections.keys_last:
            self._projections.finish_other_queries()
        ahead = len(self._scores) > 1
        if ahead:
            self._keys(1)
        for i in range(len(groups)):
            self._soften(i)
            if i + 1 < len(groups) and not (ahead and i == 0):
                self._keys(i + 1)
            if i:
                self._finish(i - 1)
            if i + 1 < len(groups):
                self._load_scales(i + 1)
            self._values(i)
        self._finish(len(groups) - 1)
        if self._gathered is not None:
            columns = self._attention.heads * self._attention.head_size
            target = Slot(0, self.output_set, 0, next_slot=True)
            w.commands.elementwise(self._gathered, columns, w.batch, a_stride=columns, to=target)

    def _load_sinks(self) -> None:
        """The sinks, from which the largest scores of all heads start, and a one to multiply each of them with."""
        if self._sinks is None:
            return
        w, heads, stride = self._workspace, self._attention.heads, self._maxima_stride
        w.commands.elementwise(w.address(w.table(layer_role(self._layer, "sinks")).address), heads, to=self._sinks)
        w.commands.elementwise(self._sinks, heads, w.batch, to=self._maxima, d_stride=stride)
        w.commands.elementwise(self._sinks, 1, p=0.0, q=1.0, to=self._sinks + stride)

    def _start_sums(self, group: Group, maxima: int, sums: int) -> None:
        """Begin the sums of probabilities with those of the sinks."""
        if self._sinks is not None:
            one, sinks = self._sinks + self._maxima_stride, Loaded(self._sinks + group.first_head, advance=True)
            self._workspace.commands.elementwise(
                one, 1, group.heads, p=sinks, q=Loaded(maxima, advance=True), function=Function.EXP, reduce=Reduce.SUM, r=sums
            )

    def _lengths(self, group: Group) -> tuple[Length, Length]:
        """Tokens in the cache, and blocks of them."""
        tokens, blocks = self._workspace.length_registers[group.sequence % 2]
        return Length(tokens, self._tokens), Length(blocks, -(-self._tokens // STREAM_UNIT))

    def _measure(self, group: Group) -> None:
        """Set the registers with the lengths of a sequence's cache, if this is its first group."""
        w, (tokens, blocks) = self._workspace, self._lengths(group)
        if group.kv_head or group.turn:
            return
        limit: dict[str, Any] = {"mode": SetMode.MINIMUM, "limit": self._window} if self._window else {}
        w.commands.set(tokens.register, y=POSITION + group.sequence, addend=1, **limit)
        w.commands.set(blocks.register, y=tokens.register, addend=STREAM_UNIT - 1, shift=STREAM_UNIT.bit_length() - 1)

    def _keys(self, i: int) -> None:
        """Scores of a group."""
        w, group, cache = self._workspace, self._groups[i], self._caches[self._groups[i].sequence]
        tokens = self._lengths(group)[0]
        vector_set = self._projections.other_set if i else self._projections.first_set
        if i:
            self._measure(group)
        w.commands.gemv(
            w.cache_address(cache.keys + group.kv_head * cache.key_stride), number=Q8_0.number, rows=tokens,
            blocks=self._queries.head_blocks, slots=group.heads, vector_set=vector_set,
            first_block=self._queries.place(group.sequence, group.turn, group.kv_head),
            offset=self._scores[i % len(self._scores)], slot_stride=self._stride, kind="keys",
        )  # fmt: skip

    def _load_scales(self, i: int) -> None:
        """The scales of a KV head's values, unless they are there from the group before."""
        w, group = self._workspace, self._groups[i]
        if group.turn == 0:
            cache = self._caches[group.sequence]
            place = w.cache_address(cache.scales + group.kv_head * cache.scale_stride)
            w.commands.elementwise(place, self._lengths(group)[0], to=self._scales)

    def _soften(self, i: int) -> None:
        """From scores to probabilities, not yet divided by their sum, times the scales of the values."""
        commands, group, scale = self._workspace.commands, self._groups[i], self._attention.scale
        scores, (tokens, _) = self._scores[i % len(self._scores)], self._lengths(group)
        capped: dict[str, Any] = {"p": scale}
        if cap := self._attention.score_cap:
            # tanh(s / cap) is 2 * sigmoid(2 * s / cap) - 1.
            capped = {"p": 2 * scale / cap, "function": Function.SIGMOID, "m": 2 * cap, "n": -cap}
            capped |= {"to": scores, "d_stride": self._stride}
            scale = 1.0
        resume, maxima, sums = self._attention.sinks, self._maxima, self._sums[i % 2]
        if resume:
            maxima += group.sequence * self._maxima_stride + group.first_head
        commands.elementwise(
            scores, tokens, group.heads, a_stride=self._stride, reduce=Reduce.MAXIMUM, negate=True, resume=resume, r=maxima,
            **capped,
        )  # fmt: skip
        self._start_sums(group, maxima, sums)
        place = i % len(self._probabilities)
        commands.elementwise(
            scores, tokens, group.heads, a_stride=self._stride, p=scale, q=Loaded(maxima, advance=True), function=Function.EXP,
            b=self._scales, multiplier=Multiplier.B, reduce=Reduce.SUM, reduce_u=True, resume=resume, r=sums,
            to=Slot(0, PROBABILITY_SETS[place], self._probabilities[place], next_slot=True, duplicate=True),
        )  # fmt: skip
        commands.elementwise(sums, group.heads, function=Function.RECIPROCAL, to=sums)

    def _values(self, i: int) -> None:
        w, group, cache = self._workspace, self._groups[i], self._caches[self._groups[i].sequence]
        place, size = i % len(self._probabilities), self._attention.head_size
        w.commands.gemv(
            w.cache_address(cache.values + group.kv_head * cache.value_stride), number=I8.number, rows=size,
            blocks=self._lengths(group)[1], slots=group.heads, vector_set=PROBABILITY_SETS[place],
            first_block=self._probabilities[place], offset=self._outputs[i % 2], slot_stride=size, stride=cache.row_stride,
            kind="values",
        )  # fmt: skip

    def _finish(self, i: int) -> None:
        """Divide the outputs of a group by the sums, for the slot that o reads, or for the place where they are gathered."""
        w, group, size = self._workspace, self._groups[i], self._attention.head_size
        head = group.sequence * self._attention.heads + group.first_head
        change: dict[str, Any] = {"p": Loaded(self._sums[i % 2], advance=True)}
        if self._attention.gated:
            gate = self._projections.gate + head * size
            change |= {"b": gate, "b_stride": size, "multiplier": Multiplier.B}
        if self._gathered is not None:
            change |= {"to": self._gathered + head * size, "d_stride": size}
        else:
            first = group.first_head * size // BLOCK
            change["to"] = Slot(group.sequence, self.output_set, first, join=group.first_head > 0)
        w.commands.elementwise(self._outputs[i % 2], size, group.heads, a_stride=size, **change)
