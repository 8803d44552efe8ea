"""How attention and feed-forward branch off from the activations x, and come back to them."""

from dataclasses import dataclass
from functools import partial

from tailrace.spec.errors import LimitError
from tailrace.spec.floats import Function
from tailrace.spec.isa import Combine, Multiplier, Reduce

from .command_list import Address, Loaded, Slot, interleaved
from .description import NormKind
from .norms import NextNorm, fetch_weights, inverse, normalise, statistic
from .placement import MatrixPlace
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
    next_norm : NextNorm or None
        The norm that comes next, if its weights may be fetched early.
    """

    norm: str | None
    post_norm: str | None
    base: int
    to: int
    again: bool = False
    measured: bool = True
    scale: str | None = None
    next_norm: NextNorm | None = None


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
    _add(w, branch, entry, slice(0, hidden), bias, share, _load_scale(w, branch), measured=branch.measured)


def _load_scale(w: Workspace, branch: Branch) -> Loaded | float:
    """What the sum is multiplied with."""
    if not branch.scale:
        return 1.0
    scale = Loaded(w.buffer.allocate("the scale of a layer's output", 1))
    w.commands.elementwise(w.address(w.table(branch.scale).address), 1, to=scale.entry)
    return scale


def _add(
    w: Workspace, branch: Branch, entry: int, columns: slice, bias: Address | None, share: Loaded | float,
    scale: Loaded | float, *, measured: bool,
) -> None:  # fmt: skip
    """Add some columns of a block's results, which lie together for each sequence, to those of x."""
    count, first, hidden = columns.stop - columns.start, columns.start, w.hidden
    for s in w.sequences if bias else (0,):
        place = first + s * hidden
        w.commands.elementwise(
            entry + s * count, count, 1 if bias else w.batch, a_stride=count, b=branch.base + place, b_stride=hidden,
            combine=Combine.SUM, p=share, m=scale, stream=bias, stream_n=bias is not None, to=branch.to + place,
            d_stride=hidden, reduce=statistic(w) if measured else Reduce.NONE, r=w.statistic + s if measured else 0,
        )  # fmt: skip


class Residual:
    """The product at the end of a block, and the sum of its results and x.

    Where the buffer has room for all results, they are added in one command, which leaves the statistic of the next norm as
    well. Where it has not, the parts of the matrix take turns in two places: the results of one are added while the next one is
    streamed, and the statistic is a command of its own, with the same bits.

    Parameters
    ----------
    workspace : Workspace
    branch : Branch
    role : str
        Of the matrix.
    columns : int
        Of the matrix.
    """

    def __init__(self, workspace: Workspace, branch: Branch, role: str, columns: int) -> None:
        self._workspace, self._branch, self._role, self._columns = workspace, branch, role, columns
        self._entries: list[int] = []

    @property
    def _matrix(self) -> MatrixPlace:
        return self._workspace.matrix(self._role, self._workspace.hidden, self._columns)

    def allocate(self) -> None:
        """Find room for the results.

        Raises
        ------
        LimitError
            If there is none, not even for two parts; and if the results must be there as a whole, for a norm or for a bias that
            is added before they are scaled.
        """
        w, parts, name = self._workspace, self._matrix.parts, f"the results of {self._role.split('.')[-1]}"
        try:
            self._entries = [w.buffer.allocate(name, w.batch * w.hidden)]
        except LimitError:
            changed = w.bias(self._role) is not None and (w.description.residual_scale != 1.0 or self._branch.scale)
            if self._branch.post_norm or changed or len(parts) < 3:
                raise
            size = w.batch * max(part.rows for part in parts)
            self._entries = [w.buffer.allocate(name, size) for _ in range(2)]

    def emit(self, vector_set: int = 0, first_block: int = 0) -> None:
        """Emit the product with what the slots hold, and the sum."""
        w, branch, place, whole_bias = self._workspace, self._branch, self._matrix, self._workspace.bias(self._role)
        if branch.next_norm is not None:
            fetch_weights(w, branch.next_norm)
        if len(self._entries) == 1:
            w.products(place, self._entries[0], vector_set=vector_set, first_block=first_block)
            leave(w, branch, self._entries[0], whole_bias)
            return
        share, scale = w.description.residual_scale, _load_scale(w, branch)
        stages = []
        for n, part in enumerate(place.parts):
            entry, end = self._entries[n % 2], part.first_row + part.rows
            product = partial(w.product, place, part, entry, part.rows, vector_set=vector_set, first_block=first_block)
            bias = None if whole_bias is None else whole_bias + 4 * part.first_row
            add = partial(_add, w, branch, entry, slice(part.first_row, end), bias, share, scale, measured=False)
            stages.append((product, add))
        interleaved(stages)
        if branch.measured:
            w.commands.elementwise(branch.to, w.hidden, w.batch, a_stride=w.hidden, reduce=statistic(w), r=w.statistic)


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
