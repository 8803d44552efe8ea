"""Mixture of experts: the device routes, and reads only the chosen experts' weights."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tailrace.spec.floats import Function
from tailrace.spec.formats import BLOCK
from tailrace.spec.isa import BUFFER_UNIT, Combine

from .branch import Branch, enter, leave, post_norm
from .buffer_map import slot_map
from .command_list import Loaded, interleaved
from .description import Experts, FeedForward, layer_role
from .feed_forward import Middle, Results, Stage
from .norms import normalise
from .placement import MatrixPlace
from .routing import KNOWN, Router, SmallProduct
from .workspace import Workspace

#: Sets of the slots that the activations of the expert at work and of the next one belong to.
SETS = (1, 2)
#: Set of the shared expert's input, where it has one of its own.
SHARED_SET = 3


def mixture(workspace: Workspace, layer: int, experts: Experts, branch: Branch) -> None:
    """Norm, router, chosen experts, residual of a layer."""
    w = workspace
    with w.buffer.phase():
        chosen = _Mixture(w, layer, experts, branch)
        chosen.emit()
        leave(w, branch, chosen.total, None, chosen.divisor)


@dataclass(frozen=True)
class _Turn:
    """A feed-forward whose weights are streamed.

    Attributes
    ----------
    slots : range
        Slots whose results are used.
    middle : Middle
    place : int
        Which of the two places of activations and results it has.
    down : MatrixPlace
    accumulate : callable
        What is done with its outputs.
    choice : int or None
        Number of the chosen expert; None: the shared one.
    """

    slots: range
    middle: Middle
    place: int
    down: MatrixPlace
    accumulate: Callable[[], None]
    choice: int | None = None


class _Mixture:
    """The commands of one layer.

    The chosen experts of all sequences follow each other. While the vector unit works on what gate and up of one have computed,
    those of the next one are streamed. A shared expert comes first, for all sequences at once, so that the first choice is made
    in its shadow.

    Outputs of the chosen are added up with their weights; whoever uses the total divides it by the router's divisor. That of
    the shared expert is added to what the branch comes back to; if the branch normalises first, to the total.

    Experts apart have three inputs: the router's is replaced by that of the chosen while gate of the shared one, whose own is
    beside it, streams.
    """

    def __init__(self, workspace: Workspace, layer: int, experts: Experts, branch: Branch) -> None:
        w = self._workspace = workspace
        self._layer, self._experts, self._branch = layer, experts, branch
        allocate = w.buffer.allocate
        self._has_biases = w.bias(layer_role(layer, "experts_down")) is not None
        self._router = Router(w, layer, experts)
        self.divisor = self._router.divisor
        assert self.divisor is None or not experts.weighted_input
        self.total = allocate("the weighted sum of experts", w.batch * w.hidden)
        self._results = [allocate("the results of an expert", w.batch * w.hidden) for _ in SETS]
        self._switch: SmallProduct | None = None
        if experts.shared and experts.shared_gated:
            self._switch = SmallProduct(w, layer_role(layer, "shared_router"), 1, "the logits of the shared expert")
        self._shared_total = 0
        if experts.shared and branch.post_norm:
            self._shared_total = allocate("the output of the shared expert", w.batch * w.hidden)
        self._turns = self._all_turns()

    def _all_turns(self) -> list[_Turn]:
        w, e, turns = self._workspace, self._experts, 0
        blocks = ([(e.shared, "shared_")] if e.shared else []) + [(e.expert, "experts_")]
        ups = [w.matrix(layer_role(self._layer, f"{prefix}up"), block.size, w.hidden) for block, prefix in blocks]
        results = Results(w, [block for block, _ in blocks], [part for up in ups for part in up.parts], several=True)
        self._take_turns = results.take_turns
        places = self._first_blocks()

        def middle(block: FeedForward, prefix: str, place: int, turn: int) -> Middle:
            source = (SHARED_SET, w.hidden // BLOCK) if e.apart and prefix == "shared_" else (0, 0)
            return Middle(w, block, self._layer, results, places[place], SETS[place], prefix=prefix, turn=turn, source=source)

        shared = []
        if e.shared:
            down = w.matrix(layer_role(self._layer, "shared_down"), w.hidden, e.shared.size)
            shared = [_Turn(range(w.batch), middle(e.shared, "shared_", 0, 0), 0, down, self._accumulate_shared)]
            turns = shared[0].middle.parts
        down = w.matrix(layer_role(self._layer, "experts_down"), w.hidden, e.expert.size)
        # The parts of one expert after the other have the places of results in turn.
        parts = len(ups[-1].parts)
        first = len(shared)
        middles = {(i + first) % 2: middle(e.expert, "experts_", (i + first) % 2, turns + i * parts) for i in range(2)}
        chosen = []
        for i, (s, _) in enumerate(self._router.chosen):
            place = (i + first) % 2
            chosen.append(_Turn(range(s, s + 1), middles[place], place, down, self._accumulation(i, place), i))
        return shared + chosen

    def _first_blocks(self) -> list[int]:
        """Blocks of the slots at which the activations of two experts start: the same ones if there is no room for more."""
        blocks, e = slot_map(self._workspace.build.vector_blocks), self._experts
        size = max(e.expert.size, e.shared.size if e.shared else 0) // BLOCK
        blocks.allocate("the input of the experts", self._workspace.hidden // BLOCK)
        if e.apart:
            blocks.allocate("the input of the shared expert", self._workspace.hidden // BLOCK)
        first = blocks.allocate("the activations of an expert", size)
        return [first, first if size > blocks.free else blocks.allocate("the activations of the next expert", size)]

    def emit(self) -> None:
        """Emit from the norm on."""
        self._enter()
        if self._switch:
            self._switch.multiply()
        if not self._experts.shared:
            self._router.score()
            self._router.choose(0)
        stages: list[Stage] = []
        for n, turn in enumerate(self._turns):
            stages += self._middle_stages(turn)
            if not self._take_turns:
                # The activations of two experts may have one place, too.
                stages.append(self._down_stage(turn))
            elif n:
                stages.append(self._down_stage(self._turns[n - 1]))
        interleaved(stages)
        if self._take_turns:
            # Down of the last expert waits for all before it, and has nothing to run beside.
            interleaved([self._down_stage(self._turns[-1])])
        if self._experts.shared and self._branch.post_norm:
            self._add_shared()

    def _enter(self) -> None:
        """Norms, and the product with the router."""
        w, e, norm = self._workspace, self._experts, self._branch.norm
        if not e.apart:
            enter(w, self._branch)
            self._router.multiply()
            return
        assert norm is not None
        normalise(w, layer_role(self._layer, "router_norm"), factor=e.router_scale)
        self._router.multiply()
        normalise(w, norm, again=True, vector_set=SHARED_SET, first_block=w.hidden // BLOCK)

    def _normalise_for_chosen(self) -> None:
        if self._experts.apart:
            normalise(self._workspace, layer_role(self._layer, "experts_norm"), again=True)

    def _middle_stages(self, turn: _Turn) -> list[Stage]:
        w, router = self._workspace, self._router
        if turn.choice is None:
            own = turn.middle.stages()
            # The choice takes the vector unit a while: it begins behind the first product, and is waited for behind the second.
            own[0] = _followed(own[0], self._score_shared, router.score, self._normalise_for_chosen)
            own[min(1, len(own) - 1)] = _followed(own[min(1, len(own) - 1)], partial(router.choose, 0))
            return own
        weight = router.weight(turn.choice) if self._experts.weighted_input else None
        own = turn.middle.stages(turn.slots, w.expert_registers[turn.choice % KNOWN], weight)
        if turn.choice == 0:
            own[0] = _followed(own[0], *(partial(router.choose, i) for i in range(1, KNOWN)))
        return own

    def _down_stage(self, turn: _Turn) -> Stage:
        w, hidden, result = self._workspace, self._workspace.hidden, self._results[turn.place]

        def product() -> None:
            expert = None if turn.choice is None else w.expert_registers[turn.choice % KNOWN]
            for part in turn.down.parts:
                w.product(
                    turn.down, part, result + part.first_row, hidden, vector_set=SETS[turn.place],
                    first_block=turn.middle.first_block, slots=turn.slots.stop, expert=expert,
                )  # fmt: skip
            if turn.choice is not None:
                self._add_bias(turn.choice)
                self._router.choose(turn.choice + KNOWN)

        return product, turn.accumulate

    def _add_bias(self, i: int) -> None:
        """Add the bias of an expert's down to the total, while its number is still known."""
        w, (s, k) = self._workspace, self._router.chosen[i]
        bias = w.bias(layer_role(self._layer, "experts_down"), w.expert_registers[i % KNOWN])
        if bias:
            total = self.total + s * w.hidden
            sum_up: dict[str, Any] = {"combine": Combine.SUM, "b": total} if k else {}
            w.commands.elementwise(bias, w.hidden, p=self._router.weight(i), to=total, **sum_up)

    def _accumulation(self, i: int, place: int) -> Callable[[], None]:
        w, (s, k), hidden = self._workspace, self._router.chosen[i], self._workspace.hidden
        total, result = self.total + s * hidden, self._results[place] + s * hidden

        def accumulate() -> None:
            sum_up: dict[str, Any] = {"combine": Combine.SUM, "b": total} if k or self._has_biases else {}
            w.commands.elementwise(result, hidden, p=self._router.weight(i), to=total, **sum_up)

        return accumulate

    def _score_shared(self) -> None:
        """What the output of the shared expert is multiplied with."""
        if self._switch:
            w, size = self._workspace, (self._workspace.batch - 1) * BUFFER_UNIT + 1
            factor = 1.0 if self._branch.post_norm else w.description.residual_scale
            w.commands.elementwise(self._switch.entry, size, function=Function.SIGMOID, m=factor, to=self._switch.entry)

    def _share(self, s: int) -> Loaded | float:
        if self._switch:
            return Loaded(self._switch.entry + s * self._switch.stride)
        return 1.0 if self._branch.post_norm else self._workspace.description.residual_scale

    def _accumulate_shared(self) -> None:
        w, hidden, bias = self._workspace, self._workspace.hidden, self._workspace.bias(layer_role(self._layer, "shared_down"))
        if self._experts.apart:
            post_norm(w, self._results[0], bias, layer_role(self._layer, "shared_post_norm"))
            bias = None
        for s in w.sequences:
            result = self._results[0] + s * hidden
            if bias:
                w.commands.elementwise(result, hidden, stream=bias, stream_n=True, to=result)
            if self._branch.post_norm:
                w.commands.elementwise(result, hidden, p=self._share(s), to=self._shared_total + s * hidden)
                continue
            base = self._branch.base + s * hidden
            w.commands.elementwise(result, hidden, p=self._share(s), b=base, combine=Combine.SUM, to=base)

    def _add_shared(self) -> None:
        """Divide the total, normalise it if that is done apart, and add the output of the shared expert."""
        w, hidden, divisor, total = self._workspace, self._workspace.hidden, self.divisor, self.total
        share: Loaded | float = 1.0
        if divisor is not None:
            w.commands.elementwise(divisor, w.batch, function=Function.RECIPROCAL, to=divisor)
            share = Loaded(divisor, advance=True)
        if self._experts.apart:
            w.commands.elementwise(total, hidden, w.batch, a_stride=hidden, p=share, to=total, d_stride=hidden)
            post_norm(w, total, None, layer_role(self._layer, "experts_post_norm"))
            share = 1.0
        w.commands.elementwise(
            total, hidden, w.batch, a_stride=hidden, p=share, b=self._shared_total, b_stride=hidden, combine=Combine.SUM,
            to=total, d_stride=hidden,
        )  # fmt: skip
        self.divisor = None


def _followed(stage: Stage, *more: Callable[[], None]) -> Stage:
    """A stage whose product is followed by more commands."""
    product, work = stage

    def products() -> None:
        product()
        for emit in more:
            emit()

    return products, work
