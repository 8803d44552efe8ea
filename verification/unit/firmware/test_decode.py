"""Decode programs on the golden model against a decoder in float64."""

from dataclasses import replace

import numpy as np
import pytest

from tailrace.firmware.description import Activation, Attention, Description, Experts, FeedForward, Layer, Norm, NormKind
from tailrace.spec.config import Config

from .model import Model
from .reference import Reference

TINY = Config("test", 128, vector_blocks=64, buffer_entries=4096)
FOUR = Config("test", 256, right_hand_sides=4, vector_blocks=64, buffer_entries=8192)


def llama(layers: int = 2, **changes: object) -> Description:
    attention = Attention(heads=4, kv_heads=2, head_size=32, scale=32**-0.5, rotary_size=32)
    layer = Layer(attention, FeedForward(192, Activation.SILU))
    return replace(Description("llama", 64, 150, (layer,) * layers, Norm(NormKind.RMS, 1e-5)), **changes)


def compare(model: Model, tokens: int = 6, **options: bool) -> None:
    program = model.program(**options)
    references = [Reference(model.description, model.tensors) for _ in range(model.batch)]
    rng = np.random.default_rng(model.seed)
    for position in range(tokens):
        chosen = rng.integers(0, model.description.vocabulary, model.batch)
        logits, best = model.run(program, chosen.tolist(), [position] * model.batch)
        for s, reference in enumerate(references):
            expected = reference.step(int(chosen[s]), position)
            error = np.abs(logits[s] - expected).max() / np.abs(expected).max()
            assert error < 5e-3, f"seed {model.seed}, position {position}, sequence {s}: error {error:.2e}"
            assert best[s, 0] == logits[s].argmax()


def test_llama():
    compare(Model(llama(), TINY))
