"""The program of a layer that drafts: from a token, and what the last layer has left of the one before, to logits."""

from collections.abc import Sequence
from dataclasses import replace

from tailrace.spec.errors import ModelError

from .description import Description, layer_role
from .draft_layer import keep_hidden, merge
from .embedding import start_rows
from .head import head
from .layer import emit_layer
from .layers import Run
from .placement import Build, Placement
from .program import Program
from .start import begin


def build_draft(
    description: Description, placement: Placement, build: Build, *, rows: Sequence[int], reach: Sequence[int] | None = None,
    overlap: bool = True,
) -> Program:  # fmt: skip
    """Build the program of a draft: what comes after a token that no pass has taken yet.

    Arguments are those of a pass (`tailrace.firmware.decode.build_program`). A row's token is that of the position behind all
    that its sequence has taken; or one further on, if this program has run for the one before: it keeps what the layer has left
    in the place of what the last layer will have left. The first token of a sequence has nothing before it: nothing is drafted
    there.

    Parameters
    ----------
    description : Description
        With a layer that drafts.
    placement : Placement
    build : Build
    rows : sequence of int
        For each row the number of its sequence, each another one.
    reach : sequence of int or None
        For each row the tokens that it sees at most: those before it.
    overlap : bool

    Raises
    ------
    LimitError
        If the rows do not fit the device.
    ModelError
        If something has not been placed.
    """
    drafts, owners = description.draft_layer, tuple(rows)
    assert drafts is not None
    assert len(set(owners)) == len(owners)
    if len(placement.logits) < len(owners):
        raise ModelError(f"logits have been placed for {len(placement.logits)} rows, not for {len(owners)}")
    w = begin(description, placement, build, owners, reach, overlap)
    whole, n = replace(w, description=description.whole), len(description.layers)
    w.commands.section("start")
    start_rows(whole)
    w.commands.section("what it starts from")
    merge(whole)
    emit_layer(whole, n, Run(n, 1, 1))
    w.commands.section("what it leaves")
    for s in w.sequences:
        w.commands.set(w.position(s), y=w.position(s), addend=1)
    norm = layer_role(n, "head_norm")
    keep_hidden(whole, norm)
    w.commands.section("head")
    head(whole, logits=True, choose=False, norm=norm, rows=drafts.vocabulary)
    return w.commands.finish()
