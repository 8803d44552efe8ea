"""A layer of a decode program: attention or what is in its place, feed-forward, and how both branch off."""

from dataclasses import replace
from typing import Any

from .attention import attend
from .branch import Branch
from .description import Attention, Description, Experts, FeedForward, Layer, LinearAttention, ShortConvolution, layer_role
from .experts import mixture
from .feed_forward import feed_forward
from .latent_attention import attend_to_latents
from .layer_embedding import add_layer_embedding
from .layers import Run
from .linear_attention import attend_linearly
from .norms import NextNorm
from .short_convolution import short_convolution
from .workspace import Workspace


def emit_layer(w: Workspace, layer: int, run: Run) -> None:
    """Emit a layer, which stands for those of all rounds of its run."""
    description = w.description.layers[layer]
    name = f"layer {layer}" if run.rounds == 1 else f"layers {layer}, {layer + run.period}, ... ({run.rounds} rounds)"
    with w.buffer.phase():
        w.load_scales(layer)
        attention, feed_forward_branch = _branches(w, layer, run)
        attention, beside = _side_by_side(w, attention) if description.beside else (attention, attention)
        match description.attention:
            case Attention():
                w.commands.section(f"{name}: attention")
                apart = description.attention.latent is not None
                (attend_to_latents if apart else attend)(w, layer, description.attention, attention)
            case LinearAttention():
                w.commands.section(f"{name}: linear attention")
                attend_linearly(w, layer, description.attention, attention, layer)
            case ShortConvolution():
                w.commands.section(f"{name}: short convolution")
                short_convolution(w, layer, description.attention, attention)
        if description.beside:
            w.commands.section(f"{name}: linear attention beside it")
            _, number = w.description.mixers_of(layer)
            attend_linearly(w, layer, description.beside, beside, number, "beside_")
        if description.feed_forward is None:
            return
        w.commands.section(f"{name}: feed-forward")
        if isinstance(description.feed_forward, Experts):
            mixture(w, layer, description.feed_forward, feed_forward_branch)
        else:
            feed_forward(w, layer, description.feed_forward, feed_forward_branch)
        if description.embedding:
            w.commands.section(f"{name}: embedding of the layer")
            branch = Branch(None, layer_role(layer, "embedding_post_norm"), w.x, w.x, scale=_output_scale(layer, description))
            add_layer_embedding(w, layer, description.embedding, branch)


def _branches(w: Workspace, layer: int, run: Run) -> tuple[Branch, Branch]:
    """How attention and feed-forward of a layer branch off from x."""
    description, blocks = w.description.layers[layer], ("attention", "feed_forward")
    norms = [layer_role(layer, f"{block}_norm") if description.pre_norms else None for block in blocks]
    post_norms = [layer_role(layer, f"{block}_post_norm") if description.post_norms else None for block in blocks]
    # The scale is that of whatever comes last.
    last: dict[str, Any] = {"measured": False} if description.embedding else {"scale": _output_scale(layer, description)}
    last["next_norm"] = _norm_of_next_layer(w, layer, run)
    if not description.parallel:
        first, second = (Branch(norm, post_norm, w.x, w.x) for norm, post_norm in zip(norms, post_norms))
        if description.feed_forward and norms[1]:
            first = replace(first, next_norm=NextNorm(norms[1]))
        if not description.feed_forward:
            return replace(first, **last), second
        return first, replace(second, **last)
    # x must stay as it is until the second block has read it.
    between = w.buffer.allocate("the activations between parallel blocks", w.batch * w.hidden)
    first = Branch(norms[0], post_norms[0], w.x, between, measured=False)
    return first, Branch(norms[0], post_norms[1], between, w.x, again=True, **last)


def norm_of_next_round(description: Description, run: Run) -> str | None:
    """Role of the norm that a round of a loop begins with, if the end of the round before fetches its weights."""
    first, last = description.layers[run.first], description.layers[run.first + run.period - 1]
    fetched = run.rounds > 1 and run.weight_distance > 0 and first.pre_norms and isinstance(last.feed_forward, FeedForward)
    return layer_role(run.first, "attention_norm") if fetched else None


def _norm_of_next_layer(w: Workspace, layer: int, run: Run) -> NextNorm | None:
    """The norm that comes behind a layer."""
    if layer == run.first + run.period - 1:
        role = norm_of_next_round(w.description, run)
        return None if role is None else NextNorm(role, run)
    return NextNorm(layer_role(layer + 1, "attention_norm")) if w.description.layers[layer + 1].pre_norms else None


def _side_by_side(w: Workspace, whole: Branch) -> tuple[Branch, Branch]:
    """Two blocks with the input of one, whose results are both added."""
    between = w.buffer.allocate("the activations between attention and what is beside it", w.batch * w.hidden)
    return replace(whole, to=between, measured=False, scale=None), replace(whole, base=between, again=True)


def _output_scale(layer: int, description: Layer) -> str | None:
    """Role of the number that the activations are multiplied with at the end of a layer."""
    return layer_role(layer, "output_scale") if description.output_scale else None
