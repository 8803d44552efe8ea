"""How attention and feed-forward branch off from the activations x, and come back to them."""

from dataclasses import dataclass

from tailrace.spec.floats import Function
from tailrace.spec.isa import Combine, Multiplier, Reduce

from .command_list import Address, Loaded, Slot
from .description import NormKind
from .norms import inverse, normalise, statistic
from .workspace import Workspace


@dataclass(frozen=True)
class Branch:
    """One of the two blocks of a layer, as x sees it.

    Attributes
    ----------
    norm : str or None
        Role of the norm that x goes through first.
    post_norm : str or None
        Role of the norm that the results go through.
    again : bool
        Whether x has been normalised before, and has not changed since.
    base, to : int
        Entries: what the results are added to, and where the sum goes.
    measured : bool
        Whether the sum's statistic is left for the next norm.
    scale : str or None
        Role of the number that the sum is multiplied with.
    """

    norm: str | None
    post_norm: str | None
    base: int
    to: int
    again: bool = False
    measured: bool = True
    scale: str | None = None


def enter(workspace: Workspace, branch: Branch) -> None:
    """Quantise x, normalised or as it is, to block 0 of the sequences' slots, set 0."""
    w, hidden = workspace, workspace.hidden
    if branch.norm is not None:
        normalise(w, branch.norm, again=branch.again)
        return
    w.commands.elementwise(w.x, hidden, w.batch, a_stride=hidden, to=Slot(0, 0, 0, next_slot=True))


def leave(workspace: Workspace, branch: Branch, entry: int, bias: Address | None, divisor: int | None = None) -> None:
    """Add what a block computed, at `entry` for each sequence, to x.

    Parameters
    ----------
    workspace : Workspace
    branch : Branch
    entry : int
    bias : Address or None
        What is added to the block's results first.
    divisor : int or None
        Entry, for each sequence, of what the results are divided by before all that.
    """
    w, hidden, factor = workspace, workspace.hidden, workspace.description.residual_scale
    # The one command at the end can scale the results before it adds a bias, and not behind it.
    apart = bias is not None or branch.post_norm is not None
    share: Loaded | float = factor
    if divisor is not None:
        w.commands.elementwise(divisor, w.batch, function=Function.RECIPROCAL, m=1.0 if apart else factor, to=divisor)
        share = Loaded(divisor, advance=True)
        if apart:
            w.commands.elementwise(entry, hidden, w.batch, a_stride=hidden, p=share, to=entry, d_stride=hidden)
            share = factor
    if branch.post_norm:
        bias = post_norm(w, entry, bias, branch.post_norm)
    if bias and (factor != 1.0 or branch.scale):
        for s in w.sequences:
            w.commands.elementwise(entry + s * hidden, hidden, stream=bias, stream_n=True, to=entry + s * hidden)
        bias = None
    scale: Loaded | float = 1.0
    if branch.scale:
        scale = Loaded(w.buffer.allocate("the scale of a layer's output", 1))
        w.commands.elementwise(w.address(w.table(branch.scale).address), 1, to=scale.entry)
    for s in w.sequences if bias else (0,):
        w.commands.elementwise(
            entry + s * hidden, hidden, 1 if bias else w.batch, a_stride=hidden, b=branch.base + s * hidden, b_stride=hidden,
            combine=Combine.SUM, p=share, m=scale, stream=bias, stream_n=bias is not None, to=branch.to + s * hidden,
            d_stride=hidden, reduce=statistic(w) if branch.measured else Reduce.NONE,
            r=w.statistic + s if branch.measured else 0,
        )  # fmt: skip


def post_norm(w: Workspace, entry: int, bias: Address | None, role: str) -> Address | None:
    """Normalise a block's results in place, behind a bias of theirs; returns the norm's bias, which is still to be added."""
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
    inverse(w, w.inverse if rms else w.statistic)
    weight = w.address(w.table(role).address)
    for s in w.sequences:
        place = entry + s * hidden
        commands.elementwise(place, hidden, p=Loaded(w.inverse + s), stream=weight, multiplier=Multiplier.STREAM, to=place)
    return w.bias(role)
