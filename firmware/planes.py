"""Numbers as codes of 16 bits: two planes of 8 bits that share their scales."""

from typing import Any

from tailrace.spec.floats import Function
from tailrace.spec.isa import Combine, Reduce
from tailrace.spec.kv_cache import CODE_STEP
from tailrace.spec.linear_attention import LOWER

from .command_list import CommandList, Loaded

#: Added to a float32 of moderate size and taken off again, this leaves the nearest integer, ties to even.
ROUNDING = 1.5 * 2**23


def scale_down(
    commands: CommandList,
    entry: int,
    segments: int,
    count: int,
    largest: int,
    scales: int,
    rounding: Function = Function.IDENTITY,
) -> None:
    """Divide stretches of `count` elements by their scales, in place.

    `scales`: where these go, an entry for each stretch; `largest`: as many entries for what is between.
    """
    commands.elementwise(entry, count, segments, a_stride=count, reduce=Reduce.ABSOLUTE_MAXIMUM, r=largest)
    commands.elementwise(largest, segments, p=float(CODE_STEP), function=rounding, to=scales)
    commands.elementwise(scales, segments, function=Function.RECIPROCAL, to=largest)
    divide(commands, entry, segments, count, largest)


def divide(commands: CommandList, entry: int, segments: int, count: int, inverses: int) -> None:
    """Multiply each stretch with its entry of `inverses`, in place."""
    commands.elementwise(
        entry, count, segments, a_stride=count, p=Loaded(inverses, advance=True), to=entry, d_stride=count
    )  # fmt: skip


def take_apart(
    commands: CommandList, scaled: int, upper: int, lower: int, segments: int, count: int, stride: int
) -> None:  # fmt: skip
    """Split scaled numbers into integers, at `upper`, and 256 times what is left, at `lower`.

    `scaled` may be `lower`; all have stretches of `count` elements, those of upper and lower `stride` apart.
    """
    shape: dict[str, Any] = {"a_stride": stride, "d_stride": stride}
    commands.elementwise(scaled, count, segments, q=ROUNDING, n=-ROUNDING, to=upper, **shape)
    commands.elementwise(
        scaled, count, segments, p=1 / LOWER, b=upper, b_stride=stride, q=-1 / LOWER, combine=Combine.SUM, to=lower, **shape
    )  # fmt: skip
