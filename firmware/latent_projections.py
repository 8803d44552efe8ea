"""Queries and the latent of a token: computed, normalised, rotated, cached, and quantised for the attention that follows."""

from tailrace.spec.floats import Function
from tailrace.spec.isa import Multiplier, Reduce

from .cache_writer import CacheWriter
from .command_list import Loaded, Slot, interleaved
from .description import Attention, Latent, layer_role
from .placement import CachePlace
from .workspace import Workspace

#: Sets of the slots that compressed queries belong to, and queries. The latter take the place of the input.
RANK_SET, HEAD_SET = 1, 0


class LatentProjections:
    """The products kv_a, q_a and q of a layer, and what is done with them.

    Parameters
    ----------
    workspace : Workspace
    layer : int
        The (first) layer whose matrices they are.
    attention : Attention
    latent : Latent
    caches : list of CachePlace
        For each sequence.
    row_registers : list of int
        For each sequence the register with the row of the cache that is written.
    rank_place, head_place : int
        First blocks of the compressed queries and of the queries in the slots.

    Attributes
    ----------
    head_set : int
        The set of the slots that the queries of all heads belong to, without what is rotated of them.
    query_size : int
        Elements of a head's queries: the rotated ones, then the others.
    end : int
        Entry from which on everything is free once queries and latent are where they belong, but for the queries themselves.
    """

    head_set = HEAD_SET

    def __init__(
        self, workspace: Workspace, layer: int, attention: Attention, latent: Latent, caches: list[CachePlace],
        row_registers: list[int], rank_place: int, head_place: int,
    ) -> None:  # fmt: skip
        w = self._workspace = workspace
        self._layer, self._attention, self._latent = layer, attention, latent
        self._rank_place, self._head_place = rank_place, head_place
        self.query_size = attention.rotary_size + latent.key_size
        allocate = w.buffer.allocate
        self._writer = CacheWriter(w, attention, caches, row_registers, [w.sequences])
        self._squares = allocate("the sums of the latent's norm", w.batch)
        self._rank_squares = allocate("the sums of the queries' norm", w.batch)
        self._queries = allocate("queries", w.batch * attention.heads * self.query_size)
        self.end = w.buffer.mark()
        self._compressed = allocate("compressed queries", w.batch * latent.query_rank)
        self._row = allocate("keys", w.batch * attention.head_size)
        self._values = allocate("values", w.batch * latent.size)
        self._writer.reserve()

    def queries(self, sequence: int, head: int) -> int:
        """Entry of a head's queries."""
        return self._queries + (sequence * self._attention.heads + head) * self.query_size

    def emit(self) -> None:
        """Emit the products and the work on them, which ends in the cache and in the slots."""
        w, latent, heads = self._workspace, self._latent, self._attention.heads
        rows = heads * self.query_size

        def compress() -> None:
            w.products(w.matrix(self._role("q_a"), latent.query_rank, w.hidden), self._compressed)

        def key() -> None:
            w.products(w.matrix(self._role("kv_a"), self._attention.head_size, w.hidden), self._row)

        def query() -> None:
            place: dict[str, int] = {"vector_set": RANK_SET, "first_block": self._rank_place} if latent.query_rank else {}
            w.products(w.matrix(self._role("q"), rows, latent.query_rank or w.hidden), self._queries, **place)

        stages = [(key, self._finish_keys), (query, self._finish_queries)]
        interleaved([(compress, self._finish_compressed), *stages] if latent.query_rank else stages)

    def _role(self, tensor: str) -> str:
        return layer_role(self._layer, tensor)

    def _finish_compressed(self) -> None:
        rank = self._latent.query_rank
        self._normalise("q_a_norm", self._compressed, rank, rank, self._rank_squares, self._rank_place)

    def _finish_keys(self) -> None:
        """Rotate the key, normalise the latent behind it, and append both, and the latent as the value."""
        w, rotated, size = self._workspace, self._attention.rotary_size, self._attention.head_size
        for s in w.sequences:
            table = w.position_rows[self._attention.rope, s]
            w.commands.rotate(self._row + s * size, table, rotated // 2, 1, size)
        place = self._row + rotated
        self._normalise("kv_a_norm", place, self._latent.size, size, self._squares)
        w.commands.elementwise(place, self._latent.size, w.batch, a_stride=size, to=self._values, d_stride=self._latent.size)
        self._writer.keys(self._row)
        self._writer.values(self._values)

    def _finish_queries(self) -> None:
        """Rotate the queries; what is not rotated of them goes to the slots."""
        w, a, rotated = self._workspace, self._attention, self._attention.rotary_size
        for s in w.sequences:
            place = self.queries(s, 0)
            target = Slot(s, HEAD_SET, self._head_place)
            w.commands.elementwise(place + rotated, self._latent.key_size, a.heads, a_stride=self.query_size, to=target)
            w.commands.rotate(place, w.position_rows[a.rope, s], rotated // 2, a.heads, self.query_size)

    def _normalise(self, role: str, entry: int, size: int, stride: int, squares: int, block: int | None = None) -> None:
        """Normalise a vector of each sequence (RMS), in place or to the slots, from `block` on."""
        w, commands = self._workspace, self._workspace.commands
        weight = w.address(w.table(self._role(role)).address)
        commands.elementwise(entry, size, w.batch, a_stride=stride, reduce=Reduce.SUM_OF_SQUARES, r=squares)
        commands.elementwise(
            squares, w.batch, p=1 / size, q=w.description.norm.epsilon, function=Function.RECIPROCAL_SQUARE_ROOT, to=squares
        )
        for s in w.sequences:
            place = entry + s * stride
            to = place if block is None else Slot(s, RANK_SET, block)
            commands.elementwise(place, size, p=Loaded(squares + s), stream=weight, multiplier=Multiplier.STREAM, to=to)
