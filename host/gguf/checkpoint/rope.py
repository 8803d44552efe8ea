"""How a checkpoint turns queries and keys, in GGUF's terms.

Source: transformers' modeling_rope_utils.py for what the parameters mean, llama.cpp's converter for how GGUF has them.
"""

from dataclasses import dataclass, field
from math import log, pi, sqrt
from typing import Any

import numpy as np

from tailrace.spec.errors import ModelError

from ..printable import printable
from ..writer import NewTensor, tensor_of
from .json_file import Values

_MAX_CONTEXT, _MAX_BASE, _MAX_FACTOR = (1 << 31) - 1, 1e12, 1e6
#: Kinds of layers that may have parameters of their own.
FULL, SLIDING = "full_attention", "sliding_attention"


@dataclass(frozen=True)
class RopeTerms:
    """What GGUF has of RoPE.

    Attributes
    ----------
    values : dict
        Of the header, without the architecture.
    tensors : list of NewTensor
    exact_yarn : bool
        See `tailrace.gguf.architectures.Architecture`.
    """

    values: dict[str, Any]
    tensors: list[NewTensor] = field(default_factory=list)
    exact_yarn: bool = False


def rope_terms(config: Values, head_size: int, context: int) -> RopeTerms:
    """RoPE of a configuration: of layers that see all tokens, where the others have parameters of their own.

    Raises
    ------
    ModelError
        If a value is not what it should be, or nothing here scales in this way.
    """
    parameters = _parameters(config)
    kind = parameters.text("rope_type", "") or parameters.text("type", "default")
    # Where both have one, that of the parameters holds.
    for name in ("rope_theta", "partial_rotary_factor"):
        config.any(name)
    share = parameters if "partial_rotary_factor" in parameters else config
    size = int(head_size * share.real("partial_rotary_factor", 0.0, 1.0, 1.0))
    base = parameters if "rope_theta" in parameters else config
    values: dict[str, Any] = {
        "rope.dimension_count": size,
        "rope.freq_base": base.real("rope_theta", 2.0, _MAX_BASE, 10_000.0),
    }
    known = {"default": _default, "linear": _linear, "llama3": _llama3, "yarn": _yarn, "longrope": _longrope, "su": _longrope}
    if kind not in known:
        raise ModelError(f"{config.path} can't be used: it scales RoPE with '{printable(kind)}', which is not known here")
    terms = known[kind](config, parameters, size, context, values["rope.freq_base"])
    for name, value in parameters.unasked():
        if value not in (0, 1) and name not in ("attn_factor",):
            raise parameters.unexpected(name, "nothing, in RoPE of this kind,")
    return RopeTerms(values | terms.values, terms.tensors, terms.exact_yarn)


def local_base(config: Values, default: float) -> float:
    """The base of layers with a window, where these have parameters of their own; nothing may scale them."""
    if "rope_local_base_freq" in config:
        return config.real("rope_local_base_freq", 2.0, _MAX_BASE)
    local = config.inner("rope_parameters")
    if SLIDING not in local:
        return default
    local = local.inner(SLIDING)
    if (kind := local.text("rope_type", "default")) != "default":
        raise ModelError(
            f"{config.path} can't be used: it scales RoPE of windows with '{printable(kind)}', which is not known here"
        )
    return local.real("rope_theta", 2.0, _MAX_BASE, default)


def _parameters(config: Values) -> Values:
    """The parameters, as newer or older versions of transformers have them."""
    if "rope_parameters" in config:
        parameters = config.inner("rope_parameters")
        return parameters.inner(FULL) if FULL in parameters else parameters
    return config.inner("rope_scaling")


def _original(config: Values, parameters: Values, context: int) -> int:
    name = "original_max_position_embeddings"
    return (parameters if name in parameters else config).integer(name, 1, _MAX_CONTEXT, context)


def _default(config: Values, parameters: Values, size: int, context: int, base: float) -> RopeTerms:
    # What is left of another kind says nothing.
    for values in (config, parameters):
        values.any("original_max_position_embeddings")
    parameters.any("factor")
    return RopeTerms({})


def _linear(config: Values, parameters: Values, size: int, context: int, base: float) -> RopeTerms:
    return RopeTerms({"rope.scaling.type": "linear", "rope.scaling.factor": parameters.real("factor", 1.0, _MAX_FACTOR)})


def _llama3(config: Values, parameters: Values, size: int, context: int, base: float) -> RopeTerms:
    """Long waves are stretched, short ones left, and what lies between is blended: a factor for each pair."""
    factor, low, high = (parameters.real(name, 1e-3, _MAX_FACTOR) for name in ("factor", "low_freq_factor", "high_freq_factor"))
    original = parameters.integer("original_max_position_embeddings", 1, _MAX_CONTEXT)
    if low >= high:
        raise parameters.unexpected("low_freq_factor", f"a number below {high:g}")
    waves = 2 * pi * base ** (np.arange(0, size, 2, dtype=np.float64) / size)
    share = (original / waves - low) / (high - low)
    blended = 1.0 / ((1.0 - share) / factor + share)
    divisors = np.where(waves < original / high, 1.0, np.where(waves > original / low, factor, blended))
    return RopeTerms({}, [tensor_of("rope_freqs.weight", divisors)])


def _yarn(config: Values, parameters: Values, size: int, context: int, base: float) -> RopeTerms:
    factor = parameters.real("factor", 1.0, _MAX_FACTOR)
    values: dict[str, Any] = {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": factor,
        "rope.scaling.original_context_length": _original(config, parameters, context),
        "rope.scaling.yarn_beta_fast": parameters.real("beta_fast", 1e-3, 1e4, 32.0),
        "rope.scaling.yarn_beta_slow": parameters.real("beta_slow", 1e-3, 1e4, 1.0),
    }
    # GGUF has what comes on top of YaRN's own magnitude.
    usual = 0.1 * log(factor) + 1.0
    magnitude = usual
    if "attention_factor" in parameters:
        magnitude = parameters.real("attention_factor", 1e-3, 1e3)
    elif "mscale" in parameters and "mscale_all_dim" in parameters:
        above, below = (parameters.real(name, 0.0, 1e3) for name in ("mscale", "mscale_all_dim"))
        if above and below:
            magnitude = (0.1 * above * log(factor) + 1.0) / (0.1 * below * log(factor) + 1.0)
    if magnitude != usual:
        values["rope.scaling.attn_factor"] = magnitude / usual
    return RopeTerms(values, exact_yarn=not parameters.flag("truncate", True))


def _longrope(config: Values, parameters: Values, size: int, context: int, base: float) -> RopeTerms:
    original = _original(config, parameters, context)
    extension = parameters.real("factor", 1.0, _MAX_FACTOR, context / original)
    usual = sqrt(1 + log(extension) / log(original)) if extension > 1 else 1.0
    tensors = [
        tensor_of(f"rope_factors_{name}.weight", np.array(parameters.reals(f"{name}_factor", size // 2)))
        for name in ("long", "short")
    ]
    values = {
        "rope.scaling.type": "longrope",
        "rope.scaling.original_context_length": original,
        "rope.scaling.attn_factor": parameters.real("attention_factor", 1e-3, 1e3, usual),
    }
    return RopeTerms(values, tensors)
