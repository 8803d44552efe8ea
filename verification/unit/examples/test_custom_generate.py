"""The folder that makes `generate` of a Hugging Face model decode on the device."""

import shutil
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from transformers import dynamic_module_utils  # noqa: E402

from verification.unit.host.transformers_models import make_model  # noqa: E402

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Path]:
    """A model, and the folder that it is saved in."""
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    model, folder = make_model(tmp_path / "m.gguf", "llama"), tmp_path / "model"
    model.save_pretrained(folder)
    return model, folder


def test_in_the_folder_of_a_model(saved: tuple[Any, Path]) -> None:
    """`from_pretrained` takes it from there."""
    model, folder = saved
    shutil.copytree(EXAMPLES / "custom_generate", folder / "custom_generate", ignore=shutil.ignore_patterns("__pycache__"))
    loaded = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    ids = torch.tensor([[5, 6, 7, 8]])
    calls: list[int] = []
    hook = loaded.register_forward_hook(lambda *_: calls.append(1))
    got = loaded.generate(input_ids=ids, max_new_tokens=4, do_sample=False)
    hook.remove()
    # The prompt, and nothing else.
    assert len(calls) == 1
    assert torch.equal(got, model.generate(ids, max_new_tokens=4, do_sample=False))


def test_for_a_model_that_is_there(saved: tuple[Any, Path]) -> None:
    model, _ = saved
    ids = torch.tensor([[5, 6, 7, 8]])
    arguments: dict[str, Any] = {
        "max_new_tokens": 4,
        "do_sample": False,
        "output_logits": True,
        "return_dict_in_generate": True,
    }
    plain = model.generate(ids, **arguments)
    custom: dict[str, Any] = {"custom_generate": str(EXAMPLES), "trust_remote_code": True, "quantise": "Q8_0", "context": 64}
    got = model.generate(ids, **custom, **arguments)
    assert torch.equal(got.sequences, plain.sequences)
    # It is the device that has computed them.
    assert not torch.equal(got.logits[3], plain.logits[3])
