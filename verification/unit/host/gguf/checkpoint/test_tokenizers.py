"""Tokenizers of folders: those of Hugging Face's package cut the same texts into the same tokens."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from tailrace.gguf.file import open_model
from tailrace.text.tokenizer import Tokenizer as Ours
from verification.unit.host.gguf.checkpoint import test_damaged
from verification.unit.host.gguf.checkpoint.test_damaged import write

TEXTS, CHARACTERS = 300, "aabbcdeth  \n1é漢▁"
_LLAMA3 = r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
_CONTROL = ["<unk>", "<s>", "</s>"]


def blanks() -> Tokenizer:
    """With a space before each stretch of text, as Llama 2 had it at first."""
    tokenizer = with_byte_tokens()
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return tokenizer


def metaspace() -> Tokenizer:
    """With a space at the beginning alone."""
    tokenizer = with_byte_tokens()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    return tokenizer


def never() -> Tokenizer:
    tokenizer = with_byte_tokens()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    return tokenizer


def with_byte_tokens() -> Tokenizer:
    return Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))


def gpt2() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def llama3() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_LLAMA3), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer


def trained(tokenizer: Tokenizer, texts: list[str]) -> Tokenizer:
    """Trained on texts, and with control tokens of its own."""
    in_bytes = tokenizer.model.byte_fallback
    trainer = trainers.BpeTrainer(
        vocab_size=600, show_progress=False, special_tokens=[*_CONTROL, *(_BYTES if in_bytes else ())],
        initial_alphabet=[] if in_bytes else pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    file = json.loads(tokenizer.to_str())
    # Tokens of bytes are in the vocabulary, and are no control tokens.
    file["added_tokens"] = [token for token in file["added_tokens"] if token["content"] not in _BYTES]
    found = Tokenizer.from_str(json.dumps(file))
    found.add_special_tokens([AddedToken(text) for text in _CONTROL])
    return found


@pytest.mark.parametrize("make", [blanks, metaspace, never, gpt2, llama3], ids=lambda make: make.__name__)
def test_texts_are_cut_alike(
    make: Callable[[], Tokenizer], rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def text() -> str:
        return "".join(rng.choice(list(CHARACTERS), rng.integers(1, 40)))

    theirs = trained(make(), [text() for _ in range(2000)])
    size = theirs.get_vocab_size()
    monkeypatch.setitem(test_damaged.SHAPES, "model.embed_tokens", (size, 32))
    folder = write(tmp_path / "m", vocab_size=size)
    theirs.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"unk_token": "<unk>", "add_bos_token": False}))
    ours = Ours(open_model(folder))
    for n in range(TEXTS):
        # Every third with a control token within.
        asked = f"{text()}</s>{text()}" if n % 3 == 0 else text()
        assert ours.encode(asked) == theirs.encode(asked, add_special_tokens=False).ids, repr(asked)
