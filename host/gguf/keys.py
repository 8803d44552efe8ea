"""Header values that nobody has asked for: those that change nothing are named here; any other is a reason to refuse a model.

Whoever reads a header asks for what it understands. What is left over and is not switched off changes what the model computes,
in a way that is not known here. Source: the keys of the `gguf` package, and what llama.cpp's graphs do with them.
"""

from collections.abc import Mapping

from tailrace.spec.errors import ModelError

from .file import Model
from .printable import printable

#: Keys, without the architecture, that do not change what a decoder of a known architecture computes.
_HARMLESS = frozenset(
    (
        # How the file came about, and facts that its tensors tell as well.
        "tensor_data_layout", "vocab_size", "rope.scaling.finetuned", "expert_shared_feed_forward_length",
        "use_parallel_residual",
        # Of the kinds of norm and of feed-forward, an architecture uses one; without experts, nothing is chosen.
        "attention.layer_norm_epsilon", "attention.layer_norm_rms_epsilon", "attention.group_norm_epsilon",
        "attention.group_norm_groups", "feed_forward_length", "expert_used_count", "expert_feed_forward_length",
        "expert_gating_func",
        # How embeddings of a text are made, and how a classifier names its classes.
        "pooling_type", "classifier.output_labels",
        # Layers that features of images are added behind: a text has none.
        "n_deepstack_layers",
        # What a decoder after an encoder begins with.
        "decoder_start_token_id",
    )
)  # fmt: skip
#: The same of all keys that begin so: encoders of images, whose own tensors nothing would leave unread.
_OF_OTHER_PARTS = ("vision.", "mm.")
#: What more is harmless in some models, by how it begins.
_WINDOWS, _ROPE, _YARN = "attention.sliding_window", "rope.", "rope.scaling.yarn_"
#: Values that change nothing, where that is not zero, false or nothing.
_NEUTRAL: dict[str, tuple[float, ...]] = {
    "attention.causal": (1.0,),
    "attention.output_scale": (0.0, 1.0),
    "full_attention_interval": (0.0, 1.0),
    "interleave_moe_layer_step": (0.0, 1.0),
    "expert_weights_scale": (0.0, 1.0),
    "expert_weights_norm": (1.0,),
    "expert_group_count": (0.0, 1.0),
    "expert_group_used_count": (0.0, 1.0),
    "logit_scale": (0.0, 1.0),
    "residual_scale": (0.0, 1.0),
    "embedding_scale": (0.0, 1.0),
    "rope.scaling.alpha": (0.0, 1.0),
    "rope.scale_linear": (0.0, 1.0),
    # The one in YaRN's own formula.
    "rope.scaling.yarn_log_multiplier": (0.0, 0.1),
}


def check_keys(model: Model, twins: Mapping[str, float], rotated: bool) -> None:
    """Check that every value that has not been asked for changes nothing.

    Parameters
    ----------
    model : Model
    twins : mapping of str to float
        Keys, without the architecture, for parts that may differ from the rest (such as layers with a window), and the values
        with which they don't.
    rotated : bool
        Whether RoPE rotates anything.

    Raises
    ------
    ModelError
        If one may change what the model computes.
    """
    header, harmless = model.header, _harmless_parts(model, rotated)
    values = _NEUTRAL | {name: (0.0, value) for name, value in twins.items()}
    for key in header.unasked(model.key("")):
        name = key.removeprefix(model.key(""))
        if name in _HARMLESS or name.startswith(harmless):
            continue
        if name in values:
            if header.is_any_of(key, values[name]):
                continue
        elif header.is_neutral(key):
            continue
        raise ModelError(
            f"{model.path} can't be run: its header has {printable(key)} = {header.shown(key)}, which no other"
            f" {model.architecture.name} model has that is known here, so its results would be wrong"
        )


def _harmless_parts(model: Model, rotated: bool) -> tuple[str, ...]:
    """How keys begin that mean nothing to this model."""
    architecture = model.architecture
    scaling = model.header.text(model.key("rope.scaling.type"), "")
    # llama.cpp obeys windows only where `Architecture.windowed` is true.
    unused = {_WINDOWS: not architecture.windowed, _ROPE: not rotated, _YARN: scaling != "yarn"}
    return (*_OF_OTHER_PARTS, *(start for start, is_unused in unused.items() if is_unused))
