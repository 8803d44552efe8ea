"""SentencePiece with scores, by hand."""

from tailrace.text.sentencepiece import SentencePiece
from verification.unit.host.text.vocabularies import SPM, SPM_TOKENS

IDS = {text: i for i, text in enumerate(SPM_TOKENS)}


def spelled(text: str) -> list[str]:
    return [SPM_TOKENS[i] for i in SentencePiece(IDS, SPM["scores"], 0).encode(text)]


def test_the_best_pair_merges_first() -> None:
    # "bc" has a better score than "ab", so "abc" does not become "ab", "c".
    assert spelled("abc") == ["a", "bc"]
    assert spelled(" ab") == ["▁ab"]
    assert spelled("ab  ab") == ["ab", "▁", "▁ab"]


def test_what_is_no_token_is_spelled_in_bytes() -> None:
    assert spelled("é") == ["<0xC3>", "<0xA9>"]


def test_bytes_are_found_by_name_whatever_their_types() -> None:
    assert SentencePiece({"a": 0, "<0xC3>": 1, "<0xA9>": 2}, [0.0] * 3, None).encode("aé") == [0, 1, 2]
    assert SentencePiece({"a": 0, "<0xC3>": 1}, [0.0] * 2, 5).encode("aé") == [0, 5]
