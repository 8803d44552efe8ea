"""The end of a layer with an embedding of its own: what the token is for it, gated by the activations and added to them."""

from functools import partial

from tailrace.spec.formats import BLOCK
from tailrace.spec.isa import ADDRESS_UNIT, Combine

from .branch import Branch, enter, leave
from .buffer_map import slot_map
from .command_list import Address, Slot, interleaved
from .description import Activation, LayerEmbedding, layer_role
from .feed_forward import activate
from .norms import normalise_heads
from .workspace import Workspace

#: Sets of the slots: of the token's embedding, and of what the output matrix multiplies. That of the activations is 0.
TOKEN_SET, OUTPUT_SET = 1, 2


def distance_of_rows(embedding: LayerEmbedding, layers: int) -> int:
    """From what the table of embeddings has for a layer to what it has `layers` later, in units of 64 bytes."""
    return layers * 4 * embedding.size // ADDRESS_UNIT


def add_layer_embedding(workspace: Workspace, layer: int, embedding: LayerEmbedding, branch: Branch) -> None:
    """Gate, projection, output matrix, norm, residual."""
    with workspace.buffer.phase():
        _LayerEmbedding(workspace, layer, embedding).emit(branch)


class _LayerEmbedding:
    """The commands of one layer. The projection streams while the vector unit quantises x for the gate."""

    def __init__(self, workspace: Workspace, layer: int, embedding: LayerEmbedding) -> None:
        w = self._workspace = workspace
        self._layer, self._embedding = layer, embedding
        allocate, size = w.buffer.allocate, w.batch * embedding.size
        self._result = allocate("what a layer's embedding adds", w.batch * w.hidden)
        self._inputs = allocate("the embeddings of a layer", size)
        self._gates = allocate("the gates of a layer's embedding", size)
        self._argument = allocate("the argument of GELU", size) if embedding.activation is Activation.GELU else 0
        self._weights = allocate("the weights of a layer's embedding's norm", embedding.size)
        self._sums = allocate("the sums of a layer's embedding's norm", w.batch)
        blocks = slot_map(w.build.vector_blocks)
        blocks.allocate("the activations", w.hidden // BLOCK)
        self._token_block = blocks.allocate("the embedding of the token", w.hidden // BLOCK)
        self._output_block = blocks.allocate("the gated embedding of a layer", embedding.size // BLOCK)

    def emit(self, branch: Branch) -> None:
        w, size, hidden = self._workspace, self._embedding.size, self._workspace.hidden
        w.commands.elementwise(Address(w.table("layer_embedding_norm").address), size, to=self._weights)
        scale = w.description.embedding_scale * hidden**-0.5
        for s in w.sequences:
            row = w.row_of_token(w.table("embedding"), s)
            w.commands.elementwise(row, hidden, p=scale, to=Slot(s, TOKEN_SET, self._token_block))
        projection, gate, output = (
            w.matrix(layer_role(self._layer, f"embedding_{name}"), rows, columns)
            for name, rows, columns in (("projection", size, hidden), ("gate", size, hidden), ("output", hidden, size))
        )
        project = partial(w.products, projection, self._inputs, vector_set=TOKEN_SET, first_block=self._token_block)
        enter(w, branch)
        interleaved([(project, self._finish_inputs), (partial(w.products, gate, self._gates), self._finish_gates)])
        w.products(output, self._result, vector_set=OUTPUT_SET, first_block=self._output_block)
        leave(w, branch, self._result, None)

    def _finish_inputs(self) -> None:
        """Normalise the projections, and add what the table has."""
        w, size = self._workspace, self._embedding.size
        normalise_heads(w, self._inputs, w.batch, size, self._weights, self._sums)
        for s in w.sequences:
            place = self._inputs + s * size
            row = w.row_of_token(w.table("layer_embeddings"), s) + 4 * size * self._layer
            if w.embeddings_register is not None:
                row = Address(row.byte, (*row.registers, w.embeddings_register))
            w.commands.elementwise(row, size, p=(size / 2) ** 0.5, b=place, combine=Combine.SUM, q=0.5**0.5, to=place)

    def _finish_gates(self) -> None:
        w, size = self._workspace, self._embedding.size
        activate(
            w.commands,
            self._embedding.activation,
            self._gates,
            size,
            w.batch,
            size,
            self._argument,
            {"to": self._gates, "d_stride": size},
        )
        w.commands.elementwise(
            self._gates, size, w.batch, a_stride=size, b=self._inputs, b_stride=size, combine=Combine.PRODUCT,
            to=Slot(0, OUTPUT_SET, self._output_block, next_slot=True),
        )  # fmt: skip
