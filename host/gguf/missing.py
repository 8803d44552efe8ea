"""What architectures that are refused would need."""

_ALIBI = "biases of scores that grow with distance (ALiBi)"
_CHANNELS = "state spaces with decays for each channel (Mamba-1)"
_ENCODER = "attention in both directions (an encoder)"
_DIFFUSION = "many tokens at once, in both directions (diffusion)"
_TIME_MIXING = "time mixing (RWKV)"

#: By ``general.architecture``, the first thing that is missing.
MISSING = {
    "gemma3n": "several streams of activations (AltUp), and low-rank matrices beside attention (Laurel)",
    "kimi-linear": "a delta rule with decays for each element of a key",
    "deepseek32": "attention to tokens that an indexer chooses",
    "glm-dsa": "attention to tokens that an indexer chooses",
    "apertus": "the activation xIELU",
    "bitnet": "norms within attention and feed-forward",
    "olmo": "LayerNorm without weights",
    "t5": "attention of a decoder to an encoder",
    **dict.fromkeys(("mpt", "bloom", "jais", "refact"), _ALIBI),
    **dict.fromkeys(("mamba", "jamba"), _CHANNELS),
    **dict.fromkeys(
        ("bert", "modern-bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "jina-bert-v2", "jina-bert-v3", "t5encoder"),
        _ENCODER,
    ),
    **dict.fromkeys(("dream", "llada", "llada-moe"), _DIFFUSION),
    **dict.fromkeys(("rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"), _TIME_MIXING),
}
