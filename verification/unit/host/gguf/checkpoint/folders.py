"""Folders with small random models, as transformers saves them."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from verification.unit.host.tiny_models import SPECIAL, byte_alphabet
from verification.unit.host.transformers_models import make_model


def save(folder: Path, model: Any, dtype: str = "float32", **options: Any) -> Path:
    """Save a model of transformers with a byte-level tokenizer; `options`: of `save_pretrained`."""
    model.to(getattr(torch, dtype)).save_pretrained(folder, **options)
    model.float()
    write_tokenizer(folder, model.config.vocab_size)
    return folder


def make_folder(folder: Path, architecture: str, dtype: str = "float32", **sizes: Any) -> tuple[Any, Path, Path]:
    """A random model of an architecture: as transformers has it, its folder, and the GGUF file with the same weights."""
    file = folder.with_suffix(".gguf")
    model = make_model(file, architecture, format="F32", **sizes)
    return model, save(folder, model, dtype), file


def write_tokenizer(folder: Path, vocabulary: int) -> None:
    """The tokenizer that `make_model` gives its files."""
    tokens = [*SPECIAL, *byte_alphabet(), "ab"]
    tokens += [f"<unused{i}>" for i in range(vocabulary - len(tokens))]
    tokenizer = Tokenizer(models.BPE({text: n for n, text in enumerate(tokens[:vocabulary])}, [("a", "b")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([text for text in tokens[:vocabulary] if text.startswith("<") and len(text) > 1])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"bos_token": SPECIAL[1], "eos_token": SPECIAL[2], "add_bos_token": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
