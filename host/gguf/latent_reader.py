"""What a GGUF file says of latent attention: the sizes of the latent, and of the parts that heads are made of."""

from tailrace.firmware.description import Latent
from tailrace.spec.errors import ModelError

from .file import Model

_MAX_SIZE = 1 << 24


def read_latent(model: Model, rotary_size: int) -> Latent:
    """The latent of all layers.

    Parameters
    ----------
    model : Model
    rotary_size : int
        Elements of the rotated key, which are as many elements of each head's queries.

    Raises
    ------
    ModelError
        If a size is missing, or contradicts another, or the file is an older one, which holds what k_b and v_b are made of.
    """
    size = model.integer("attention.kv_lora_rank", 1, _MAX_SIZE)
    if model.key("attention.key_length_mla") not in model.header:
        raise ModelError(
            f"{model.path} can't be run: it is an older file, with one matrix for keys and values (attn_kv_b) where newer ones"
            " have attn_k_b and attn_v_b. Get a newer file of the model, or convert it again"
        )
    queries = model.integer("attention.key_length_mla", rotary_size + 1, _MAX_SIZE)
    for key, expected in (("key_length", size + rotary_size), ("value_length", size), ("head_count_kv", 1)):
        if model.integer(f"attention.{key}", 1, _MAX_SIZE, expected) != expected:
            raise model.header.unexpected(model.key(f"attention.{key}"), str(expected))
    return Latent(
        size=size,
        key_size=queries - rotary_size,
        value_size=model.integer("attention.value_length_mla", 1, _MAX_SIZE),
        query_rank=model.integer("attention.q_lora_rank", 0, _MAX_SIZE, 0),
    )
