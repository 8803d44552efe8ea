"""Causal convolutions: a token's input and those of the tokens before, which lie in memory."""

from collections.abc import Sequence

from tailrace.spec.isa import ADDRESS_UNIT, Combine, Multiplier
from tailrace.spec.recent_rows import ROWS, ROWS_SHIFT, RecentRows

from .command_list import Address
from .parts import CONVOLUTION_PART
from .placement import TablePlace
from .workspace import Workspace


def scratch_size(channels: int, kernel: int) -> int:
    """Entries that `convolve` needs beside its operand."""
    return (kernel - 1) * min(channels, CONVOLUTION_PART)


def keep(
    workspace: Workspace, entries: Sequence[int], rows: RecentRows, rings: Sequence[int], channels: range | None = None
) -> None:
    """Keep the input of each row of a pass, for the rows after it.

    Parameters
    ----------
    workspace : Workspace
    entries : sequence of int
        For each row its input, all channels.
    rows : RecentRows
    rings : sequence of int
        For each row the byte address of its sequence's ring.
    channels : range or None
        Those that are there; None: all.
    """
    w = workspace
    channels = range(rows.channels) if channels is None else channels
    for s, (entry, ring) in enumerate(zip(entries, rings, strict=True)):
        w.commands.store(entry + channels.start, row_address(w, rows, ring + 4 * channels.start, s, 0), len(channels))
    if len(w.turns) > 1:
        w.commands.fence(stored=True)


def convolve(
    workspace: Workspace, entry: int, scratch: int, rows: RecentRows, ring: int, weights: TablePlace, sequence: int,
    bias: Address | None = None, channels: range | None = None,
) -> None:  # fmt: skip
    """Convolve a token's input, which has been kept, with those of the tokens before, in place.

    All that is streamed comes first. A stream that waits for the vector unit keeps the matrix unit from its weights, which lie
    behind it; what works in the buffer alone does not.

    Parameters
    ----------
    workspace : Workspace
    entry : int
        The input, all channels.
    scratch : int
        `scratch_size` entries.
    rows : RecentRows
    ring : int
        Byte address of the rows.
    weights : TablePlace
        A row for each tap, that of the token itself last.
    sequence : int
    bias : Address or None
        What is added for each channel.
    channels : range or None
        Those that are there; None: all.
    """
    w, commands, taps = workspace, workspace.commands, rows.kernel - 1
    channels = range(rows.channels) if channels is None else channels
    for first in range(channels.start, channels.stop, CONVOLUTION_PART):
        count, place = min(CONVOLUTION_PART, channels.stop - first), entry + first
        weight = w.address(weights.address + 4 * first)
        commands.elementwise(
            place, count, stream=weight + taps * weights.stride, multiplier=Multiplier.STREAM, to=place
        )  # fmt: skip
        if bias:
            commands.elementwise(place, count, stream=bias + 4 * first, stream_n=True, to=place)
        before = [scratch + n * min(rows.channels, CONVOLUTION_PART) for n in range(taps)]
        for back, held in enumerate(before, 1):
            commands.elementwise(row_address(w, rows, ring + 4 * first, sequence, back), count, to=held)
            tap = weight + (taps - back) * weights.stride
            commands.elementwise(held, count, stream=tap, multiplier=Multiplier.STREAM, to=held)
        for held in before:
            commands.elementwise(place, count, b=held, combine=Combine.SUM, to=place)


def row_address(w: Workspace, rows: RecentRows, ring: int, sequence: int, back: int) -> Address:
    """The row so many tokens back; by way of the address register, so valid for the next command only."""
    number, position, ahead = w.address_register, w.position(sequence), -back % ROWS
    w.commands.set(number, y=position, addend=ahead, shift=ROWS_SHIFT)
    w.commands.set(number, x=number, factor=-ROWS, y=position, addend=ahead)
    w.commands.set(number, x=number, factor=rows.pitch // ADDRESS_UNIT)
    address = w.cache_address(ring)
    return Address(address.byte, (*address.registers, number))
