"""Queries, keys and values of a token: computed, rotated, cached, and quantised for the attention that follows."""

from collections.abc import Callable
from dataclasses import dataclass

from tailrace.spec.floats import Function
from tailrace.spec.formats import BLOCK
from tailrace.spec.isa import Cache, Combine, Reduce
from tailrace.spec.kv_cache import CODE_STEP

from .command_list import Loaded, Slot, interleaved
from .description import Attention, layer_role
from .norms import normalise_heads
from .placement import CachePlace
from .workspace import Workspace

QUERY_SET = 1


@dataclass(frozen=True)
class QuerySlots:
    """Where queries lie in the vector slots: head ``j`` of a group in slot ``j % width``, in pass ``j // width``."""

    attention: Attention
    width: int
    first_block: int

    @property
    def head_blocks(self) -> int:
        """Blocks that a head takes."""
        return -(-self.attention.head_size // BLOCK)

    @property
    def passes(self) -> int:
        """Passes over keys and values that a group takes."""
        return -(-self.attention.group // self.width)

    def place(self, sequence: int, turn: int, kv_head: int) -> int:
        """First block of the queries of a KV head's group in a pass."""
        heads = (sequence * self.passes + turn) * self.attention.kv_heads + kv_head
        return self.first_block + heads * self.head_blocks

    def blocks(self, batch: int) -> int:
        """Blocks for all sequences."""
        return batch * self.passes * self.attention.kv_heads * self.head_blocks


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
        For each sequence the register with the row of the cache that is written.
    """

    def __init__(
        self, workspace: Workspace, layer: int, attention: Attention, queries: QuerySlots, caches: list[CachePlace],
        row_registers: list[int],
    ) -> None:  # fmt: skip
        w = self._workspace = workspace
        self._attention, self._queries, self._caches, self._rows = attention, queries, caches, row_registers
        self._layer, heads, kv_heads, size = layer, attention.heads, attention.kv_heads, attention.head_size
        self._padded = queries.head_blocks * BLOCK
        allocate = w.buffer.allocate
        scales = w.batch * kv_heads * queries.head_blocks
        self._largest = allocate("the largest magnitudes of keys and values", scales)
        self._scales = allocate("their scales", scales)
        self._inverses = allocate("the inverses of their scales", scales)
        self._head_sums = allocate("the sums of head norms", w.batch * heads) if attention.head_norm else 0
        self._weights = {r: allocate(f"the weights of {r}_norm", size) for r in "kq"} if attention.head_norm else {}
        widths = {"k": kv_heads * size, "q": heads * size, "v": kv_heads * size}
        self._values = allocate("values", w.batch * kv_heads * size)
        self._biases: dict[str, int] = {}
        for role in "vkq":
            if role == "k":
                # Keys, queries and their biases come last: the scores may take their place.
                self.end = w.buffer.mark()
            if w.bias(layer_role(layer, role)):
                self._biases[role] = allocate(f"the bias of {role}", widths[role])
        self._keys = allocate("keys", w.batch * kv_heads * size)
        self._heads = allocate("queries", w.batch * heads * size)

    def emit(self) -> Callable[[], None]:
        """Emit all but the work on the values; returns that."""
        w, attention, size = self._workspace, self._attention, self._attention.head_size
        for role, entry in self._weights.items():
            w.commands.elementwise(w.address(w.table(layer_role(self._layer, f"{role}_norm")).address), size, to=entry)
        for role, entry in self._biases.items():
            table = w.table(f"{layer_role(self._layer, role)}_bias")
            w.commands.elementwise(w.address(table.address), table.columns, to=entry)

        def product(role: str, entry: int, heads: int) -> Callable[[], None]:
            return lambda: w.products(w.matrix(layer_role(self._layer, role), heads * size, w.hidden), entry)

        interleaved(
            [
                (product("k", self._keys, attention.kv_heads), self._finish_keys),
                (product("q", self._heads, attention.heads), self._finish_queries),
                (product("v", self._values, attention.kv_heads), lambda: None),
            ]
        )
        return self._finish_values

    def _prepare(self, role: str, entry: int, heads: int) -> None:
        """Bias, head norm and rotation of keys or queries."""
        w, attention, size = self._workspace, self._attention, self._attention.head_size
        self._add_bias(role, entry, heads)
        if attention.head_norm:
            normalise_heads(w, entry, w.batch * heads, size, self._weights[role], self._head_sums)
        if attention.rotary_size:
            for s in w.sequences:
                table = w.angles[attention.rope, s]
                w.commands.rotate(entry + s * heads * size, table, attention.rotary_size // 2, heads, size)

    def _add_bias(self, role: str, entry: int, heads: int) -> None:
        width = heads * self._attention.head_size
        if role in self._biases:
            self._workspace.commands.elementwise(
                entry,
                width,
                self._workspace.batch,
                a_stride=width,
                b=self._biases[role],
                combine=Combine.SUM,
                to=entry,
                d_stride=width,
            )

    def _finish_keys(self) -> None:
        w, attention, size, blocks = self._workspace, self._attention, self._attention.head_size, self._queries.head_blocks
        self._prepare("k", self._keys, attention.kv_heads)
        heads, keys, padded = w.batch * attention.kv_heads, self._keys, self._padded
        if size != padded:
            with w.buffer.phase():
                self._append_padded(w.buffer.allocate("padded keys", heads * padded), heads)
            return
        self._quantise(keys, heads * blocks, BLOCK, Function.HALF)
        self._append_keys(keys)

    def _append_padded(self, keys: int, heads: int) -> None:
        """Keys whose heads end with a block that is not full: padded with zeros first."""
        w, size, padded = self._workspace, self._attention.head_size, self._padded
        # Whatever the buffer holds is finite as a float16, and so becomes zero when it is multiplied with zero.
        w.commands.elementwise(keys, heads * padded, function=Function.HALF, m=0.0, to=keys)
        w.commands.elementwise(self._keys, size, heads, a_stride=size, to=keys, d_stride=padded)
        self._quantise(keys, heads * self._queries.head_blocks, BLOCK, Function.HALF)
        self._append_keys(keys)

    def _quantise(self, entry: int, segments: int, count: int, rounding: Function) -> None:
        """Scale stretches of keys or values to codes, in place, and leave their scales."""
        commands = self._workspace.commands
        commands.elementwise(entry, count, segments, a_stride=count, reduce=Reduce.ABSOLUTE_MAXIMUM, r=self._largest)
        commands.elementwise(self._largest, segments, p=float(CODE_STEP), function=rounding, to=self._scales)
        commands.elementwise(self._scales, segments, function=Function.RECIPROCAL, to=self._inverses)
        inverse = Loaded(self._inverses, advance=True)
        commands.elementwise(entry, count, segments, a_stride=count, p=inverse, to=entry, d_stride=count)

    def _append_keys(self, keys: int) -> None:
        w, attention, padded, blocks = self._workspace, self._attention, self._padded, self._queries.head_blocks
        for s, cache in enumerate(self._caches):
            w.commands.append(
                Cache.KEYS, a=keys + s * attention.kv_heads * padded, scales=self._scales + s * attention.kv_heads * blocks,
                count=attention.head_size, heads=attention.kv_heads, a_stride=padded, destination=w.cache_address(cache.keys),
                head_stride=cache.key_stride, token=self._rows[s],
            )  # fmt: skip

    def _finish_queries(self) -> None:
        w, attention, size, queries = self._workspace, self._attention, self._attention.head_size, self._queries
        self._prepare("q", self._heads, attention.heads)
        written: set[int] = set()
        by_head = attention.group <= attention.kv_heads * queries.passes
        for s in w.sequences:
            start = self._heads + s * attention.heads * size
            if by_head:
                for j in range(attention.group):
                    slot, turn = j % queries.width, j // queries.width
                    target = Slot(slot, QUERY_SET, queries.place(s, turn, 0), join=slot in written)
                    w.commands.elementwise(
                        start + j * size, size, attention.kv_heads, a_stride=attention.group * size, to=target
                    )
                    written.add(slot)
                continue
            for kv_head in range(attention.kv_heads):
                for turn in range(queries.passes):
                    first, heads = turn * queries.width, min(queries.width, attention.group - turn * queries.width)
                    target = Slot(0, QUERY_SET, queries.place(s, turn, kv_head), next_slot=True, join=0 in written)
                    place = start + (kv_head * attention.group + first) * size
                    w.commands.elementwise(place, size, heads, a_stride=size, to=target)
                    written.add(0)

    def _finish_values(self) -> None:
        w, attention, size = self._workspace, self._attention, self._attention.head_size
        heads = attention.kv_heads
        self._add_bias("v", self._values, heads)
        self._quantise(self._values, w.batch * heads, size, Function.IDENTITY)
        for s, cache in enumerate(self._caches):
            w.commands.append(
                Cache.VALUES, a=self._values + s * heads * size, scales=self._scales + s * heads, count=size, heads=heads,
                a_stride=size, destination=w.cache_address(cache.values), head_stride=cache.value_stride,
                row_stride=cache.row_stride, scale_place=w.cache_address(cache.scales), scale_stride=cache.scale_stride,
                token=self._rows[s],
            )  # fmt: skip
