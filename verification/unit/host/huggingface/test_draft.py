"""A model of transformers that drafts: its cache is cropped, and its logits are those of the text."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tailrace
from tailrace.spec.errors import ConfigError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tailrace import Outlook  # noqa: E402
from tailrace.huggingface.draft import TorchDraft  # noqa: E402
from verification.unit.host.generation.draft_models import Fixed  # noqa: E402
from verification.unit.host.transformers_models import make_config, make_model  # noqa: E402

#: Sums of floats depend on how many tokens a kernel has.
APART = 1e-4


@pytest.mark.parametrize(("architecture", "sizes"), [("llama", {}), ("gemma3", {"window": 6, "layers": 3})])
def test_logits_are_those_of_the_text(
    architecture: str, sizes: dict[str, Any], rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts of two places that grow, and lose what was wrong, also behind the end of a window."""
    monkeypatch.setattr("tailrace.huggingface.draft._CHUNK", 5)
    model = transformers.AutoModelForCausalLM.from_config(make_config(architecture, context=128, **sizes)).eval().float()
    draft = TorchDraft(model)
    texts = {0: [3], 1: [4]}
    for _ in range(12):
        for place, text in texts.items():
            kept = max(len(text) - int(rng.integers(0, 5)), 1)
            texts[place] = [*text[:kept], *(int(token) for token in rng.integers(3, 250, rng.integers(1, 9)))]
            missing = draft.outlook(place, texts[place]).missing
            assert 1 <= missing <= len(texts[place])
        for place, found in draft.logits(texts).items():
            with torch.no_grad():
                whole = model(torch.tensor([texts[place]]), use_cache=False).logits[0, -1].numpy()
            assert found.dtype == np.float32
            assert np.abs(found - whole).max() < APART * np.abs(whole).max()
            assert draft.outlook(place, [*texts[place], 5]) == Outlook(1, 1, 128 - len(texts[place]))


@pytest.mark.parametrize("batch", [1, 2])
def test_it_drafts_for_a_device(batch: int, tmp_path: Path) -> None:
    """The same weights in float32: it is nearly always right, and the answers are those without it."""
    model = make_model(tmp_path / "model.gguf", "llama", seed=1, context=96)
    prompts = ["hello", "x"][:batch]
    with tailrace.load(tmp_path / "model.gguf", batch=batch, draft=model) as lm:
        assert lm.engine.drafting is not None
        for options in ({}, {"temperature": 1.0, "seed": 3}):
            lm.engine.costs, lm.engine.drafting.costs = Fixed(1, 0.01), Fixed(0.01, 0)
            chosen: Any = {"max_tokens": 60, "ignore_ends": True, **options}
            plain = lm.generate(prompts, speculate=False, **chosen)
            found = lm.generate(prompts, **chosen)
            assert [c.tokens for c in found] == [c.tokens for c in plain]
            assert all(c.accepted_tokens > 0.8 * c.drafted_tokens > 20 for c in found)
        assert lm.engine.drafting.failure is None


def test_its_context_ends(rng: np.random.Generator) -> None:
    model = transformers.AutoModelForCausalLM.from_config(make_config("llama", context=32)).eval()
    draft = TorchDraft(model)
    assert draft.outlook(0, [3] * 32) == Outlook(32, 1, 1)
    assert draft.outlook(0, [3] * 33) == Outlook()
    assert draft.outlook(0, [3, 100_000]) == Outlook()


def test_what_keeps_a_state_is_refused() -> None:
    config = transformers.MambaConfig(vocab_size=300, hidden_size=32, num_hidden_layers=1, state_size=4)
    text = "MambaForCausalLM keeps a state that wrong drafts can't be taken back from: draft with another model"
    with pytest.raises(ConfigError, match=f"^{text}$"):
        TorchDraft(transformers.MambaForCausalLM(config))


def test_what_says_nothing_is_refused() -> None:
    text = "LlamaModel can't say what comes next: draft with a causal language model, as AutoModelForCausalLM"
    with pytest.raises(ConfigError, match=f"^{text}$"):
        TorchDraft(transformers.AutoModel.from_config(make_config("llama")))


def test_another_vocabulary_is_refused(tmp_path: Path) -> None:
    make_model(tmp_path / "model.gguf", "llama", seed=1, context=96)
    config = make_config("llama")
    config.vocab_size = 5000
    text = (
        "LlamaForCausalLM can't draft for this model, because its tokens are others: it has 5,000, and the model 301. Take a"
        " smaller model of the same family, which has the same tokenizer"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        tailrace.load(tmp_path / "model.gguf", draft=transformers.AutoModelForCausalLM.from_config(config))
