"""Writes a token's keys and values to the KV cache: scaled to codes, with their scales, and appended."""

from tailrace.spec.floats import Function
from tailrace.spec.formats import BLOCK
from tailrace.spec.isa import Cache, Reduce
from tailrace.spec.kv_cache import CODE_STEP

from .command_list import Loaded
from .description import Attention
from .placement import CachePlace
from .workspace import Workspace


class CacheWriter:
    """Quantises keys and values in place, and appends them.

    Parameters
    ----------
    workspace : Workspace
    attention : Attention
    caches : list of CachePlace
        For each sequence.
    row_registers : list of int
        For each sequence the register with the row of the cache that is written.
    """

    def __init__(self, workspace: Workspace, attention: Attention, caches: list[CachePlace], row_registers: list[int]) -> None:
        w = self._workspace = workspace
        self._attention, self._caches, self._rows = attention, caches, row_registers
        scales = w.batch * attention.kv_heads * attention.head_blocks
        self._largest = w.buffer.allocate("the largest magnitudes of keys and values", scales)
        self._scales = w.buffer.allocate("their scales", scales)
        self._inverses = w.buffer.allocate("the inverses of their scales", scales)

    def keys(self, entry: int) -> None:
        """The keys of all sequences, one head after the other, from `entry` on."""
        w, size, padded = self._workspace, self._attention.head_size, self._attention.head_blocks * BLOCK
        heads = w.batch * self._attention.kv_heads
        if size == padded:
            self._append_keys(entry, heads)
            return
        # Heads that end with a block that is not full are padded with zeros first.
        with w.buffer.phase():
            keys = w.buffer.allocate("padded keys", heads * padded)
            # Whatever the buffer holds is finite as a float16, and so becomes zero when it is multiplied with zero.
            w.commands.elementwise(keys, heads * padded, function=Function.HALF, m=0.0, to=keys)
            w.commands.elementwise(entry, size, heads, a_stride=size, to=keys, d_stride=padded)
            self._append_keys(keys, heads)

    def values(self, entry: int) -> None:
        """The values of all sequences, one head after the other, from `entry` on."""
        w, size, heads = self._workspace, self._attention.value_size, self._attention.kv_heads
        self._quantise(entry, w.batch * heads, size, Function.IDENTITY)
        for s, cache in enumerate(self._caches):
            w.commands.append(
                Cache.VALUES, a=entry + s * heads * size, scales=self._scales + s * heads, count=size, heads=heads,
                a_stride=size, destination=w.cache_address(cache.values), head_stride=cache.value_stride,
                row_stride=cache.row_stride, scale_place=w.cache_address(cache.scales), scale_stride=cache.scale_stride,
                token=self._rows[s],
            )  # fmt: skip

    def _append_keys(self, keys: int, heads: int) -> None:
        w, attention, blocks = self._workspace, self._attention, self._attention.head_blocks
        padded = blocks * BLOCK
        self._quantise(keys, heads * blocks, BLOCK, Function.HALF)
        for s, cache in enumerate(self._caches):
            w.commands.append(
                Cache.KEYS, a=keys + s * attention.kv_heads * padded, scales=self._scales + s * attention.kv_heads * blocks,
                count=attention.head_size, heads=attention.kv_heads, a_stride=padded, destination=w.cache_address(cache.keys),
                head_stride=cache.key_stride, token=self._rows[s],
            )  # fmt: skip

    def _quantise(self, entry: int, segments: int, count: int, rounding: Function) -> None:
        """Scale stretches of keys or values to codes, in place, and leave their scales."""
        commands = self._workspace.commands
        commands.elementwise(entry, count, segments, a_stride=count, reduce=Reduce.ABSOLUTE_MAXIMUM, r=self._largest)
        commands.elementwise(self._largest, segments, p=float(CODE_STEP), function=rounding, to=self._scales)
        commands.elementwise(self._scales, segments, function=Function.RECIPROCAL, to=self._inverses)
        inverse = Loaded(self._inverses, advance=True)
        commands.elementwise(entry, count, segments, a_stride=count, p=inverse, to=entry, d_stride=count)
