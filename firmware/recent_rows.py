"""Causal convolutions: a token's input and those of the tokens before, which lie in memory."""

from collections.abc import Sequence

from tailrace.spec.isa import ADDRESS_UNIT, Combine, Multiplier
from tailrace.spec.recent_rows import ROWS, ROWS_SHIFT, RecentRows

from .command_list import Address
from .placement import TablePlace
from .workspace import POSITION, Workspace

#: Elements that are worked on at a time, at most; a multiple of 16.
PIECE = 2048


def piece_size(channels: int) -> int:
    """Entries that `convolve` needs beside its operand."""
    return min(channels, PIECE)


def keep(workspace: Workspace, entries: Sequence[int], rows: RecentRows, rings: Sequence[int]) -> None:
    """Keep the input of each row of a pass, for the rows after it.

    Parameters
    ----------
    workspace : Workspace
    entries : sequence of int
        For each row its input.
    rows : RecentRows
    rings : sequence of int
        For each row the byte address of its sequence's ring.
    """
    w = workspace
    for s, (entry, ring) in enumerate(zip(entries, rings, strict=True)):
        w.commands.store(entry, _row(w, rows, ring, s, 0), rows.channels)
    if len(w.turns) > 1:
        w.commands.fence(stored=True)


def convolve(
    workspace: Workspace,
    entry: int,
    scratch: int,
    rows: RecentRows,
    ring: int,
    weights: TablePlace,
    sequence: int,
    bias: Address | None = None,
) -> None:
    """Convolve a token's input, which has been kept, with those of the tokens before, in place.

    Parameters
    ----------
    workspace : Workspace
    entry : int
        The input.
    scratch : int
        `piece_size` entries.
    rows : RecentRows
    ring : int
        Byte address of the rows.
    weights : TablePlace
        A row for each tap, that of the token itself last.
    sequence : int
    bias : Address or None
        What is added for each channel.
    """
    w, commands, taps = workspace, workspace.commands, rows.kernel - 1
    for first in range(0, rows.channels, PIECE):
        count, place = min(PIECE, rows.channels - first), entry + first
        weight = w.address(weights.address + 4 * first)
        commands.elementwise(
            place, count, stream=weight + taps * weights.stride, multiplier=Multiplier.STREAM, to=place
        )  # fmt: skip
        for back in range(1, rows.kernel):
            commands.elementwise(_row(w, rows, ring + 4 * first, sequence, back), count, to=scratch)
            tap = weight + (taps - back) * weights.stride
            commands.elementwise(scratch, count, stream=tap, multiplier=Multiplier.STREAM, to=scratch)
            commands.elementwise(place, count, b=scratch, combine=Combine.SUM, to=place)
        if bias:
            commands.elementwise(place, count, stream=bias + 4 * first, stream_n=True, to=place)


def _row(w: Workspace, rows: RecentRows, ring: int, sequence: int, back: int) -> Address:
    """The row so many tokens back; by way of the address register, so valid for the next command only."""
    number, position, ahead = w.address_register, POSITION + sequence, -back % ROWS
    w.commands.set(number, y=position, addend=ahead, shift=ROWS_SHIFT)
    w.commands.set(number, x=number, factor=-ROWS, y=position, addend=ahead)
    w.commands.set(number, x=number, factor=rows.pitch // ADDRESS_UNIT)
    address = w.cache_address(ring)
    return Address(address.byte, (*address.registers, number))
