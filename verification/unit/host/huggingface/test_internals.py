"""The parts of transformers that we rely on and that it does not document."""

import re
import warnings
from typing import Any

import pytest

from tailrace.spec.errors import ToolError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tailrace.huggingface import internals  # noqa: E402
from verification.unit.host.transformers_models import make_config  # noqa: E402


def test_this_transformers_is_as_we_expect_it() -> None:
    internals.check()


def test_a_change_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(self: Any, input_ids: Any, memory: Any) -> None: ...

    monkeypatch.setattr(transformers.LlamaForCausalLM, "forward", forward)
    text = (
        f"transformers {transformers.__version__} has changed the models' argument for the cache, the models' argument"
        " logits_to_keep: install a version that this package was tested with, 5.23 or 5.24"
    )
    with pytest.raises(ToolError, match=f"^{re.escape(text)}$"):
        internals.check()


@pytest.mark.parametrize("architecture", ["llama", "mixtral", "qwen2", "qwen3", "qwen3moe", "gemma3", "phi3", "gpt2"])
def test_every_model_takes_and_returns_a_cache_by_this_name(architecture: str) -> None:
    """Without the warning that the name is an old one."""
    model = transformers.AutoModelForCausalLM.from_config(make_config(architecture)).eval()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error", FutureWarning)
        cache = internals.cache_of(model(torch.tensor([[3, 4, 5]]), use_cache=True))
        model(torch.tensor([[6]]), **internals.with_cache(cache))
    assert cache.get_seq_length() == 4
    assert cache.layers[0].keys.shape[2] == 4


@pytest.mark.parametrize(
    ("architecture", "kept"),
    [
        ("llama", ["keys", "keys"]), ("qwen35", ["state", "keys"]), ("qwen3next", ["state", "keys"]),
        ("granitehybrid", ["state", "keys"]), ("nemotron_h", ["state", "keys"]), ("falcon-h1", ["both", "both"]),
        ("mamba2", ["state", "state"]), ("lfm2", ["state", "keys"]),
    ],
)  # fmt: skip
def test_what_each_layer_keeps(architecture: str, kept: list[str]) -> None:
    """Layers that keep nothing, as the feed-forwards of Nemotron-H, do not count; nor do states know how long a text is."""
    model = transformers.AutoModelForCausalLM.from_config(make_config(architecture)).eval()
    cache = transformers.DynamicCache(config=model.config)
    assert internals.length_of(cache) == 0
    with torch.no_grad():
        model(torch.tensor([[3, 4, 5]]), **internals.with_cache(cache))
    names = {(True, False): "keys", (False, True): "state", (True, True): "both"}
    layers = internals.layers_of(cache)
    assert [names[internals.has_keys(layer), internals.has_state(layer)] for layer in layers] == kept
    assert internals.length_of(cache) == (None if architecture == "mamba2" else 3)
    internals.check_cache_argument(model)


def test_a_model_with_another_name_for_its_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    model = transformers.AutoModelForCausalLM.from_config(make_config("mamba2"))
    monkeypatch.setattr(internals, "CACHE", "memory")
    with pytest.raises(ToolError) as caught:
        internals.check_cache_argument(model)
    assert str(caught.value) == (
        f"transformers {transformers.__version__} gives Mamba2ForCausalLM its cache by another name than other models: install 5.24"
    )
