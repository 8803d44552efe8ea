"""Where a model would lie in memory, as far as it matters for what fits the device: all of it at address 0."""

from dataclasses import replace

from tailrace.firmware.description import Attention, Description, Experts, FeedForward, Layer, layer_role
from tailrace.firmware.parts import RESIDUAL_PART, feed_forward_part_rows, head_part_rows, query_part_rows
from tailrace.firmware.placement import Build, CachePlace, MatrixPart, MatrixPlace, Placement, TablePlace
from tailrace.spec.formats import BLOCK, Q8_0


def imagined(
    description: Description, build: Build, batch: int, context: int, biases: bool = False
) -> tuple[Description, Placement]:
    """A model with one layer of each kind of the described one, and a placement of it.

    `biases`: whether q, k and v have some.
    """
    description = replace(description, layers=tuple(dict.fromkeys(description.layers)))
    matrices = {"head": _matrix(description.vocabulary, description.hidden, head_part_rows(description, build, batch))}
    tables = {name: TablePlace(0, description.hidden) for name in ("embedding", "position_embedding", "final_norm")}
    for n, layer in enumerate(description.layers):
        shapes = _shapes(description, layer)
        rows = feed_forward_part_rows(description, layer, build, batch)
        for role, (height, width) in shapes.items():
            others = {"q": query_part_rows(layer.attention), "o": RESIDUAL_PART, "down": RESIDUAL_PART}
            part = rows if role.endswith(("gate", "up")) else others.get(role, height)
            matrices[layer_role(n, role)] = _matrix(height, width, part)
        attention = layer.attention
        vectors = dict.fromkeys(_NORMS, description.hidden) | dict.fromkeys(("q_norm", "k_norm"), attention.head_size)
        vectors |= {f"{role}_bias": shapes[role][0] for role in "qkv" if biases}
        tables |= {layer_role(n, role): TablePlace(0, columns) for role, columns in vectors.items()}
        tables |= {name: TablePlace(0, columns) for name, columns in attention.tables().items()}
    caches = tuple(_cache(layer.attention, context) for layer in description.layers)
    return description, Placement(matrices, tables, (caches,) * batch, (0,) * batch, (0,) * batch)


_NORMS = ("attention_norm", "attention_post_norm", "feed_forward_norm", "feed_forward_post_norm")


def _shapes(description: Description, layer: Layer) -> dict[str, tuple[int, int]]:
    """Rows and columns of a layer's matrices."""
    hidden, attention, block = description.hidden, layer.attention, layer.feed_forward
    width, kv_width = attention.heads * attention.head_size, attention.kv_heads * attention.head_size
    shapes = {"q": (width, hidden), "k": (kv_width, hidden), "v": (kv_width, hidden), "o": (hidden, width)}
    expert: FeedForward = block.expert if isinstance(block, Experts) else block
    prefix = "experts_" if isinstance(block, Experts) else ""
    if isinstance(block, Experts):
        shapes["router"] = (block.count, hidden)
    if isinstance(block, Experts) and block.shared:
        shapes |= {f"shared_{role}": (block.shared.size, hidden) for role in ("gate", "up")}
        shapes |= {"shared_down": (hidden, block.shared.size), "shared_router": (1, hidden)}
    outer = dict.fromkeys(("gate", "up") if expert.gated else ("up",), (expert.size, hidden))
    return shapes | {prefix + role: shape for role, shape in {**outer, "down": (hidden, expert.size)}.items()}


def _matrix(rows: int, columns: int, part: int) -> MatrixPlace:
    parts = tuple(MatrixPart(0, first, min(part, rows - first)) for first in range(0, rows, part))
    return MatrixPlace(Q8_0.number, 0, rows, columns // BLOCK, parts)


def _cache(attention: Attention, context: int) -> CachePlace:
    return CachePlace(0, 0, 0, 0, 0, 0, 0, min(context, attention.window or context))
