"""Mixture of experts: the device routes, and reads only the chosen experts' weights."""

from collections.abc import Callable
from functools import partial
from typing import Any

from tailrace.spec.errors import ModelError
from tailrace.spec.floats import Function
from tailrace.spec.formats import BLOCK
from tailrace.spec.isa import Combine, Reduce

from .branch import Branch, enter, leave
from .buffer_map import slot_map
from .command_list import Loaded, interleaved
from .description import Experts, layer_role
from .feed_forward import Middle, Results, Stage
from .workspace import Workspace

#: Sets of the slots that the activations of the expert at work and of the next one belong to.
SETS = (1, 2)
#: Entries from one chosen expert to the next: its logit, its number, and what the alignment takes.
CHOICE = 4
#: Experts whose numbers are known at a time: the one whose down is to come, the one at work, and the next one.
KNOWN = 3


def mixture(workspace: Workspace, layer: int, experts: Experts, branch: Branch) -> None:
    """Norm, router, chosen experts, residual of a layer."""
    w = workspace
    with w.buffer.phase():
        chosen = _Mixture(w, layer, experts)
        enter(w, branch)
        chosen.emit()
        leave(w, branch, chosen.total, None, chosen.sums)


class _Mixture:
    """The commands of one layer.

    The chosen experts of all sequences follow each other. While the vector unit works on what gate and up of one have computed,
    those of the next one are streamed. The outputs are added up with the exponentials of the router's logits; whoever uses the
    total divides it by their sum.
    """

    def __init__(self, workspace: Workspace, layer: int, experts: Experts) -> None:
        w = self._workspace = workspace
        self._layer, self._experts = layer, experts
        allocate, count = w.buffer.allocate, experts.count
        for matrix in ("gate", "up", "down"):
            if w.bias(layer_role(layer, f"experts_{matrix}")):
                raise ModelError("experts with biases have no decode program")
        self._router = w.matrix(layer_role(layer, "router"), count, w.hidden)
        self._logit_stride = -(-count // 4) * 4
        self._planes = sum(part.first_row == 0 for part in self._router.parts)
        self._logits = allocate("the router's logits", self._planes * w.batch * self._logit_stride)
        self._choices = allocate("the chosen experts", w.batch * experts.used * CHOICE)
        self._maxima = allocate("the largest logits", w.batch)
        self._weights = allocate("the weights of experts", w.batch * experts.used * CHOICE)
        #: For each sequence the sum of the weights, and the weighted sum of the experts' outputs.
        self.sums = allocate("the sums of weights", w.batch)
        self.total = allocate("the weighted sum of experts", w.batch * w.hidden)
        self._results = [allocate("the results of an expert", w.batch * w.hidden) for _ in SETS]
        self._down = w.matrix(layer_role(layer, "experts_down"), w.hidden, experts.expert.size)
        places = self._first_blocks()
        results = Results(w, experts.expert, layer, several=True, prefix="experts_")
        # The parts of one expert after the other have the places in turn.
        first = Middle(w, experts.expert, layer, results, places[0], SETS[0], prefix="experts_")
        second = Middle(w, experts.expert, layer, results, places[1], SETS[1], prefix="experts_", turn=first.parts)
        self._middles = [first, second]
        self._chosen = [(s, k) for s in w.sequences for k in range(experts.used)]

    def _first_blocks(self) -> list[int]:
        """Blocks of the slots at which the activations of two experts start: the same ones if there is no room for more."""
        blocks, size = slot_map(self._workspace.build.vector_blocks), self._experts.expert.size // BLOCK
        blocks.allocate("the input of the experts", self._workspace.hidden // BLOCK)
        first = blocks.allocate("the activations of an expert", size)
        return [first, first if size > blocks.free else blocks.allocate("the activations of the next expert", size)]

    def emit(self) -> None:
        """Emit from the router on."""
        w, commands, count = self._workspace, self._workspace.commands, self._experts.count
        self._route()
        bias = w.bias(layer_role(self._layer, "router"))
        for s in w.sequences if bias else ():
            place = self._logits + s * self._logit_stride
            commands.elementwise(place, count, stream=bias, stream_n=True, to=place)
        commands.elementwise(
            self._logits, count, w.batch, a_stride=self._logit_stride, reduce=Reduce.MAXIMUM, negate=True, r=self._maxima
        )
        if not self._experts.normalise:
            commands.elementwise(
                self._logits, count, w.batch, a_stride=self._logit_stride, q=Loaded(self._maxima, advance=True),
                function=Function.EXP, reduce=Reduce.SUM, r=self.sums,
            )  # fmt: skip
        self._choose(0)
        stages: list[Stage] = []
        for i, (s, _) in enumerate(self._chosen):
            own = self._middles[i % 2].stages(range(s, s + 1), w.expert_registers[i % KNOWN])
            if i == 0:
                own[0] = (partial(self._first_product, own[0][0]), own[0][1])
            stages += own
            if i:
                stages.append(self._down_stage(i - 1))
        # Down of the last expert waits for all before it, and has nothing to run beside.
        interleaved(stages)
        interleaved([self._down_stage(len(self._chosen) - 1)])

    def _route(self) -> None:
        """Multiply with the router, plane by plane, and add the results up."""
        w, stride, planes = self._workspace, self._logit_stride, -1
        for part in self._router.parts:
            planes += part.first_row == 0
            w.product(self._router, part, self._logits + planes * w.batch * stride + part.first_row, stride)
        for plane in range(1, self._planes):
            w.commands.elementwise(
                self._logits, self._experts.count, w.batch, a_stride=stride, combine=Combine.SUM,
                b=self._logits + plane * w.batch * stride, b_stride=stride, to=self._logits, d_stride=stride,
            )  # fmt: skip

    def _first_product(self, product: Callable[[], None]) -> None:
        product()
        for i in range(1, KNOWN):
            self._choose(i)

    def _choose(self, i: int) -> None:
        """Find the best expert that is left, and its weight. Nothing if there is no such choice."""
        if i >= len(self._chosen):
            return
        w, (s, k) = self._workspace, self._chosen[i]
        choice, weight = self._choices + CHOICE * i, self._weights + CHOICE * i
        logits = self._logits + s * self._logit_stride
        w.commands.elementwise(logits, self._experts.count, reduce=Reduce.ARGMAX_REMOVE, r=choice)
        w.commands.read(w.expert_registers[i % KNOWN], choice + 1)
        total: dict[str, Any] = {"reduce": Reduce.SUM, "resume": k > 0, "r": self.sums + s} if self._experts.normalise else {}
        w.commands.elementwise(choice, 1, q=Loaded(self._maxima + s), function=Function.EXP, to=weight, **total)

    def _down_stage(self, i: int) -> Stage:
        w, (s, k), middle = self._workspace, self._chosen[i], self._middles[i % 2]
        hidden, result = w.hidden, self._results[i % 2]

        def product() -> None:
            for part in self._down.parts:
                w.product(
                    self._down, part, result + part.first_row, hidden, vector_set=SETS[i % 2], first_block=middle.first_block,
                    slots=s + 1, expert=w.expert_registers[i % KNOWN],
                )  # fmt: skip
            self._choose(i + KNOWN)

        def accumulate() -> None:
            total, weight = self.total + s * hidden, Loaded(self._weights + CHOICE * i)
            sum_up: dict[str, Any] = {"combine": Combine.SUM, "b": total} if k else {}
            w.commands.elementwise(result + s * hidden, hidden, p=weight, to=total, **sum_up)

        return product, accumulate
