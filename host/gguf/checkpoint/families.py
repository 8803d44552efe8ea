"""Families of models: what `model_type` of a config.json leaves unsaid. Adding one like those below is one entry here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

GELU = ("gelu_pytorch_tanh", "gelu_new")
SILU = ("silu", "swish")


@dataclass(frozen=True)
class Family:
    """Models that one class of transformers computes.

    Attributes
    ----------
    model_type : str
        ``model_type`` of the configuration.
    architecture : str
        What GGUF calls it.
    activations : tuple of str
        What ``hidden_act`` may be.
    neighbours : bool
        Whether RoPE rotates neighbours, and not halves of a head.
    norms_below_one : bool
        Whether norms multiply with 1 more than their weights.
    window_every : int
        Every n-th layer sees all tokens, if the configuration does not say which do; 0: none does.
    local_rope : float or None
        Base of the angles of layers with a window, if these have their own.
    defaults : mapping
        Values of configurations that do not name them, where these are not those of Llama.
    fixed : mapping
        What values must be, where others would compute something else; what is not named is this.
    within : str
        Name of the object in the configuration that is about text, if the model has other parts.
    """

    model_type: str
    architecture: str
    activations: tuple[str, ...] = SILU
    neighbours: bool = False
    norms_below_one: bool = False
    window_every: int = 0
    local_rope: float | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    within: str = ""


FAMILIES: dict[str, Family] = {
    f.model_type: f
    for f in (
        Family("llama", "llama"),
        Family("mistral", "llama", defaults={"sliding_window": 4096}),
        Family("qwen2", "qwen2", defaults={"use_sliding_window": False}),
        Family("qwen3", "qwen3", defaults={"use_sliding_window": False, "head_dim": 128}),
    )
}
