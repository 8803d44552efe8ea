"""RoPE as a Hugging Face configuration describes it, and as vLLM computes it."""

from typing import Any

import torch

from tailrace.spec.errors import ModelError

#: Kinds whose angles depend on nothing but the position.
_KINDS = ("default", "linear", "llama3", "yarn")


def angles(config: Any, head_size: int) -> tuple[torch.Tensor, float] | None:
    """Radians from one position to the next, for each pair of elements, and what cosines and sines are multiplied with.

    Parameters
    ----------
    config : PretrainedConfig
    head_size : int

    Returns
    -------
    tuple of (tensor of float64, shape (pairs,), float), or None
        None: the model has learned positions.

    Raises
    ------
    ModelError
        If the kind of RoPE is one that can't be handed over.
    """
    parameters = getattr(config, "rope_parameters", None)
    if parameters is None:
        return None
    if any(isinstance(one, dict) for one in parameters.values()):
        raise ModelError("its layers have different angles (RoPE)")
    kind = parameters.get("rope_type", "default")
    if kind not in _KINDS or "mrope_section" in parameters:
        raise ModelError(f"its angles (RoPE) are of the kind {kind!r}: {', '.join(_KINDS)} are known")
    size = int(head_size * parameters.get("partial_rotary_factor", 1.0))
    plain = parameters["rope_theta"] ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
    if kind == "default":
        return plain, 1.0
    if kind == "linear":
        return plain / parameters["factor"], 1.0
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    frequencies, magnitude = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"))
    return frequencies.to(torch.float64), float(magnitude)
