"""Tables of angles, against those of transformers."""

from typing import Any

import numpy as np
import pytest

from tailrace.gguf.rope import Rope, Yarn

SIZE, BASE, ORIGINAL = 64, 10_000.0, 256


def test_plain_angles() -> None:
    table = Rope(4, 100.0).table(3, 2)
    angles = np.array([[3, 0.3], [4, 0.4]])
    assert table.dtype == np.float32
    assert np.array_equal(table, np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32))


def test_divisors_and_magnitude() -> None:
    table = Rope(4, 100.0, (2.0, 0.5), 3.0).table(2, 1)
    angles = np.array([1.0, 0.4])
    assert np.allclose(table, 3 * np.concatenate([np.cos(angles), np.sin(angles)])[None], rtol=1e-6)


@pytest.mark.parametrize(
    ("parameters", "rope"),
    [
        ({"rope_type": "linear", "factor": 4.0}, Rope(SIZE, BASE, (4.0,) * (SIZE // 2))),
        (
            {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": ORIGINAL},
            Rope(SIZE, BASE, magnitude=0.1 * np.log(8.0) + 1.0, yarn=Yarn(8.0, ORIGINAL)),
        ),
        (
            {
                "rope_type": "yarn",
                "factor": 2.0,
                "original_max_position_embeddings": ORIGINAL,
                "beta_fast": 16.0,
                "beta_slow": 2.0,
            },
            Rope(SIZE, BASE, magnitude=0.1 * np.log(2.0) + 1.0, yarn=Yarn(2.0, ORIGINAL, 16.0, 2.0)),
        ),
        (
            {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": ORIGINAL, "truncate": False},
            Rope(SIZE, BASE, magnitude=0.1 * np.log(32.0) + 1.0, yarn=Yarn(32.0, ORIGINAL, whole_pairs=False)),
        ),
    ],
)
def test_variants_are_those_of_transformers(parameters: dict[str, Any], rope: Rope) -> None:
    pytest.importorskip("transformers")
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = LlamaConfig(
        hidden_size=2 * SIZE,
        num_attention_heads=2,
        head_dim=SIZE,
        max_position_embeddings=2048,
        rope_parameters={"rope_theta": BASE, **parameters},
    )
    frequencies, magnitude = ROPE_INIT_FUNCTIONS[parameters["rope_type"]](config, "cpu")
    assert np.allclose(rope.frequencies(), frequencies.numpy(), rtol=1e-6)
    assert rope.magnitude == pytest.approx(magnitude)
