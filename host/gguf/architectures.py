"""Model architectures: what a GGUF file of each leaves unsaid. Adding one that `Architecture` can express is one entry here."""

from dataclasses import dataclass

from tailrace.firmware.description import Activation, NormKind

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
    known : bool
        Whether a decode program can be built. Of other architectures only the linear layers run on the device.
    norm : NormKind
    activation : Activation
    gated : bool
    paired_rope : bool
        Whether RoPE rotates neighbours, as the rows of q and k then lie in the file, and not halves of a head.
    fused_qkv, fused_gate_up : bool
        Whether the rows of q, k and v, or those of gate and up, follow each other in one matrix.
    head_norm, post_norms : bool
        See `tailrace.firmware.description`.
    scaled_embedding : bool
        Whether embeddings are multiplied with the square root of their length.
    learned_positions : bool
    windowed : bool
        Whether layers have a sliding window if the header names one.
    global_every : int
        Every n-th layer has no window; 0: all have one.
    local_rope_base : float or None
        Base of RoPE's angles in windowed layers, if it differs from that of the others.
    normalised_experts : bool
        Whether the weights of the chosen experts add up to 1.
    capped_logits : bool
        Whether logits are capped if the header says so.
    """

    name: str
    known: bool = True
    norm: NormKind = NormKind.RMS
    activation: Activation = Activation.SILU
    gated: bool = True
    paired_rope: bool = False
    fused_qkv: bool = False
    fused_gate_up: bool = False
    head_norm: bool = False
    post_norms: bool = False
    scaled_embedding: bool = False
    learned_positions: bool = False
    windowed: bool = False
    global_every: int = 0
    local_rope_base: float | None = None
    normalised_experts: bool = True
    capped_logits: bool = False

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The matrices of a layer without experts, by the middle part of their names; a group multiplies the same vector."""
        attention = ("attn_qkv",) if self.fused_qkv else ("attn_q", "attn_k", "attn_v")
        inner = ("ffn_gate", "ffn_up") if self.gated and not self.fused_gate_up else ("ffn_up",)
        return attention, ("attn_output",), inner, ("ffn_down",)

    @property
    def permuted(self) -> tuple[str, ...]:
        """Matrices whose rows llama.cpp's converter reorders within each head, from halves to pairs."""
        return ("attn_q", "attn_k") if self.paired_rope else ()

    @property
    def matrices(self) -> tuple[str, ...]:
        """All matrices of a layer without experts."""
        return tuple(name for group in self.groups for name in group)


ARCHITECTURES: dict[str, Architecture] = {
    a.name: a
    for a in (
        # Llama, Mistral, SmolLM and, with experts, Mixtral.
        Architecture("llama", paired_rope=True),
        Architecture("qwen2"),
        Architecture("qwen3", head_norm=True),
        Architecture("qwen3moe", head_norm=True),
        Architecture(
            "gemma3",
            activation=Activation.GELU,
            head_norm=True,
            post_norms=True,
            scaled_embedding=True,
            windowed=True,
            global_every=6,
            local_rope_base=10_000.0,
            capped_logits=True,
        ),
        Architecture("phi3", fused_qkv=True, fused_gate_up=True, windowed=True),
        Architecture(
            "gpt2",
            norm=NormKind.LAYER,
            activation=Activation.GELU,
            gated=False,
            fused_qkv=True,
            learned_positions=True,
        ),
    )
}

#: Architectures without a description whose linear layers run one by one, with the rest in PyTorch.
BY_OPERATIONS = ("stablelm", "starcoder2")


def architecture_of(name: str) -> Architecture:
    """The architecture of this name; one that is not `known` for any other name."""
    return ARCHITECTURES.get(name) or Architecture(name, known=False)


def tensor_name(layer: int, matrix: str) -> str:
    """Name of a layer's matrix in a GGUF file."""
    return f"blk.{layer}.{matrix}.weight"
