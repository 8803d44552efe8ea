"""Norms, and the sums that they need."""

from dataclasses import dataclass
from typing import Any

from tailrace.spec.floats import Function
from tailrace.spec.isa import ADDRESS_UNIT, Multiplier, Reduce, SetMode

from .command_list import Address, Loaded, Slot
from .description import NormKind
from .layers import Run
from .workspace import Workspace


@dataclass(frozen=True)
class NextNorm:
    """A norm that follows a block; with a `run` it is that of the next round of its loop, or once more of the last one."""

    role: str
    run: Run | None = None


def fetch_weights(workspace: Workspace, norm: NextNorm) -> None:
    """Fetch the weights of a norm to their place, if they have one, before they are needed: all rows use them then."""
    w = workspace
    if w.norm_weights is None:
        return
    source = w.address(w.table(norm.role).address)
    if norm.run is not None:
        assert w.weights_register is not None
        distance = norm.run.weight_distance // ADDRESS_UNIT
        last = (norm.run.rounds - 1) * distance
        w.commands.set(w.address_register, y=w.weights_register, addend=distance, mode=SetMode.MINIMUM, limit=last)
        source = Address(source.byte, (w.address_register,))
    w.commands.elementwise(source, w.hidden, to=w.norm_weights)
    w.held_norm = norm.role


def statistic(workspace: Workspace) -> Reduce:
    """What a norm needs of its operand; whoever writes x reduces it on the way."""
    return Reduce.SUM_OF_SQUARES if workspace.description.norm.kind is NormKind.RMS else Reduce.SUM


def normalise(
    workspace: Workspace, role: str, *, again: bool = False, factor: float = 1.0, vector_set: int = 0, first_block: int = 0,
    join: bool = False,
) -> None:  # fmt: skip
    """Normalise x, whose statistic is there, and quantise it to the sequences' slots.

    Parameters
    ----------
    workspace : Workspace
    role : str
        Of the norm.
    again : bool
        Whether x has been normalised before, and has not changed since: what its statistic gave is there.
    factor : float
        What is multiplied to the norm's weights.
    vector_set, first_block : int
        Set of the slots, and the first block in them.
    join : bool
        Whether the slots keep what they have in other blocks.
    """
    w, commands, hidden = workspace, workspace.commands, workspace.hidden
    weight, bias = w.address(w.table(role).address), w.bias(role)
    centred = w.description.norm.kind is NormKind.LAYER
    with w.buffer.phase():
        # Only a plain RMS norm goes straight from x to the slots.
        held = w.buffer.allocate("the activations in a norm", w.batch * hidden) if centred or bias else w.x
        if centred:
            if not again:
                commands.elementwise(w.statistic, w.batch, p=-1 / hidden, to=w.statistic)
            squares: dict[str, Any] = {} if again else {"reduce": Reduce.SUM_OF_SQUARES, "r": w.inverse}
            commands.elementwise(
                w.x, hidden, w.batch, a_stride=hidden, q=Loaded(w.statistic, advance=True), to=held, d_stride=hidden, **squares
            )
        if not again:
            inverse(w, w.inverse if centred else w.statistic)
        inverses = w.inverse
        if factor != 1.0:
            inverses = w.buffer.allocate("the factor of a norm and its weights", w.batch)
            commands.elementwise(w.inverse, w.batch, p=factor, to=inverses)
        if w.held_norm == role:
            assert w.norm_weights is not None
            commands.elementwise(
                held if centred else w.x, hidden, w.batch, a_stride=hidden, p=Loaded(inverses, advance=True), b=w.norm_weights,
                multiplier=Multiplier.B, d_stride=hidden,
                to=held if bias else Slot(0, vector_set, first_block, next_slot=True, join=join),
            )  # fmt: skip
        for s in w.sequences:
            operand, place = (held if centred else w.x) + s * hidden, held + s * hidden
            slot = Slot(s, vector_set, first_block, join=join)
            if w.held_norm != role:
                commands.elementwise(
                    operand,
                    hidden,
                    p=Loaded(inverses + s),
                    stream=weight,
                    multiplier=Multiplier.STREAM,
                    to=place if bias else slot,
                )
            if bias:
                commands.elementwise(place, hidden, stream=bias, stream_n=True, to=slot)


def inverse(w: Workspace, squares: int) -> None:
    """``1 / sqrt(mean square + epsilon)`` of each sequence, from the sums of squares."""
    w.commands.elementwise(
        squares, w.batch, p=1 / w.hidden, q=w.description.norm.epsilon, function=Function.RECIPROCAL_SQUARE_ROOT, to=w.inverse
    )


def normalise_heads(workspace: Workspace, entry: int, heads: int, size: int, weight: int | None, scratch: int) -> None:
    """Normalise each of `heads` heads in place (RMS), with the weights at `weight` if there are any.

    `scratch`: an entry for each head.
    """
    commands, epsilon = workspace.commands, workspace.description.norm.epsilon
    commands.elementwise(entry, size, heads, a_stride=size, reduce=Reduce.SUM_OF_SQUARES, r=scratch)
    commands.elementwise(scratch, heads, p=1 / size, q=epsilon, function=Function.RECIPROCAL_SQUARE_ROOT, to=scratch)
    weighted: dict[str, Any] = {} if weight is None else {"b": weight, "multiplier": Multiplier.B}
    inverses = Loaded(scratch, advance=True)
    commands.elementwise(entry, size, heads, a_stride=size, p=inverses, to=entry, d_stride=size, **weighted)


def normalise_all_heads(workspace: Workspace, entry: int, size: int, weight: Address, scratch: int) -> None:
    """Normalise the heads of each sequence, `size` elements in all, as one vector in place (RMS)."""
    w, commands = workspace, workspace.commands
    commands.elementwise(entry, size, w.batch, a_stride=size, reduce=Reduce.SUM_OF_SQUARES, r=scratch)
    commands.elementwise(
        scratch, w.batch, p=1 / size, q=w.description.norm.epsilon, function=Function.RECIPROCAL_SQUARE_ROOT, to=scratch
    )
    for s in w.sequences:
        place = entry + s * size
        commands.elementwise(place, size, p=Loaded(scratch + s), stream=weight, multiplier=Multiplier.STREAM, to=place)
