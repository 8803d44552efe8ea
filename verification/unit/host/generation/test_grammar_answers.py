"""Answers that fit a grammar: alone and in batches, drawn or the best; without one where anything may be said."""

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llguidance")

import tailrace
from tailrace import Grammar, LanguageModel
from verification.unit.host.tiny_models import SPECIAL, write_model

SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["ab", "cd"]}, "n": {"type": "integer", "minimum": 3, "maximum": 12}},
    "required": ["name", "n"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": SCHEMA}}
#: Everything that is UTF-8, and nothing that has no text.
ANYTHING = Grammar.text("start: /(?s:.)*/")
#: What the grammar for everything bans is banned without it, too: tokens without a text, and bytes that are no ASCII.
ASCII = {token: -1e5 for token in range(3, 288) if token - 3 > 126}


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanguageModel]:
    model = write_model(tmp_path_factory.mktemp("models") / "tiny.gguf", layers=1)
    with tailrace.load(model, context=64, batch=4) as opened:
        yield opened


@pytest.mark.parametrize("options", [{}, {"temperature": 1.5, "seed": 5}])
def test_an_answer_fits_its_schema(lm: LanguageModel, options: dict[str, Any]) -> None:
    answer = lm.generate("ab", response_format=FORMAT, **options)
    found = json.loads(answer.text)
    assert set(found) == {"name", "n"}
    assert found["name"] in ("ab", "cd")
    assert 3 <= found["n"] <= 12
    assert answer.finish_reason == "stop"


def test_it_ends_where_nothing_may_follow(lm: LanguageModel) -> None:
    answer = lm.generate("ab", grammar=Grammar.choice(["cdcd"]), logprobs=0)
    assert (answer.text, answer.finish_reason) == ("cdcd", "stop")
    assert lm.generate("ab", grammar="root ::= [0-9]+", max_tokens=4).finish_reason == "length"


def test_where_it_may_end_an_end_token_ends_it(lm: LanguageModel) -> None:
    """And nowhere else, though the model wants to."""
    eager = {SPECIAL.index("<|im_end|>"): 1e5}
    assert lm.generate("ab", grammar=Grammar.regex("a{3}b*"), logit_bias=eager).text == "aaa"


def test_answers_with_grammars_among_others(lm: LanguageModel) -> None:
    """Each has the answer that it has alone."""
    grammars = [None, Grammar.json_schema(SCHEMA), None, Grammar.regex("[a-d]{20}"), Grammar.choice(["x", "yy", "zzz"])]
    stops = {SPECIAL.index("<|im_end|>"): -1e5}
    wanted: list[dict[str, Any]] = [
        {"max_tokens": 30, "seed": 7, "temperature": 1.0, "grammar": grammar} | ({} if grammar else {"logit_bias": stops})
        for grammar in grammars
    ]
    alone = [lm.generate(f"{n}abc", **options) for n, options in enumerate(wanted)]
    # Through the engine itself, which takes answers of different kinds together.
    from tailrace.generation.options import wish_of
    from tailrace.generation.sequences import Holder

    engine = lm.engine
    answers = [
        engine.answer(n, engine.tokens(f"{n}abc"), Holder(), wish_of(options))  # type: ignore[arg-type]
        for n, options in enumerate(wanted)
    ]
    assert sum(piece.finish_reason is not None for piece in engine.pieces(answers)) == 5
    assert [answer.completion().tokens for answer in answers] == [completion.tokens for completion in alone]
    assert re.fullmatch("[a-d]{20}", alone[3].text)


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "seed": 3}, {"temperature": 2.0, "top_k": 40, "seed": 9}])
def test_a_grammar_for_everything_changes_nothing(lm: LanguageModel, options: dict[str, Any]) -> None:
    given: dict[str, Any] = {**options, "max_tokens": 40, "logit_bias": {**ASCII, 0: -1e5, 1: -1e5}, "logprobs": 2}
    free, bound = lm.generate("abc", **given), lm.generate("abc", grammar=ANYTHING, **given)
    assert bound.tokens == free.tokens
    assert bound.logprobs == free.logprobs
    assert len(free.tokens) > 3


def test_ends_that_come_late_or_never(lm: LanguageModel) -> None:
    end = SPECIAL.index("<|im_end|>")
    eager: dict[str, Any] = {"logit_bias": {end: 1e5}, "max_tokens": 6}
    assert len(lm.generate("ab", **eager).tokens) == 0
    late = lm.generate("ab", min_tokens=4, **eager)
    assert (len(late.tokens), late.finish_reason) == (4, "stop")
    assert end not in late.tokens
    never = lm.generate("ab", ignore_ends=True, **eager)
    assert (never.tokens, never.text, never.finish_reason) == ((end,) * 6, "", "length")


def test_one_whose_tokens_are_all_banned(lm: LanguageModel) -> None:
    """It fails, and those beside it do not."""
    from tailrace.generation.options import wish_of
    from tailrace.generation.sequences import Holder

    engine, banned = lm.engine, dict.fromkeys(range(288), -np.inf)
    with pytest.raises(tailrace.TailraceError, match="^no token can be chosen"):
        lm.generate("ab", grammar=Grammar.choice(["a"]), logit_bias=banned)
    good = engine.answer(0, engine.tokens("ab"), Holder(), wish_of({"max_tokens": 3, "temperature": 1.0, "seed": 1}))
    bad = engine.answer(1, engine.tokens("ab"), Holder(), wish_of({"logit_bias": banned}))
    while good.reason is None:
        engine.advance([answer for answer in (good, bad) if answer.failure is None])
    assert str(bad.failure).startswith("no token can be chosen")
    assert good.completion().tokens == lm.generate("ab", max_tokens=3, temperature=1.0, seed=1).tokens
    engine.release(bad)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"grammar": 7}, "grammar must be a tailrace.Grammar, or None, not 7"),
        ({"response_format": "json"}, "response_format must be a mapping such as {'type': 'json_object'}, not 'json'"),
        (
            {"grammar": "root ::= [a]", "response_format": {"type": "json_object"}},
            "response_format and grammar both say what the answer may be: leave one of them out",
        ),
        (
            {"grammar": "root ::= [a]", "min_tokens": 2},
            "a grammar says where an answer ends: leave min_tokens and ignore_ends out",
        ),
        ({"min_tokens": -1}, "min_tokens must be a whole number of 0 or more, or None, not -1"),
        ({"grammar": Grammar.json_schema({"type": "x"})}, "the grammar can't be used: Invalid type: x"),
    ],
)
def test_what_is_refused(lm: LanguageModel, options: dict[str, Any], text: str) -> None:
    with pytest.raises(tailrace.ConfigError, match=f"^{re.escape(text)}$"):
        lm.generate("ab", **options)
