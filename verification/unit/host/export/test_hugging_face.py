"""Folders for Hugging Face's tools: they hold the model of the file, and their `generate` is the device's."""

import json
import os
import re
import shutil
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tailrace.command.cli import main
from tailrace.gguf.describe import NoDescriptionError
from tailrace.gguf.file import open_model
from tailrace.image.geometry import Geometry
from tailrace.spec.config import parse_config
from tailrace.spec.errors import ModelError, TailraceError
from verification.unit.host.tiny_models import split, write_model, write_undescribed

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from transformers import dynamic_module_utils  # noqa: E402

from tailrace.export.hugging_face import MARK, export_model  # noqa: E402
from tailrace.huggingface import offload  # noqa: E402
from tailrace.huggingface.loader import load_model  # noqa: E402
from tailrace.huggingface.placement import make_plan  # noqa: E402
from verification.unit.host.transformers_models import make_model  # noqa: E402

IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11]])
ARGUMENTS: dict[str, Any] = {
    "max_new_tokens": 4,
    "do_sample": False,
    "output_logits": True,
    "return_dict_in_generate": True,
}


@pytest.fixture(autouse=True)
def _own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    make_model(folder / "m.gguf", "llama", format="Q4_1")
    export_model(folder / "m.gguf", folder / "hf")
    return folder / "hf"


def loaded(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)


def by_hand(folder: Path, device: str = "emulator") -> Any:
    """What the device answers after the same prompt, without any folder."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    with offload(model, device, gguf=folder / "m.gguf") as offloaded:
        return model.generate(IDS, custom_generate=offloaded, **ARGUMENTS)


def same(got: Any, expected: Any) -> bool:
    return torch.equal(got.sequences, expected.sequences) and all(map(torch.equal, got.logits, expected.logits))


# What is in the folder.


@pytest.mark.parametrize(
    ("architecture", "sizes"),
    [
        *((name, {}) for name in ("llama", "mixtral", "qwen2", "qwen3moe", "gpt2")),
        ("phi3", {"head_size": 16, "rotary": 0.5, "window": 8}),
        ("gemma3", {"layers": 6, "rope": {"rope_type": "linear", "factor": 8.0}}),
        ("llama", {"tied": True, "rope": {"rope_type": "linear", "factor": 4.0}}),
        ("qwen3", {"rope": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}}),
    ],
)
def test_it_is_the_model_of_the_file(tmp_path: Path, architecture: str, sizes: dict[str, Any]) -> None:
    """Whoever knows nothing but the folder has the same weights to the last bit, and computes the same logits.

    Angles of RoPE that were scaled come from a formula there, and from the file here: they are as near as float32 is.
    """
    original = make_model(tmp_path / "m.gguf", architecture, **sizes)
    export_model(tmp_path / "m.gguf", tmp_path / "hf")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    assert type(again) is type(original)
    host = _host(tmp_path / "m.gguf")
    assert again.state_dict().keys() == host.state_dict().keys()
    assert all(torch.equal(weight, host.state_dict()[name]) for name, weight in again.state_dict().items())
    with torch.no_grad():
        found, expected = again(IDS).logits, host(IDS).logits
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_factors_of_frequencies(tmp_path: Path) -> None:
    """As Llama 3.1 has them: a list that no formula has made."""
    factors = np.geomspace(1, 8, 16).astype(np.float32)
    write_model(tmp_path / "m.gguf", extra={"rope_freqs.weight": factors}, context=64)
    export_model(tmp_path / "m.gguf", tmp_path / "hf")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    with torch.no_grad():
        found, expected = again(IDS).logits, _host(tmp_path / "m.gguf")(IDS).logits
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def _host(path: Path) -> Any:
    return load_model(make_plan(open_model(path), Geometry.of_config(parse_config("wide"))), None, "cpu").model


def test_what_lies_there(exported: Path) -> None:
    names = {path.name for path in exported.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "m.gguf"} <= names
    # A link, not a second copy.
    assert os.path.samefile(exported / "m.gguf", exported.parent / "m.gguf")
    mask = os.umask(0)
    os.umask(mask)
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask for path in exported.glob("*.*s*") if path.suffix != ".gguf")
    assert json.loads((exported / "generation_config.json").read_text())["eos_token_id"] == [2]
    assert transformers.AutoTokenizer.from_pretrained(exported).encode("ab") == [
        *transformers.AutoTokenizer.from_pretrained(str(exported), gguf_file="m.gguf").encode("ab")
    ]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_other_types(tmp_path: Path, dtype: str) -> None:
    make_model(tmp_path / "m.gguf", "llama")
    export_model(tmp_path / "m.gguf", tmp_path / "hf", dtype=dtype)
    model = loaded(tmp_path / "hf")
    assert model.dtype is getattr(torch, dtype)
    assert model.generate(input_ids=IDS, **ARGUMENTS).sequences.shape == (1, 11)


# What `generate` does there.


def test_generate_is_the_devices(exported: Path) -> None:
    """With the blocks of the file, by keyword and by position, alone and as another model's custom_generate."""
    expected = by_hand(exported)
    model = loaded(exported)
    calls: list[int] = []
    hook = model.register_forward_hook(lambda *_: calls.append(1))
    assert same(model.generate(input_ids=IDS, **ARGUMENTS), expected)
    hook.remove()
    # The prompt, and nothing else.
    assert len(calls) == 1
    assert same(model.generate(IDS, **ARGUMENTS), expected)
    other = transformers.AutoModelForCausalLM.from_pretrained(exported)
    assert same(other.generate(IDS, custom_generate=str(exported), trust_remote_code=True, **ARGUMENTS), expected)
    # And it is not what PyTorch computes.
    assert not torch.equal(other.generate(IDS, **ARGUMENTS).logits[3], expected.logits[3])


def test_other_devices_and_more_sequences(exported: Path) -> None:
    model, expected = loaded(exported), by_hand(exported)
    assert same(model.generate(IDS, device="golden", **ARGUMENTS), expected)
    found = model.generate(IDS.repeat(3, 1), **ARGUMENTS)
    assert torch.equal(found.sequences, expected.sequences.repeat(3, 1))
    assert same(model.generate(IDS, **ARGUMENTS), expected)


def test_a_folder_that_was_moved(tmp_path: Path) -> None:
    make_model(tmp_path / "m.gguf", "llama")
    export_model(tmp_path / "m.gguf", tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    model = loaded(tmp_path / "new")
    assert model.generate(IDS, **ARGUMENTS).sequences.shape == (1, 11)
    (tmp_path / "new" / "m.gguf").unlink()
    text = (
        f"m.gguf is neither in {tmp_path / 'new'} nor in {tmp_path / 'old'}: call generate with gguf=, the path of that file, or"
        " with quantise='Q8_0'"
    )
    with pytest.raises(ModelError, match=f"^{re.escape(text)}$"):
        model.generate(IDS, **ARGUMENTS)
    assert model.generate(IDS, quantise="Q8_0", **ARGUMENTS).sequences.shape == (1, 11)


# What is refused.


def test_what_is_there_stays(exported: Path, tmp_path: Path) -> None:
    model = exported / "m.gguf"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note").write_text("precious")
    before = sorted(path.name for path in exported.iterdir())
    for target, text in (
        (tmp_path / "mine", "is not empty, and not an earlier export: choose another folder"),
        (exported, "holds an earlier export: replace it with --force, or choose another folder"),
    ):
        with pytest.raises(TailraceError, match=f"^{re.escape(f'{target} {text}')}$"):
            export_model(model, target)
    assert (tmp_path / "mine" / "note").read_text() == "precious"
    assert sorted(path.name for path in exported.iterdir()) == before


def test_an_earlier_export_is_replaced(tmp_path: Path) -> None:
    make_model(tmp_path / "m.gguf", "llama")
    export_model(tmp_path / "m.gguf", tmp_path / "hf")
    (tmp_path / "hf" / "old").write_text("left over")
    # From the file that lies in the folder itself.
    export_model(tmp_path / "hf" / "m.gguf", tmp_path / "hf", replace=True)
    assert not (tmp_path / "hf" / "old").exists()
    assert (tmp_path / "hf" / MARK).is_file()
    assert (tmp_path / "hf" / "m.gguf").stat().st_size == (tmp_path / "m.gguf").stat().st_size


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_model(tmp_path / "m.gguf", "llama")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=3 << 20))
    text = f"{tmp_path} has 3 MiB free, and 64 MiB are needed: choose another folder, or half the size with --dtype bfloat16"
    with pytest.raises(TailraceError, match=f"^{re.escape(text)}$"):
        export_model(tmp_path / "m.gguf", tmp_path / "hf")
    assert not (tmp_path / "hf").exists()


def test_models_that_are_refused(tmp_path: Path) -> None:
    make_model(tmp_path / "m.gguf", "llama")
    first = split(tmp_path / "m.gguf", tmp_path / "part", 2)[0]
    text = f"{first} is in 2 parts: join them with llama.cpp's `llama-gguf-split --merge`, so that the folder has one file"
    with pytest.raises(ModelError, match=f"^{re.escape(text)}$"):
        export_model(first, tmp_path / "hf")
    # No description, so that it can't be decoded as a whole.
    with pytest.raises(NoDescriptionError):
        export_model(write_undescribed(tmp_path / "u.gguf"), tmp_path / "hf")
    path = write_model(tmp_path / "s.gguf", "granite")
    text = (
        f"{path} has the architecture granite, and folders for Hugging Face's tools are written for llama, qwen2, qwen3, qwen3moe,"
        " gemma3, phi3, gpt2: use `tailrace serve`, which takes it as it is"
    )
    with pytest.raises(ModelError, match=f"^{re.escape(text)}$"):
        export_model(path, tmp_path / "hf")
    path = write_model(tmp_path / "r.gguf", metadata={"llama.rope.dimension_count": 16})
    with pytest.raises(ModelError, match=r"is not what transformers computes: layers\.0\.attention\.rotary_size is 16"):
        export_model(path, tmp_path / "hf")
    assert not (tmp_path / "hf").exists()


def test_the_command(tmp_path: Path) -> None:
    make_model(tmp_path / "m.gguf", "llama")
    run = CliRunner().invoke(main, ["export-hf", str(tmp_path / "m.gguf"), str(tmp_path / "hf")])
    assert run.exit_code == 0, run.output
    assert run.stdout == f"{tmp_path / 'hf'}: transformers serve {tmp_path / 'hf'} --trust-remote-code --device cpu\n"
    run = CliRunner().invoke(main, ["export-hf", str(tmp_path / "m.gguf"), str(tmp_path / "hf")])
    assert run.exit_code == 1
    assert "holds an earlier export: replace it with --force, or choose another folder" in run.stderr
