"""Cuts: every one keeps the whole text; some by hand."""

import hashlib

import numpy as np
import pytest

from tailrace.text.cuts import CUTS, owner


@pytest.mark.parametrize("name", sorted(CUTS))
def test_every_cut_keeps_the_text(name: str, rng: np.random.Generator) -> None:
    alphabet = list("aZéßдЖ日本ก한\u0301 '’\t\n\r\u00a0.,!/<|>$1234५🎉") + ["'S", "'ll", "  ", "\r\n", "\n\n"]
    for _ in range(60):
        text = "".join(rng.choice(alphabet, int(rng.integers(0, 40))))
        pieces = CUTS[name].pieces(text)
        assert "".join(pieces) == text
        assert all(pieces)


@pytest.mark.parametrize(
    ("name", "text", "pieces"),
    [
        ("gpt-2", "I'll 123  go", ["I", "'ll", " 123", " ", " go"]),
        ("smollm", "a 12", ["a", " ", "1", "2"]),
        ("llama-bpe", "1234 It'S\n\n ok", ["123", "4", " It", "'S", "\n\n", " ok"]),
        ("qwen2", "12 It's", ["1", "2", " It", "'s"]),
        ("qwen35", "n\u0303a", ["n\u0303a"]),
        ("qwen2", "n\u0303a", ["n", "\u0303a"]),
        ("tekken", "fooBar/\n", ["foo", "Bar", "/\n"]),
        ("gpt-4o", "fooBar's 1234", ["foo", "Bar's", " ", "123", "4"]),
        ("deepseek-v3", "日本 ab1234", ["日本", " ab", "123", "4"]),
        ("falcon", "a-1234", ["a", "-", "123", "4"]),
        ("gemma4", "a b\n\nc", ["a b", "\n\n", "c"]),
        ("tiny_aya", "1234567", ["1", "234", "567"]),
    ],
)
def test_by_hand(name: str, text: str, pieces: list[str]) -> None:
    assert CUTS[name].pieces(text) == pieces


def test_owners_are_known_to_the_last_merge() -> None:
    assert owner(["Ġ t", "h e"]) is None
    from tailrace.text import cuts

    assert set(cuts._OWNERS.values()) <= set(CUTS)
    assert all(len(digest) == 2 * hashlib.sha256().digest_size for digest in cuts._OWNERS)


def test_smollm2s_merges_are_smollms() -> None:
    from tailrace.gguf.header import Header
    from tailrace.models.fetch import resolve_model
    from tailrace.spec.errors import ToolError

    try:
        header = Header(resolve_model("smollm2"))
    except ToolError as error:
        pytest.skip(str(error))
    assert owner(header.texts("tokenizer.ggml.merges")) == header.text("tokenizer.ggml.pre") == "smollm"
