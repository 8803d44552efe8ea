"""Norms, and the sums that they need."""

from tailrace.spec.floats import Function
from tailrace.spec.isa import Combine, Multiplier, Reduce

from .command_list import Address, Loaded, Slot
from .description import NormKind
from .workspace import Workspace


def statistic(workspace: Workspace) -> Reduce:
    """What a norm needs of its operand; whoever writes x reduces it on the way."""
    return Reduce.SUM_OF_SQUARES if workspace.description.norm.kind is NormKind.RMS else Reduce.SUM


def normalise(workspace: Workspace, role: str) -> None:
    """Normalise x, whose statistic is there, and quantise it to block 0 of the sequences' slots, set 0."""
    w, commands, hidden = workspace, workspace.commands, workspace.hidden
    weight, bias = w.address(w.table(role).address), w.bias(role)
    centred = w.description.norm.kind is NormKind.LAYER
    with w.buffer.phase():
        # Only a plain RMS norm goes straight from x to the slots.
        held = w.buffer.allocate("the activations in a norm", w.batch * hidden) if centred or bias else w.x
        if centred:
            commands.elementwise(w.statistic, w.batch, p=-1 / hidden, to=w.statistic)
            commands.elementwise(
                w.x, hidden, w.batch, a_stride=hidden, q=Loaded(w.statistic, advance=True), to=held, d_stride=hidden,
                reduce=Reduce.SUM_OF_SQUARES, r=w.inverse,
            )  # fmt: skip
        _inverse(w, w.inverse if centred else w.statistic)
        for s in w.sequences:
            operand, place, slot = (held if centred else w.x) + s * hidden, held + s * hidden, Slot(s, 0, 0)
            commands.elementwise(
                operand,
                hidden,
                p=Loaded(w.inverse + s),
                stream=weight,
                multiplier=Multiplier.STREAM,
                to=place if bias else slot,
            )
            if bias:
                commands.elementwise(place, hidden, stream=bias, stream_n=True, to=slot)


def _inverse(w: Workspace, squares: int) -> None:
    """``1 / sqrt(mean square + epsilon)`` of each sequence, from the sums of squares."""
    w.commands.elementwise(
        squares, w.batch, p=1 / w.hidden, q=w.description.norm.epsilon, function=Function.RECIPROCAL_SQUARE_ROOT, to=w.inverse
    )


def normalise_heads(workspace: Workspace, entry: int, heads: int, size: int, weight: int, scratch: int) -> None:
    """Normalise each of `heads` heads in place (RMS) with the weights at `weight`; `scratch` has an entry for each head."""
    commands, epsilon = workspace.commands, workspace.description.norm.epsilon
    commands.elementwise(entry, size, heads, a_stride=size, reduce=Reduce.SUM_OF_SQUARES, r=scratch)
    commands.elementwise(scratch, heads, p=1 / size, q=epsilon, function=Function.RECIPROCAL_SQUARE_ROOT, to=scratch)
    commands.elementwise(
        entry,
        size,
        heads,
        a_stride=size,
        p=Loaded(scratch, advance=True),
        b=weight,
        multiplier=Multiplier.B,
        to=entry,
        d_stride=size,
    )


def add_residual(
    workspace: Workspace, entry: int, bias: Address | None, post_norm: str | None, share: Loaded | None = None
) -> None:
    """Add what a block computed, at `entry` for each sequence, to x, and leave the statistic of the sum.

    Parameters
    ----------
    bias : Address or None
        What is added to the block's results first.
    post_norm : str or None
        Role of the norm that they then go through.
    share : Loaded or None
        What the results of each sequence are multiplied with before all that.
    """
    w, hidden = workspace, workspace.hidden
    if share and (bias or post_norm):
        w.commands.elementwise(entry, hidden, w.batch, a_stride=hidden, p=share, to=entry, d_stride=hidden)
        share = None
    if post_norm:
        bias = _post_norm(w, entry, bias, post_norm)
    for s in w.sequences if bias else (0,):
        w.commands.elementwise(
            entry + s * hidden, hidden, 1 if bias else w.batch, a_stride=hidden, b=w.x + s * hidden, b_stride=hidden,
            combine=Combine.SUM, p=share or 1.0, stream=bias, stream_n=bias is not None, to=w.x + s * hidden, d_stride=hidden,
            reduce=statistic(w), r=w.statistic + s,
        )  # fmt: skip


def _post_norm(w: Workspace, entry: int, bias: Address | None, role: str) -> Address | None:
    """Normalise a block's results in place; returns the bias that is still to be added."""
    commands, hidden = w.commands, w.hidden
    rms = w.description.norm.kind is NormKind.RMS
    for s in w.sequences:
        place, squares = entry + s * hidden, w.inverse + s
        if bias:
            commands.elementwise(place, hidden, stream=bias, stream_n=True, to=place, reduce=statistic(w), r=squares)
        else:
            commands.elementwise(place, hidden, reduce=statistic(w), r=squares)
    if not rms:
        commands.elementwise(w.inverse, w.batch, p=-1 / hidden, to=w.inverse)
        commands.elementwise(
            entry, hidden, w.batch, a_stride=hidden, q=Loaded(w.inverse, advance=True), to=entry, d_stride=hidden,
            reduce=Reduce.SUM_OF_SQUARES, r=w.statistic,
        )  # fmt: skip
    _inverse(w, w.inverse if rms else w.statistic)
    weight = w.address(w.table(role).address)
    for s in w.sequences:
        place = entry + s * hidden
        commands.elementwise(place, hidden, p=Loaded(w.inverse + s), stream=weight, multiplier=Multiplier.STREAM, to=place)
    return w.bias(role)
