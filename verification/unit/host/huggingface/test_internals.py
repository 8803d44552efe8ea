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
