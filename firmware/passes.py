"""Passes over the KV cache: scores of a group of heads with the keys, their softmax, and its product with the values."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tailrace.spec.errors import LimitError
from tailrace.spec.floats import Function
from tailrace.spec.formats import I8, Q8_0
from tailrace.spec.isa import BUFFER_UNIT, STREAM_UNIT, Multiplier, Reduce, SetMode

from .command_list import Length, Loaded, Slot
from .description import Attention, layer_role
from .workspace import Workspace


def effective_window(attention: Attention, capacity: int) -> int | None:
    """The window, unless the cache is so small that it never closes."""
    return attention.window if attention.window is not None and attention.window <= capacity else None


@dataclass(frozen=True)
class Group:
    """Heads of a sequence that share one pass over the keys and values of a KV head.

    Attributes
    ----------
    sequence, kv_head, first_head, heads : int
    lengths : int
        Which pair of registers holds the lengths of the sequence's cache.
    begins : bool
        Whether the group before it was of another sequence, or of another KV head: nothing of that one's can be used again.
    """

    sequence: int
    kv_head: int
    first_head: int
    heads: int
    lengths: int
    begins: bool


class Passes:
    """The passes of one layer, a group of heads after the other.

    Sums, outputs and, if there is room, scores of a group and of the next one lie in different places, so that one is streamed
    while the vector unit works on the other.

    Parameters
    ----------
    workspace : Workspace
    layer : int
    attention : Attention

    Attributes
    ----------
    caches : list of CachePlace
        For each sequence.
    window : int or None
    tokens : int
        Tokens that are seen at most.
    width : int
        Heads of a group at most.
    outputs : list of int
        Entries of the outputs of two groups in turn, not yet divided.
    """

    def __init__(self, workspace: Workspace, layer: int, attention: Attention) -> None:
        w = self._workspace = workspace
        self._layer, self._attention = layer, attention
        self.caches = [w.cache(s, layer) for s in w.sequences]
        capacity = min(cache.capacity for cache in self.caches)
        self.window = effective_window(attention, capacity)
        self.tokens = self.window or capacity
        if self.tokens > w.build.buffer_entries:
            size = w.build.buffer_entries
            raise LimitError(f"{self.tokens} cached tokens need as many buffer_entries, and this build has {size}")
        # No more than an even share of the passes that a group takes, so that scores take no more room than they must.
        passes = -(-attention.group // w.build.right_hand_sides)
        self.width = -(-attention.group // passes)
        self.outputs = [w.buffer.allocate("the outputs of heads", self.width * attention.value_size) for _ in range(2)]
        #: Entries of a sequence's largest scores: one for each head if they start as the sinks, else for a group.
        self._maxima_stride = -(-attention.heads // BUFFER_UNIT) * BUFFER_UNIT if attention.sinks else 0
        self._maxima = w.buffer.allocate("the largest scores", max(w.batch * self._maxima_stride, self.width))
        #: The largest scores of two groups in turn as the matrix unit leaves them, not yet scaled.
        self._products = [w.buffer.allocate("the largest products with keys", self.width * BUFFER_UNIT) for _ in range(2)]
        self._sinks = w.buffer.allocate("the sinks, and a one", attention.heads + BUFFER_UNIT) if attention.sinks else None
        self._sums = [w.buffer.allocate("the sums of probabilities", self.width) for _ in range(2)]
        self._stride = -(-self.tokens // BUFFER_UNIT) * BUFFER_UNIT

    def allocate_scores(self, several: bool) -> None:
        """Reserve what lives from keys to values; `several`: whether there is more than one group."""
        w, size = self._workspace, self.width * self._stride
        self._scales = w.buffer.allocate("the scales of values", self._stride)
        copies = 2 if several and 2 * size <= w.buffer.free else 1
        self._scores = [w.buffer.allocate("the scores of attention", size) for _ in range(copies)]

    @property
    def ahead(self) -> bool:
        """Whether the scores of a group may be computed before the softmax of the one before it."""
        return len(self._scores) > 1

    @property
    def blocks(self) -> int:
        """Blocks of the slots that the probabilities take."""
        return -(-self.tokens // STREAM_UNIT)

    def load_sinks(self) -> None:
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
        tokens, blocks = self._workspace.length_registers[group.lengths]
        return Length(tokens, self.tokens), Length(blocks, self.blocks)

    def measure(self, group: Group) -> None:
        """Set the registers with the lengths of a sequence's cache."""
        w, (tokens, blocks) = self._workspace, self._lengths(group)
        limit: dict[str, Any] = {"mode": SetMode.MINIMUM, "limit": self.window} if self.window else {}
        w.commands.set(tokens.register, y=w.position(group.sequence), addend=1, **limit)
        w.commands.set(blocks.register, y=tokens.register, addend=STREAM_UNIT - 1, shift=STREAM_UNIT.bit_length() - 1)

    def keys(self, i: int, group: Group, vector_set: int, first_block: int) -> None:
        """Scores of group `i`, whose queries lie in the slots from `first_block` on."""
        w, cache = self._workspace, self.caches[group.sequence]
        w.commands.gemv(
            w.cache_address(cache.keys + group.kv_head * cache.key_stride), number=Q8_0.number, rows=self._lengths(group)[0],
            blocks=self._attention.head_blocks, slots=group.heads, vector_set=vector_set, first_block=first_block,
            offset=self._scores[i % len(self._scores)], slot_stride=self._stride, kind="keys",
            maxima=None if self._attention.score_cap else self._products[i % 2],
        )  # fmt: skip

    def load_scales(self, group: Group) -> None:
        """The scales of a KV head's values, unless they are there from the group before."""
        if group.begins:
            w, cache = self._workspace, self.caches[group.sequence]
            place = w.cache_address(cache.scales + group.kv_head * cache.scale_stride)
            w.commands.elementwise(place, self._lengths(group)[0], to=self._scales)

    def soften(self, i: int, group: Group, vector_set: int, first_block: int) -> None:
        """From scores to probabilities, in the slots, not yet divided by their sum, times the scales of the values."""
        commands, scale = self._workspace.commands, self._attention.scale
        scores, (tokens, _) = self._scores[i % len(self._scores)], self._lengths(group)
        resume, maxima, sums = self._attention.sinks, self._maxima, self._sums[i % 2]
        if resume:
            maxima += group.sequence * self._maxima_stride + group.first_head
        largest: dict[str, Any] = {"reduce": Reduce.MAXIMUM, "negate": True, "resume": resume, "r": maxima}
        if cap := self._attention.score_cap:
            # tanh(s / cap) is 2 * sigmoid(2 * s / cap) - 1.
            commands.elementwise(
                scores, tokens, group.heads, a_stride=self._stride, p=2 * scale / cap, function=Function.SIGMOID, m=2 * cap,
                n=-cap, to=scores, d_stride=self._stride, **largest,
            )  # fmt: skip
            scale = 1.0
        else:
            # Scaling keeps the order, and rounding does: the largest product is that of the largest score.
            commands.elementwise(self._products[i % 2], 1, group.heads, a_stride=BUFFER_UNIT, p=scale, **largest)
        self._start_sums(group, maxima, sums)
        commands.elementwise(
            scores, tokens, group.heads, a_stride=self._stride, p=scale, q=Loaded(maxima, advance=True), function=Function.EXP,
            b=self._scales, multiplier=Multiplier.B, reduce=Reduce.SUM, reduce_u=True, resume=resume, r=sums,
            to=Slot(0, vector_set, first_block, next_slot=True, duplicate=True),
        )  # fmt: skip
        commands.elementwise(sums, group.heads, function=Function.RECIPROCAL, to=sums)

    def values(self, i: int, group: Group, vector_set: int, first_block: int) -> None:
        """Outputs of group `i`, from its probabilities."""
        w, cache, size = self._workspace, self.caches[group.sequence], self._attention.value_size
        w.commands.gemv(
            w.cache_address(cache.values + group.kv_head * cache.value_stride), number=I8.number, rows=size,
            blocks=self._lengths(group)[1], slots=group.heads, vector_set=vector_set, first_block=first_block,
            offset=self.outputs[i % 2], slot_stride=size, stride=cache.row_stride, kind="values",
        )  # fmt: skip

    def divided(self, i: int) -> Loaded:
        """What the outputs of group `i` are multiplied with: the inverses of the sums of its heads."""
        return Loaded(self._sums[i % 2], advance=True)


def group_of(groups: Sequence[Group], sequence: int, kv_head: int, first_head: int, heads: int, lengths: int) -> Group:
    """The group that follows others."""
    before = groups[-1] if groups else None
    begins = before is None or (before.sequence, before.kv_head) != (sequence, kv_head)
    return Group(sequence, kv_head, first_head, heads, lengths, begins)
