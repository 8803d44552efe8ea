"""Into how many parts matrices are cut, so that the vector unit works on one part's results while the next part is streamed."""

from tailrace.spec.formats import BLOCK

from .description import Activation, Attention, Description, Experts, HeadNorm, Layer
from .placement import Build

#: Parts of gate and up, and rows that one has at most: the results of eight rows of a pass have room twice.
FEED_FORWARD_PARTS, FEED_FORWARD_PART = 8, 768
#: Rows of the parts of the matrices whose results are added to the activations.
RESIDUAL_PART = 1024
#: Parts of q, at most.
QUERY_PARTS = 8
#: Parts have a multiple of so many rows, so that they fill blocks of the slots, and 64 bytes of logits.
PART_UNIT = 64
#: Rows of the head's parts: enough to hide all that is done with their logits.
HEAD_PART = 2048
#: Channels that are convolved at a time, at most; a multiple of 64.
CONVOLUTION_PART = 2048
#: Parts of the matrix before a convolution, and of the one behind that.
CONVOLVED_PARTS = 4


def query_part_rows(attention: Attention) -> int:
    """Rows of the parts of q: the queries of as many KV heads in each; the last part may have fewer.

    All of them where heads are normalised together.
    """
    rows = attention.group * attention.head_size
    if attention.head_norm is HeadNorm.ALL_HEADS or rows % PART_UNIT:
        return attention.kv_heads * rows
    return -(-attention.kv_heads // QUERY_PARTS) * rows


def feed_forward_part_rows(description: Description, layer: Layer, build: Build, batch: int = 1) -> int:
    """Rows of the parts of gate and up, a multiple of 64; the last part may have fewer.

    Experts follow each other, so one part each is enough for them, if there is room; a shared one has parts as large as theirs.
    """
    block = layer.feed_forward
    assert block is not None
    experts = isinstance(block, Experts)
    expert = block.expert if isinstance(block, Experts) else block
    wanted = expert.size if experts else min(-(-expert.size // FEED_FORWARD_PARTS), FEED_FORWARD_PART)
    # Two parts at a time, of gate and up, be they of one expert or of two, and what GELU needs.
    places = 2 * (1 + expert.gated) + (expert.activation is Activation.GELU)
    # Beside them: x, for experts the results of two of them and their sum, what a shared expert has left until a norm follows,
    # what a parallel attention has left, and what the slots can't hold.
    shared = isinstance(block, Experts) and block.shared is not None and layer.post_norms
    beside = ((4 if experts else 1) + shared + layer.parallel) * batch * description.hidden
    if not experts and description.hidden + expert.size > build.vector_blocks * BLOCK:
        beside += batch * expert.size
    room = (build.buffer_entries - beside) * 3 // 4 // (places * batch)
    return max(min(-(-wanted // PART_UNIT), room // PART_UNIT), 1) * PART_UNIT


def convolved_part_rows(channels: int) -> int:
    """Rows of the parts of a matrix with so many rows before a convolution, or of the one behind that; the last may have fewer.

    A multiple of 64.
    """
    wanted = -(-channels // (CONVOLVED_PARTS * PART_UNIT)) * PART_UNIT
    return min(wanted, CONVOLUTION_PART)


def head_part_rows(description: Description, build: Build, batch: int = 1) -> int:
    """Rows of the parts of the head, a multiple of 64; the last part may have fewer."""
    room = (build.buffer_entries - 2 * batch * description.hidden) * 3 // 4 // (2 * batch)
    return max(min(HEAD_PART, room), PART_UNIT) // PART_UNIT * PART_UNIT
