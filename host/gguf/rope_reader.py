"""What a GGUF file says of RoPE, put together as llama.cpp does it."""

from collections.abc import Callable
from math import isclose, log

import numpy as np

from tailrace.spec.errors import ModelError

from .file import Model
from .growth import Growth
from .printable import printable
from .rope import Rope, Yarn

#: Factors on frequencies that always hold, and those of LongRoPE for contexts up to the original one, and longer.
FREQUENCIES, SHORT, LONG = "rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"
_MAX_CONTEXT = (1 << 31) - 1


def read_rope(model: Model, size: int, context: int) -> Rope:
    """Angles of a model.

    Scaling is `linear` where the file does not say, and off if it is `none`. Factors of frequencies in a tensor come on top
    of it.

    Parameters
    ----------
    model : Model
    size : int
        Elements of a head that are rotated.
    context : int
        Positions that will be used.

    Raises
    ------
    ModelError
        If a value or a tensor is not what it should be, or nothing here scales in this way.
    """
    header, key = model.header, model.key
    kind = header.text(key("rope.scaling.type"), "linear")
    if kind not in ("none", "linear", "yarn", "longrope"):
        raise ModelError(f"{model.path} can't be run: it scales RoPE with '{printable(kind)}', which is not known here")
    original = _original_context(model)
    divisors = _divisors(model, size, context > original)
    if kind == "longrope" and LONG not in model.tensors:
        raise ModelError(f"{model.path} is not a complete model: it lacks {LONG}. Convert it again.")
    # An old name, which llama.cpp reads only where the new one is missing.
    name = "rope.scaling.factor" if key("rope.scaling.factor") in header else "rope.scale_linear"
    factor = _factor(model, name) or 1.0
    magnitude = header.real(key("rope.scaling.attn_factor"), 1e-3, 1e3, 1.0)
    yarn = None
    if kind == "yarn":
        if factor < 1.0:
            raise header.unexpected(key("rope.scaling.factor"), "a number of at least 1")
        fast, slow = (
            header.real(key(f"rope.scaling.yarn_beta_{n}"), 1e-3, 1e4, beta) for n, beta in (("fast", 32.0), ("slow", 1.0))
        )
        yarn = Yarn(factor, original, fast, slow, whole_pairs=not model.architecture.exact_yarn)
    elif kind != "none" and factor != 1.0:
        divisors = tuple(factor * divisor for divisor in divisors or (1.0,) * (size // 2))
    _check_extrapolation(model, yarn)
    if yarn is not None and model.architecture.plain_yarn:
        # The share of the logarithm that is divided out again: all of it.
        multiplier = key("rope.scaling.yarn_log_multiplier")
        if header.real(multiplier, 0.0, 1e3) != 1.0:
            raise header.unexpected(multiplier, "1")
    elif yarn is not None and not (model.architecture.yarn_scores and _log_multiplier(model)):
        magnitude *= 0.1 * log(factor) + 1.0
    return Rope(size, _base(model, "rope.freq_base", 10_000.0), divisors, magnitude, yarn)


def read_score_growth(model: Model) -> float:
    """What YaRN multiplies scores with."""
    if not model.architecture.yarn_scores or model.header.text(model.key("rope.scaling.type"), "") != "yarn":
        return 1.0
    return float((1.0 + _log_multiplier(model) * log(_factor(model, "rope.scaling.factor") or 1.0)) ** 2)


def read_local_rope(model: Model, size: int) -> Rope:
    """Angles of layers with a sliding window, where they have their own: nothing scales them."""
    default = model.architecture.local_rope_base or _base(model, "rope.freq_base", 10_000.0)
    return Rope(size, _base(model, "rope.freq_base_swa", default))


def read_growth(model: Model, scale: Callable[[], float]) -> Growth | None:
    """How scores grow with the positions, from `scale` on; None if they don't, and then nobody asks for the scale."""
    architecture = model.architecture
    rate, period, ahead = 0.0, _original_context(model), 0
    if architecture.unrotated_growth:
        rate, period = architecture.unrotated_growth
        period, ahead = model.integer("attention.temperature_length", 1, _MAX_CONTEXT, period), 1
    elif not architecture.plain_yarn:
        return None
    rate = model.header.real(model.key("attention.temperature_scale"), 0.0, 1e3, rate)
    return Growth(scale(), rate, period, ahead) if rate else None


def _original_context(model: Model) -> int:
    return model.integer("rope.scaling.original_context_length", 0, _MAX_CONTEXT, 0) or model.context_length


def rope_tensors(model: Model) -> set[str]:
    """Names of the tensors that `read_rope` reads."""
    architecture = model.architecture
    apart = architecture.local_rope_base is not None and not architecture.global_frequencies
    if architecture.learned_positions or apart:
        return set()
    return {FREQUENCIES, SHORT, LONG} & set(model.tensors)


def _log_multiplier(model: Model) -> float:
    """What the logarithm of YaRN's factor is multiplied with for scores; 0 if the header does not say."""
    return model.header.real(model.key("rope.scaling.yarn_log_multiplier"), 0.0, 1e3, 0.0)


def _base(model: Model, name: str, default: float) -> float:
    return model.header.real(model.key(name), 2.0, 1e12, default)


def _factor(model: Model, name: str) -> float:
    """A factor, or 0 if there is none."""
    key = model.key(name)
    return model.header.real(key, 0.0, 1e6, 0.0) and model.header.real(key, 1e-3, 1e6)


def _divisors(model: Model, size: int, longer: bool) -> tuple[float, ...]:
    names = rope_tensors(model)
    if not names:
        return ()
    if FREQUENCIES in names and len(names) > 1:
        raise ModelError(f"{model.path} can't be run: it has both {FREQUENCIES} and {LONG}, and nobody says which holds")
    name = FREQUENCIES if FREQUENCIES in names else LONG if longer else SHORT
    values = model.tensor(name, (size // 2,)).dequantised().reshape(-1)
    if not (np.isfinite(values) & (values > 0)).all():
        raise ModelError(f"{model.path} is damaged: {name} has values that are no positive numbers. Download it again.")
    return tuple(map(float, values))


def _check_extrapolation(model: Model, yarn: Yarn | None) -> None:
    """Check that YaRN's further numbers are those that it has anyway."""
    header = model.header
    extrapolation = model.key("rope.scaling.yarn_ext_factor")
    usual = 0.0 if yarn is None else 1.0
    # Below 0 it is not set.
    if header.real(extrapolation, -1e6, 1e6, usual) not in (usual, -1.0):
        raise header.unexpected(extrapolation, f"{usual:g}")
    magnitude = model.key("rope.scaling.yarn_attn_factor")
    plain = 1.0 if yarn is None else 0.1 * log(yarn.factor) + 1.0
    found = header.real(magnitude, -1e6, 1e6, 1.0)
    if found >= 0 and not any(isclose(found, known, rel_tol=1e-3) for known in (1.0, plain)):
        raise header.unexpected(magnitude, f"{plain:.4g}")
