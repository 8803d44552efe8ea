"""The layer that drafts: what a pass leaves for it, and what it starts from."""

from dataclasses import replace

from tailrace.spec.formats import BLOCK
from tailrace.spec.isa import Multiplier, SetMode
from tailrace.spec.recent_rows import RecentRows

from .branch import Branch, enter
from .command_list import Loaded
from .description import Attention, LastHidden, layer_role
from .embedding import embed
from .norms import inverse, normalise, statistic
from .projections import Projections, QuerySlots
from .recent_rows import keep, row_address
from .workspace import Workspace


def remember(workspace: Workspace) -> None:
    """Behind the last layer of a pass: keep what that has left, and append the draft layer's keys and values of each row.

    Those of a token are made of what is kept of the token before. They are the same whether that token was drafted or not,
    and what a draft program has appended for tokens that never came is overwritten.
    """
    w = workspace
    keep_hidden(w, "final_norm")
    w.commands.fence(stored=True)
    whole, n = replace(w, description=w.description.whole), len(w.description.layers)
    merge(whole)
    attention = whole.description.layers[n].attention
    assert isinstance(attention, Attention)
    with w.buffer.phase():
        enter(whole, Branch(layer_role(n, "attention_norm"), None, w.x, w.x))
        rows = [w.position(s) for s in w.sequences]
        caches, every = [w.cache(s, n) for s in w.sequences], [tuple(w.sequences)]
        whole.load_scales(n)
        Projections(whole, n, attention, QuerySlots(attention, (), 0), caches, rows, every).emit(queries_too=False)
    for s in w.sequences:
        w.commands.set(w.position(s), y=w.position(s), addend=1, mode=SetMode.WRAP, limit=caches[s].capacity)


def keep_hidden(workspace: Workspace, norm: str) -> None:
    """Keep x, whose statistic is there, behind a norm, as what the last layer has left at the rows' positions."""
    w, hidden = workspace, workspace.hidden
    weight = w.address(w.table(norm).address)
    with w.buffer.phase():
        held = w.buffer.allocate("what the last layer has left", w.batch * hidden)
        inverse(w, w.statistic)
        for s in w.sequences:
            place = held + s * hidden
            factor = Loaded(w.inverse + s)
            w.commands.elementwise(
                w.x + s * hidden, hidden, p=factor, stream=weight, multiplier=Multiplier.STREAM, to=place
            )  # fmt: skip
        keep(w, [held + s * hidden for s in w.sequences], _rows(w), [_ring(w, s) for s in w.sequences])


def merge(workspace: Workspace) -> None:
    """Make x what the draft layer, the last one of `workspace`, starts from at the rows' tokens.

    The positions go back by one, to that of what the token before has left. Of the first token there is none: its is the last
    one that the cache has room for, which no token sees.
    """
    w, hidden, n = workspace, workspace.hidden, len(workspace.description.layers) - 1
    for s in w.sequences:
        before = row_address(w, _rows(w), _ring(w, s), s, 1)
        w.commands.elementwise(before, hidden, to=w.x + s * hidden, reduce=statistic(w), r=w.statistic + s)
    normalise(w, layer_role(n, "hidden_norm"), first_block=hidden // BLOCK)
    for s in w.sequences:
        last = w.cache(s, n).capacity - 1
        w.commands.set(w.position(s), y=w.position(s), addend=-1, mode=SetMode.MINIMUM, limit=last)
    embed(w)
    normalise(w, layer_role(n, "embedding_norm"), join=True)
    with w.buffer.phase():
        w.load_scales(n)
        w.products(w.matrix(layer_role(n, "merge"), hidden, 2 * hidden), w.x)
    w.commands.elementwise(w.x, hidden, w.batch, a_stride=hidden, reduce=statistic(w), r=w.statistic)


def _rows(w: Workspace) -> RecentRows:
    return RecentRows(w.hidden, LastHidden().kernel)


def _ring(w: Workspace, row: int) -> int:
    """Address of what is kept of a row's sequence, behind the caches of all layers."""
    return w.state(row, len(w.description.whole.layers)).address
