"""Bytes that a decode step must read at least once."""

from collections.abc import Callable

from tailrace.firmware.description import Attention, LinearAttention, Mixer, ShortConvolution
from tailrace.spec.formats import BLOCK, Q8_0
from tailrace.spec.linear_attention import FOLD

from ..image.image import Image, experts_used
from .repetition import Repetition, whole


def measured_bytes(image: Image, context: int, repetition: Repetition | None = None) -> int:
    """Bytes that a step must read: codes and scales of the weights that it uses, keys, values, states, lists and recent rows.

    Parameters
    ----------
    image : Image
    context : int
        Tokens before this one.
    repetition : Repetition or None
        Which layers those of the image stand for; None: the image has them all.
    """
    return matrix_bytes(image, "head") + _of_layers(image, repetition, lambda n: layer_bytes(image, n, context))


def bytes_again(image: Image, context: int, repetition: Repetition | None = None) -> int:
    """Bytes of keys and values that a step reads beyond that, as each pass over them serves so many heads as right-hand sides.

    What latents are held for as values is not among them.
    """

    def of_layer(n: int) -> int:
        attention = image.imported.description.layers[n].attention
        if not isinstance(attention, Attention):
            return 0
        passes = -(-attention.group // image.build.right_hand_sides)
        return (passes - 1) * _cache_bytes(image, n, context)

    return _of_layers(image, repetition, of_layer)


def matrix_bytes(image: Image, role: str) -> int:
    """Bytes that the file has of a matrix; of experts, those of the chosen ones."""
    source = image.imported.matrices[role]
    return experts_used(image.imported, role) * source.rows * image.format_of(role).row_bytes(source.columns)


def layer_bytes(image: Image, n: int, context: int) -> int:
    """Bytes of a layer's weights that a token uses, and of keys and values."""
    weights = sum(matrix_bytes(image, role) for role in image.imported.matrices if role.startswith(f"layers.{n}."))
    return weights + _cache_bytes(image, n, context)


def _of_layers(image: Image, repetition: Repetition | None, size: Callable[[int], int]) -> int:
    repetition = repetition or whole(len(image.imported.description.layers))
    present = [size(n) for n in range(repetition.present)]
    return sum(present[repetition.stands_for(n)] for n in range(repetition.layers))


def _cache_bytes(image: Image, n: int, context: int) -> int:
    """Bytes of a layer's keys and values that a token sees, its own included, and of its state, list and recent rows."""
    layer = image.imported.description.layers[n]
    beside = _state_bytes(layer.beside, context) if layer.beside else 0
    return _attention_bytes(image, layer.attention, context) + beside


def _attention_bytes(image: Image, attention: Mixer, context: int) -> int:
    if isinstance(attention, ShortConvolution):
        return 4 * (attention.kernel - 1) * image.imported.description.hidden
    if isinstance(attention, LinearAttention):
        return _state_bytes(attention, context)
    tokens = context + 1 - attention.first_seen(context)
    key = attention.head_blocks * Q8_0.file_bytes
    value = attention.value_size + 4
    return tokens * attention.kv_heads * (key + value)


def _state_bytes(a: LinearAttention, context: int) -> int:
    """Bytes of a state's codes and scales, of the list before a token, and of the recent rows that it sees."""
    entries = context % FOLD
    state = a.value_heads * a.key_size * (2 * a.value_size + 4) if context >= FOLD else 0
    keys, deltas = a.key_heads * 2 * a.key_size // BLOCK * Q8_0.file_bytes, a.value_heads * (2 * a.value_size + 8)
    return state + entries * (keys + deltas) + 4 * (a.kernel - 1) * a.channels
