"""Decays of linear attention: ``decay * softplus(x)``, with no logarithm."""

from tailrace.spec.floats import Function
from tailrace.spec.isa import Combine, Multiplier

from .command_list import Address, CommandList

#: Steps that reach float32's rounding from anywhere.
STEPS = 3


def softplus(commands: CommandList, x: int, y: int, scratch: int, count: int) -> None:
    """``y = log(1 + exp(x))``, for `count` elements; `scratch` has ``2 * round4(count)`` entries.

    ``y0 = x * sigmoid(x)`` lies within 0.7 below. Halley's step for ``exp(-y) (1 + exp(x)) = 1``, with E the left side, is
    ``y -= 4 / (1 + E) - 2``; it converges cubically, and nothing in it overflows where y is near ``max(x, 0)``.
    """
    one, other = scratch, scratch + -(-count // 4) * 4
    commands.elementwise(x, count, function=Function.SIGMOID, multiplier=Multiplier.A, to=y)
    for _ in range(STEPS):
        commands.elementwise(y, count, p=-1.0, function=Function.EXP, n=1.0, to=one)
        commands.elementwise(x, count, b=y, combine=Combine.SUM, q=-1.0, function=Function.EXP, to=other)
        commands.elementwise(
            one, count, b=other, combine=Combine.SUM, function=Function.RECIPROCAL, m=4.0, n=-2.0, to=one
        )  # fmt: skip
        commands.elementwise(y, count, b=one, combine=Combine.SUM, q=-1.0, to=y)


def logs(commands: CommandList, x: int, y: int, scratch: int, count: int, decay: Address) -> None:
    """``y = decay * softplus(x)``; places as those of `softplus`."""
    softplus(commands, x, y, scratch, count)
    commands.elementwise(y, count, stream=decay, multiplier=Multiplier.STREAM, to=y)
