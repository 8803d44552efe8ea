"""Layers in which a pass takes one row of a sequence, because a row needs what the row before it leaves in memory."""

from .description import Attention, Description
from .passes import effective_window
from .placement import CachePlace, Placement


def one_row_layers(description: Description, placement: Placement) -> str | None:
    """What a model has that takes one row of a sequence at a time; None: nothing."""
    for layer, described in enumerate(description.layers):
        place = placement.caches[0][layer]
        if not isinstance(described.attention, Attention) or not isinstance(place, CachePlace):
            continue
        if effective_window(described.attention, place.capacity) is None:
            continue
        windows = "chunks" if described.attention.chunked else "sliding windows"
        if described.attention.latent is not None:
            return f"latent attention in {windows}"
        if described.attention.shared_cache:
            return f"shared keys and values in {windows}"
    return None
