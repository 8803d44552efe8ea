"""Model architectures: what a GGUF file of each leaves unsaid. Adding one that `Architecture` can express is one entry here."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from tailrace.firmware.description import Activation, HeadNorm, NormKind, Scores

HEAD = "output.weight"
EMBEDDING = "token_embd.weight"


@dataclass(frozen=True)
class Architecture:
    """A transformer decoder: how it differs from a plain one with RMS norms, gated SiLU and RoPE.

    Sizes, head counts and constants are in the file's header; whether there are biases or experts is seen from its tensors.

    Attributes
    ----------
    name : str
        ``general.architecture`` of the GGUF file.
    models : str
        Well-known models of it.
    known : bool
        Whether a decode program can be built. Of other architectures only the linear layers run on the device.
    norm : NormKind
    norm_biases : bool
        Whether norms of the kind `LAYER` have biases.
    activation : Activation
    gated : bool
    paired_rope : bool
        Whether RoPE rotates neighbours, as the rows of q and k then lie in the file, and not halves of a head.
    sectioned_rope : bool
        Whether the header may have sections of angles for positions in images, which count alike in a text. Rows of q and k of
        such a file lie as RoPE of halves has them.
    fused_qkv, fused_gate_up : bool
        Whether the rows of q, k and v, or those of gate and up, follow each other in one matrix. Those of q, k and v do in any
        file that has such a matrix (`architecture_of`).
    head_norm : HeadNorm or None
    pre_norms, post_norms : bool
        See `tailrace.firmware.description`.
    parallel : bool
        Whether layers without a norm before their feed-forward are parallel.
    feed_forward_norm : str
        Name of the norm before a layer's feed-forward, in the middle of the tensor's name.
    scaled_embedding : bool
        Whether embeddings are multiplied with the square root of their length.
    scalars : bool
        Whether the header has scales of embeddings, scores and residuals, and what logits are divided by.
    scaled_logits : bool
        Whether the header has what logits are multiplied with.
    learned_positions : bool
    windowed : bool
        Whether layers have a sliding window if the header names one.
    default_window : int
        Tokens of the windows if the header does not say.
    chunked : bool
        Whether windows do not slide, but are chunks.
    global_every : int
        Every n-th layer has no window; 0: all have one.
    global_rotated : bool
        Whether layers without a window are rotated beside those that have one.
    unrotated_every : int
        Every n-th layer is not rotated; 0: all are.
    local_sizes : bool
        Whether heads of windowed layers have sizes of their own in the header.
    global_frequencies : bool
        Whether factors of frequencies in the file hold for layers without a window, where the others have angles of their own.
    local_rope_base : float or None
        Base of RoPE's angles in windowed layers, which nothing scales, if they have angles of their own; 0: the same base.
    plain_yarn : bool
        Whether YaRN leaves cosines and sines as they are, and scores grow behind the original context instead.
    unrotated_growth : tuple of (float, int), or None
        Rate and period with which scores of layers without RoPE grow (`tailrace.gguf.growth.Growth`), if the header does not
        say; None: they do not.
    exact_yarn : bool
        Whether YaRN's blend begins and ends where its formula says, not with a whole pair. Files do not say it, and llama.cpp
        takes whole pairs.
    normalised_experts : bool
        Whether the weights of the chosen experts add up to 1, if the header does not say.
    scores : Scores
        What routers of experts make of their logits, if the header does not say.
    weighted_inputs : bool
        Whether an expert's weight multiplies its input, not its outputs.
    stated_router : bool
        Whether the header says how experts are scored, chosen in groups and weighed.
    predicts_ahead : bool
        Whether there are, if the header says so, layers at the end that predict further tokens. One of a hybrid may
        draft (`tailrace.gguf.file.Model.has_draft_layer`); others are left out.
    optional_head_norm : bool
        Whether q and k are not normalised in a file without weights for that (`architecture_of`).
    capped_logits : bool
        Whether logits are capped if the header says so.
    default_logit_cap : float
        The cap if the header does not say; 0: none.
    score_cap : float
        What attention's scores are capped at if the header does not say; 0: they are not capped.
    score_scale : float
        What attention's scores are multiplied with; 0: the inverse root of the size of a head.
    layers_scaled_by_width : int
        Layers of the one model whose scores are divided by the root of a head's share of the activations, not of its size; 0:
        there is none. Files do not say it.
    optional_values : bool
        Whether layers may have no matrix v: their values are their keys then.
    value_norm : bool
        Whether each head of the values is normalised, without weights.
    shared_caches : bool
        Whether the last layers, if the header says so, have the keys and values of the last one of their kind before them.
    layer_embeddings : bool
        Whether each layer, if the header says so, has an embedding of its own.
    experts_apart : bool
        Whether layers with experts have a feed-forward beside them, all between norms of their own
        (`tailrace.firmware.description.Experts`).
    sinks : bool
    limit, up_offset : float
        Of the feed-forward, see `tailrace.firmware.description`; a limit of 0 is none.
    final_norm : str
        Name of the norm before the head, in the beginning of the tensor's name.
    gated_attention : bool
        Whether a head's rows of q are followed by as many that its output is gated with.
    latent_attention : bool
        Whether keys and values of all heads are made of one latent.
    yarn_scores : bool
        Whether YaRN scales scores, by what the header says of it, and cosines and sines only if that says nothing.
    short_convolutions : bool
        Whether layers without KV heads have a short convolution in place of attention.
    state_space : bool
        Whether layers may have a state space (Mamba-2) in place of attention, as their tensors say.
    state_space_beside : bool
        Whether layers have a state space beside their attention.
    stated_rope : bool
        Whether the header can say that nothing is rotated.
    rotated : bool
        Whether anything is.
    apart : bool
        Whether attention and feed-forward are layers of their own in the file. A feed-forward then belongs to the layer before.
    linear_attention : bool
        Whether all layers but every n-th have linear attention, with n and its sizes in the header.
    fused_rates : bool
        Whether what rates and decays of linear attention come from are rows of one matrix, for each key head in turn.
    fused_gate : bool
        Whether queries, keys, values and gates of linear attention are rows of one matrix, for each key head in turn; seen
        from the tensors (`architecture_of`).
    tiled_heads : bool
        Whether value head ``h`` of linear attention goes with key head ``h % key_heads``.
    """

    name: str
    models: str = ""
    known: bool = True
    norm: NormKind = NormKind.RMS
    norm_biases: bool = True
    activation: Activation = Activation.SILU
    gated: bool = True
    paired_rope: bool = False
    sectioned_rope: bool = False
    fused_qkv: bool = False
    fused_gate_up: bool = False
    head_norm: HeadNorm | None = None
    pre_norms: bool = True
    post_norms: bool = False
    parallel: bool = False
    feed_forward_norm: str = "ffn_norm"
    scaled_embedding: bool = False
    scalars: bool = False
    scaled_logits: bool = False
    learned_positions: bool = False
    windowed: bool = False
    default_window: int = 0
    chunked: bool = False
    global_every: int = 0
    global_rotated: bool = True
    unrotated_every: int = 0
    local_sizes: bool = False
    global_frequencies: bool = False
    local_rope_base: float | None = None
    plain_yarn: bool = False
    unrotated_growth: tuple[float, int] | None = None
    exact_yarn: bool = False
    normalised_experts: bool = True
    scores: Scores = Scores.SOFTMAX
    weighted_inputs: bool = False
    stated_router: bool = False
    predicts_ahead: bool = False
    optional_head_norm: bool = False
    capped_logits: bool = False
    default_logit_cap: float = 0.0
    score_cap: float = 0.0
    score_scale: float = 0.0
    layers_scaled_by_width: int = 0
    optional_values: bool = False
    value_norm: bool = False
    shared_caches: bool = False
    layer_embeddings: bool = False
    experts_apart: bool = False
    sinks: bool = False
    limit: float = 0.0
    up_offset: float = 0.0
    final_norm: str = "output_norm"
    gated_attention: bool = False
    latent_attention: bool = False
    yarn_scores: bool = False
    short_convolutions: bool = False
    state_space: bool = False
    state_space_beside: bool = False
    stated_rope: bool = False
    rotated: bool = True
    apart: bool = False
    linear_attention: bool = False
    fused_rates: bool = False
    fused_gate: bool = False
    tiled_heads: bool = False

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The matrices of a layer without experts, by the middle part of their names; a group multiplies the same vector."""
        attention: tuple[str, ...] = ("attn_qkv",) if self.fused_qkv else ("attn_q", "attn_k", "attn_v")
        if self.latent_attention:
            attention = ("attn_kv_a_mqa", "attn_q_a", "attn_q", "attn_q_b", "attn_k_b", "attn_v_b")
        inner = ("ffn_gate", "ffn_up") if self.gated and not self.fused_gate_up else ("ffn_up",)
        return attention, ("attn_output",), inner, ("ffn_down",)

    @property
    def keeps_states(self) -> bool:
        """Whether layers keep something else of their past than keys and values."""
        return self.short_convolutions or self.state_space or self.state_space_beside or self.linear_attention

    @property
    def permuted(self) -> tuple[str, ...]:
        """Matrices whose rows llama.cpp's converter reorders within each head, from halves to pairs."""
        return ("attn_q", "attn_k") if self.paired_rope else ()

    @property
    def matrices(self) -> tuple[str, ...]:
        """All matrices of a layer without experts."""
        beside = ("ssm_in", "ssm_out") if self.state_space_beside else ()
        return beside + tuple(name for group in self.groups for name in group)

    @property
    def recurrent_matrices(self) -> tuple[str, ...]:
        """The same of a layer without a KV cache; none if there are no such layers."""
        if self.short_convolutions:
            mixer: tuple[str, ...] = ("shortconv.in_proj", "shortconv.out_proj")
        elif self.state_space:
            mixer = ("ssm_in", "ssm_out")
        elif self.linear_attention:
            rates = ("ssm_ba",) if self.fused_rates else ("ssm_alpha", "ssm_beta")
            mixer = (*rates, *(("ssm_in",) if self.fused_gate else ("attn_qkv", "attn_gate")), "ssm_out")
        else:
            return ()
        return mixer + tuple(name for group in self.groups[2:] for name in group)


_NEMOTRON_H: dict[str, Any] = {
    "activation": Activation.SQUARED_RELU, "gated": False, "feed_forward_norm": "attn_norm", "state_space": True,
    "rotated": False, "apart": True,
}  # fmt: skip

ARCHITECTURES: dict[str, Architecture] = {
    a.name: a
    for a in (
        Architecture("llama", "Llama 1 to 3, Mistral 7B, Mixtral, SmolLM, TinyLlama", paired_rope=True),
        Architecture("internlm2", "InternLM 2 and 2.5", paired_rope=True),
        Architecture("arcee", "Arcee AFM 4.5B", paired_rope=True, activation=Activation.SQUARED_RELU, gated=False),
        Architecture(
            "nemotron", "Nemotron 3 and 4, Minitron", norm=NormKind.LAYER, activation=Activation.SQUARED_RELU, gated=False
        ),
        Architecture("mistral3", "Ministral 3, Devstral 2", paired_rope=True, plain_yarn=True),
        Architecture(
            "llama4",
            "Llama 4 Scout and Maverick (text)",
            paired_rope=True,
            head_norm=HeadNorm.PLAIN_ROTATED_HEAD,
            windowed=True,
            default_window=8192,
            chunked=True,
            global_every=4,
            global_rotated=False,
            unrotated_growth=(0.1, 8192),
            normalised_experts=False,
            scores=Scores.SIGMOID,
            weighted_inputs=True,
        ),
        Architecture("smollm3", "SmolLM 3", paired_rope=True, unrotated_every=4),
        Architecture("granite", "Granite 3", paired_rope=True, scalars=True),
        Architecture("granitemoe", "Granite 3 A400M and A800M", paired_rope=True, scalars=True),
        Architecture("granitehybrid", "Granite 4, Bamba", paired_rope=True, scalars=True, state_space=True, stated_rope=True),
        Architecture("nemotron_h", "Nemotron-H, Nemotron Nano 2", **_NEMOTRON_H),
        Architecture("nemotron_h_moe", "Nemotron 3 Nano", **_NEMOTRON_H, scores=Scores.SIGMOID, stated_router=True),
        Architecture("falcon-h1", "Falcon-H1", state_space_beside=True),
        Architecture("mamba2", "Mamba-2, Mamba-Codestral", state_space=True, rotated=False, apart=True),
        Architecture("ernie4_5", "ERNIE 4.5 0.3B", paired_rope=True),
        Architecture("ernie4_5-moe", "ERNIE 4.5 21B-A3B and 300B-A47B", paired_rope=True),
        Architecture("qwen2", "Qwen 1.5 to 2.5, DeepSeek R1 Distill Qwen"),
        Architecture("qwen2moe", "Qwen 1.5 A2.7B, Qwen 2 57B-A14B", normalised_experts=False),
        Architecture("qwen2vl", "Qwen 2 VL and 2.5 VL (text)", sectioned_rope=True),
        Architecture("qwen3", "Qwen 3", head_norm=HeadNorm.HEAD),
        Architecture("qwen3moe", "Qwen 3 30B-A3B, Qwen3-Coder", head_norm=HeadNorm.HEAD),
        Architecture("qwen3vl", "Qwen 3 VL 2B to 32B (text)", head_norm=HeadNorm.HEAD, sectioned_rope=True),
        Architecture("qwen3vlmoe", "Qwen 3 VL 30B-A3B and 235B-A22B (text)", head_norm=HeadNorm.HEAD, sectioned_rope=True),
        Architecture("olmoe", "OLMoE", head_norm=HeadNorm.ALL_HEADS, normalised_experts=False),
        Architecture(
            "dots1",
            "dots.llm1",
            head_norm=HeadNorm.HEAD,
            normalised_experts=False,
            scores=Scores.SIGMOID,
            stated_router=True,
        ),
        Architecture(
            "glm4",
            "GLM 4 and Z1 9B and 32B, GLM 4.1V 9B (text)",
            paired_rope=True,
            sectioned_rope=True,
            fused_gate_up=True,
            post_norms=True,
            predicts_ahead=True,
        ),
        Architecture(
            "gpt-oss",
            "gpt-oss 20B and 120B",
            activation=Activation.QUICK_GELU,
            limit=7.0,
            up_offset=1.0,
            feed_forward_norm="post_attention_norm",
            sinks=True,
            windowed=True,
            global_every=2,
            exact_yarn=True,
        ),
        Architecture("seed_oss", "Seed-OSS", feed_forward_norm="post_attention_norm"),
        Architecture("hunyuan-dense", "Hunyuan 0.5B to 7B", head_norm=HeadNorm.ROTATED_HEAD),
        Architecture("hunyuan-moe", "Hunyuan A13B", head_norm=HeadNorm.ROTATED_HEAD),
        Architecture(
            "glm4moe",
            "GLM 4.5 to 4.7, GLM 4.5 Air",
            head_norm=HeadNorm.HEAD,
            optional_head_norm=True,
            feed_forward_norm="post_attention_norm",
            normalised_experts=False,
            scores=Scores.SIGMOID,
            stated_router=True,
            predicts_ahead=True,
        ),
        Architecture(
            "bailingmoe2",
            "Ling 2.0, Ring 2.0",
            head_norm=HeadNorm.HEAD,
            fused_qkv=True,
            normalised_experts=False,
            scores=Scores.SIGMOID,
            stated_router=True,
            predicts_ahead=True,
        ),
        Architecture(
            "deepseek2",
            "DeepSeek V2 to V3.1, R1, Kimi K2, GLM 4.7 Flash",
            paired_rope=True,
            latent_attention=True,
            yarn_scores=True,
            normalised_experts=False,
            stated_router=True,
            predicts_ahead=True,
        ),
        Architecture(
            "minimax-m2", "MiniMax M2 to M2.5", head_norm=HeadNorm.ALL_HEADS, scores=Scores.SIGMOID, stated_router=True
        ),
        Architecture(
            "olmo2",
            "OLMo 2 and 3",
            head_norm=HeadNorm.ALL_HEADS,
            pre_norms=False,
            post_norms=True,
            windowed=True,
            global_every=4,
            local_rope_base=0.0,
        ),
        Architecture(
            "exaone4",
            "EXAONE 4",
            head_norm=HeadNorm.HEAD,
            pre_norms=False,
            post_norms=True,
            windowed=True,
            global_every=4,
            global_rotated=False,
        ),
        Architecture("gemma", "Gemma, CodeGemma", activation=Activation.GELU, scaled_embedding=True),
        Architecture(
            "gemma2",
            "Gemma 2",
            activation=Activation.GELU,
            post_norms=True,
            scaled_embedding=True,
            windowed=True,
            default_window=4096,
            global_every=2,
            capped_logits=True,
            default_logit_cap=30.0,
            score_cap=50.0,
            layers_scaled_by_width=46,
        ),
        Architecture(
            "gemma3",
            "Gemma 3 (text)",
            activation=Activation.GELU,
            head_norm=HeadNorm.HEAD,
            post_norms=True,
            scaled_embedding=True,
            windowed=True,
            global_every=6,
            local_rope_base=10_000.0,
            layers_scaled_by_width=62,
            capped_logits=True,
        ),
        Architecture(
            "gemma4",
            "Gemma 4 (text)",
            activation=Activation.GELU,
            head_norm=HeadNorm.HEAD,
            post_norms=True,
            scaled_embedding=True,
            windowed=True,
            global_every=6,
            local_sizes=True,
            global_frequencies=True,
            local_rope_base=10_000.0,
            score_scale=1.0,
            optional_values=True,
            value_norm=True,
            shared_caches=True,
            layer_embeddings=True,
            experts_apart=True,
            capped_logits=True,
        ),
        Architecture(
            "command-r",
            "Command R, Aya",
            paired_rope=True,
            norm=NormKind.LAYER,
            norm_biases=False,
            parallel=True,
            scaled_logits=True,
        ),
        Architecture(
            "cohere2",
            "Command R7B, Command A, Tiny Aya",
            paired_rope=True,
            norm=NormKind.LAYER,
            norm_biases=False,
            parallel=True,
            scaled_logits=True,
            windowed=True,
            global_every=4,
            global_rotated=False,
        ),
        Architecture("lfm2", "LFM2, LFM2.5", head_norm=HeadNorm.HEAD, final_norm="token_embd_norm", short_convolutions=True),
        Architecture(
            "lfm2moe",
            "LFM2 8B-A1B, LFM2 24B-A2B",
            head_norm=HeadNorm.HEAD,
            final_norm="token_embd_norm",
            short_convolutions=True,
            scores=Scores.SIGMOID,
        ),
        Architecture(
            "qwen35",
            "Qwen 3.5 and 3.6, dense",
            head_norm=HeadNorm.HEAD,
            feed_forward_norm="post_attention_norm",
            gated_attention=True,
            linear_attention=True,
            sectioned_rope=True,
            tiled_heads=True,
            predicts_ahead=True,
        ),
        Architecture(
            "qwen35moe",
            "Qwen 3.5 and 3.6 35B-A3B",
            head_norm=HeadNorm.HEAD,
            feed_forward_norm="post_attention_norm",
            gated_attention=True,
            linear_attention=True,
            sectioned_rope=True,
            tiled_heads=True,
            predicts_ahead=True,
        ),
        Architecture(
            "qwen3next",
            "Qwen3-Next 80B-A3B, Qwen3-Coder-Next",
            head_norm=HeadNorm.HEAD,
            feed_forward_norm="post_attention_norm",
            gated_attention=True,
            linear_attention=True,
            fused_rates=True,
            predicts_ahead=True,
        ),
        Architecture("phi2", "Phi 1 to 2", norm=NormKind.LAYER, activation=Activation.GELU, gated=False, parallel=True),
        Architecture("phi3", "Phi 3 to 4", fused_qkv=True, fused_gate_up=True, windowed=True),
        Architecture("stablelm", "StableLM 3B, StableLM 2 1.6B", norm=NormKind.LAYER, parallel=True),
        Architecture("starcoder2", "StarCoder 2", norm=NormKind.LAYER, activation=Activation.GELU, gated=False),
        Architecture(
            "gpt2",
            "GPT-2",
            norm=NormKind.LAYER,
            activation=Activation.GELU,
            gated=False,
            fused_qkv=True,
            learned_positions=True,
        ),
    )
}


def architecture_of(name: str, tensors: Collection[str] = ()) -> Architecture:
    """The architecture of this name, in a file with these tensors; one that is not `known` for any other name."""
    return fitted(ARCHITECTURES.get(name) or Architecture(name, known=False), tensors)


def fitted(found: Architecture, tensors: Collection[str]) -> Architecture:
    """An architecture, with what these tensors say of it."""
    if found.optional_head_norm and tensor_name(0, "attn_q_norm") not in tensors:
        found = replace(found, head_norm=None)
    if found.fused_rates and tensor_name(0, "ssm_in") in tensors:
        found = replace(found, fused_gate=True)
    fused = tensor_name(0, "attn_qkv") in tensors and not found.linear_attention
    return replace(found, fused_qkv=True) if fused else found


def tensor_name(layer: int, matrix: str) -> str:
    """Name of a layer's matrix in a GGUF file."""
    return f"blk.{layer}.{matrix}.weight"
