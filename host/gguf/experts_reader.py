"""What a GGUF file says of its mixture of experts: how the router scores, chooses and weighs."""

from tailrace.firmware.description import Experts, FeedForward, Scores
from tailrace.spec.errors import ModelError

from .file import Model

#: llama.cpp's numbers of what routers make of their logits; 0: as the architecture always does.
_SCORES = {1: Scores.SOFTMAX, 2: Scores.SIGMOID}
_MAX_GATING = 1 << 16


def read_experts(model: Model, expert: FeedForward, shared: FeedForward | None, shared_gated: bool) -> Experts:
    """The mixture of a model's layers.

    Parameters
    ----------
    model : Model
    expert : FeedForward
        What each expert is.
    shared : FeedForward or None
    shared_gated : bool
        See `tailrace.firmware.description.Experts`.

    Raises
    ------
    ModelError
        If the router scores in another way than its architecture does, and that is obeyed nowhere, or a number is not what it
        should be.
    """
    arch, count, stated = model.architecture, model.experts, model.architecture.stated_router
    used = model.integer("expert_used_count", 1, count)
    gating = model.integer("expert_gating_func", 0, _MAX_GATING, 0)
    scores = _SCORES.get(gating) if gating else arch.scores
    if scores is None or not (stated or scores is arch.scores):
        raise ModelError(f"{model.path} can't be run: its router is not a {arch.scores.value} (expert_gating_func {gating})")
    normalise, scale, groups, used_groups = arch.normalised_experts, 1.0, 1, 1
    if stated:
        normalise = model.header.boolean(model.key("expert_weights_norm"), normalise)
        scale = model.header.real(model.key("expert_weights_scale"), 0.0, 1e3, 0.0) or 1.0
        groups = model.integer("expert_group_count", 0, count, 0) or 1
        used_groups = model.integer("expert_group_used_count", 0, groups, 0) or groups
        if count % groups:
            raise model.header.unexpected(model.key("expert_group_count"), f"a divisor of {count} experts")
        if used > used_groups * (count // groups):
            raise model.header.unexpected(
                model.key("expert_group_used_count"), f"so many groups that {used} experts are in them"
            )
    if groups == used_groups:
        groups = used_groups = 1
    return Experts(
        count, used, expert, normalise, scores, scale, groups, used_groups, shared, shared_gated,
        weighted_input=arch.weighted_inputs,
    )  # fmt: skip
