"""Random models of every architecture: golden against Hugging Face's models, and the gateware against golden."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers")
from tailrace.gguf.describe import import_model
from tailrace.gguf.file import open_model
from verification.architectures import LIMIT, POSITIONS, Case, draw, draw_text, measure, open_decoder
from verification.system.twins import Twins
from verification.unit.host.architectures import ARCHITECTURES
from verification.unit.host.references import decode, divergence, reference_logits
from verification.unit.host.transformers_models import make_model

MEMORY = 48 << 20


def check(case: Case, device: str = "golden") -> None:
    measured = measure(case, device=device)
    assert len(measured.plain) == POSITIONS
    assert measured.passed, measured


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_are_those_of_transformers(architecture: str, seed: int) -> None:
    """64 positions, a random shape: the mean divergence is within its bounds, and decided tokens are equal."""
    check(draw(architecture, seed), "emulator")


@pytest.mark.slow
@pytest.mark.parametrize("shape", range(1, 7))
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_more_shapes(architecture: str, shape: int, seed: int) -> None:
    check(draw(architecture, 1000 * seed + shape))


#: What the reference has that the model in the file has not.
MISTAKES: dict[str, tuple[str, dict[str, Any]]] = {
    "another base of RoPE's angles": ("llama", {"rope": {"rope_theta": 20_000.0}}),
    "a linear scale of RoPE": ("qwen2", {"rope": {"rope_type": "linear", "factor": 1.5}}),
    "8 elements fewer are rotated": ("phi3", {"rotary": 0.5}),
    "a window that is one token longer": ("gemma3", {"window": 9}),
    "chunks that are one token longer": ("llama4", {"window": 9}),
    "scores that grow later": ("llama4", {"period": 4}),
    "an expert more": ("mixtral", {"used": 4}),
    "experts of another group": ("bailingmoe2", {"groups": 1}),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_found(mistake: str, tmp_path: Path) -> None:
    """The bounds are sharp: a model that differs a little is beyond them, and its keys and values are seen to be others."""
    architecture, changed = MISTAKES[mistake]
    sizes: dict[str, Any] = {"head_size": 32, "heads": 4, "kv_heads": 2, "vocabulary": 307, "used": 3}
    sizes |= {
        "phi3": {"hidden": 128, "rotary": 0.75}, "gemma3": {"layers": 6, "window": 8}, "llama4": {"layers": 4, "window": 8, "period": 3},
    }.get(architecture, {})  # fmt: skip
    sizes |= {"hidden": 128, "layers": 3, "groups": 2} if architecture == "bailingmoe2" else {}
    make_model(tmp_path / "model.gguf", architecture, **sizes)
    other = make_model(tmp_path / "other.gguf", architecture, **{**sizes, **changed})
    tokens = draw_text(Case(architecture, sizes, "base", 1), 24)
    logits, held = decode(open_decoder(tmp_path / "model.gguf", "base", 24), tokens)
    assert divergence(reference_logits(other, tokens), logits).mean() > LIMIT
    with pytest.raises(AssertionError, match=r"steps from the reference's own key or value"):
        reference_logits(other, tokens, held)


def twins(case: Case, path: Path, count: int, gateware: dict[str, Any] | None = None) -> None:
    """A prompt, steps with logits, and a run of tokens: golden and the gateware leave the same bytes everywhere in memory."""
    make_model(path, case.architecture, seed=case.seed, **case.sizes)
    tokens = draw_text(case, 6)
    imported = import_model(open_model(path), 64)
    with Twins(imported, case.config, MEMORY, gateware=gateware, tokens_per_doorbell=count) as both:
        both.prefill(tokens[:3])
        for token in tokens[3:-1]:
            assert np.isfinite(both.step(token)).all()
        both.run(tokens[-1], count)
        both.check_memory()


#: Which together have every command that a layer is made of; the others are their combinations.
KINDS = ("gpt-oss", "olmo3", "gemma2", "gemma4-a4b", "gemma4-e2b", "cohere2", "phi3", "gpt2", "bailingmoe2")
OTHER_KINDS = (
    "llama4", "mixtral", "gemma3", "gemma4", "hunyuan-dense", "granitemoe", "qwen2moe", "ernie4_5-moe", "glm4moe",
)  # fmt: skip


@pytest.mark.parametrize("architecture", [*KINDS, *(pytest.param(other, marks=pytest.mark.slow) for other in OTHER_KINDS)])
def test_gateware_equals_golden(architecture: str, seed: int, tmp_path: Path) -> None:
    drawn = draw(architecture, seed)
    twins(Case(architecture, drawn.sizes, "base", seed), tmp_path / "model.gguf", 3)


@pytest.mark.slow
def test_latent_attention_with_stalls(seed: int, tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"vocabulary": 307, "experts": 4, "used": 2, "latent": (96, 16, 32, 32)}
    stalls = {"stall_seed": seed, "stall_probability": 0.2}
    twins(Case("deepseek2", sizes, "base", seed), tmp_path / "model.gguf", 3, stalls)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["gemma4-a4b", "gemma4-e2b"])
def test_gateware_equals_golden_with_stalls(architecture: str, seed: int, tmp_path: Path) -> None:
    drawn = draw(architecture, seed)
    twins(Case(architecture, drawn.sizes, "base", seed), tmp_path / "m.gguf", 3, {"stall_seed": seed, "stall_probability": 0.2})


@pytest.mark.slow
@pytest.mark.parametrize("config", ["base,bus_width=256,right_hand_sides=2", "wide"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gateware_equals_golden_in_other_builds(architecture: str, config: str, seed: int, tmp_path: Path) -> None:
    """Other shapes, and longer runs, so that windows close."""
    drawn = draw(architecture, 1000 * seed + 1)
    twins(Case(architecture, drawn.sizes, config, seed), tmp_path / "model.gguf", 40)
