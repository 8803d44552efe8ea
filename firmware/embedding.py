"""The start of a token: its embedding, its position, and what tables have for that: angles, and scales of scores."""

from tailrace.spec.isa import Combine, SetMode

from .description import Attention, Description
from .norms import statistic
from .workspace import Workspace

#: Positions that programs can reach with a window whose size is no power of two.
WINDOW_POSITIONS = 1 << 17


def tables_of_positions(description: Description) -> dict[str, int]:
    """Name and row length of every table that has a row for each position, but for learned positions."""
    attentions = (mixer for _, mixer in description.mixers if isinstance(mixer, Attention))
    return {name: columns for attention in attentions for name, columns in attention.tables().items()}


def start_rows(workspace: Workspace) -> None:
    """Work out the row of the cache that each sequence's first position has in each window: the remainder of a division."""
    commands = workspace.commands
    for (window, s), row in workspace.rows.items():
        if window is None:
            continue
        position, scratch = workspace.position(s), workspace.address_register
        if window & window - 1 == 0:
            commands.set(scratch, y=position, shift=window.bit_length() - 1)
            commands.set(row, x=scratch, factor=-window, y=position)
            continue
        # The quotient with an error of at most 1: 2**shift / window fits beside every position in 32 bits.
        shift = ((1 << 32) * window // WINDOW_POSITIONS).bit_length() - 1
        other = workspace.length_registers[0][0]
        commands.set(scratch, x=position, factor=(1 << shift) // window, shift=shift)
        commands.set(row, x=scratch, factor=-window, y=position)
        # 1 if the row still reaches the window, else 0: what limiting it to window - 1 takes off what limiting it to window
        # leaves.
        commands.set(scratch, x=row, factor=1, mode=SetMode.MINIMUM, limit=window)
        commands.set(other, x=row, factor=1, mode=SetMode.MINIMUM, limit=window - 1)
        commands.set(scratch, x=other, factor=-1, y=scratch)
        commands.set(row, x=scratch, factor=-window, y=row)


def embed(workspace: Workspace) -> None:
    """Write the embeddings to x, with their statistic, and load what tables have for the positions."""
    w, commands, hidden = workspace, workspace.commands, workspace.hidden
    tokens, learned = w.table("embedding"), w.description.learned_positions
    for s in w.sequences:
        x, scale = w.x + s * hidden, w.description.embedding_scale
        source = w.row_of_token(tokens, s)
        if not learned:
            commands.elementwise(source, hidden, p=scale, to=x, reduce=statistic(w), r=w.statistic + s)
            continue
        commands.elementwise(source, hidden, p=scale, to=x)
        source = w.row(w.table("position_embedding"), w.position(s))
        commands.elementwise(source, hidden, b=x, combine=Combine.SUM, to=x, reduce=statistic(w), r=w.statistic + s)
    for (name, s), entry in w.position_rows.items():
        table = w.table(name)
        commands.elementwise(w.row(table, w.position(s)), table.columns, to=entry)


def next_position(workspace: Workspace) -> None:
    """Go on to the next position and its rows of the caches."""
    for (window, _), row in workspace.rows.items():
        if window is not None:
            workspace.commands.set(row, y=row, addend=1, mode=SetMode.WRAP, limit=window)
    for s in workspace.sequences:
        position = workspace.position(s)
        workspace.commands.set(position, y=position, addend=1)
