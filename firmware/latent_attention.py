"""Latent attention (MLA): one latent is key and value of all heads, and each head's queries and outputs are brought to it."""

from tailrace.spec.errors import LimitError
from tailrace.spec.formats import BLOCK
from tailrace.spec.isa import Cache

from .branch import Branch, enter, leave
from .buffer_map import slot_map
from .command_list import Slot
from .description import Attention, Latent, layer_role
from .groups import Group, single
from .latent_projections import LatentProjections
from .passes import Passes
from .workspace import Workspace

#: Sets of the slots: queries that meet the keys, probabilities, and outputs that v_b multiplies.
QUERY_SET, PROBABILITY_SET, OUTPUT_SET = 1, 2, 3
#: The set of what ``o`` multiplies.
RESULT_SET = 0


def attend_to_latents(workspace: Workspace, layer: int, attention: Attention, branch: Branch) -> None:
    """Norm, latent attention, residual of a layer."""
    w, o_role = workspace, layer_role(layer, "o")
    assert attention.latent is not None
    with w.buffer.phase():
        heads = _LatentHeads(w, layer, attention, attention.latent)
        enter(w, branch)
        heads.emit()
        o = w.matrix(o_role, w.hidden, attention.heads * attention.output_size)
        w.products(o, heads.result, vector_set=RESULT_SET)
        leave(w, branch, heads.result, w.bias(o_role))


class _LatentHeads:
    """The commands between norm and output matrix of one layer.

    A *share* is as many heads as there are slots, or what is left of them: k_b and v_b are streamed once for a share of all
    sequences, the keys and values once for the group that it has in each sequence. So the matrix unit has two groups of work
    between the keys and the values of one, and no more than a share's queries and outputs lie in the slots.
    """

    def __init__(self, workspace: Workspace, layer: int, attention: Attention, latent: Latent) -> None:
        w = self._workspace = workspace
        self._layer, self._attention, self._latent = layer, attention, latent
        start, columns = w.buffer.mark(), attention.heads * attention.output_size
        self._outputs = w.buffer.allocate("the outputs of all heads", w.batch * columns)
        # There are many more heads than right-hand sides: rows that shared a pass would read the latents as often.
        self._width = width = single(w.sequences, attention, w.build.right_hand_sides)[0].width
        self._passes = Passes(w, layer, attention, width)
        self._shares = [range(h, min(h + width, attention.heads)) for h in range(0, attention.heads, width)]
        self._groups: list[Group] = []
        for share in self._shares:
            for s in w.sequences:
                number = len(self._groups)
                self._groups.append(Group((s,), 0, share.start, len(share), number % len(w.length_registers), number, number))
        self._pieces = self._passes.pieces(self._groups)
        self._slot_plan(columns)
        size = w.batch * width * attention.head_size
        #: Queries of a share, and of the next one if there is one.
        self._absorbed = [w.buffer.allocate("queries of the latent", size) for _ in self._shares[:2]]
        rows = [w.rows[self._passes.window, s] for s in w.sequences]
        self._projections = LatentProjections(
            w, layer, attention, latent, self._passes.caches, rows, self._rank_place, self._head_place
        )
        with w.buffer.over(self._projections.end):
            self._passes.allocate_scores(len(self._pieces) > 1)
        with w.buffer.over(start):
            #: The results of o, which take the place of what went before.
            self.result = w.buffer.allocate("the results of o", w.batch * w.hidden)
        self._k_b = w.matrix(layer_role(layer, "k_b"), attention.heads * latent.size, latent.key_size)
        self._v_b = w.matrix(layer_role(layer, "v_b"), columns, latent.size)

    def _slot_plan(self, columns: int) -> None:
        w, latent, blocks = self._workspace, self._latent, slot_map(self._workspace.build.vector_blocks)
        if columns % BLOCK:
            raise LimitError(f"heads times the size of their outputs must be a multiple of {BLOCK}, not {columns}")
        blocks.allocate("the input of attention and its output", max(w.hidden, columns) // BLOCK)
        self._rank_place = blocks.allocate("the compressed queries", latent.query_rank // BLOCK)
        self._head_place = blocks.allocate("the queries of all heads", self._attention.heads * latent.key_size // BLOCK)
        self._query_place = blocks.allocate("queries of the latent", self._attention.head_blocks)
        self._output_place = blocks.allocate("outputs of heads", self._width * latent.size // BLOCK)
        self._probabilities = blocks.allocate("the probabilities of attention", self._passes.blocks)

    def emit(self) -> None:
        """Emit from the first product on, until the outputs of the heads are in the slots."""
        w, passes, pieces = self._workspace, self._passes, self._pieces
        self._projections.emit()
        w.commands.fence(Cache.KEYS, Cache.VALUES)
        ahead = len(self._absorbed)
        for i in range(ahead):
            self._absorb(i)
        self._place_queries(0)
        self._keys(0)
        passes.load_scales(pieces[0])
        for i, piece in enumerate(pieces):
            if not piece.chunk:
                self._absorb(piece.group.number + ahead)
            if piece.last:
                self._place_queries(piece.group.number + 1)
            if passes.ahead:
                self._keys(i + 1)
            self._finish(i - 1)
            passes.soften(piece, PROBABILITY_SET, self._probabilities)
            if not passes.ahead:
                self._keys(i + 1)
            self._bring_back(i - 1)
            if i + 1 < len(pieces):
                passes.load_scales(pieces[i + 1])
            passes.values(piece, PROBABILITY_SET, self._probabilities)
        self._finish(len(pieces) - 1)
        self._bring_back(len(pieces) - 1)
        columns = self._attention.heads * self._attention.output_size
        target = Slot(0, RESULT_SET, 0, next_slot=True)
        w.commands.elementwise(self._outputs, columns, w.batch, a_stride=columns, to=target)

    def _absorb(self, i: int) -> None:
        """The products of k_b with the queries of group `i`'s share, if that is the first one of the share."""
        w, latent, size = self._workspace, self._latent, self._attention.head_size
        share, sequence = divmod(i, w.batch)
        if share >= len(self._shares) or sequence:
            return
        width, entry = self._width, self._absorbed[share % len(self._absorbed)] + self._attention.rotary_size
        for n, head in enumerate(self._shares[share]):
            w.product(
                self._k_b, self._k_b.parts[head], entry + n * size, width * size, vector_set=self._projections.head_set,
                first_block=self._head_place + head * latent.key_size // BLOCK,
            )  # fmt: skip

    def _place_queries(self, i: int) -> None:
        """The queries of group `i` to the slots, the rotated elements before the others."""
        if i >= len(self._groups):
            return
        w, group, size, rotated = self._workspace, self._groups[i], self._attention.head_size, self._attention.rotary_size
        entry = self._absorbed[i // w.batch % len(self._absorbed)] + group.row * self._width * size
        from_entry, stride = self._projections.queries(group.row, group.first_head), self._projections.query_size
        w.commands.elementwise(from_entry, rotated, group.heads, a_stride=stride, to=entry, d_stride=size)
        target = Slot(0, QUERY_SET, self._query_place, next_slot=True)
        w.commands.elementwise(entry, size, group.heads, a_stride=size, to=target)

    def _keys(self, i: int) -> None:
        if i >= len(self._pieces):
            return
        piece = self._pieces[i]
        if piece.begins and not piece.chunk:
            self._passes.measure(piece.group)
        self._passes.keys(piece, QUERY_SET, self._query_place)

    def _finish(self, i: int) -> None:
        """Add the outputs of piece `i` to its group's; behind the last one divide them, for the slot that v_b reads."""
        if i < 0:
            return
        piece, size = self._pieces[i], self._latent.size
        self._passes.add_values(piece)
        if not piece.last:
            return
        group = piece.group
        target = Slot(group.row, OUTPUT_SET, self._output_place)
        self._workspace.commands.elementwise(
            self._passes.outputs(group), size, group.heads, a_stride=size, p=self._passes.divided(group), to=target
        )

    def _bring_back(self, i: int) -> None:
        """The products of v_b with the outputs of the share of piece `i`, if that is the last one of the share."""
        w, size, value_size = self._workspace, self._latent.size, self._latent.value_size
        if i < 0 or not self._pieces[i].last:
            return
        share, sequence = divmod(self._pieces[i].group.number, w.batch)
        if sequence < w.batch - 1:
            return
        for n, head in enumerate(self._shares[share]):
            w.product(
                self._v_b, self._v_b.parts[head], self._outputs + head * value_size, self._attention.heads * value_size,
                vector_set=OUTPUT_SET, first_block=self._output_place + n * size // BLOCK,
            )  # fmt: skip
