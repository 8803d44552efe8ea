"""Byte-pair encoding, by hand and against the `tokenizers` package."""

import numpy as np
import pytest

from tailrace.text.byte_pairs import ALPHABET, BytePairs
from tailrace.text.cuts import CUTS
from verification.unit.host.text.vocabularies import BPE_TOKENS, PAIRS
from verification.unit.host.tiny_models import byte_alphabet

IDS = {text: i for i, text in enumerate(BPE_TOKENS)}


def spelled(pairs: BytePairs, text: str) -> list[str]:
    return [BPE_TOKENS[i] for i in pairs.encode(text)]


def test_the_alphabet() -> None:
    assert byte_alphabet() == ALPHABET


def test_merges_stay_within_a_cut() -> None:
    assert spelled(BytePairs(IDS, PAIRS, CUTS["gpt-2"]), "xab cd the") == ["x", "ab", "Ġ", "cd", "Ġthe"]
    assert spelled(BytePairs(IDS, PAIRS, CUTS["gpt-2"]), "c'd") == ["c", "'", "d"]


def test_a_piece_that_is_a_token_needs_no_merges() -> None:
    assert spelled(BytePairs(IDS, ["Ġ t"], CUTS["gpt-2"]), " the") == ["Ġt", "h", "e"]
    assert spelled(BytePairs(IDS, ["Ġ t"], CUTS["llama-bpe"]), " the") == ["Ġthe"]


def test_what_merges_to_no_token_is_spelled_in_its_characters() -> None:
    pairs = BytePairs(IDS, [*PAIRS, "x y", "Ġ q"], CUTS["gpt-2"])
    assert spelled(pairs, "xy q") == ["x", "y", "Ġ", "q"]
    assert not pairs.lost


def test_the_first_of_equal_merges_counts_and_parts_may_be_spaces() -> None:
    ids = {text: i for i, text in enumerate(["a", "b", "c", " ", "bc", "ab", " a", "▁"])}
    raw = CUTS["gemma4"]
    assert BytePairs(ids, ["b c", "a b", "b c"], raw).encode("abc") == [ids["a"], ids["bc"]]
    assert BytePairs({**ids, "▁a": 9}, ["▁ a"], raw).encode(" a") == [9]


def test_characters_without_a_token_are_spelled_in_bytes() -> None:
    ids = {"a": 0, "<0xC3>": 1, "<0xA9>": 2, "\n\n": 3, "\n": 4}
    assert BytePairs(ids, [], CUTS["gemma4"]).encode("aé\n\na\n") == [0, 1, 2, 3, 0, 4]


def test_nothing_is_lost_between_many_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    from tailrace.text import byte_pairs

    monkeypatch.setattr(byte_pairs, "_REMEMBERED", 4)
    pairs = BytePairs(IDS, PAIRS, CUTS["gpt-2"])
    text = " ".join(f"the{i} ab" for i in range(50))
    assert pairs.encode(text) == BytePairs(IDS, PAIRS, CUTS["gpt-2"]).encode(text)


def test_as_the_tokenizers_package_does(rng: np.random.Generator) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    text = "the cat sat on the mat, and the hat that the cat had sat on was that of the man"
    trained = tokenizers.ByteLevelBPETokenizer()
    trained.train_from_iterator([text] * 3, vocab_size=320, min_frequency=1, show_progress=False)
    import json

    model = json.loads(trained._tokenizer.to_str())["model"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    ours = BytePairs(model["vocab"], merges, CUTS["gpt-2"])
    for _ in range(200):
        drawn = "".join(rng.choice(list("theca sdo'’é🎉\n\t12"), int(rng.integers(0, 30))))
        assert ours.encode(drawn) == trained.encode(drawn).ids
