"""Model architectures: which tensors of a GGUF file are matrices of the decode step, and how they relate to Hugging Face's."""

from dataclasses import dataclass

from tailrace.spec.errors import ModelError

HEAD = "output.weight"
EMBEDDING = "token_embd.weight"


@dataclass(frozen=True)
class Architecture:
    """A transformer decoder.

    Attributes
    ----------
    name : str
        ``general.architecture`` of the GGUF file.
    groups : tuple of tuple of str
        The matrices of one layer, by the middle part of their names. Those in one group multiply the same vector.
    permuted : tuple of str
        Those whose rows llama.cpp's converter reorders within each head, from halves to pairs, for its own RoPE.
    """

    name: str
    groups: tuple[tuple[str, ...], ...] = (
        ("attn_q", "attn_k", "attn_v"),
        ("attn_output",),
        ("ffn_gate", "ffn_up"),
        ("ffn_down",),
    )
    permuted: tuple[str, ...] = ()

    @property
    def matrices(self) -> tuple[str, ...]:
        """All matrices of a layer."""
        return tuple(name for group in self.groups for name in group)


ARCHITECTURES: dict[str, Architecture] = {
    a.name: a
    for a in (
        Architecture("llama", permuted=("attn_q", "attn_k")),  # Llama, Mistral, SmolLM
        Architecture("qwen2"),
        Architecture("qwen3"),
    )
}


def architecture_of(name: str) -> Architecture:
    """The architecture of this name.

    Raises
    ------
    ModelError
        If it is not known, with those that are.
    """
    if name not in ARCHITECTURES:
        raise ModelError(f"the architecture {name!r} is not supported: choose a model of one of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]


def tensor_name(layer: int, matrix: str) -> str:
    """Name of a layer's matrix in a GGUF file."""
    return f"blk.{layer}.{matrix}.weight"
