"""The router of a mixture: which experts a token goes through, and what each one's outputs are multiplied with."""

from typing import Any

from tailrace.spec.errors import LimitError
from tailrace.spec.floats import Function
from tailrace.spec.isa import BUFFER_UNIT, Combine, Reduce

from .command_list import Loaded
from .description import Experts, Scores, layer_role
from .workspace import Workspace

#: Entries from one chosen expert to the next: its score, its number, and what the alignment takes.
CHOICE = 4
#: Experts whose numbers are known at a time: the one whose down is to come, the one at work, and the next one.
KNOWN = 3


class SmallProduct:
    """A small matrix times the activations of all sequences.

    Parameters
    ----------
    workspace : Workspace
    role : str
    rows : int
    name : str
        What its results are called.

    Attributes
    ----------
    entry, stride : int
        The results of the first sequence, and how far those of the next one are from them.
    """

    def __init__(self, workspace: Workspace, role: str, rows: int, name: str) -> None:
        w = self._workspace = workspace
        self._matrix = w.matrix(role, rows, w.hidden)
        self.stride = -(-rows // BUFFER_UNIT) * BUFFER_UNIT
        self.entry = w.buffer.allocate(name, w.batch * self.stride)

    def multiply(self) -> None:
        """The product, part by part."""
        for part in self._matrix.parts:
            self._workspace.product(self._matrix, part, self.entry + part.first_row, self.stride)


class Router:
    """Finds the experts of all sequences, best first, one after the other.

    The best of what is compared is looked for, and removed. Where that is not what weighs an expert (there is a selection bias,
    or groups are left out), both lie in the buffer, and the number of the expert, in its register, picks the score.

    Parameters
    ----------
    workspace : Workspace
    layer : int
    experts : Experts

    Attributes
    ----------
    chosen : list of (int, int)
        Sequence and rank of each choice, in their order.
    divisor : int or None
        Entry, for each sequence, of what the weighted outputs are still to be divided by; None: nothing.
    """

    def __init__(self, workspace: Workspace, layer: int, experts: Experts) -> None:
        w = self._workspace = workspace
        self._layer, self._experts, self._softmax = layer, experts, experts.scores is Scores.SOFTMAX
        allocate = w.buffer.allocate
        role = layer_role(layer, "selection_bias")
        self._bias = w.address(w.table(role).address) if role in w.placement.tables else None
        self._product = SmallProduct(w, layer_role(layer, "router"), experts.count, "the router's logits")
        self._logits, self._stride = self._product.entry, self._product.stride
        #: What is compared, where that is not what weighs.
        self._compared = self._logits
        self._apart = self._bias is not None or experts.groups > 1
        if self._apart:
            self._compared = allocate("the scores that choose experts", w.batch * self._stride)
        self.chosen = [(s, k) for s in w.sequences for k in range(experts.used)]
        self._choices = allocate("the chosen experts", len(self.chosen) * CHOICE)
        self._weights = allocate("the weights of experts", len(self.chosen) * CHOICE)
        self._maxima = allocate("the largest logits", w.batch)
        self._sums = allocate("the sums of weights", w.batch)
        self._inverses = allocate("the inverses of the sums of all scores", w.batch)
        self.divisor = self._sums if experts.normalise or self._softmax else None
        if experts.groups > 1:
            self._check_groups()
            self._groups = [allocate("the scores of groups", experts.groups) for _ in range(4)]
            self._found = allocate("the best of each group", 2 * experts.groups)
            self._copy = allocate("the scores within groups", self._stride)

    def _check_groups(self) -> None:
        e = self._experts
        size, rest = divmod(e.count, e.groups)
        if rest or size % BUFFER_UNIT:
            raise LimitError(f"groups of experts must have a multiple of {BUFFER_UNIT} each, not {e.count} / {e.groups}")
        if e.used > e.used_groups * size:
            raise LimitError(f"{e.used} experts can't be chosen from {e.used_groups} groups of {size}")

    def weight(self, i: int) -> Loaded:
        """What the outputs of a chosen expert are multiplied with."""
        return Loaded(self._weights + CHOICE * i)

    def multiply(self) -> None:
        """The products with the router."""
        self._product.multiply()

    def score(self) -> None:
        """From the logits to what is compared."""
        w, commands, count, stride = self._workspace, self._workspace.commands, self._experts.count, self._stride
        bias = w.bias(layer_role(self._layer, "router"))
        for s in w.sequences if bias else ():
            place = self._logits + s * stride
            commands.elementwise(place, count, stream=bias, stream_n=True, to=place)
        if self._softmax:
            self._exponentials()
        if self._apart:
            factors: list[Loaded | float] = [1.0] * w.batch
            function = Function.IDENTITY if self._softmax else Function.SIGMOID
            if self._softmax and self._bias:
                # What is added to exponentials must be added to their share of all.
                commands.elementwise(self._sums, w.batch, function=Function.RECIPROCAL, to=self._inverses)
                factors = [Loaded(self._inverses + s) for s in w.sequences]
            added: dict[str, Any] = {"stream": self._bias, "stream_n": True} if self._bias else {}
            for s in w.sequences:
                place, to = self._logits + s * stride, self._compared + s * stride
                commands.elementwise(place, count, p=factors[s], function=function, to=to, **added)
        for s in w.sequences if self._experts.groups > 1 else ():
            self._leave_groups_out(self._compared + s * stride)

    def _exponentials(self) -> None:
        """The largest logits, and, where they are needed, the exponentials and their sums over all experts."""
        w, count, stride = self._workspace, self._experts.count, self._stride
        w.commands.elementwise(
            self._logits, count, w.batch, a_stride=stride, reduce=Reduce.MAXIMUM, negate=True, r=self._maxima
        )
        if self._experts.normalise and not self._apart:
            return
        kept: dict[str, Any] = {"to": self._logits, "d_stride": stride} if self._apart else {}
        w.commands.elementwise(
            self._logits, count, w.batch, a_stride=stride, q=Loaded(self._maxima, advance=True), function=Function.EXP,
            reduce=Reduce.SUM, r=self._sums, **kept,
        )  # fmt: skip

    def _leave_groups_out(self, entry: int) -> None:
        """Replace the scores of a sequence, from `entry` on, by minus infinity where they belong to none of the best groups.

        The worst groups are looked for by negated sums: what an argmax has replaced, less what was there, is minus infinity,
        and zero for the groups that are left.
        """
        commands, groups, e = self._workspace.commands, self._experts.groups, self._experts
        size, (best, second, worst, left) = e.count // groups, self._groups
        within: dict[str, Any] = {"count": size, "segments": groups, "a_stride": size}
        commands.elementwise(entry, to=self._copy, d_stride=size, reduce=Reduce.MAXIMUM, negate=True, r=best, **within)
        commands.elementwise(self._copy, reduce=Reduce.ARGMAX_REMOVE, r=self._found, **within)
        commands.elementwise(self._copy, reduce=Reduce.MAXIMUM, negate=True, r=second, **within)
        for to in (worst, left):
            commands.elementwise(best, groups, b=second, combine=Combine.SUM, to=to)
        for _ in range(groups - e.used_groups):
            commands.elementwise(left, groups, reduce=Reduce.ARGMAX_REMOVE, r=self._found)
        commands.elementwise(left, groups, b=worst, q=-1.0, combine=Combine.SUM, to=left)
        commands.elementwise(entry, q=Loaded(left, advance=True), to=entry, d_stride=size, **within)

    def choose(self, i: int) -> None:
        """Find the best expert that is left, and its weight. Nothing if there is no such choice."""
        if i >= len(self.chosen):
            return
        w, (s, k), e = self._workspace, self.chosen[i], self._experts
        choice, register = self._choices + CHOICE * i, w.expert_registers[i % KNOWN]
        w.commands.elementwise(self._compared + s * self._stride, e.count, reduce=Reduce.ARGMAX_REMOVE, r=choice)
        w.commands.read(register, choice + 1)
        score: dict[str, Any] = {"function": Function.SIGMOID}
        if self._softmax:
            score = {"function": Function.EXP, "q": Loaded(self._maxima + s)}
        if self._apart:
            # Nothing but the score itself: of what was compared, 0 is taken.
            score = {"p": 0.0, "q": Loaded(self._logits + s * self._stride, register=register, reach=e.count)}
            score["function"] = Function.IDENTITY if self._softmax else Function.SIGMOID
        if e.normalise:
            score |= {"reduce": Reduce.SUM, "reduce_u": True, "resume": k > 0, "r": self._sums + s}
        w.commands.elementwise(choice, 1, m=e.scale, to=self._weights + CHOICE * i, **score)
