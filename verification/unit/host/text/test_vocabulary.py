"""Tables of tokenizers: what is missing is certain, noted or refused, and so is what contradicts itself."""

import re
from pathlib import Path
from typing import Any

import pytest

from tailrace.spec.errors import ModelError
from tailrace.text.cuts import CUTS
from tailrace.text.vocabulary import read_vocabulary
from verification.unit.host.text.vocabularies import (
    BPE,
    BPE_TOKENS,
    BYTE,
    CONTROL,
    NORMAL,
    PAIRS,
    SPM,
    SPM_TOKENS,
    UNKNOWN,
    USER_DEFINED,
    model_with,
    swapped,
    with_tokens,
)  # fmt: skip


@pytest.mark.parametrize("base", [BPE, SPM], ids=["bpe", "spm"])
def test_whole_tables_have_no_notes(base: dict[str, Any], tmp_path: Path) -> None:
    v = read_vocabulary(model_with(tmp_path, base))
    assert v.notes == []
    assert v.ends == {2}
    assert v.special["bos"] == 1
    assert v.start == (1 if base is SPM else None)
    assert v.space_prefix is (base is SPM)


NAMES = "'gpt2', 'llama', 'gemma4'"


@pytest.mark.parametrize(
    ("base", "changes", "text"),
    [
        (BPE, {"model": "t5"}, f"has a tokenizer of the kind 't5', and only {NAMES} are known here: --path operations uses that of transformers"),
        (BPE, {"model": None}, "has no tokenizer: convert the model again"),
        (BPE, {"tokens": None, "token_type": None}, "has no tokenizer: convert the model again"),
        (BPE, {"model": "llama"}, "has a tokenizer without scores: convert the model again"),
        (BPE, {"merges": None}, "has a tokenizer of the kind 'gpt2' without merges: convert the model again"),
        (BPE, {"pre": "klingon"}, "cuts text by the rules of 'klingon', which are not known here: --path operations uses those of transformers. "
                                  f"Known are {', '.join(sorted(CUTS))}."),
        (BPE, {"token_type": [3] * 5}, "is corrupt: it has 265 tokens, but tokenizer.ggml.token_type has 5 values. Convert the model again."),
        (SPM, {"scores": [0.0] * 273}, "is corrupt: it has 274 tokens, but tokenizer.ggml.scores has 273 values. Convert the model again."),
        (SPM, {"rows": 273}, "is corrupt: its vocabulary has 274 tokens, but token_embd.weight has 273 rows. Convert the model again."),
        (BPE, {"bos_token_id": "one"}, "can't be used: tokenizer.ggml.bos_token_id in its header is 'one', and a whole number from -2147483648 to 4294967296 is expected. Convert the model again."),
        (BPE, {"rows": 5, "tokens": 5}, "can't be used: tokenizer.ggml.tokens in its header is 5, and an array of texts is expected. Convert the model again."),
    ],
)  # fmt: skip
def test_refused(base: dict[str, Any], changes: dict[str, Any], text: str, tmp_path: Path) -> None:
    model = model_with(tmp_path, base, **{"rows": None, **changes})
    with pytest.raises(ModelError, match=f"^{re.escape(f'{model.path} {text}')}$"):
        read_vocabulary(model)


def test_without_the_name_of_a_cut_llama_cpps_is_taken_and_said(tmp_path: Path) -> None:
    v = read_vocabulary(model_with(tmp_path, BPE, pre=None))
    assert v.cut_name == "default"
    (note,) = v.notes
    assert note == (
        "tokenizer.ggml.pre is missing, and the merges are not known here: text is cut by the rules that llama.cpp takes then,"
        " WHICH MAY NOT BE THE MODEL'S, and answers may be worse. Convert the model again."
    )


def test_known_merges_tell_their_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    from tailrace.text import cuts

    monkeypatch.setitem(cuts._OWNERS, hashlib.sha256("\n".join(PAIRS).encode()).hexdigest(), "llama-bpe")
    v = read_vocabulary(model_with(tmp_path, BPE, pre=None))
    assert v.notes == ["tokenizer.ggml.pre is missing: text is cut by the rules of 'llama-bpe', whose merges these are"]
    assert v.cut is CUTS["llama-bpe"]
    assert v.start == 1  # as Llama 3's does


@pytest.mark.parametrize(
    "name", ["<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<EOT>", "<|endoftext|>", "<|fim_pad|>", "[EOS]"]
)
@pytest.mark.parametrize("kind", [NORMAL, USER_DEFINED, CONTROL])
def test_well_known_ends_are_ends_whatever_their_type(name: str, kind: int, tmp_path: Path) -> None:
    base = with_tokens({**BPE, "tokens": swapped(BPE_TOKENS, {2: "<extra>"})}, (name, kind))
    v = read_vocabulary(model_with(tmp_path, base, eos_token_id=1))
    added = len(BPE_TOKENS)
    assert v.ends == {1, added}
    assert v.types[added] == CONTROL
    noted = (
        f"{added} '{name}': not typed as control tokens, but their names are those of control tokens, so they are taken as such"
    )
    assert v.notes == ([] if kind == CONTROL else [noted])


def test_ends_that_the_header_names(tmp_path: Path) -> None:
    assert read_vocabulary(model_with(tmp_path, BPE, eos_token_id=9, eot_token_id=7, eom_token_id=1)).ends == {1, 2, 7, 9}


def test_an_end_that_only_ends_a_part(tmp_path: Path) -> None:
    harmony = with_tokens(BPE, ("<|end|>", CONTROL), ("<|return|>", CONTROL), ("<|call|>", CONTROL), ("<|message|>", CONTROL))
    v = read_vocabulary(model_with(tmp_path, harmony))
    end = len(BPE_TOKENS)
    assert v.ends == {2, end + 1, end + 2}
    assert (v.types[end], v.types[end + 3]) == (USER_DEFINED, USER_DEFINED)
    word = with_tokens(BPE, ("</s>", NORMAL), ("<|tool_response>", CONTROL))
    v = read_vocabulary(model_with(tmp_path, word))
    assert v.ends == {2, end + 1}
    assert v.types[end] == NORMAL


def test_no_end_at_all(tmp_path: Path) -> None:
    v = read_vocabulary(model_with(tmp_path, BPE, tokens=swapped(BPE_TOKENS, {2: "<x>"}), eos_token_id=None))
    assert v.notes == ["no token ends an answer: it goes on to the last token that was asked for"]


@pytest.mark.parametrize("index", [99999, -1, (1 << 32) - 1])
def test_special_tokens_out_of_range_are_left_out(index: int, tmp_path: Path) -> None:
    v = read_vocabulary(model_with(tmp_path, BPE, eos_token_id=index, padding_token_id=index))
    assert v.ends == {2}
    assert [
        f"tokenizer.ggml.{part}_token_id is {index:,}, but there are 265 tokens: it is left out" for part in ("eos", "padding")
    ] == v.notes
    assert read_vocabulary(model_with(tmp_path, BPE, bos_token_id=index, add_bos_token=True)).notes[1] == (
        "text should begin with a begin-of-text token, but the header names none: it begins without"
    )
    # SentencePiece has them where they always are.
    v = read_vocabulary(model_with(tmp_path, SPM, bos_token_id=index, eos_token_id=None))
    assert (v.start, v.ends) == (1, {2})
    assert v.notes == [
        f"tokenizer.ggml.bos_token_id is {index:,}, but there are 274 tokens: it is left out",
        "tokenizer.ggml.bos_token_id names no token: it is 1 '<s>', as usual",
        "tokenizer.ggml.eos_token_id names no token: it is 2 '</s>', as usual",
    ]


def test_no_types_at_all(tmp_path: Path) -> None:
    v = read_vocabulary(model_with(tmp_path, SPM, token_type=None))
    assert v.types == SPM["token_type"]
    assert v.notes == [
        "tokenizer.ggml.token_type is missing: bytes and special tokens are told by their names",
        "1 '<s>', 2 '</s>': not typed as control tokens, but the header names them, so they are taken as such",
    ]
    v = read_vocabulary(model_with(tmp_path, BPE, token_type=None, unknown_token_id=0))
    assert v.types == BPE["token_type"]


def test_types_that_can_not_be(tmp_path: Path) -> None:
    v = read_vocabulary(model_with(tmp_path, SPM, token_type=[NORMAL] * 274))
    assert v.types == [NORMAL, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * 15]
    assert (
        v.notes[0]
        == "3 '<0x00>', 4 '<0x01>', 5 '<0x02>', 6 '<0x03>' and 252 more are not typed as bytes: they are taken as bytes, by their names"
    )
    v = read_vocabulary(model_with(tmp_path, SPM, token_type=swapped(SPM["token_type"], {260: BYTE, 261: 99})))
    assert v.types == SPM["token_type"]
    assert v.notes == [
        "261 'b' have unknown types: they are taken as ordinary tokens",
        "260 'a' is typed as a byte, but does not look like one: it is taken as an ordinary token",
    ]


def test_an_end_typed_as_ordinary_text(tmp_path: Path) -> None:
    base = with_tokens(BPE, ("<extra>", NORMAL))
    extra = len(BPE_TOKENS)
    v = read_vocabulary(model_with(tmp_path, base, eos_token_id=extra))
    assert v.notes == [f"{extra} '<extra>': not typed as control tokens, but the header names them, so they are taken as such"]
    # What people write stays text, even where it ends an answer.
    v = read_vocabulary(model_with(tmp_path, BPE, eos_token_id=BPE_TOKENS.index(".")))
    assert v.types == BPE["token_type"]


def test_one_text_twice(tmp_path: Path) -> None:
    v = read_vocabulary(model_with(tmp_path, with_tokens(BPE, ("ab", NORMAL), ("", NORMAL), ("", NORMAL))))
    assert v.ids["ab"] == len(BPE_TOKENS)
    assert v.notes == ["262 'ab': later tokens have the same texts, and text becomes those"]


def test_merges_that_lead_nowhere(tmp_path: Path) -> None:
    v = read_vocabulary(model_with(tmp_path, BPE, merges=[*PAIRS, "x y", "ab cd", "nothing"]))
    assert v.notes == ["3 of 9 merges make texts that are no tokens: these are spelled in smaller ones"]


def test_more_rows_than_texts(tmp_path: Path) -> None:
    assert read_vocabulary(model_with(tmp_path, SPM, 300)).notes == [
        "the last 26 of 300 tokens that the model can choose have no text, and print as nothing"
    ]


def test_an_end_after_a_prompt(tmp_path: Path) -> None:
    assert read_vocabulary(model_with(tmp_path, SPM, add_eos_token=True)).notes == [
        "tokenizer.ggml.add_eos_token is set, but no end is put after a prompt, which is to be continued"
    ]


def test_phi3_is_known_by_its_name_or_its_tokens(tmp_path: Path) -> None:
    base = with_tokens(SPM, ("<|endoftext|>", CONTROL), ("<|user|>", CONTROL), ("<|end|>", CONTROL))
    first = len(SPM_TOKENS)
    assert read_vocabulary(model_with(tmp_path, base)).strip_right == set()
    assert read_vocabulary(model_with(tmp_path, base, name="My Phi-3 mini")).strip_right == {2, first + 1, first + 2}
    filler = [(f"filler{i}", NORMAL) for i in range(32000 - first)]
    marks = [("<|endoftext|>", CONTROL), ("<|assistant|>", CONTROL), *[(f"<|placeholder{i}|>", UNKNOWN) for i in range(5)],
             ("<|end|>", CONTROL), ("<|system|>", CONTROL), ("<|p|>", CONTROL), ("<|user|>", CONTROL)]  # fmt: skip
    v = read_vocabulary(model_with(tmp_path, with_tokens(SPM, *filler, *marks), name="anything"))
    assert v.strip_right == {2, *range(32001, 32011)}


def test_masks_swallow_the_blanks_before_them(tmp_path: Path) -> None:
    base = with_tokens(BPE, ("<mask>", CONTROL))
    assert read_vocabulary(model_with(tmp_path, base, pre="jina-v2-de")).strip_left == {len(BPE_TOKENS)}
    assert read_vocabulary(model_with(tmp_path, base)).strip_left == set()


def test_byte_pairs_have_no_space_before_them(tmp_path: Path) -> None:
    """Whatever the header says, as in llama.cpp."""
    v = read_vocabulary(model_with(tmp_path, BPE, add_space_prefix=True))
    assert not v.space_prefix
    assert v.notes == ["tokenizer.ggml.add_space_prefix is set, but byte pairs are merged without a space before the text"]
