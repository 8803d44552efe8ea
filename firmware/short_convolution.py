"""Layers with a short convolution in place of attention."""

from tailrace.spec.isa import Combine
from tailrace.spec.recent_rows import RecentRows

from .branch import Branch, enter, leave
from .command_list import Slot
from .description import ShortConvolution, layer_role
from .recent_rows import convolve, keep, scratch_size
from .workspace import Workspace

#: The set of the slots that the output matrix's operand belongs to.
OUTPUT_SET = 1


def short_convolution(workspace: Workspace, layer: int, block: ShortConvolution, branch: Branch) -> None:
    """Norm, gates and convolution, residual of a layer."""
    w, hidden = workspace, workspace.hidden
    rows, o_role = RecentRows(hidden, block.kernel), layer_role(layer, "o")
    weights, taken = (
        w.table(layer_role(layer, "convolution")),
        w.matrix(layer_role(layer, "convolution_in"), 3 * hidden, hidden),
    )
    with w.buffer.phase():
        result = w.buffer.allocate("the results of o", w.batch * hidden)
        gated = w.buffer.allocate("the gates and inputs of a convolution", w.batch * 3 * hidden)
        scratch = w.buffer.allocate("recent rows", scratch_size(hidden, block.kernel))
        enter(w, branch)
        w.products(taken, gated)
        inputs = [gated + (3 * s + 2) * hidden for s in w.sequences]
        rings = [w.state(s, layer).address for s in w.sequences]
        for s, x in enumerate(inputs):
            w.commands.elementwise(x, hidden, b=gated + 3 * s * hidden, combine=Combine.PRODUCT, to=x)
        keep(w, inputs, rows, rings)
        for s, x in enumerate(inputs):
            behind = gated + (3 * s + 1) * hidden
            convolve(w, x, scratch, rows, rings[s], weights, s)
            w.commands.elementwise(x, hidden, b=behind, combine=Combine.PRODUCT, to=Slot(s, OUTPUT_SET, 0))
        w.products(w.matrix(o_role, hidden, hidden), result, vector_set=OUTPUT_SET)
        leave(w, branch, result, w.bias(o_role))
