"""Writes a token's keys and values to the KV cache: scaled to codes, with their scales, and appended."""

from collections.abc import Sequence

from tailrace.spec.floats import Function
from tailrace.spec.formats import BLOCK
from tailrace.spec.isa import Cache, Reduce
from tailrace.spec.kv_cache import CODE_STEP

from .command_list import Loaded
from .description import Attention
from .placement import CachePlace
from .workspace import Workspace


class CacheWriter:
    """Quantises keys and values in place, and appends those of the first turn; those of later ones wait for `append`.

    Parameters
    ----------
    workspace : Workspace
    attention : Attention
    caches : list of CachePlace
        For each row.
    row_registers : list of int
        For each row the register with the row of the cache that is written.
    turns : sequence of sequences of int
        Rows that are appended together. If there are several turns, codes and scales stay where they are.
    """

    def __init__(
        self, workspace: Workspace, attention: Attention, caches: list[CachePlace], row_registers: list[int],
        turns: Sequence[Sequence[int]],
    ) -> None:  # fmt: skip
        w = self._workspace = workspace
        self._attention, self._caches, self._rows, self._first = attention, caches, row_registers, turns[0]
        scales = w.batch * attention.kv_heads * attention.head_blocks
        self._largest = w.buffer.allocate("the largest magnitudes of keys and values", scales)
        self._key_scales = w.buffer.allocate("the scales of keys", scales)
        waits = len(turns) > 1
        self._value_scales = w.buffer.allocate("the scales of values", scales) if waits else self._key_scales
        self._inverses = w.buffer.allocate("the inverses of their scales", scales)
        size = attention.head_size
        self._padded = attention.head_blocks * BLOCK
        count = w.batch * attention.kv_heads * self._padded
        #: Where keys are padded with zeros, if their heads end with a block that is not full.
        self._padding: int | None = None
        self._padded_count = count if size != self._padded else 0
        if waits:
            self.reserve()
        self._keys = self._values = 0

    def reserve(self) -> None:
        """Find room for padded keys, unless there is some: it is free again when they are in the cache, but for later turns."""
        if self._padded_count and self._padding is None:
            self._padding = self._workspace.buffer.allocate("padded keys", self._padded_count)

    def keys(self, entry: int) -> None:
        """The keys of all rows, one head after the other, from `entry` on."""
        w, size, padded = self._workspace, self._attention.head_size, self._padded
        heads = w.batch * self._attention.kv_heads
        if size == padded:
            self._finish_keys(entry, heads)
            return
        keys = self._padding
        assert keys is not None
        # Whatever the buffer holds is finite as a float16, and so becomes zero when it is multiplied with zero.
        w.commands.elementwise(keys, heads * padded, function=Function.HALF, m=0.0, to=keys)
        w.commands.elementwise(entry, size, heads, a_stride=size, to=keys, d_stride=padded)
        self._finish_keys(keys, heads)

    def values(self, entry: int) -> None:
        """The values of all rows, one head after the other, from `entry` on."""
        w, size, heads = self._workspace, self._attention.value_size, self._attention.kv_heads
        self._quantise(entry, w.batch * heads, size, Function.IDENTITY, self._value_scales)
        self._values = entry
        self._append_values(self._first)

    def append(self, rows: Sequence[int]) -> None:
        """The keys and values of rows of a later turn."""
        self._append_values(rows)
        self._append_keys(rows)

    def _append_values(self, rows: Sequence[int]) -> None:
        w, size, heads = self._workspace, self._attention.value_size, self._attention.kv_heads
        for s in rows:
            cache = self._caches[s]
            w.commands.append(
                Cache.VALUES, a=self._values + s * heads * size, scales=self._value_scales + s * heads, count=size, heads=heads,
                a_stride=size, destination=w.cache_address(cache.values), head_stride=cache.value_stride,
                row_stride=cache.row_stride, scale_place=w.cache_address(cache.scales), scale_stride=cache.scale_stride,
                token=self._rows[s],
            )  # fmt: skip

    def _finish_keys(self, keys: int, heads: int) -> None:
        self._quantise(keys, heads * self._attention.head_blocks, BLOCK, Function.HALF, self._key_scales)
        self._keys = keys
        self._append_keys(self._first)

    def _append_keys(self, rows: Sequence[int]) -> None:
        w, attention = self._workspace, self._attention
        heads, padded = attention.kv_heads, self._padded
        for s in rows:
            cache = self._caches[s]
            w.commands.append(
                Cache.KEYS, a=self._keys + s * heads * padded, scales=self._key_scales + s * heads * attention.head_blocks,
                count=attention.head_size, heads=heads, a_stride=padded, destination=w.cache_address(cache.keys),
                head_stride=cache.key_stride, token=self._rows[s],
            )  # fmt: skip

    def _quantise(self, entry: int, segments: int, count: int, rounding: Function, scales: int) -> None:
        """Scale stretches of keys or values to codes, in place, and leave their scales."""
        commands = self._workspace.commands
        commands.elementwise(entry, count, segments, a_stride=count, reduce=Reduce.ABSOLUTE_MAXIMUM, r=self._largest)
        commands.elementwise(self._largest, segments, p=float(CODE_STEP), function=rounding, to=scales)
        commands.elementwise(scales, segments, function=Function.RECIPROCAL, to=self._inverses)
        inverse = Loaded(self._inverses, advance=True)
        commands.elementwise(entry, count, segments, a_stride=count, p=inverse, to=entry, d_stride=count)
