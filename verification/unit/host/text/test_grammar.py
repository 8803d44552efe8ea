"""Grammars: which tokens may follow, against a search through the whole vocabulary; what can't be used is refused."""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llguidance")

from tailrace.gguf.file import open_model
from tailrace.models.fetch import resolve_model
from tailrace.spec.errors import ConfigError, MissingPackage, TailraceError
from tailrace.text.grammar import Grammar, Grammars, GrammarState, grammar_of_format
from tailrace.text.tokenizer import Tokenizer
from verification.unit.host.text.vocabularies import BPE, NORMAL, SPM, UNUSED, USER_DEFINED, model_with, with_tokens
from verification.unit.host.tiny_models import byte_alphabet, write_model

#: BPE with spaces as U+2581, as Gemma 4 has it.
SPACED: dict[str, Any] = {
    "model": "gemma4",
    "tokens": ["<unk>", "<bos>", "<eos>", *(f"<0x{byte:02X}>" for byte in range(256)), *"▁abcthe", "ab", "▁a", "▁ab"],
    "token_type": [2, 3, 3, *[6] * 256, *[1] * 10],
    "merges": ["a b", "▁ a", "▁ ab"],
    "bos_token_id": 1,
    "eos_token_id": 2,
}
#: A word of the model's own, a token without a text, one that is not used, and two with the same text.
ODD = (("<tool_call>", USER_DEFINED), ("", NORMAL), ("<unused>", UNUSED), ("ab", NORMAL), ("日", USER_DEFINED))
VOCABULARIES: dict[str, dict[str, Any]] = {
    "bpe": BPE,
    "spm": SPM,
    "spaced": SPACED,
    "bpe-odd": with_tokens(BPE, *ODD),
    "spm-odd": with_tokens(SPM, *ODD),
    "no-end": {**with_tokens({**BPE, "tokens": [*BPE["tokens"][:2], "[end]", *BPE["tokens"][3:]]}), "eos_token_id": None},
}
TEXT = 'the ab {"日本": [1, "ü\\n"]}\n\t<tool_call>\x00é'


@pytest.fixture(params=VOCABULARIES)
def tokenizer(request: pytest.FixtureRequest, tmp_path: Path) -> Tokenizer:
    return Tokenizer(model_with(tmp_path, VOCABULARIES[request.param]))


def allowed(state: GrammarState, size: int) -> set[int]:
    return set(np.flatnonzero(np.isfinite(state.mask(np.zeros(size, np.float32)))).tolist())


def search(tokenizer: Tokenizer, rests: list[bytes]) -> set[int]:
    """Tokens that may follow where one of these is still to be said."""
    texts = [tokenizer.token_bytes(token) for token in range(len(tokenizer.vocabulary.tokens))]
    found = {token for token, text in enumerate(texts) if text and any(rest.startswith(text) for rest in rests)}
    return found | (set(tokenizer.ends) if b"" in rests else set())


def test_the_tokens_that_may_follow_are_those_of_a_search(tokenizer: Tokenizer, rng: np.random.Generator) -> None:
    """Along a random way through several texts, at each step all of them; logits that no token has are banned, too."""
    texts = [TEXT, TEXT[:9], TEXT[:4] + "x" * 40, "a", "ab"]
    size = len(tokenizer.vocabulary.tokens) + 3
    grammars = Grammars(tokenizer)
    for _ in range(20):
        state, rests = grammars.begin(Grammar.choice(texts)), [text.encode() for text in texts]
        while True:
            found = allowed(state, size)
            assert found == search(tokenizer, rests)
            assert state.is_complete == (rests == [b""])
            tokens = sorted(found - tokenizer.ends)
            if not tokens:
                break
            token = int(rng.choice(tokens))
            text = tokenizer.token_bytes(token)
            state.take(token)
            rests = [rest[len(text) :] for rest in rests if rest.startswith(text)]


def test_logits_that_may_follow_stay_as_they_are(tokenizer: Tokenizer, rng: np.random.Generator) -> None:
    logits = rng.standard_normal(len(tokenizer.vocabulary.tokens)).astype(np.float32)
    kept = logits.copy()
    masked = Grammars(tokenizer).begin(Grammar.regex("[a-c]+")).mask(logits)
    there = np.isfinite(masked)
    assert np.array_equal(logits, kept)
    assert np.array_equal(masked[there], logits[there])
    assert there.any()
    assert not there.all()


def test_any_tokens_of_text_may_follow_where_anything_may(tokenizer: Tokenizer) -> None:
    state = Grammars(tokenizer).begin(Grammar.text("start: /(?s:.)*/"))
    for token in tokenizer.encode(TEXT.replace("<tool_call>", ""), False):
        assert token in allowed(state, len(tokenizer.vocabulary.tokens)), token
        state.take(token)


def test_a_token_of_real_text_at_a_time() -> None:
    """SmolLM2's 49,152 tokens."""
    try:
        tokenizer = Tokenizer(open_model(resolve_model("smollm2")))
    except TailraceError as error:
        pytest.skip(str(error))
    grammars, text = Grammars(tokenizer), 'Say {"the": "日本 capital"}.'
    state, rest = grammars.begin(Grammar.choice([text])), text.encode()
    for token in tokenizer.encode(text):
        assert allowed(state, 49_152) == search(tokenizer, [rest])
        state.take(token)
        rest = rest[len(tokenizer.token_bytes(token)) :]
    assert state.is_complete
    assert allowed(state, 49_152) == tokenizer.ends


def follow(grammar: Grammar, text: str, tokenizer: Tokenizer) -> bool:
    """Whether a text is one of a grammar's."""
    state = Grammars(tokenizer).begin(grammar)
    try:
        for byte in text.encode():
            state.take(tokenizer.vocabulary.ids[byte_alphabet()[byte]])
    except TailraceError:
        return False
    return bool(allowed(state, len(tokenizer.vocabulary.tokens)) & tokenizer.ends)


@pytest.fixture(scope="module")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer(model_with(tmp_path_factory.mktemp("models"), BPE))


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}


@pytest.mark.parametrize(
    ("grammar", "fitting", "others"),
    [
        (Grammar.json_schema(SCHEMA), ['{"a":1}', '{ "a": -20 }', '{\n  "a" : 3}'], ["{}", '{"a":"x"}', '{"a":1,"b":2}', "7", '{"a":' + " " * 21 + "1}"]),
        (Grammar.json_object(), ["{}", '{"x": [1, null, {"y": "ü"}]}'], ["[]", "1", ""]),
        (Grammar.regex("[0-9]{2}-(a|b)"), ["12-a", "00-b"], ["1-a", "12-c", ""]),
        (Grammar.choice(["yes", "no", 'a "quoted"\n']), ["yes", "no", 'a "quoted"\n'], ["y", "yesno", ""]),
        (Grammar.text('root ::= "a" [0-9]+ | "(" root ")"'), ["a1", "((a22))"], ["a", "(a1"]),
        (Grammar.text('start: "a" /[0-9]+/ | "(" start ")"'), ["a1", "((a22))"], ["a", "(a1"]),
    ],
    ids=["schema", "object", "regex", "choice", "gbnf", "lark"],
)  # fmt: skip
def test_what_grammars_mean(bpe: Tokenizer, grammar: Grammar, fitting: list[str], others: list[str]) -> None:
    assert [text for text in fitting if not follow(grammar, text, bpe)] == []
    assert [text for text in others if follow(grammar, text, bpe)] == []


def test_one_that_was_used_begins_anew(bpe: Tokenizer) -> None:
    grammars, grammar = Grammars(bpe), Grammar.choice(["ab"])
    first, second = grammars.begin(grammar), grammars.begin(Grammar.choice(["ab"]))
    first.take(bpe.vocabulary.ids["ab"])
    assert (first.is_complete, second.is_complete, grammars.begin(grammar).is_complete) == (True, False, False)
    for n in range(40):
        grammars.begin(Grammar.choice([str(n)]))
    assert len(grammars._compiled) == 16


def test_a_token_that_may_not_follow(bpe: Tokenizer) -> None:
    state = Grammars(bpe).begin(Grammar.regex("a"))
    with pytest.raises(TailraceError, match="^the grammar can't be followed any further: "):
        state.take(bpe.vocabulary.ids["c"])


@pytest.mark.parametrize(
    ("form", "grammar"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, Grammar.json_object()),
        ({"type": "json_object", "schema": SCHEMA}, Grammar.json_schema(SCHEMA)),
        ({"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": SCHEMA}}, Grammar.json_schema(SCHEMA)),
    ],
)
def test_formats(form: dict[str, Any], grammar: Grammar | None) -> None:
    assert grammar_of_format(form) == grammar


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Grammar.json_schema("["), "a JSON schema must be a JSON object: EOF while parsing a list at line 1 column 1"),
        (lambda: Grammar.json_schema({"a": object()}), "a JSON schema must be a JSON object: Object of type object is not JSON serializable"),
        (lambda: Grammar.choice([]), "a choice must be a list of texts that is not empty, not []"),
        (lambda: Grammar.choice("ab"), "a choice must be a list of texts that is not empty, not 'ab'"),
        (lambda: Grammar.text(" "), "a grammar must be a text in GBNF or Lark, not ' '"),
        (lambda: Grammar.text("root ::= x"), "the grammar is no GBNF: Rule 'x' not found"),
        (lambda: grammar_of_format({"type": "xml"}), "response_format must be of type text, json_object or json_schema, not 'xml'"),
        (lambda: grammar_of_format({}), "response_format must be of type text, json_object or json_schema, not None"),
        (lambda: grammar_of_format({"type": "json_schema"}), "response_format must have the schema, an object, as its json_schema.schema"),
    ],
)  # fmt: skip
def test_what_is_no_grammar(make: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        make()


@pytest.mark.parametrize(
    ("grammar", "text"),
    [
        (Grammar.json_schema({"type": "obj"}), "Invalid type: obj"),
        (Grammar.json_schema({"not": {}}), 'Unimplemented keys: ["not"]'),
        (Grammar.regex("(a"), 'at 1(8): invalid regex "(a" (in regex)'),
        (Grammar.text("start: other"), 'at 1(8): unknown name: "other"'),
        (Grammar.text('start: "a" <|none|>'), 'at 1(8): unknown special token: "<|none|>"'),
    ],
)
def test_grammars_that_can_not_be_used(bpe: Tokenizer, grammar: Grammar, text: str) -> None:
    with pytest.raises(ConfigError, match=f"^the grammar can't be used: {re.escape(text)}"):
        Grammars(bpe).begin(grammar)


def test_without_llguidance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(MissingPackage, match=re.escape("llguidance is needed for grammars and JSON schemas: run make setup")):
        Grammar.json_object()


def test_a_model_with_more_rows_than_tokens(tmp_path: Path) -> None:
    """As the tiny models of other tests have it."""
    tokenizer = Tokenizer(open_model(write_model(tmp_path / "tiny.gguf", layers=1)))
    state = Grammars(tokenizer).begin(Grammar.choice(["abc"]))
    assert allowed(state, len(tokenizer.vocabulary.tokens)) == search(tokenizer, [b"abc"])
