"""Feed-forward layers: the activation runs in the shadow of the stream of gate and up."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from tailrace.spec.errors import LimitError, ModelError
from tailrace.spec.floats import Function
from tailrace.spec.formats import BLOCK, BY_NUMBER
from tailrace.spec.isa import BUFFER_UNIT, Combine, Multiplier

from .branch import Branch, Residual, enter
from .buffer_map import slot_map
from .command_list import Address, CommandList, Loaded, Scalar, Slot, interleaved
from .description import Activation, FeedForward, layer_role
from .parts import PART_UNIT
from .placement import MatrixPart
from .workspace import Workspace

#: ``gelu(x) = x * sigmoid(x * (LINEAR + CUBIC * x * x))``, the tanh form.
LINEAR = 1.5957691216
CUBIC = LINEAR * 0.044715
#: ``quick_gelu(x) = x * sigmoid(QUICK * x)``; of SiLU the factor is 1.
QUICK = 1.702
#: The set of the slots that the activations between up and down belong to.
MIDDLE_SET = 1

Stage = tuple[Callable[[], None], Callable[[], None]]


def feed_forward(workspace: Workspace, layer: int, block: FeedForward, branch: Branch) -> None:
    """Norm, feed-forward, residual of a layer."""
    w, down_role = workspace, layer_role(layer, "down")
    with w.buffer.phase():
        enter(w, branch)
        residual, start = Residual(w, branch, down_role, block.size), first_block(w, block)
        before = w.buffer.mark()
        held = None if start is not None else w.buffer.allocate("the activations of a feed-forward layer", w.batch * block.size)
        parts = w.matrix(layer_role(layer, "up"), block.size, w.hidden).parts
        middle = Middle(w, block, layer, Results(w, [block], parts, several=len(parts) > 1), start or 0, held=held)
        with w.buffer.over(before):
            # When down begins, the slots hold what it is multiplied with.
            residual.allocate()
        interleaved(middle.stages())
        middle.quantise_held()
        residual.emit(MIDDLE_SET, middle.first_block)


def _nothing() -> None:
    """Neither a product nor work on its results."""


def first_block(workspace: Workspace, block: FeedForward) -> int | None:
    """Block of the slots at which the activations of a feed-forward layer start.

    None: there is room for them only where their input is, when that is no longer needed.
    """
    blocks, size = slot_map(workspace.build.vector_blocks), block.size // BLOCK
    with blocks.phase():
        blocks.allocate("the activations of a feed-forward layer", size)
    blocks.allocate("the input of a feed-forward layer", workspace.hidden // BLOCK)
    return None if size > blocks.free else blocks.mark()


def activate(
    commands: CommandList, activation: Activation, x: int, count: int, segments: int, stride: int, argument: int,
    target: dict[str, Any], weight: Loaded | None = None,
) -> None:  # fmt: skip
    """Apply an activation function to segments of the buffer, `stride` apart.

    `argument`: as many entries, for what GELU takes the sigmoid of. `target`: where the results go. `weight`: what the argument
    of SiLU's sigmoid is multiplied with, and what the sigmoid multiplies is not.
    """
    apply = partial(commands.elementwise, x, count, segments, a_stride=stride)
    if activation is Activation.SQUARED_RELU:
        # The lesser of -x and 0, whose square it is.
        apply(combine=Combine.LIMIT, p=-1.0, q=0.0, to=x, d_stride=stride)
        apply(b=x, b_stride=stride, combine=Combine.PRODUCT, **target)
        return
    if activation is not Activation.GELU:
        factor: Scalar = (weight or 1.0) if activation is Activation.SILU else QUICK
        apply(p=factor, function=Function.SIGMOID, multiplier=Multiplier.A, **target)
        return
    second: dict[str, Any] = {"b_stride": stride, "combine": Combine.PRODUCT}
    apply(b=x, m=CUBIC, n=LINEAR, to=argument, d_stride=stride, **second)
    apply(b=argument, function=Function.SIGMOID, multiplier=Multiplier.A, **second, **target)


class Results:
    """Where the results of gate and up lie until they are used: those of two parts in turn, if there is room.

    Parameters
    ----------
    workspace : Workspace
    blocks : sequence of FeedForward
        Those that use them.
    parts : sequence of MatrixPart
        All parts of their up matrices.
    several : bool
        Whether there is more than one part to come.

    Attributes
    ----------
    stride : int
        Entries of a slot's results of a part.
    ups, gates : list of int
        Places of a part's results; a layer without a gate has the same ones twice.
    argument : int
        Place of the argument of GELU.
    """

    def __init__(
        self, workspace: Workspace, blocks: Sequence[FeedForward], parts: Sequence[MatrixPart], *, several: bool
    ) -> None:  # fmt: skip
        w, gated = workspace, any(block.gated for block in blocks)
        gelu = any(block.activation is Activation.GELU for block in blocks)
        self.stride = max(-(-p.rows // BUFFER_UNIT) * BUFFER_UNIT for p in parts)
        size = w.batch * self.stride
        copies = 2 if several and size * (2 * (1 + gated) + gelu) <= w.buffer.free else 1
        self.ups = [w.buffer.allocate("the results of up", size) for _ in range(copies)]
        self.gates = [w.buffer.allocate("the results of gate", size) for _ in range(copies)] if gated else self.ups
        self.argument = w.buffer.allocate("the argument of GELU", size) if gelu else 0

    @property
    def take_turns(self) -> bool:
        """Whether the results of two parts have places of their own."""
        return len(self.ups) > 1


class Middle:
    """What lies between up and down: ``activation(gate) * up``, computed part by part.

    An expert whose input has the weight w would compute ``silu(w * gate) * (w * up)``, since gate and up are linear. Here it is
    ``silu(w * gate) * up``, and the outputs are multiplied with w, as in every mixture, since down is linear, too. So all
    experts have one input in the slots, and w takes no command of its own: it is a scalar of those that are there anyway.

    Parameters
    ----------
    workspace : Workspace
    block : FeedForward
    layer : int
    results : Results
    first_block : int
        Where the activations go in the slots.
    vector_set : int
    held : int or None
        Where in the buffer the activations stay until all are computed; None: they go to the slots at once.
    prefix : str
        What the names of the matrices start with.
    turn : int
        Parts that have had the places of the results before: the first one takes the place whose turn it is.
    source : tuple of int
        Set of the slots, and first block in them, of what gate and up are multiplied with.
    """

    def __init__(
        self, workspace: Workspace, block: FeedForward, layer: int, results: Results, first_block: int,
        vector_set: int = MIDDLE_SET, *, held: int | None = None, prefix: str = "", turn: int = 0,
        source: tuple[int, int] = (0, 0),
    ) -> None:  # fmt: skip
        w = self._workspace = workspace
        self._source = source
        self._block, self._set, self._results, self._held, self._turn = block, vector_set, results, held, turn
        self._stride, self.first_block = results.stride, first_block
        if block.size % BLOCK:
            raise LimitError(f"the size of a feed-forward layer must be a multiple of {BLOCK}, not {block.size}")
        self._up_role, self._gate_role = layer_role(layer, f"{prefix}up"), layer_role(layer, f"{prefix}gate")
        self._up = w.matrix(self._up_role, block.size, w.hidden)
        self._gate = w.matrix(self._gate_role, block.size, w.hidden) if block.gated else self._up
        self._check_parts()

    def _check_parts(self) -> None:
        if [(p.first_row, p.rows) for p in self._gate.parts] != [(p.first_row, p.rows) for p in self._up.parts]:
            raise ModelError(f"{self._gate_role} and {self._up_role} must have the same parts")
        if any(p.first_row % BLOCK for p in self._up.parts):
            raise ModelError(f"parts of {self._up_role} must start at multiples of {BLOCK} rows")

    @property
    def parts(self) -> int:
        """Parts that gate and up have."""
        return len(self._up.parts)

    def stages(
        self, slots: range | None = None, expert: int | None = None, weight: Loaded | None = None
    ) -> list[Stage]:  # fmt: skip
        """Products and the vector work on their results, to be interleaved.

        Parameters
        ----------
        slots : range or None
            Slots whose results are used (those below are multiplied, too, and not used); None: those of all sequences.
        expert : int or None
            Register with the number of the expert whose matrices they are.
        weight : Loaded or None
            What the input is multiplied with.
        """
        stages: list[Stage] = []
        slots = slots or range(self._workspace.batch)
        vector_set, first_block = self._source
        product = partial(
            self._workspace.product, slot_stride=self._stride, slots=slots.stop, expert=expert, vector_set=vector_set,
            first_block=first_block,
        )  # fmt: skip
        for i, (gate_part, up_part) in enumerate(zip(self._gate.parts, self._up.parts)):
            place = (self._turn + i) % len(self._results.ups)
            gate, up = self._results.gates[place], self._results.ups[place]
            own: list[Stage] = []
            if self._block.gated:
                finish_gate = partial(self._finish_gate, slots, gate_part, gate, expert, weight)
                own.append((partial(product, self._gate, gate_part, gate), finish_gate))
            for piece in self._pieces(up_part) if i == self.parts - 1 and expert is None else [up_part]:
                before = piece.first_row - up_part.first_row
                finish_up = partial(self._finish_up, slots, piece, up + before, gate + before, expert, weight)
                own.append((partial(product, self._up, piece, up + before), finish_up))
            # In an only place the results of a part stay until they have been used, before the next product.
            stages += own if self._results.take_turns else [*own, (_nothing, _nothing)]
        return stages

    def _pieces(self, part: MatrixPart) -> list[MatrixPart]:
        """The last part of up: of several rows its end comes alone, as down waits for all that is done with its results."""
        w, first = self._workspace, part.rows - PART_UNIT
        if w.batch == 1 or first <= 0:
            return [part]
        before = BY_NUMBER[self._up.format].matrix_bytes(first, self._up.blocks, w.build.lanes)
        end = MatrixPart(part.address + before, part.first_row + first, PART_UNIT)
        return [replace(part, rows=first), end]

    def _finish_gate(
        self, slots: range, part: MatrixPart, gate: int, expert: int | None, weight: Loaded | None
    ) -> None:  # fmt: skip
        self._add_bias(slots, part, gate, self._workspace.bias(self._gate_role, expert))
        start = gate + slots.start * self._stride
        if self._block.limit is not None:
            self._limit(slots, part, start)
        self._activate(slots, part, start, {"to": start, "d_stride": self._stride}, weight)

    def _finish_up(
        self, slots: range, part: MatrixPart, up: int, gate: int, expert: int | None, weight: Loaded | None
    ) -> None:  # fmt: skip
        self._add_bias(slots, part, up, self._workspace.bias(self._up_role, expert))
        start, target = slots.start * self._stride, self._target(slots, part)
        if not self._block.gated:
            self._activate(slots, part, up + start, target)
            return
        if self._block.limit is not None:
            # The greater of two numbers is the lesser one of their negatives.
            self._limit(slots, part, up + start, m=-1.0)
            self._limit(slots, part, up + start, m=-1.0, n=self._block.up_offset)
        elif self._block.up_offset:
            self._change(slots, part, up + start, n=self._block.up_offset)
        self._workspace.commands.elementwise(
            gate + start, part.rows, len(slots), a_stride=self._stride, b=up + start, b_stride=self._stride,
            combine=Combine.PRODUCT, m=weight or 1.0, **target,
        )  # fmt: skip

    def _add_bias(self, slots: range, part: MatrixPart, entry: int, bias: Address | None) -> None:
        if bias is None:
            return
        for s in slots:
            place = entry + s * self._stride
            self._workspace.commands.elementwise(place, part.rows, stream=bias + 4 * part.first_row, stream_n=True, to=place)

    def _limit(self, slots: range, part: MatrixPart, x: int, **changes: float) -> None:
        self._change(slots, part, x, combine=Combine.LIMIT, q=self._block.limit, **changes)

    def _change(self, slots: range, part: MatrixPart, x: int, **how: Any) -> None:
        """Change a part's results in place."""
        stride = self._stride
        self._workspace.commands.elementwise(x, part.rows, len(slots), a_stride=stride, to=x, d_stride=stride, **how)

    def _activate(
        self, slots: range, part: MatrixPart, x: int, target: dict[str, Any], weight: Loaded | None = None
    ) -> None:  # fmt: skip
        """Apply the activation function to what is at `x`."""
        activate(
            self._workspace.commands, self._block.activation, x, part.rows, len(slots), self._stride, self._results.argument,
            target, weight,
        )  # fmt: skip

    def _target(self, slots: range, part: MatrixPart) -> dict[str, Any]:
        """Where the activations of a part go."""
        if self._held is not None:
            return {"to": self._held + slots.start * self._block.size + part.first_row, "d_stride": self._block.size}
        first = self.first_block + part.first_row // BLOCK
        return {"to": Slot(slots.start, self._set, first, next_slot=True, join=part.first_row > 0)}

    def quantise_held(self) -> None:
        """Quantise what was held back in the buffer."""
        if self._held is not None:
            size, target = self._block.size, Slot(0, self._set, 0, next_slot=True)
            self._workspace.commands.elementwise(self._held, size, self._workspace.batch, a_stride=size, to=target)
