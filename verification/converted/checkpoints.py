"""Checkpoints of random models, as their makers publish them: what transformers' own differ from those in."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from verification.architectures import draw
from verification.unit.host.architectures import GEMMA4
from verification.unit.host.transformers_models import make_model

from .published import published
from .renamed import renamed

#: Architectures whose files llama.cpp reads with these sizes only: it takes head_size from elsewhere, or whole shares.
_HEAD_SIZES = {"qwen2moe": 32, "hunyuan-moe": 64, "glm4moe": 64, "bailingmoe2": 64, "minimax-m2": 64, "ernie4_5-moe": 64}
#: Those in which llama.cpp takes a head's share of the activations for its size.
_SHARES = ("granite", "granitemoe", "lfm2", "lfm2moe", "qwen2", "qwen2vl", "exaone4", "nemotron", "internlm2")
#: Those in which llama.cpp has no windows: of EXAONE 4 but in the model with 64 layers, of Phi 3 at all; Llama 4 has long ones.
_WITHOUT_WINDOWS = ("exaone4", "phi3", "llama4")
#: What the converter is told besides: layers that predict further tokens are none of the model's own.
OPTIONS = dict.fromkeys(("qwen35", "qwen35moe", "qwen3next"), ("--no-mtp",))


def sizes_of(architecture: str, seed: int) -> dict[str, Any]:
    """A random shape that the converter and llama.cpp can take, the same for the same seed."""
    sizes = dict(draw(architecture, seed).sizes, format="Q8_0")
    if architecture in _HEAD_SIZES:
        sizes["head_size"] = _HEAD_SIZES[architecture]
        if architecture == "ernie4_5-moe":
            sizes |= {"heads": 4, "kv_heads": 1, "shared": 1, "interval": 1}
        sizes["hidden"] = sizes["head_size"] * sizes["heads"]
    if architecture in _SHARES:
        sizes["hidden"] = sizes["head_size"] * sizes["heads"]
    if architecture in ("minimax-m2", "glm4", "glm4moe", "bailingmoe2"):
        sizes["rotary"] = 0.5
    if architecture in ("olmoe", "dots1", "phi2"):
        sizes["kv_heads"] = sizes["heads"]
    if architecture == "deepseek2-lite":
        sizes |= {"layers": 27, "dense": 26}
    if architecture in _WITHOUT_WINDOWS:
        del sizes["window"]
    if architecture == "llama4":
        # As in the published models, and left unsaid.
        sizes |= {"every": 4, "period": 8192}
    if architecture in ("gemma", "gemma2", "stablelm", "phi2"):
        # Files do not say it.
        sizes["rope"] = {"rope_theta": 1e4}
    if architecture == "lfm2moe":
        sizes["tied"] = True
    if architecture in ("gpt2", "phi2"):
        sizes["feed_forward"] = 4 * sizes["hidden"]
    if "kernel" in sizes:
        sizes["kernel"] = 4 if "linear" in sizes else 3
    if architecture.startswith("granitehybrid"):
        groups, _, state, _ = sizes["linear"]
        sizes |= {"hidden": 128, "heads": 4, "kv_heads": 2, "head_size": 32, "linear": (groups, 8, state, 32)}
    elif architecture.startswith("nemotron_h"):
        groups, _, state, _ = sizes["linear"]
        sizes["hidden"] = -(-sizes["hidden"] // 64) * 64
        sizes["linear"] = groups, groups * sizes["hidden"] // 32, state, 32
    elif architecture == "mamba2":
        groups, _, state, size = sizes["linear"]
        sizes["linear"] = groups, 2 * sizes["hidden"] // size, state, size
    elif "linear" in sizes and "rotary" in sizes:
        # Keys and values of one length.
        key_heads, value_heads, size, _ = sizes["linear"]
        sizes["linear"] = key_heads, value_heads, size, size
    return sizes


def save(folder: Path, architecture: str, seed: int) -> Any:
    """Make a model, and write its checkpoint; returns transformers' model."""
    sizes = sizes_of(architecture, seed)
    model = make_model(folder / "own.gguf", architecture, seed=seed, **sizes)
    checkpoint = folder / "checkpoint"
    model.save_pretrained(checkpoint)
    weights = checkpoint / "model.safetensors"
    save_file(renamed(architecture, load_file(weights), sizes["heads"], sizes["kv_heads"]), weights, {"format": "pt"})
    config = checkpoint / "config.json"
    config.write_text(json.dumps(published(architecture, json.loads(config.read_text()), sizes)))
    if architecture == "gemma3" or architecture in GEMMA4:
        # The converter counts the tokens that it finds there.
        tokens = {str(n): n for n in range(sizes["vocabulary"])}
        (checkpoint / "tokenizer.json").write_text(json.dumps({"model": {"vocab": tokens}, "added_tokens": []}))
    return model
