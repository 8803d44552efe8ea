"""First tokens: operations, bytes and the way to the board, by hand."""

import pytest

from tailrace.plan.described import NAMES, cache_bytes, find_model
from tailrace.plan.prefill import on_device, on_gpu, too_large_for
from tailrace.plan.speed import Cores
from tailrace.spec.errors import ModelError
from verification.unit.host.plan.boards import BOARD, GPU, WIDE, shakespeare


def test_numbers_of_a_model() -> None:
    dense = find_model("Llama-3-8B", 64, 4096)
    # As published: 8.03 billion; the embedding is looked up.
    assert dense.parameters == 8_030_261_248
    assert dense.used == dense.read(5) == dense.parameters - 128256 * 4096 - (2 * 32 + 1) * 4096
    # Each token sees itself and those before it: 32 layers, 32 heads, keys and values of 128.
    assert dense.operations(3) == 2 * dense.used * 3 + 2 * 32 * 32 * 256 * 6
    experts = find_model("Qwen3-30B-A3B", 64, 4096)
    of_experts = 48 * 3 * 2048 * 768
    # 8 of 128 are used by each token.
    assert experts.read(1) == experts.used
    assert experts.read(2) - experts.read(1) == 8 * of_experts
    assert experts.read(16) == experts.read(100) == experts.used + 120 * of_experts


def test_a_window_is_all_that_is_seen() -> None:
    windows = find_model("Gemma-3-270M", 1024, 4096)
    whole, seen = 2.0 * windows.used * 1024, windows.operations(1024)
    all_seen = 2 * 18 * 4 * 512 * 1024 * 1025 / 2
    assert whole < seen < whole + all_seen


def test_a_gpu_takes_as_long_as_its_slower_side() -> None:
    model, cores = shakespeare(), Cores(shakespeare())
    core = cores.of(WIDE)
    first = on_gpu(model, core, WIDE, GPU, 33)
    # 32 tokens are computed there: reading the weights takes longer than their operations.
    assert first.prefill == 2 * model.read(32) / (100e9 * 0.5) > model.operations(32) / (10e12 * 0.5)
    assert first.hand_over == core.handed_over(33) / 1e6
    assert first.step == 1 / WIDE.rate(core.last(33))
    assert first.seconds == first.prefill + first.hand_over + first.step
    assert first.name == "small"
    device = on_device(core, WIDE, 33)
    assert (device.name, device.seconds) == ("device", 1 / WIDE.rate(core.prompt(33)))


def test_bytes_that_are_handed_over() -> None:
    core = Cores(model := shakespeare()).of(BOARD)
    layers = model.imported.description.layers
    attention = layers[0].attention
    # A key of 32 elements has a scale of 2 bytes, a value of a head one of 4.
    token = len(layers) * attention.kv_heads * (attention.head_size // 32 * 34 + attention.head_size + 4)
    assert core.handed_over(11) == 10 * token
    assert core.handed_over(1) == 0
    assert cache_bytes(core._image, 1) == token


def test_a_model_must_fit_the_gpu() -> None:
    assert too_large_for(shakespeare(), GPU) == ""
    text = "small: 16.1 GB with 16 bits a weight, 1.1 there"
    assert too_large_for(find_model("Llama-3-8B", 64, 4096), GPU) == text


def test_models_that_there_are_not() -> None:
    with pytest.raises(ModelError) as caught:
        find_model("llama-9", None, 4096)
    assert str(caught.value) == (
        f"there is no model llama-9: give a GGUF file, smollm2, shakespeare, or a shape: {', '.join(NAMES)}"
    )
    assert {"Llama-3-8B", "Qwen3.5-4B", "Llama-3.2-3B"} <= set(NAMES)
