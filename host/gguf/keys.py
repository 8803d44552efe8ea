"""Header values that nobody has asked for: those that change nothing are named here; any other is a reason to refuse a model.

Whoever reads a header asks for what it understands. What is left over and is not switched off changes what the model computes,
in a way that is not known here. Source: the keys of the `gguf` package, and what llama.cpp's graphs do with them.
"""

from tailrace.spec.errors import ModelError

from .file import Model
from .printable import printable

#: Keys, without the architecture, that do not change what a decoder of a known architecture computes.
_HARMLESS = frozenset(
    (
        # How the file came about, and facts that its tensors tell as well.
        "tensor_data_layout", "vocab_size", "rope.scaling.finetuned",
        # Of the kinds of norm and of feed-forward, an architecture uses one; without experts, nothing is chosen.
        "attention.layer_norm_epsilon", "attention.layer_norm_rms_epsilon", "feed_forward_length", "expert_used_count",
        "expert_feed_forward_length",
        # How embeddings of a text are made, and how a classifier names its classes.
        "pooling_type", "classifier.output_labels",
        # llama.cpp obeys windows only where `Architecture.windowed` is true.
        "attention.sliding_window",
        # Without RoPE, its numbers are not used.
        "rope.freq_base", "rope.dimension_count",
    )
)  # fmt: skip
#: The same of all keys that begin so: encoders of images, whose own tensors nothing would leave unread.
_OF_OTHER_PARTS = ("vision.", "mm.")
#: Values that change nothing, where that is not zero, false or nothing.
_NEUTRAL: dict[str, tuple[float, ...]] = {
    "attention.causal": (1.0,),
    "expert_weights_scale": (0.0, 1.0),
    "expert_weights_norm": (1.0,),
    "expert_group_count": (0.0, 1.0),
    "expert_group_used_count": (0.0, 1.0),
    "logit_scale": (0.0, 1.0),
    "residual_scale": (0.0, 1.0),
    "embedding_scale": (0.0, 1.0),
    "rope.scaling.alpha": (0.0, 1.0),
}


def check_keys(model: Model) -> None:
    """Check that every value that has not been asked for changes nothing.

    Raises
    ------
    ModelError
        If one may change what the model computes.
    """
    header = model.header
    for key in header.unasked(model.key("")):
        name = key.removeprefix(model.key(""))
        if name in _HARMLESS or name.startswith(_OF_OTHER_PARTS):
            continue
        if name in _NEUTRAL:
            if header.is_any_of(key, _NEUTRAL[name]):
                continue
        elif header.is_neutral(key):
            continue
        raise ModelError(
            f"{model.path} can't be run: its header has {printable(key)} = {header.shown(key)}, which no other"
            f" {model.architecture.name} model has that is known here, so its results would be wrong"
        )
