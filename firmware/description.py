"""What a decoder model is made of: enough to build its decode program, and nothing about where its weights come from.

Tensors are named by *roles*. Those of the model: ``embedding``, ``position_embedding``, ``layer_embeddings``,
``layer_embedding_norm``, ``score_scales``, ``final_norm``, ``final_norm_bias``, ``head``. Those of layer ``n`` are
``layers.n.`` followed by ``attention_norm``, ``q``, ``k``, ``v``, ``o``, ``q_norm``, ``k_norm``, ``output_scale``, ``sinks``,
``attention_post_norm``, ``feed_forward_norm``, ``gate``, ``up``, ``down``, ``feed_forward_post_norm``, ``router``,
``selection_bias``, ``experts_gate``, ``experts_up``, ``experts_down``, ``shared_router``, ``shared_gate``, ``shared_up``,
``shared_down``; of experts apart ``router_norm``, ``experts_norm``, ``experts_post_norm`` and ``shared_post_norm``; of a
layer's embedding ``embedding_projection``, ``embedding_gate``, ``embedding_output`` and ``embedding_post_norm``; of gated
attention ``output_gate``; of latent attention ``q_a``, ``q_a_norm``, ``q``, ``kv_a``, ``kv_a_norm``, ``k_b``, ``v_b`` and
``o``; of linear attention ``qkv``, ``convolution``, ``alpha``, ``beta``, ``decay``, ``output_gate``, ``output_norm`` and
``o``, of a state space also ``skip``, and no ``beta``, and beside attention all of these with ``beside_`` before them; of a
short convolution ``convolution_in``, ``convolution`` and ``o``. A layer that drafts has the number behind the last one, and
besides ``embedding_norm``, ``hidden_norm``, ``merge`` and ``head_norm``. A bias is its tensor's role followed by ``_bias``.
Which of them exist follows from the description; a bias exists if it has been placed. ``scales`` are the numbers that the
results of the layer's matrices are multiplied with, where a file has such.
"""

from dataclasses import dataclass, field, replace
from enum import Enum

from tailrace.spec.formats import BLOCK

#: Role of the table of what scores are multiplied with at each position, and its negative.
SCORE_SCALES = "score_scales"


class NormKind(Enum):
    """How activations are normalised."""

    RMS = "rms"
    LAYER = "layer"


class HeadNorm(Enum):
    """What of queries and keys is normalised (RMS), and when."""

    HEAD = "each head"
    ROTATED_HEAD = "each head, after its rotation"
    PLAIN_ROTATED_HEAD = "each head, after its rotation, without weights"
    ALL_HEADS = "all heads as one vector"

    @property
    def has_weights(self) -> bool:
        """Whether what is normalised is multiplied with weights then."""
        return self is not HeadNorm.PLAIN_ROTATED_HEAD


class Activation(Enum):
    """The activation function of a feed-forward layer.

    GELU is its tanh form, QUICK_GELU is ``x * sigmoid(1.702 * x)``, SQUARED_RELU the square of x, 0 where x is negative.
    """

    SILU = "silu"
    GELU = "gelu"
    QUICK_GELU = "quick gelu"
    SQUARED_RELU = "squared relu"


class Scores(Enum):
    """What a router makes of its logits: over all experts together, or of each by itself."""

    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"


@dataclass(frozen=True)
class Norm:
    """A norm: its kind, and what is added to the mean square."""

    kind: NormKind
    epsilon: float


@dataclass(frozen=True)
class Latent:
    """One vector, the latent, that the keys and values of all heads are made of (multi-head latent attention).

    ``kv_a(x)`` is a rotated key, which all heads share, and the latent, which is normalised (RMS). The cache holds both as the
    one key, and the latent as the one value. Of each head's queries the part that is not rotated is multiplied with the head's
    rows of ``k_b``, so that it meets the latent itself, and the head's outputs are multiplied with its rows of ``v_b``.

    Attributes
    ----------
    size : int
        Elements of the latent, a multiple of 32.
    key_size : int
        Elements of a head's queries that are not rotated, a multiple of 32.
    value_size : int
        Elements of a head's outputs.
    query_rank : int
        Elements of ``q_a(x)``, which are normalised (RMS) and which ``q`` multiplies; 0: it multiplies x. A multiple of 32.
    """

    size: int
    key_size: int
    value_size: int
    query_rank: int = 0


@dataclass(frozen=True)
class Attention:
    """Self-attention with a KV cache.

    Attributes
    ----------
    heads, kv_heads, head_size : int
        `heads` is a multiple of `kv_heads`; `head_size` is a multiple of 8.
    scale : float
        What scores are multiplied with.
    growing : bool
        Whether that is, at each position, what the table ``score_scales`` has for it instead. Without caps.
    rotary_size : int
        Elements of a head that are rotated (RoPE), from its first one on: element ``i`` with element ``i + rotary_size / 2``.
        0: none. Models that pair neighbours are imported with the rows of q and k in this order. A multiple of 8.
    rope : str
        Name of the table of angles.
    window : int or None
        Tokens that a token sees at most, itself included: the last ones, in a sliding window; None: all.
    chunked : bool
        Whether the window does not slide: a token sees those since the last multiple of `window`.
    head_norm : HeadNorm or None
        What of q and k is normalised, before it is rotated unless that says otherwise.
    score_cap : float or None
        Scaled scores become ``cap * tanh(scores / cap)``.
    sinks : bool
        Whether each head has a learned score that takes part in its softmax as a token would whose value is zero.
    keys_as_values : bool
        Whether there is no matrix ``v``: values are the keys as they were before their norm and rotation.
    value_norm : bool
        Whether each head of the values is normalised (RMS), without weights.
    gated : bool
        Whether the outputs of heads are multiplied with the sigmoid of a projection of the input, ``output_gate``.
    latent : Latent or None
        What keys and values are made of, if not of x itself. Then there is one KV head, and `head_size` is `rotary_size` and
        the size of the latent. Without norms of heads, sinks, caps and gates.
    shared_cache : bool
        Whether there are no matrices ``k`` and ``v``, but the keys and values of an earlier layer (`Description.cache_layer`).
    """

    heads: int
    kv_heads: int
    head_size: int
    scale: float
    rotary_size: int = 0
    rope: str = "rope"
    growing: bool = False
    window: int | None = None
    chunked: bool = False
    head_norm: HeadNorm | None = None
    score_cap: float | None = None
    sinks: bool = False
    keys_as_values: bool = False
    value_norm: bool = False
    gated: bool = False
    latent: Latent | None = None
    shared_cache: bool = False

    @property
    def value_size(self) -> int:
        """Elements of a value in the cache."""
        return self.head_size if self.latent is None else self.latent.size

    @property
    def output_size(self) -> int:
        """Elements of a head's outputs, as ``o`` has them."""
        return self.head_size if self.latent is None else self.latent.value_size

    @property
    def head_blocks(self) -> int:
        """Blocks of 32 elements that a key takes."""
        return -(-self.head_size // BLOCK)

    @property
    def projections(self) -> tuple[str, ...]:
        """The matrices whose results become queries, keys and values."""
        if self.shared_cache:
            return ("q",)
        return ("q", "k") if self.keys_as_values else ("q", "k", "v")

    @property
    def cache_form(self) -> tuple[object, ...]:
        """What layers that share keys and values have in common."""
        return self.window, self.chunked, self.kv_heads, self.head_size, self.rotary_size, self.rope

    def first_seen(self, position: int) -> int:
        """Position of the first token that the one at a position sees."""
        if self.window is None:
            return 0
        return position // self.window * self.window if self.chunked else max(position + 1 - self.window, 0)

    def tables(self) -> dict[str, int]:
        """Names and columns of the tables that have a row for each position."""
        angles = {self.rope: self.rotary_size} if self.rotary_size else {}
        return angles | ({SCORE_SCALES: 2} if self.growing else {})

    @property
    def group(self) -> int:
        """Heads that share a KV head."""
        return self.heads // self.kv_heads


class Rule(Enum):
    """What a token adds to a state of linear attention, and what becomes of a head's output.

    DELTA: keys and queries are divided by their lengths, queries by the root of their size, too. Added are the values, less
    what the state has for their keys, times rates ``sigmoid(beta(x))``. Outputs are normalised (RMS), then multiplied with
    ``silu(output_gate(x))``.

    STATE_SPACE: added are the values times rates ``softplus(alpha(x) + alpha_bias)``. To outputs are added the values times
    ``skip``; they are multiplied with ``silu(output_gate(x))``, then normalised.
    """

    DELTA = "gated delta rule"
    STATE_SPACE = "state space"


@dataclass(frozen=True)
class LinearAttention:
    """A state (`tailrace.spec.linear_attention`) of what a causal convolution and SiLU leave of queries, keys and values.

    Its decays are ``exp(decay * softplus(alpha(x) + alpha_bias))``.

    Attributes
    ----------
    key_heads, value_heads : int
        `value_heads` is a multiple of `key_heads`.
    key_size, value_size : int
        Elements of a head, multiples of 32; keys have at most 256.
    kernel : int
        Taps of the convolution.
    tiled : bool
        Whether value head ``h`` goes with key head ``h % key_heads``; else the value heads of a key head lie side by side.
    rule : Rule
    norm_size : int
        Elements that outputs are normalised over: of a delta rule those of a head; of a state space a multiple of 32, or 0 if
        they are not.
    """

    key_heads: int
    value_heads: int
    key_size: int
    value_size: int
    kernel: int
    tiled: bool
    rule: Rule
    norm_size: int

    @property
    def keys(self) -> int:
        """Elements of all keys."""
        return self.key_heads * self.key_size

    @property
    def values(self) -> int:
        """Elements of all values."""
        return self.value_heads * self.value_size

    @property
    def channels(self) -> int:
        """Elements of queries, keys and values, in this order."""
        return 2 * self.keys + self.values

    def key_head(self, value_head: int) -> int:
        """The key head that a value head goes with."""
        return value_head % self.key_heads if self.tiled else value_head // (self.value_heads // self.key_heads)


@dataclass(frozen=True)
class ShortConvolution:
    """``o(c * convolution(b * x))``, where b, c and x are the thirds of ``convolution_in``'s results.

    Attributes
    ----------
    kernel : int
        Taps of the convolution, which is causal and has a kernel for each channel.
    """

    kernel: int


@dataclass(frozen=True)
class LastHidden:
    """What the last layer has left of a sequence's recent tokens, behind the final norm: a layer that drafts starts from it.

    Attributes
    ----------
    kernel : int
        Tokens that one sees of it, its own and the one before, as in a convolution.
    """

    kernel: int = 2


#: What takes the place of attention in a layer.
Mixer = Attention | LinearAttention | ShortConvolution
#: What keeps something of a sequence's past.
Keeper = Mixer | LastHidden


@dataclass(frozen=True)
class FeedForward:
    """``down(activation(gate(x)) * up(x))``, or ``down(activation(up(x)))`` if it is not gated.

    Attributes
    ----------
    limit : float or None
        What gate is not to exceed, nor the magnitude of up, before anything is made of them. Only with a gate.
    up_offset : float
        What is added to up. Only with a gate.
    """

    size: int
    activation: Activation
    gated: bool = True
    limit: float | None = None
    up_offset: float = 0.0


@dataclass(frozen=True)
class Experts:
    """Mixture of experts: the `used` best of `count`, by their scores, whose outputs are weighted with these and added up.

    With a ``selection_bias`` those are chosen whose scores are the largest with it; their weights are without it.

    Attributes
    ----------
    expert : FeedForward
        What each expert is.
    normalise : bool
        Whether the scores of those chosen are divided by their sum, so that the weights add up to 1.
    scores : Scores
        From the router's logits to the scores.
    scale : float
        What the weights are multiplied with.
    groups, used_groups : int
        Experts are chosen from `used_groups` of `groups` only, which follow each other, all of one size, a multiple of 4: those
        whose two best scores, the selection bias in them, have the largest sum.
    shared : FeedForward or None
        A feed-forward beside them whose output is added.
    shared_gated : bool
        Whether that output is multiplied with the sigmoid of the one row of ``shared_router``, times the input.
    apart : bool
        Whether the activations are normalised anew for the router (``router_norm``) and the chosen experts (``experts_norm``),
        and the sum of these and the output of the shared one each by themselves before they are added up
        (``experts_post_norm``, ``shared_post_norm``). The layer's own norms are before the shared one and behind the sum.
        Only with a shared one without a gate, norms of the kind `RMS` without biases, and norms before and after the layer's
        blocks.
    router_scale : float
        What the router's input is multiplied with behind its norm. Only of experts apart.
    weighted_input : bool
        Whether an expert's input is multiplied with its weight, and not its outputs. Only with sigmoids that are not
        normalised, and of gated experts with SiLU, without limits, offsets and biases.
    """

    count: int
    used: int
    expert: FeedForward
    normalise: bool = True
    scores: Scores = Scores.SOFTMAX
    scale: float = 1.0
    groups: int = 1
    used_groups: int = 1
    shared: FeedForward | None = None
    shared_gated: bool = False
    apart: bool = False
    router_scale: float = 1.0
    weighted_input: bool = False


@dataclass(frozen=True)
class LayerEmbedding:
    """An embedding of the token that one layer has by itself, and adds to the activations at its end.

    ``x += post_norm(output(activation(gate(x)) * y))``, where ``y = (norm(projection(e)) + sqrt(size) * own) / sqrt(2)``.
    ``own`` is the layer's part of the token's row in the table ``layer_embeddings``, ``e`` the token's first embedding, scaled
    and divided by the root of its length, and the norm an RMS norm with the same weights for all layers,
    ``layer_embedding_norm``.

    Attributes
    ----------
    size : int
        Elements, a multiple of 32.
    activation : Activation
    """

    size: int
    activation: Activation


@dataclass(frozen=True)
class Layer:
    """A decoder layer: ``x += attention(norm(x)); x += feed_forward(norm(x))``.

    Attributes
    ----------
    attention : Attention, LinearAttention or ShortConvolution
    feed_forward : FeedForward, Experts or None
        None: the layer ends with its attention.
    post_norms : bool
        Whether what is added to x is normalised, too.
    pre_norms : bool
        Whether x is normalised before each of the two.
    parallel : bool
        Whether both have the same input: ``x += attention(norm(x)) + feed_forward(norm(x))``, with the one norm of attention.
        Only with norms before and none after.
    output_scale : bool
        Whether the activations are multiplied with a number, ``output_scale``, at the end.
    beside : LinearAttention or None
        Linear attention that has the same input as attention, and whose results are added, too: ``x += attention(norm(x)) +
        beside(norm(x))``. Only with norms before and none after.
    embedding : LayerEmbedding or None
        What is added before that.
    """

    attention: Mixer
    feed_forward: FeedForward | Experts | None
    post_norms: bool = False
    pre_norms: bool = True
    parallel: bool = False
    output_scale: bool = False
    beside: LinearAttention | None = None
    embedding: LayerEmbedding | None = None


@dataclass(frozen=True)
class DraftLayer:
    """A layer behind the others that says what comes after the next token (multi-token prediction), with the model's head.

    Its input is ``merge([embedding_norm(e), hidden_norm(h)])``, where ``e`` is the embedding of the next token, and ``h`` what
    the last layer has left of the token before that, behind the final norm. Behind its own norm, ``head_norm``, what it leaves
    is ``h`` of the token after. Its keys and values belong to the position of ``h``.

    Attributes
    ----------
    layer : Layer
        With attention, nothing beside it, and without an embedding.
    vocabulary : int
        The first so many tokens are drafted: of a vocabulary that was made by merging, the most frequent ones.
    """

    layer: Layer
    vocabulary: int


@dataclass(frozen=True)
class Description:
    """A decoder model.

    Attributes
    ----------
    architecture : str
        Name as GGUF files have it.
    hidden : int
        Length of the activations between layers, a multiple of 32.
    vocabulary : int
        Rows of the head.
    layers : tuple of Layer
    norm : Norm
        Of all norms.
    embedding_scale : float
        What embeddings are multiplied with.
    learned_positions : bool
        Whether an embedding of the position is added to that of the token.
    residual_scale : float
        What each block's results are multiplied with before they are added to the activations.
    logit_scale : float
        What logits are multiplied with, before they are capped.
    logit_cap : float or None
        Logits become ``cap * tanh(logits / cap)``.
    draft_layer : DraftLayer or None
        Only of models with RMS norms.
    """

    architecture: str
    hidden: int
    vocabulary: int
    layers: tuple[Layer, ...]
    norm: Norm
    embedding_scale: float = 1.0
    learned_positions: bool = False
    residual_scale: float = 1.0
    logit_scale: float = 1.0
    logit_cap: float | None = None
    # Not shown: with it or without, a model computes the same, and its sessions are the same.
    draft_layer: DraftLayer | None = field(default=None, repr=False)

    @property
    def whole(self) -> "Description":
        """The same with the layer that drafts as one of the others, the last one."""
        if self.draft_layer is None:
            return self
        return replace(self, layers=(*self.layers, self.draft_layer.layer), draft_layer=None)

    @property
    def attentions(self) -> tuple[Attention, ...]:
        """Those of the layers that have a KV cache of their own."""
        return tuple(mixer for _, mixer in self.mixers if isinstance(mixer, Attention) and not mixer.shared_cache)

    @property
    def mixers(self) -> tuple[tuple[int, Keeper], ...]:
        """All that keep something of the past, and their layers.

        Attention of all layers, then what some have beside it; or that of a layer that drafts, and what it starts from.
        """
        layers = tuple(enumerate(self.whole.layers))
        more: list[tuple[int, Keeper]] = [(n, layer.beside) for n, layer in layers if layer.beside]
        if self.draft_layer is not None:
            more.append((len(self.layers), LastHidden()))
        return (*((n, layer.attention) for n, layer in layers), *more)

    def mixers_of(self, layer: int) -> tuple[int, ...]:
        """Which of `mixers` a layer has; the first one is its attention."""
        return tuple(number for number, (n, _) in enumerate(self.mixers) if n == layer)

    def cache_layer(self, layer: int) -> int:
        """The layer whose keys and values a layer reads: itself, or the last one before it that has such and does not share.

        Raises
        ------
        ValueError
            If there is none.
        """
        mixer = self.layers[layer].attention
        if not isinstance(mixer, Attention) or not mixer.shared_cache:
            return layer
        for n in reversed(range(layer)):
            other = self.layers[n].attention
            if isinstance(other, Attention) and not other.shared_cache and other.cache_form == mixer.cache_form:
                return n
        raise ValueError(f"layer {layer} shares the keys and values of a layer that there is not")

    @property
    def owners(self) -> tuple[int, ...]:
        """Which of `mixers` keep something of their own of a sequence's past."""
        return tuple(n for n in range(len(self.mixers)) if n >= len(self.layers) or self.cache_layer(n) == n)

    @property
    def has_latents(self) -> bool:
        """Whether a layer's cache holds latents in place of keys and values."""
        return any(attention.latent is not None for attention in self.attentions)

    @property
    def is_recurrent(self) -> bool:
        """Whether layers keep anything but a KV cache."""
        return not all(isinstance(mixer, Attention) for _, mixer in self.mixers)


def layer_role(layer: int, tensor: str) -> str:
    """The role of a layer's tensor."""
    return f"layers.{layer}.{tensor}"
