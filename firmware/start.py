"""The start of a program: its registers, and the places that live through a whole token."""

from collections.abc import Sequence

from tailrace.spec.attention import CHUNK
from tailrace.spec.errors import ModelError

from .buffer_map import buffer_map
from .command_list import CommandList
from .description import Attention, Description, Experts
from .embedding import tables_of_positions
from .passes import effective_window
from .placement import Build, Placement
from .routing import KNOWN
from .workspace import Workspace

#: The weights of a norm have a place if they take no more than such a part of the buffer: those of more elements gain little.
NORM_SHARE = 64


def begin(
    description: Description, placement: Placement, build: Build, owners: tuple[int, ...], reach: Sequence[int] | None,
    overlap: bool, hold: bool = True,
) -> Workspace:  # fmt: skip
    """Begin a program over rows, each of a sequence; parameters as in `tailrace.firmware.decode.build_program`.

    `hold`: whether weights of norms of several rows may have a place.
    """
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
    w.layer_registers = tuple(layer_registers)
    if any(isinstance(layer.feed_forward, Experts) for layer in description.whole.layers):
        w.expert_registers = tuple(commands.register("the number of an expert") for _ in range(KNOWN))
    _allocate(w)
    if hold and batch > 1 and NORM_SHARE * w.hidden <= build.buffer_entries:
        w.norm_weights = w.buffer.allocate("the weights of a norm", w.hidden)
    _assign_rows(w)
    return w


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
    for layer, description in enumerate(w.description.whole.layers):
        if not isinstance(description.attention, Attention):
            continue
        capacity = min(w.cache(s, layer).capacity for s in w.sequences)
        window = effective_window(description.attention, capacity)
        for s in w.sequences:
            if (window, s) not in w.rows:
                own = window is not None
                w.rows[window, s] = w.commands.register("the row of a sliding window") if own else w.position(s)
