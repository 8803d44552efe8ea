"""Passes over the KV cache: scores of a group of heads with the keys, their softmax, and its product with the values."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tailrace.spec.attention import CHUNK, chunk_starts
from tailrace.spec.errors import LimitError
from tailrace.spec.floats import Function
from tailrace.spec.formats import I8, Q8_0
from tailrace.spec.isa import BUFFER_UNIT, STREAM_UNIT, Combine, Multiplier, Reduce, SetMode
from tailrace.spec.kv_cache import value_row_bytes

from .command_list import Length, Loaded, Slot
from .description import SCORE_SCALES, Attention, layer_role
from .groups import Group
from .workspace import Workspace


def effective_window(attention: Attention, capacity: int) -> int | None:
    """The window, unless the cache is so small that it never closes."""
    return attention.window if attention.window is not None and attention.window <= capacity else None


def window_is_open(workspace: Workspace, layer: int, attention: Attention) -> bool:
    """Whether no token of the pass takes the place of one in a layer's cache."""
    w = workspace
    window = effective_window(attention, min(w.cache(s, layer).capacity for s in w.sequences))
    # What a row sees is at most the window: only less than that says that it has not closed.
    return window is None or max(w.reach) < window


@dataclass(frozen=True)
class Piece:
    """What a group does with a chunk of the cache.

    Attributes
    ----------
    group : Group
    chunk : int
    start, size : int
        First row of the chunk, and the rows that it has if it is not the last one.
    last : bool
        Whether it is the last chunk that the group's tokens see.
    begins : bool
        Whether the piece before it was of another chunk, KV head or bundle: nothing of that one's can be used again.
    number : int
        Of the piece among those of a layer.
    """

    group: Group
    chunk: int
    start: int
    size: int
    last: bool
    begins: bool
    number: int


class Passes:
    """The passes of one layer, a piece after the other.

    Sums, outputs and, if there is room, scores of a piece and of the next one lie in different places, so that one is streamed
    while the vector unit works on the other. What a group has of the chunks before (`tailrace.spec.attention`) is brought to
    the new largest score, and added to.

    Parameters
    ----------
    workspace : Workspace
    layer : int
    attention : Attention
    sides : int
        Queries of a group at most.
    turns : int
        Groups at most whose sums are inverted in one command.

    Attributes
    ----------
    caches : list of CachePlace
        For each row.
    window : int or None
    tokens : int
        Tokens of a piece at most.
    """

    def __init__(self, workspace: Workspace, layer: int, attention: Attention, sides: int, turns: int = 1) -> None:
        w = self._workspace = workspace
        self._layer, self._attention, self._sides = layer, attention, sides
        self.caches = [w.cache(s, layer) for s in w.sequences]
        capacity = min(cache.capacity for cache in self.caches)
        self.window = effective_window(attention, capacity)
        seen = self.window or capacity
        self.tokens = min(seen, CHUNK)
        #: Tokens after which what is seen begins anew; 0: it never does.
        self._period = seen if self.window and attention.chunked else 0
        if self._period > CHUNK and self._period % CHUNK:
            raise LimitError(f"attention in chunks of more than {CHUNK} tokens takes multiples of that, not {self._period}")
        #: For each row of the pass the first rows of the chunks that its token sees.
        self._starts = [
            chunk_starts((tokens - 1) % self._period + 1 if self._period else min(tokens, seen)) for tokens in w.reach
        ]
        chunked = max(map(len, self._starts)) > 1
        allocate = w.buffer.allocate
        size = sides * attention.value_size
        #: The outputs of two groups in turn, or of all that wait for the inverses of their sums, not yet divided.
        self._outputs = [allocate("the outputs of heads", size) for _ in range(max(turns, 2))]
        #: The largest scores of two chunks in turn, negated.
        self._maxima = [allocate("the largest scores", sides) for _ in range(2 if chunked else 1)]
        #: The largest scores of two pieces in turn as the matrix unit leaves them, not yet scaled.
        self._products = [allocate("the largest products with keys", sides * BUFFER_UNIT) for _ in range(2)]
        self._sums = [allocate("the sums of probabilities", turns * sides) for _ in range(2)]
        self._stride = -(-self.tokens // BUFFER_UNIT) * BUFFER_UNIT
        if attention.sinks:
            self._sinks_stride = -(-attention.heads // BUFFER_UNIT) * BUFFER_UNIT
            self._sinks = allocate("the sinks, and a one", self._sinks_stride + 1)
            #: The largest scores of all heads, which start as the sinks.
            self._started = allocate("the largest scores of all heads", w.batch * self._sinks_stride)
        if chunked:
            self._capped = allocate("the largest capped scores", sides) if attention.score_cap else 0
            self._factors = [allocate("what chunks before are multiplied with", sides) for _ in range(2)]
            self._added = [allocate("the outputs of a chunk", size) for _ in range(2)]

    def allocate_scores(self, several: bool) -> None:
        """Reserve what lives from keys to values; `several`: whether there is more than one piece."""
        w, size = self._workspace, self._sides * self._stride
        self._scales = w.buffer.allocate("the scales of values", self._stride)
        copies = 2 if several and 2 * size <= w.buffer.free else 1
        self._scores = [w.buffer.allocate("the scores of attention", size) for _ in range(copies)]

    @property
    def ahead(self) -> bool:
        """Whether the scores of a piece may be computed before the softmax of the one before it."""
        return len(self._scores) > 1

    @property
    def blocks(self) -> int:
        """Blocks of the slots that the probabilities take."""
        return -(-self.tokens // STREAM_UNIT)

    def pieces(self, groups: Sequence[Group]) -> list[Piece]:
        """What groups do, in this order: each takes all chunks."""
        pieces: list[Piece] = []
        for group in groups:
            starts = self._starts[group.row]
            for chunk, start in enumerate(starts):
                here = (group.rows, group.kv_head, chunk)
                before = pieces[-1] if pieces else None
                begins = before is None or (before.group.rows, before.group.kv_head, before.chunk) != here
                last = chunk == len(starts) - 1
                size = 0 if last else starts[chunk + 1] - start
                pieces.append(Piece(group, chunk, start, size, last, begins, len(pieces)))
        return pieces

    def load_sinks(self) -> None:
        """The sinks, from which the largest scores of all heads start, and a one to multiply each of them with."""
        if not self._attention.sinks:
            return
        w, heads, stride = self._workspace, self._attention.heads, self._sinks_stride
        w.commands.elementwise(w.address(w.table(layer_role(self._layer, "sinks")).address), heads, to=self._sinks)
        w.commands.elementwise(self._sinks, heads, w.batch, to=self._started, d_stride=stride)
        w.commands.elementwise(self._sinks, 1, p=0.0, q=1.0, to=self._sinks + stride)

    def _lengths(self, piece: Piece) -> tuple[int | Length, int | Length]:
        """Tokens of a piece, and blocks of them: registers hold those of a group's last chunk."""
        if not piece.last:
            return piece.size, piece.size // STREAM_UNIT
        tokens, blocks = self._workspace.length_registers[piece.group.lengths]
        before = piece.start
        return Length(tokens, self.tokens, self._period, before), Length(blocks, self.blocks, self._period, before)

    def measure(self, group: Group) -> None:
        """Set the registers with the lengths of the last chunk that a group's last token sees.

        What begins anew does so at the first row of the cache: a token sees the rows up to its own.
        """
        w, (tokens, blocks), s = self._workspace, self._workspace.length_registers[group.lengths], group.row
        before = self._starts[s][-1]
        slides = self.window is not None and not self._period
        limit: dict[str, Any] = {"mode": SetMode.MINIMUM, "limit": (self.window or 0) - before} if slides else {}
        last = w.rows[self.window, s] if self._period else w.position(s)
        w.commands.set(tokens, y=last, addend=1 - before, **limit)
        w.commands.set(blocks, y=tokens, addend=STREAM_UNIT - 1, shift=STREAM_UNIT.bit_length() - 1)

    def keys(self, piece: Piece, vector_set: int, first_block: int) -> None:
        """Scores of a piece, whose group's queries lie in the slots from `first_block` on.

        In a last chunk those for the tokens behind a row's own are masked: the lengths are those of the last row.
        """
        w, group, blocks, i = self._workspace, piece.group, self._attention.head_blocks, piece.number
        cache = self.caches[group.row]
        before = Q8_0.matrix_bytes(piece.start, blocks, w.build.lanes)
        w.commands.gemv(
            w.cache_address(cache.keys + group.kv_head * cache.key_stride + before), number=Q8_0.number,
            rows=self._lengths(piece)[0], blocks=blocks, slots=group.sides, vector_set=vector_set, first_block=first_block,
            offset=self._scores[i % len(self._scores)], slot_stride=self._stride, kind="keys",
            maxima=None if self._attention.score_cap else self._products[i % 2],
            masked=len(group.rows) - 1 if piece.last else 0,
        )  # fmt: skip

    def load_scales(self, piece: Piece) -> None:
        """The scales of a chunk's values, unless they are there from the piece before."""
        if piece.begins:
            w, group = self._workspace, piece.group
            cache = self.caches[group.row]
            place = w.cache_address(cache.scales + group.kv_head * cache.scale_stride + 4 * piece.start)
            w.commands.elementwise(place, self._lengths(piece)[0], to=self._scales)

    def _scale(self, group: Group, negative: bool = False) -> Loaded | float:
        """What scores are multiplied with, or its negative."""
        if self._attention.growing:
            return Loaded(self._workspace.position_rows[SCORE_SCALES, group.row] + negative)
        return -self._attention.scale if negative else self._attention.scale

    def soften(self, piece: Piece, vector_set: int, first_block: int) -> None:
        """From scores to probabilities, in the slots, not yet divided by their sum, times the scales of the values."""
        commands, group, sinks = self._workspace.commands, piece.group, self._attention.sinks
        scale = 1.0 if self._attention.score_cap else self._scale(group)
        scores, sums = self._scores[piece.number % len(self._scores)], self._sums_of(group)
        if piece.chunk:
            maxima = self._maxima[piece.chunk % 2]
            self._later_maxima(piece, maxima)
            self._bring_sums(piece, maxima, sums)
        else:
            maxima = self._started + group.row * self._sinks_stride + group.first_head if sinks else self._maxima[0]
            self._first_maxima(piece, maxima)
            if sinks:
                self._start_sums(piece, maxima, sums)
        commands.elementwise(
            scores, self._lengths(piece)[0], group.sides, a_stride=self._stride, p=scale, q=Loaded(maxima, advance=True),
            function=Function.EXP, b=self._scales, multiplier=Multiplier.B, reduce=Reduce.SUM, reduce_u=True,
            resume=sinks or piece.chunk > 0, r=sums,
            to=Slot(0, vector_set, first_block, next_slot=True, duplicate=True),
        )  # fmt: skip
        if piece.last and group.turn == group.turns - 1:
            first = self._sums[group.family % 2]
            commands.elementwise(first, sums - first + group.sides, function=Function.RECIPROCAL, to=first)

    def _first_maxima(self, piece: Piece, maxima: int) -> None:
        """The largest scores of a group's first chunk, negated."""
        commands, sides = self._workspace.commands, piece.group.sides
        largest: dict[str, Any] = {"negate": True, "resume": self._attention.sinks, "r": maxima}
        if self._attention.score_cap:
            self._cap(piece, **largest)
            if not piece.last:
                commands.elementwise(maxima, sides, p=-1.0, to=self._capped)
            return
        # Scaling keeps the order, and rounding does: the largest product is that of the largest score.
        products, scale = self._products[piece.number % 2], self._scale(piece.group)
        commands.elementwise(products, 1, sides, a_stride=BUFFER_UNIT, p=scale, reduce=Reduce.MAXIMUM, **largest)

    def _later_maxima(self, piece: Piece, maxima: int) -> None:
        """The largest scores up to a chunk, negated, from those up to the chunk before."""
        commands, sides = self._workspace.commands, piece.group.sides
        if self._attention.score_cap:
            self._cap(piece, resume=True, r=self._capped)
            commands.elementwise(self._capped, sides, p=-1.0, to=maxima)
            return
        before = Loaded(self._maxima[(piece.chunk - 1) % 2], advance=True)
        commands.elementwise(
            self._products[piece.number % 2], 1, sides, a_stride=BUFFER_UNIT, p=self._scale(piece.group, negative=True),
            q=before, combine=Combine.LIMIT, reduce=Reduce.MAXIMUM, r=maxima,
        )  # fmt: skip

    def _cap(self, piece: Piece, **largest: Any) -> None:
        """Cap the scores of a piece, and find the largest: tanh(s / cap) is 2 * sigmoid(2 * s / cap) - 1."""
        cap, scores = self._attention.score_cap, self._scores[piece.number % len(self._scores)]
        assert cap is not None
        assert not self._attention.growing
        self._workspace.commands.elementwise(
            scores, self._lengths(piece)[0], piece.group.sides, a_stride=self._stride, p=2 * self._attention.scale / cap,
            function=Function.SIGMOID, m=2 * cap, n=-cap, to=scores, d_stride=self._stride, reduce=Reduce.MAXIMUM, **largest,
        )  # fmt: skip

    def _start_sums(self, piece: Piece, maxima: int, sums: int) -> None:
        """Begin the sums of probabilities with those of the sinks."""
        commands, group, one = self._workspace.commands, piece.group, self._sinks + self._sinks_stride
        largest = Loaded(maxima, advance=True)
        commands.elementwise(
            one, 1, group.heads, p=Loaded(self._sinks + group.first_head, advance=True), q=largest, function=Function.EXP,
            reduce=Reduce.SUM, r=sums,
        )  # fmt: skip
        if not piece.last:
            # An operand begins at a multiple of four entries, which a group's first head need not be.
            commands.elementwise(one, 1, group.heads, p=largest, reduce=Reduce.MAXIMUM, r=self._maxima[0])

    def _bring_sums(self, piece: Piece, maxima: int, sums: int) -> None:
        """Bring the sums of probabilities to the new largest scores, and keep the factor for the outputs."""
        commands, sides, factors = self._workspace.commands, piece.group.sides, self._factors[piece.number % 2]
        before = self._maxima[(piece.chunk - 1) % 2]
        commands.elementwise(maxima, sides, b=before, q=-1.0, combine=Combine.SUM, function=Function.EXP, to=factors)
        commands.elementwise(sums, sides, b=factors, combine=Combine.PRODUCT, to=sums)

    def values(self, piece: Piece, vector_set: int, first_block: int) -> None:
        """Outputs of a piece, from its probabilities."""
        w, group, size = self._workspace, piece.group, self._attention.value_size
        cache = self.caches[group.row]
        before = value_row_bytes(piece.start, w.build.lanes)
        w.commands.gemv(
            w.cache_address(cache.values + group.kv_head * cache.value_stride + before), number=I8.number, rows=size,
            blocks=self._lengths(piece)[1], slots=group.sides, vector_set=vector_set, first_block=first_block,
            offset=self._added[piece.number % 2] if piece.chunk else self.outputs(group), slot_stride=size,
            stride=cache.row_stride, kind="values",
        )  # fmt: skip

    def add_values(self, piece: Piece) -> None:
        """Add the outputs of a later chunk to those of the chunks before it."""
        if not piece.chunk:
            return
        group, size, outputs = piece.group, self._attention.value_size, self.outputs(piece.group)
        self._workspace.commands.elementwise(
            outputs, size, group.sides, a_stride=size, p=Loaded(self._factors[piece.number % 2], advance=True),
            b=self._added[piece.number % 2], b_stride=size, q=1.0, combine=Combine.SUM, to=outputs, d_stride=size,
        )  # fmt: skip

    def divided(self, group: Group) -> Loaded:
        """What the outputs of a group are multiplied with: the inverses of the sums of its queries."""
        return Loaded(self._sums_of(group), advance=True)

    def outputs(self, group: Group) -> int:
        """Where the outputs of a group lie, not yet divided."""
        return self._outputs[group.turn if group.turns > 1 else group.number % 2]

    def _sums_of(self, group: Group) -> int:
        return self._sums[group.family % 2] + group.turn * group.sides
