"""Prompts that were computed elsewhere: files are read as they are, checked, and change nobody else's bits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("safetensors")

import torch

import tailrace
from tailrace import LanguageModel, LimitError, ModelError
from tailrace.device.decoder import Decoder
from tailrace.generation.first_layer import explained_distance, first_layer
from tailrace.generation.handover import read_handover
from tailrace.gguf.describe import import_model
from tailrace.gguf.file import open_model
from tailrace.huggingface.internals import cache_of
from tailrace.spec import handover as contract
from verification.unit.host.generation.handover_files import tensors_of, write_handover
from verification.unit.host.tiny_models import write_model
from verification.unit.host.transformers_models import make_model

PROMPT = [5, 9, 30, 7, 200, 31, 77, 8, 9, 10, 150, 3]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny.gguf", kv_heads=2, head_size=40, heads=4)


@pytest.fixture(scope="module")
def lm(model: Path) -> Any:
    with tailrace.load(model, context=64, batch=4) as opened:
        yield opened


@pytest.mark.parametrize(
    ("architecture", "sizes"),
    [("llama", {}), ("qwen2", {}), ("qwen3", {}), ("phi3", {"rotary": 0.5, "head_size": 16}), ("gpt2", {"kv_heads": 4}), ("mixtral", {}),
     ("smollm3", {}), ("granite", {}), ("hunyuan-dense", {}), ("olmo2", {"head_size": 16}), ("stablelm", {"head_size": 16}), ("gemma2", {}),
     ("llama", {"rope": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}})],
)  # fmt: skip
def test_the_first_layer_is_that_of_hugging_face(tmp_path: Path, architecture: str, sizes: dict[str, Any]) -> None:
    """An independent computation: a float32 model with the file's own weights; what is left is rounding."""
    reference = make_model(tmp_path / "m.gguf", architecture, **sizes)
    imported = import_model(open_model(tmp_path / "m.gguf"), 64)
    with torch.no_grad():
        held = cache_of(reference(torch.tensor([PROMPT]))).layers[0]
    for own, given in zip(first_layer(imported, PROMPT, range(len(PROMPT))), (held.keys, held.values), strict=True):
        assert np.abs(own - given[0].numpy()).max() <= 2e-5 * np.abs(own).max()
    assert 0.05 < explained_distance(imported) < 0.2


@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16])
def test_what_is_loaded_is_what_the_decoder_loads(tmp_path: Path, lm: LanguageModel, kind: Any) -> None:
    """Codes and scales are those of `Decoder.load_cache`, and so are the logits that follow."""
    imported = lm.engine.imported
    path = write_handover(tmp_path, imported, PROMPT, kind=kind)
    handover = read_handover(path, imported)
    assert (handover.tokens, handover.writer, handover.model) == (tuple(PROMPT), "test 1", "tiny")
    tensors = tensors_of(imported, PROMPT)
    decoder: Decoder = lm.decoder
    for layer in range(len(imported.description.layers)):
        keys, values = (tensors[name].to(kind).float().numpy() for name in contract.tensor_names(layer))
        decoder.load_cache(layer, 0, 0, keys, values)
    decoder.positions[0] = len(PROMPT)
    snapshot = decoder.snapshot(0)
    for held, own in zip(handover.snapshot.layers, snapshot.layers, strict=True):
        for field in ("key_scales", "key_codes", "value_scales", "value_codes"):
            assert np.array_equal(getattr(held, field), getattr(own, field))
    # The last token is computed again, from the cache of those before it.
    decoder.truncate(len(PROMPT) - 1, 0)
    expected = [int(decoder.step([PROMPT[-1], None, None, None])[0].argmax())]
    while len(expected) < 5:
        expected.append(int(decoder.step([expected[-1], None, None, None])[0].argmax()))
    decoder.reset()
    found = lm.load_handover(path).generate(max_tokens=5, logit_bias=None)
    assert found.reused_tokens == len(PROMPT) - 1
    assert list(found.tokens) == expected[: len(found.tokens)]


def test_nobody_else_has_other_bits(tmp_path: Path, lm: LanguageModel) -> None:
    """The same prompt, computed here: not from what was handed over; and the other way round."""
    endless: Any = {"max_tokens": 6, "logit_bias": {2: -1e5}}
    path = write_handover(tmp_path, lm.engine.imported, PROMPT)
    alone = lm.generate(PROMPT, **endless)
    handed = lm.load_handover(path).generate(**endless)
    assert handed.tokens != alone.tokens
    for _ in range(5):
        # More rounds than there are sequences: each has had each.
        own = lm.generate(PROMPT, **endless)
        assert own.tokens == alone.tokens
        session = lm.load_handover(path)
        again = session.generate(**endless)
        assert (again.tokens, again.reused_tokens) == (handed.tokens, len(PROMPT) - 1)
        # A session that is let go of while the device still holds it.
        del session


def test_a_session_remembers_where_its_prompt_is_from(tmp_path: Path, lm: LanguageModel) -> None:
    endless: Any = {"max_tokens": 6, "logit_bias": {2: -1e5}}
    session = lm.load_handover(write_handover(tmp_path, lm.engine.imported, PROMPT))
    fork = session.fork()
    expected = session.generate(**endless).tokens
    assert lm.generate(PROMPT, **endless).tokens != expected
    assert fork.fork().generate(**endless).tokens == expected
    fork.save(tmp_path / "session")
    assert lm.load_session(tmp_path / "session").generate(**endless).tokens == expected
    assert session.generate([7], max_tokens=1).reused_tokens == len(PROMPT) + 5


@pytest.mark.parametrize(
    ("change", "metadata", "text"),
    [
        ({}, {"format": "pt"}, "is no hand-over file: its metadata does not say tailrace-handover"),
        ({}, {"version": "9"}, "is a hand-over file of version '9', and 1 is read here: use one release of tailrace on both sides"),
        ({}, {"vocabulary": "7"}, "its vocabulary is '7', and the model's 288. Compute prompts with the model that this file was made of"),
        ({}, {"rope_magnitude": "2"}, "its magnitude of angles (RoPE) is '2', and the model's '1'"),
        ({"rope_frequencies": None}, {}, "its form of positions is 'learned', and the model's 'angles'"),
        ({"rope_frequencies": torch.ones(3, dtype=torch.float64)}, {}, "its number of angles (pairs of elements of a head that are rotated) is 3, and the model's 20"),
        ({"rope_frequencies": torch.ones(20, dtype=torch.float64)}, {}, "its angle of pair 1 (RoPE) is '1', and the model's '0.630957'"),
        ({"layers.1.keys": None}, {}, "is no hand-over file, or is damaged: it has no layers.1.keys"),
        ({"layers.2.keys": torch.zeros(1)}, {}, "it has more layers than the model's 2"),
        ({"layers.1.values": torch.zeros((2, 3, 40))}, {}, "damaged: layers.1.values is F32 (2, 3, 40), and not F32 or F16 or BF16 (2, 12, 40)"),
        ({"layers.1.values": torch.full((2, 12, 40), float("nan"))}, {}, "damaged: layers.1.values has something that is not a number"),
        ({"tokens": torch.tensor([1, 2, 300] * 4)}, {}, "damaged: its tokens are not one or more of the model's 288"),
        ({"tokens": torch.zeros((0,), dtype=torch.int64)}, {}, "damaged: its tokens are not one or more of the model's 288"),
        ({"tokens": torch.zeros(12)}, {}, "damaged: tokens is F32 (12,), and not I64 (12,)"),
        ({"tokens": None}, {}, "damaged: it has no tokens"),
    ],
)  # fmt: skip
def test_files_that_are_refused(tmp_path: Path, lm: LanguageModel, change: Any, metadata: dict[str, str], text: str) -> None:
    path = write_handover(tmp_path, lm.engine.imported, PROMPT, change, **metadata)
    with pytest.raises(ModelError) as refused:
        lm.load_handover(path)
    assert text in str(refused.value)
    assert str(path) in str(refused.value)


def changed_keys(imported: Any, what: str) -> dict[str, Any]:
    """What a wrong layout, a wrong RoPE or another prompt would hand over in the first layer."""
    keys, values = (tensors_of(imported, PROMPT)[name] for name in contract.tensor_names(0))
    match what:
        case "keys for values":
            keys, values = values, keys
        case "heads in another order":
            keys, values = keys.flip(0), values.flip(0)
        case "tokens moved by one":
            keys, values = keys.roll(1, 1), values.roll(1, 1)
        case "pairs of neighbours":
            keys = keys.unflatten(2, (2, 20)).transpose(2, 3).flatten(2)
        case "elements transposed":
            keys = keys.transpose(1, 2).reshape(keys.shape)
        case "other tokens":
            other = tensors_of(imported, [token + 1 for token in PROMPT])
            keys, values = (other[name] for name in contract.tensor_names(0))
    return dict(zip(contract.tensor_names(0), (keys.contiguous(), values.contiguous()), strict=True))


@pytest.mark.parametrize(
    "what",
    ["keys for values", "heads in another order", "tokens moved by one", "pairs of neighbours", "elements transposed", "other tokens"],
)  # fmt: skip
def test_another_order_is_found_out(tmp_path: Path, lm: LanguageModel, what: str) -> None:
    path = write_handover(tmp_path, lm.engine.imported, PROMPT, changed_keys(lm.engine.imported, what))
    with pytest.raises(
        ModelError, match=r"of its first layer are \d+\.\d% away from the model's, which explains at most 11\.6%"
    ):
        lm.load_handover(path)


def test_another_model_is_found_out(tmp_path: Path, lm: LanguageModel) -> None:
    other = import_model(open_model(write_model(tmp_path / "other.gguf", kv_heads=2, head_size=40, heads=4, seed=2)), 64)
    path = write_handover(tmp_path, other, PROMPT)
    with pytest.raises(ModelError, match="of its first layer are .* away from the model's"):
        lm.load_handover(path)


def test_what_is_no_such_file(tmp_path: Path, lm: LanguageModel) -> None:
    missing = tmp_path / "missing.safetensors"
    with pytest.raises(ModelError) as gone:
        lm.load_handover(missing)
    assert str(gone.value) == f"{missing} does not exist: it may have been used, or swept away; compute the prompt again"
    with pytest.raises(ModelError, match="is not a file: give the path of a hand-over file"):
        lm.load_handover(tmp_path)
    path = write_handover(tmp_path, lm.engine.imported, PROMPT)
    whole = path.read_bytes()
    for cut in (0, 7, 50, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(ModelError, match="is no hand-over file, or is damaged"):
            lm.load_handover(path)


def test_a_prompt_that_is_too_long(tmp_path: Path, lm: LanguageModel) -> None:
    path = write_handover(tmp_path, lm.engine.imported, [3] * 65)
    with pytest.raises(LimitError) as refused:
        lm.load_handover(path)
    assert str(refused.value) == (
        f"{path} has a prompt of 65 tokens, and the context has room for 64: load the model with a larger context"
    )


def test_states_are_refused(tmp_path: Path) -> None:
    make_model(tmp_path / "m.gguf", "qwen35")
    imported = import_model(open_model(tmp_path / "m.gguf"), 64)
    with pytest.raises(ModelError) as refused:
        read_handover(tmp_path / "any", imported)
    assert str(refused.value) == (
        f"{tmp_path / 'm.gguf'} has layers with states, and hand-over files hold keys and values alone: the device computes its"
        " prompts"
    )


@pytest.mark.parametrize(("architecture", "kind"), [("gemma3", "sliding windows"), ("llama4", "attention in chunks")])
def test_windows_are_refused(architecture: str, kind: str, tmp_path: Path) -> None:
    make_model(tmp_path / "m.gguf", architecture, window=16, layers=6)
    imported = import_model(open_model(tmp_path / "m.gguf"), 64)
    with pytest.raises(
        ModelError, match=rf"has {kind} \(layer 0\): prompts that were computed elsewhere are not taken for it$"
    ):
        read_handover(tmp_path / "any", imported)
