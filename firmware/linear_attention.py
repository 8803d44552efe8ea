"""Linear attention for a token: the state and the list since are read once, and the token joins the list."""

from .branch import Branch, enter, leave
from .delta_rule import DeltaRule
from .description import LinearAttention, Rule, layer_role
from .state_products import OUTPUT_SET
from .state_space import StateSpace
from .workspace import Workspace


def attend_linearly(
    workspace: Workspace, layer: int, attention: LinearAttention, branch: Branch, mixer: int, prefix: str = ""
) -> None:
    """Norm, linear attention, residual of a layer.

    `mixer`: its number among all mixers; `prefix`: what the names of its tensors begin with.
    """
    w, o_role = workspace, layer_role(layer, f"{prefix}o")
    with w.buffer.phase():
        heads = (DeltaRule if attention.rule is Rule.DELTA else StateSpace)(w, layer_role(layer, prefix), mixer, attention)
        enter(w, branch)
        heads.emit()
        w.products(w.matrix(o_role, w.hidden, attention.values), heads.result, vector_set=OUTPUT_SET)
        heads.append()
        leave(w, branch, heads.result, w.bias(o_role))
