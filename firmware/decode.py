"""The decode program of a model: everything from a token to the next one."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from tailrace.spec.attention import CHUNK
from tailrace.spec.errors import LimitError, ModelError
from tailrace.spec.isa import ADDRESS_UNIT, ARGUMENTS, Cache

from .attention import attend
from .branch import Branch
from .buffer_map import buffer_map
from .command_list import CommandList
from .description import Attention, Description, Experts, Layer, LinearAttention, ShortConvolution, layer_role
from .embedding import embed, next_position, start_rows, tables_of_positions
from .experts import mixture
from .feed_forward import feed_forward
from .head import hand_out, head, next_token
from .latent_attention import attend_to_latents
from .layer_embedding import add_layer_embedding, distance_of_rows
from .layers import Run, runs
from .linear_attention import attend_linearly
from .one_row import one_row_layers
from .parts import feed_forward_part_rows, head_part_rows
from .passes import effective_window
from .placement import Build, Placement
from .program import Program
from .routing import KNOWN
from .short_convolution import short_convolution
from .workspace import TOKEN_ROWS, Workspace, pass_arguments

__all__ = ["MAX_ROWS", "TOKEN_ROWS", "build_program", "feed_forward_part_rows", "head_part_rows", "pass_arguments"]

#: The most rows of a pass: arguments that can hold positions.
MAX_ROWS = ARGUMENTS


def build_program(
    description: Description, placement: Placement, build: Build, *, batch: int = 1, logits: bool = True, choose: bool = True,
    overlap: bool = True, loops: bool = True, rows: Sequence[int] | None = None, reach: Sequence[int] | None = None,
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
    commands, batch = CommandList(build, overlap), len(owners)
    seen = (CHUNK,) * batch if reach is None else tuple(reach)
    assert len(seen) == batch
    w = Workspace(description, placement, build, owners, seen, commands, buffer_map(build.buffer_entries))
    w.address_register = commands.register("addresses")
    w.length_registers = tuple(
        (commands.register("the length of a cache"), commands.register("the blocks of a cache")) for _ in range(min(batch, 2))
    )
    layer_registers = [commands.register(f"{what} of layers") for what in ("the number", "the weights", "the caches")]
    if any(layer.embedding for layer in description.layers):
        layer_registers.append(commands.register("the embeddings of layers"))
    if any(isinstance(layer.feed_forward, Experts) for layer in description.layers):
        w.expert_registers = tuple(commands.register("the number of an expert") for _ in range(KNOWN))
    _allocate(w)
    _assign_rows(w)
    # The token must lie at a multiple of 4, behind the logit.
    token_place = w.buffer.allocate("the next tokens", 4 * (batch + 1)) + 3

    def token() -> None:
        commands.section("embedding")
        embed(w)
        for run in runs(description, placement, owners) if loops else _unrolled(description):
            _layers(w, run, layer_registers)
        commands.section("head")
        head(w, logits=logits, choose=choose, token_place=token_place)

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


def _allocate(w: Workspace) -> None:
    """Reserve what lives through a whole token."""
    w.x = w.buffer.allocate("the activations", w.batch * w.hidden)
    w.statistic = w.buffer.allocate("the statistic of a norm", w.batch)
    w.inverse = w.buffer.allocate("the factor of a norm", w.batch)
    for name, columns in tables_of_positions(w.description).items():
        if w.table(name).columns != columns:
            raise ModelError(f"the table {name} must have {columns} columns, not {w.table(name).columns}")
        for s in w.sequences:
            w.position_rows[name, s] = w.buffer.allocate(f"a row of the table {name}", columns)


def _assign_rows(w: Workspace) -> None:
    """Choose the registers that hold rows of the caches: positions, or registers of their own for sliding windows."""
    for layer, description in enumerate(w.description.layers):
        if not isinstance(description.attention, Attention):
            continue
        capacity = min(w.cache(s, layer).capacity for s in w.sequences)
        window = effective_window(description.attention, capacity)
        for s in w.sequences:
            if (window, s) not in w.rows:
                own = window is not None
                w.rows[window, s] = w.commands.register("the row of a sliding window") if own else w.position(s)


def _layers(w: Workspace, run: Run, registers: list[int]) -> None:
    """Emit a run of layers, as a loop if it has several rounds."""
    counter, weights, caches, *embeddings = registers
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
            _layer(w, layer, run)
    w.weights_register = w.caches_register = w.embeddings_register = None


def _layer(w: Workspace, layer: int, run: Run) -> None:
    description = w.description.layers[layer]
    name = f"layer {layer}" if run.rounds == 1 else f"layers {layer}, {layer + run.period}, ... ({run.rounds} rounds)"
    with w.buffer.phase():
        w.load_scales(layer)
        attention, feed_forward_branch = _branches(w, layer)
        attention, beside = _side_by_side(w, attention) if description.beside else (attention, attention)
        match description.attention:
            case Attention():
                w.commands.section(f"{name}: attention")
                apart = description.attention.latent is not None
                (attend_to_latents if apart else attend)(w, layer, description.attention, attention)
            case LinearAttention():
                w.commands.section(f"{name}: linear attention")
                attend_linearly(w, layer, description.attention, attention, layer)
            case ShortConvolution():
                w.commands.section(f"{name}: short convolution")
                short_convolution(w, layer, description.attention, attention)
        if description.beside:
            w.commands.section(f"{name}: linear attention beside it")
            _, number = w.description.mixers_of(layer)
            attend_linearly(w, layer, description.beside, beside, number, "beside_")
        if description.feed_forward is None:
            return
        w.commands.section(f"{name}: feed-forward")
        if isinstance(description.feed_forward, Experts):
            mixture(w, layer, description.feed_forward, feed_forward_branch)
        else:
            feed_forward(w, layer, description.feed_forward, feed_forward_branch)
        if description.embedding:
            w.commands.section(f"{name}: embedding of the layer")
            branch = Branch(None, layer_role(layer, "embedding_post_norm"), w.x, w.x, scale=_output_scale(layer, description))
            add_layer_embedding(w, layer, description.embedding, branch)


def _branches(w: Workspace, layer: int) -> tuple[Branch, Branch]:
    """How attention and feed-forward of a layer branch off from x."""
    description, blocks = w.description.layers[layer], ("attention", "feed_forward")
    norms = [layer_role(layer, f"{block}_norm") if description.pre_norms else None for block in blocks]
    post_norms = [layer_role(layer, f"{block}_post_norm") if description.post_norms else None for block in blocks]
    # The scale is that of whatever comes last.
    last: dict[str, Any] = {"measured": False} if description.embedding else {"scale": _output_scale(layer, description)}
    if not description.parallel:
        first, second = (Branch(norm, post_norm, w.x, w.x) for norm, post_norm in zip(norms, post_norms))
        if not description.feed_forward:
            return replace(first, **last), second
        return first, replace(second, **last)
    # x must stay as it is until the second block has read it.
    between = w.buffer.allocate("the activations between parallel blocks", w.batch * w.hidden)
    first = Branch(norms[0], post_norms[0], w.x, between, measured=False)
    return first, Branch(norms[0], post_norms[1], between, w.x, again=True, **last)


def _side_by_side(w: Workspace, whole: Branch) -> tuple[Branch, Branch]:
    """Two blocks with the input of one, whose results are both added."""
    between = w.buffer.allocate("the activations between attention and what is beside it", w.batch * w.hidden)
    return replace(whole, to=between, measured=False, scale=None), replace(whole, base=between, again=True)


def _output_scale(layer: int, description: Layer) -> str | None:
    """Role of the number that the activations are multiplied with at the end of a layer."""
    return layer_role(layer, "output_scale") if description.output_scale else None
