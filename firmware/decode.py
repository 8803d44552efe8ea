"""The decode program of a model: everything from a token to the next one."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from tailrace.spec.errors import LimitError, ModelError
from tailrace.spec.isa import ADDRESS_UNIT, ARGUMENTS, Cache

from .description import Description
from .draft_layer import remember
from .embedding import embed, next_position, start_rows
from .head import hand_out, head, next_token
from .layer import emit_layer, norm_of_next_round
from .layer_embedding import distance_of_rows
from .layers import Run, runs
from .norms import NextNorm, fetch_weights
from .one_row import one_row_layers
from .parts import feed_forward_part_rows, head_part_rows
from .placement import Build, Placement
from .program import Program
from .start import begin
from .workspace import TOKEN_ROWS, Workspace, pass_arguments

__all__ = ["MAX_ROWS", "TOKEN_ROWS", "build_program", "feed_forward_part_rows", "head_part_rows", "pass_arguments"]

#: The most rows of a pass: arguments that can hold positions.
MAX_ROWS = ARGUMENTS


def build_program(
    description: Description, placement: Placement, build: Build, *, batch: int = 1, logits: bool = True, choose: bool = True,
    overlap: bool = True, loops: bool = True, rows: Sequence[int] | None = None, reach: Sequence[int] | None = None,
    fills: bool = True,
) -> Program:  # fmt: skip
    """Build the program of a pass over a model: it takes rows, each a token of a sequence at a position; or of a run of passes.

    For row ``s`` of up to four the register ``r16 + s`` starts as its token and ``r20 + s`` as that token's position, counted
    from 0; of more rows ``r16 + s`` starts as the position, and the token is ``s`` (`pass_arguments`): whoever runs the program
    has the tables of embeddings begin with those of the rows, and a run is one pass. The token's keys and values are appended
    there, and it sees all positions up to its own. Rows of one sequence are at consecutive positions, in this order, with
    linear attention all before the next fold. Each row has the bits that it has in a pass of its own.

    Parameters
    ----------
    description : Description
    placement : Placement
    build : Build
    batch : int
        Sequences that have a row each, if `rows` does not say which have some.
    logits : bool
        Whether logits are written to memory; in a run of several passes those of the last one stay.
    choose : bool
        Whether the device looks for the best token itself. It writes it to memory, 64 bytes further for each token of the run,
        and goes on with it. Else a run is one pass.
    overlap : bool
        Whether the units may overlap; without, the program gives the same bits and takes longer.
    loops : bool
        Whether equal layers become a loop.
    rows : sequence of int or None
        For each row the number of its sequence; at most as many as the device has right-hand sides. If a sequence has several,
        a run is one pass, and what `choose` finds for its rows lies 64 bytes apart. `placement` has logits for each row then.
    reach : sequence of int or None
        For each row the tokens that it sees at most, `tailrace.spec.attention.reach` of its position, and in a run of all
        positions; None: a chunk.
    fills : bool
        Whether the cache of a layer that drafts is filled, if there is one. Without, that layer knows nothing of these tokens.

    Raises
    ------
    LimitError
        If the model, its context or the rows do not fit the device, with what would help; or if a sequence has several rows,
        and the model has a layer that takes one at a time.
    ModelError
        If something has not been placed, or does not have the form that the description says.
    """
    owners = tuple(range(batch) if rows is None else rows)
    _check(description, placement, build, owners, logits, choose)

    def emitted(*, hold: bool) -> Program:
        w = begin(description, placement, build, owners, reach, overlap, hold)
        return _emit(w, logits=logits, choose=choose, loops=loops, fills=fills)

    try:
        return emitted(hold=True)
    except LimitError:
        if len(owners) == 1:
            raise
        # Without a place for the weights of norms it may fit.
        return emitted(hold=False)


def _emit(w: Workspace, *, logits: bool, choose: bool, loops: bool, fills: bool) -> Program:
    """Emit all of a program that has begun."""
    description, commands, batch = w.description, w.commands, w.batch
    # The token must lie at a multiple of 4, behind the logit.
    token_place = w.buffer.allocate("the next tokens", 4 * (batch + 1)) + 3

    def token() -> None:
        commands.section("embedding")
        embed(w)
        for run in runs(description, w.placement, w.owners) if loops else _unrolled(description):
            _layers(w, run)
        commands.section("head")
        head(w, logits=logits, choose=choose, token_place=token_place)
        if description.draft_layer and fills:
            commands.section("draft layer: keys and values")
            remember(w)

    commands.section("start")
    start_rows(w)
    if not choose or len(w.turns) > 1 or not w.has_tokens:
        token()
        if choose:
            hand_out(w, token_place)
        return commands.finish()
    steps, step = commands.register("the number of tokens"), commands.register("the tokens so far")
    with commands.loop(steps, 1, {}, steps=True):
        token()
        commands.section("next token")
        next_token(w, token_place, step)
        next_position(w)
        if description.is_recurrent:
            # What this token has stored and appended is the next one's past.
            commands.fence(*Cache, stored=True)
    return commands.finish()


def _unrolled(description: Description) -> list[Run]:
    return [Run(layer, 1, 1) for layer in range(len(description.layers))]


def _check(
    description: Description, placement: Placement, build: Build, owners: tuple[int, ...], logits: bool, choose: bool
) -> None:
    limit, rows, batch = min(build.right_hand_sides, MAX_ROWS), len(owners), max(owners, default=0) + 1
    if rows > MAX_ROWS:
        raise LimitError(f"a pass takes at most {MAX_ROWS} rows, not {rows}: take the others after these")
    if not 1 <= rows <= limit:
        raise LimitError(f"a pass of the device takes 1 to {limit} rows, not {rows}: use a build with more right_hand_sides")
    if description.hidden % 32:
        raise LimitError(f"the hidden size must be a multiple of 32, not {description.hidden}")
    if len(placement.caches) < batch:
        raise ModelError(f"caches have been placed for {len(placement.caches)} sequences, not for {batch}")
    if len(set(owners)) < rows and (why := one_row_layers(description, placement)):
        raise LimitError(f"{why} take one row of a sequence at a time: use a program with one row of each sequence")
    if logits and len(placement.logits) < rows:
        raise ModelError(f"logits have been placed for {len(placement.logits)} rows, not for {rows}")
    if choose and len(placement.tokens) < batch:
        raise ModelError(f"tokens have been placed for {len(placement.tokens)} sequences, not for {batch}")


def _layers(w: Workspace, run: Run) -> None:
    """Emit a run of layers, as a loop if it has several rounds."""
    counter, weights, caches, *embeddings = w.layer_registers
    norm, w.held_norm = norm_of_next_round(w.description, run), None
    if norm is not None:
        # The first round finds what a round leaves for the next one.
        fetch_weights(w, NextNorm(norm))
    held = w.held_norm
    if run.rounds == 1:
        context: AbstractContextManager[None] = nullcontext()
    else:
        w.weights_register, w.caches_register = weights, caches
        distances = {weights: run.weight_distance // ADDRESS_UNIT, caches: run.cache_distance // ADDRESS_UNIT}
        embedding = w.description.layers[run.first].embedding
        if embedding:
            w.embeddings_register = embeddings[0]
            distances[embeddings[0]] = distance_of_rows(embedding, run.period)
        context = w.commands.loop(counter, run.rounds, distances)
    with context:
        for layer in range(run.first, run.first + run.period):
            emit_layer(w, layer, run)
    assert held in (None, w.held_norm)
    w.weights_register = w.caches_register = w.embeddings_register = None
