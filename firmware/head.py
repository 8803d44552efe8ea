"""The end of a token: logits, the best of them, and the next token."""

from dataclasses import replace
from functools import partial
from math import gcd, lcm
from typing import Any

from tailrace.spec.errors import ModelError
from tailrace.spec.floats import Function
from tailrace.spec.formats import BY_NUMBER
from tailrace.spec.isa import ADDRESS_UNIT, STREAM_UNIT, Reduce

from .command_list import Address, interleaved
from .norms import normalise
from .parts import PART_UNIT
from .placement import MatrixPart, MatrixPlace
from .workspace import TOKEN, Workspace


def head(
    workspace: Workspace, *, logits: bool, choose: bool, token_place: int = 0, norm: str = "final_norm",
    rows: int | None = None,
) -> None:  # fmt: skip
    """Norm, head, and for each part of the logits: scale, cap, store, look for the best. Nothing, if nobody wants to know.

    Parameters
    ----------
    logits : bool
        Whether logits go to memory.
    choose : bool
        Whether the best token is looked for. It goes to the next entry after `token_place` of each sequence.
    token_place : int
        Entry of the first sequence's best logit, three entries before a multiple of four; those of the others follow, 4 apart
        each.
    norm : str
        Role.
    rows : int or None
        Of the matrix, the first so many; None: all.
    """
    if not (logits or choose):
        return
    w = workspace
    with w.buffer.phase():
        normalise(w, norm)
        place = w.matrix("head", w.description.vocabulary, w.hidden)
        parts = [
            part if rows is None else replace(part, rows=min(part.rows, rows - part.first_row))
            for part in _parts(w, place)
            if rows is None or part.first_row < rows
        ]
        stride = max(-(-p.rows // 4) * 4 for p in parts)
        copies = [w.buffer.allocate("logits", w.batch * stride) for _ in range(min(len(parts), 2))]
        stages = []
        for i, part in enumerate(parts):
            if part.first_row % STREAM_UNIT:
                raise ModelError(f"parts of the head must start at multiples of {STREAM_UNIT} rows")
            at = copies[i % len(copies)]
            work = partial(_finish, w, part, at, stride, logits, choose, token_place)
            stages.append((partial(w.product, place, part, at, stride), work))
        interleaved(stages)


def _parts(w: Workspace, place: MatrixPlace) -> list[MatrixPart]:
    """The parts of the head, cut into smaller ones if there is no room for the logits of two of them for all rows of a pass."""
    room = w.buffer.free // (2 * w.batch)
    form, lanes = BY_NUMBER[place.format], w.build.lanes
    # Where the blocks begin anew that a side beat serves.
    period = lcm(*(blocks for _, blocks in form.side_beats()))
    blocks = place.blocks * form.planes
    unit = lcm(lanes * period // gcd(period, blocks), PART_UNIT)
    found = []
    for part in place.parts:
        rows = part.rows if part.rows <= room else max(room // unit, 1) * unit
        for first in range(0, part.rows, rows):
            address = part.address + form.matrix_bytes(first, place.blocks, lanes)
            found.append(MatrixPart(address, part.first_row + first, min(rows, part.rows - first)))
    return found


def _finish(w: Workspace, part: MatrixPart, entry: int, stride: int, logits: bool, choose: bool, token_place: int) -> None:
    scale, cap, bias = w.description.logit_scale, w.description.logit_cap, w.bias("head")
    finished: dict[str, Any] = {"p": scale} if scale != 1.0 else {}
    if cap is not None:
        finished = {"p": 2 * scale / cap, "function": Function.SIGMOID, "m": 2 * cap, "n": -cap}
    for s in w.sequences:
        place = entry + s * stride
        if bias:
            w.commands.elementwise(place, part.rows, stream=bias + 4 * part.first_row, stream_n=True, to=place)
        changed = {**finished, "to": place} if finished else {}
        if choose:
            best: dict[str, Any] = {
                "reduce": Reduce.ARGMAX,
                "r": token_place + 4 * s,
                "index": part.first_row,
                "resume": part.first_row > 0,
            }
            w.commands.elementwise(place, part.rows, **changed, **best)
        elif changed:
            w.commands.elementwise(place, part.rows, **changed)
        if logits:
            w.commands.store(place, Address(w.placement.logits[s] + 4 * part.first_row), part.rows)


def hand_out(workspace: Workspace, token_place: int) -> None:
    """Write the tokens that were found to memory: those of a sequence's rows one after the other."""
    w = workspace
    for place, rows in enumerate(w.turns):
        for s in rows:
            target = Address(w.placement.tokens[w.owners[s]] + place * TOKEN_BYTES)
            w.commands.store(token_place + 1 + 4 * s, target, 1)


def next_token(workspace: Workspace, token_place: int, step: int) -> None:
    """Hand out the tokens that were found, and make them the next ones; register `step` counts them."""
    w = workspace
    for s in w.sequences:
        token = token_place + 1 + 4 * s
        w.commands.store(token, Address(w.placement.tokens[w.owners[s]], (step,)), 1)
        w.commands.read(TOKEN + s, token)
    w.commands.set(step, y=step, addend=TOKEN_BYTES // ADDRESS_UNIT)


#: From one token that the device has chosen to the next.
TOKEN_BYTES = 64
