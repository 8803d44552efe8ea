"""States and lists in codes, beside transformers' own rule."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from verification.trained.state_widths import coded
from verification.unit.host.references import divergence, reference_logits
from verification.unit.host.transformers_models import make_model


def test_wide_codes_are_the_rule_itself(rng: np.random.Generator, tmp_path: Path) -> None:
    """Over two folds; the fewer bits, the further away."""
    model = make_model(tmp_path / "m.gguf", "qwen35", layers=2, hidden=64, linear=(1, 2, 32, 32), every=2)
    tokens = rng.integers(0, 300, 140).tolist()
    expected, found = reference_logits(model, tokens), []
    for bits in (24, 16, 12, 8):
        with coded(bits):
            found.append(divergence(expected, reference_logits(model, tokens)).mean())
    assert found == sorted(found)
    assert found[0] < 1e-9
    assert found[-1] > 1e-7
    assert np.array_equal(reference_logits(model, tokens), expected)
