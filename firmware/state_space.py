"""State spaces (Mamba-2) as linear attention: queries are C, keys B, values x, rates the time steps."""

from collections.abc import Callable, Iterator

from tailrace.spec.floats import Function
from tailrace.spec.formats import BLOCK
from tailrace.spec.isa import Combine, Multiplier, Reduce

from .command_list import Loaded, Slot
from .decays import softplus
from .state_heads import StateHeads
from .state_products import OUTPUT_SET, Group


class StateSpace(StateHeads):
    """Heads of `Rule.STATE_SPACE`. What a token adds counts for itself in float32, with its skip in the same factor."""

    def seen(self) -> tuple[Callable[..., int], ...]:
        """Queries alone: what the state has for a key counts for nothing."""
        return (self.query,)

    def allocate_norm(self) -> None:
        """Reserve entries for skips, and for the squares of what is normalised together."""
        a, allocate = self.a, self.w.buffer.allocate
        self._skip = allocate("the skips of heads", a.value_heads)
        self._squares = allocate("the factors of the norm of outputs", a.values // a.norm_size) if a.norm_size else 0

    def emit(self) -> None:
        """Load the skips, then all that heads have in common."""
        w = self.w
        w.commands.elementwise(w.address(w.table(self.role("skip")).address), self.a.value_heads, to=self._skip)
        super().emit()

    def small(self) -> tuple[Callable[[], None], Callable[[], None]]:
        """Rates, and the decays that come from them."""

        def finish() -> None:
            w, commands, heads = self.w, self.w.commands, self.a.value_heads
            bias, decay = w.bias(self.role("alpha")), w.address(w.table(self.role("decay")).address)
            for s in w.sequences:
                self._measure(s)
                alpha, rates, logs = (entry + s * self.stride for entry in (self.alpha, self.rates, self.logs))
                if bias:
                    commands.elementwise(alpha, heads, stream=bias, stream_n=True, to=alpha)
                softplus(commands, alpha, rates, self.scratch, heads)
                commands.elementwise(rates, heads, stream=decay, multiplier=Multiplier.STREAM, to=logs)
                self.add_decays(s)
            self.weigh_planes()

        return lambda: self.small_products(("alpha", self.alpha)), finish

    def finish_vectors(self, s: int) -> None:
        """What a token's values count for in its own outputs."""
        self.match(s)
        matches, rates = self.matches + s * self.stride, self.rates + s * self.stride
        commands, heads = self.w.commands, self.a.value_heads
        commands.elementwise(matches, heads, b=rates, combine=Combine.PRODUCT, to=matches)
        commands.elementwise(matches, heads, b=self._skip, combine=Combine.SUM, to=matches)

    def finish(self, group: Group) -> Iterator[None]:
        """Gated outputs go into the slots, or wait in place of their gates for the norm."""
        a, s, size, commands = self.a, group.sequence, self.a.value_size, self.w.commands
        count, first = group.heads * size, group.first * size
        yield from self.add_up(group)
        value, output, gate = self.value(s, group.first), self.state[group.turn], self.gate + s * a.values + first
        commands.elementwise(
            value, size, group.heads, a_stride=size, p=self.each(self.matches, s, group.first), b=output, b_stride=size,
            combine=Combine.SUM, to=output, d_stride=size,
        )  # fmt: skip
        yield
        commands.elementwise(
            value, size, group.heads, a_stride=size, p=self.each(self.rates, s, group.first), to=value, d_stride=size
        )  # fmt: skip
        yield
        target = gate if a.norm_size else Slot(s, OUTPUT_SET, first // BLOCK, join=group.first > 0)
        commands.elementwise(output, count, b=gate, combine=Combine.PRODUCT, to=target)
        yield

    def conclude(self, s: int) -> None:
        """The norm of outputs, which may be over more heads than one group has."""
        a, w, commands, size = self.a, self.w, self.w.commands, self.a.norm_size
        if not size:
            return
        parts, gated = a.values // size, self.gate + s * a.values
        commands.elementwise(gated, size, parts, a_stride=size, reduce=Reduce.SUM_OF_SQUARES, r=self._squares)
        commands.elementwise(
            self._squares, parts, p=1 / size, q=w.description.norm.epsilon, function=Function.RECIPROCAL_SQUARE_ROOT,
            to=self._squares,
        )  # fmt: skip
        commands.elementwise(
            gated, size, parts, a_stride=size, p=Loaded(self._squares, advance=True),
            stream=w.address(w.table(self.role("output_norm")).address), multiplier=Multiplier.STREAM,
            to=Slot(s, OUTPUT_SET, 0),
        )  # fmt: skip
