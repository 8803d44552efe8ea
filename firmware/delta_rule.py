"""Linear attention by the gated delta rule."""

from collections.abc import Callable, Iterator
from typing import Any

from tailrace.spec.floats import Function
from tailrace.spec.formats import BLOCK
from tailrace.spec.isa import Combine, Multiplier, Reduce

from .command_list import Loaded, Slot
from .decays import logs
from .state_heads import StateHeads
from .state_products import OUTPUT_SET, Group

#: Added to the square of the length that queries and keys are divided by.
EPSILON = 1e-6


class DeltaRule(StateHeads):
    """Heads of `Rule.DELTA`. A token's own delta counts in float32: the key's product with the query, times the delta."""

    def seen(self) -> tuple[Callable[..., int], ...]:
        """Keys, whose products are what the state has for them, and queries."""
        return self.key, self.query

    def allocate_norm(self) -> None:
        """Reserve entries for the weights, which are the same for all heads."""
        self._norm = self.w.buffer.allocate("the weights of output_norm", self.a.value_size)

    def emit(self) -> None:
        """Load the weights of the norm, then all that heads have in common."""
        w = self.w
        w.commands.elementwise(w.address(w.table(self.role("output_norm")).address), self.a.value_size, to=self._norm)
        super().emit()

    def small(self) -> tuple[Callable[[], None], Callable[[], None]]:
        """Decays, and rates of their own."""

        def finish() -> None:
            w, a, commands = self.w, self.a, self.w.commands
            heads = a.value_heads
            bias, decay = w.bias(self.role("alpha")), w.address(w.table(self.role("decay")).address)
            for s in w.sequences:
                self._measure(s)
                alpha = self.alpha + s * self.stride
                if bias:
                    commands.elementwise(alpha, heads, stream=bias, stream_n=True, to=alpha)
                logs(commands, alpha, self.logs + s * self.stride, self.scratch, heads, decay)
                self.add_decays(s)
            for s in w.sequences:
                rates = self.rates + s * self.stride
                commands.elementwise(rates, heads, function=Function.SIGMOID, to=rates)
            self.weigh_planes()

        return lambda: self.small_products(("alpha", self.alpha), ("beta", self.rates)), finish

    def finish_vectors(self, s: int) -> None:
        """Queries and keys are divided by their lengths."""
        commands, size, heads = self.w.commands, self.a.key_size, self.a.key_heads
        place = self.query(s)
        commands.elementwise(place, size, 2 * heads, a_stride=size, reduce=Reduce.SUM_OF_SQUARES, r=self.lengths)
        commands.elementwise(
            self.lengths, 2 * heads, q=EPSILON, function=Function.RECIPROCAL_SQUARE_ROOT, to=self.lengths
        )  # fmt: skip
        for first, scale in ((0, size**-0.5), (heads, 1.0)):
            at = place + first * size
            commands.elementwise(
                at, size, heads, a_stride=size, p=Loaded(self.lengths + first, advance=True), m=scale, to=at, d_stride=size
            )  # fmt: skip
        self.match(s)

    def finish(self, group: Group) -> Iterator[None]:
        """Outputs are normalised and gated on their way into the slots."""
        w, a, s, size = self.w, self.a, group.sequence, self.a.value_size
        commands, heads, count = w.commands, group.heads, group.heads * self.a.value_size
        yield from self.add_up(group)
        seen = self.state[group.turn]
        value, output = self.value(s, group.first), seen + count
        commands.elementwise(value, count, b=seen, combine=Combine.SUM, q=-1.0, to=value)
        yield
        shape: dict[str, Any] = {"a_stride": size, "d_stride": size}
        commands.elementwise(value, size, heads, p=self.each(self.rates, s, group.first), to=value, **shape)
        yield
        commands.elementwise(
            value, size, heads, p=self.each(self.matches, s, group.first), b=output, b_stride=size, combine=Combine.SUM,
            to=output, **shape, reduce=Reduce.SUM_OF_SQUARES, r=self.lengths,
        )  # fmt: skip
        yield
        epsilon = w.description.norm.epsilon
        commands.elementwise(
            self.lengths, heads, p=1 / size, q=epsilon, function=Function.RECIPROCAL_SQUARE_ROOT, to=self.lengths
        )  # fmt: skip
        yield
        commands.elementwise(
            output, size, heads, p=Loaded(self.lengths, advance=True), b=self._norm, multiplier=Multiplier.B, to=output,
            **shape,
        )  # fmt: skip
        yield
        first = group.first * size
        target = Slot(s, OUTPUT_SET, first // BLOCK, join=group.first > 0)
        gate = self.gate + s * a.values + first
        commands.elementwise(output, count, b=gate, combine=Combine.PRODUCT, to=target)
        yield

    def conclude(self, s: int) -> None:
        """Nothing is left to do: each group's outputs went into the slots."""
