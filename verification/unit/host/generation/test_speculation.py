"""Answers are the same with and without drafts, whatever these are: right, wrong, or those that the text suggests."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tailrace
from tailrace import Completion, LanguageModel
from tailrace.generation import answer as answers
from tailrace.generation.depth import Costs
from tailrace.generation.draft import Draft
from tailrace.spec.errors import ConfigError
from verification.unit.host.generation.draft_models import Fixed
from verification.unit.host.tiny_models import write_model

CONTEXT = 64
PROMPTS = ["abcabcabca", "hello", "x", "yes yes yes yes ye", "12", "the the the", "q", "ababab"]
#: Ways to choose tokens; each has its own path through the engine.
CHOICES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "drawn": {"temperature": 1.0, "seed": 5},
    "with log probabilities": {"logprobs": 2, "prompt_logprobs": 1},
    "with penalties": {"repetition_penalty": 1.2, "min_tokens": 20},
    "with a stop string": {"stop": ["b", "e"]},
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny.gguf", layers=1, context=CONTEXT)


@pytest.fixture(scope="module", params=[1, 4, 8])
def lm(path: Path, request: pytest.FixtureRequest) -> Iterator[LanguageModel]:
    config = f"base,right_hand_sides={max(request.param, 4)},buffer_entries=32768"
    with tailrace.load(path, config=config, context=CONTEXT, batch=request.param) as opened:
        yield opened


class _Free(Costs):
    """Rows that cost nothing: each that is left is taken."""

    def of(self, rows: int) -> float:
        return 1.0


def prophet(texts: list[list[int]], rng: np.random.Generator) -> Callable[..., Any]:
    """What knows how these texts go on, and tells it right, or wrong from somewhere on."""

    class Prophet:
        def draft(self, tokens: list[int], most: int) -> Draft:
            text = next(text for text in texts if text[: len(tokens)] == tokens)
            told = text[len(tokens) : len(tokens) + int(rng.integers(0, most + 1))]
            right = int(rng.integers(0, len(told) + 1))
            told = told[:right] + [(token + 1) % 259 for token in told[right:]]
            return Draft(tuple(told), (0.5,) * len(told))

    return lambda first, before: Prophet()


def parts(completion: Completion) -> tuple[Any, ...]:
    c = completion
    return c.text, c.tokens, c.finish_reason, c.logprobs, c.prompt_logprobs, c.seed


@pytest.mark.parametrize("choice", CHOICES)
def test_drafts_right_and_wrong_change_nothing(
    lm: LanguageModel, choice: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: Any = {"max_tokens": 40, **CHOICES[choice]}
    plain = lm.generate(PROMPTS, speculate=False, **options)
    assert [c.drafted_tokens for c in plain] == [0] * len(plain)
    texts = [[*lm.tokenizer.encode(prompt), *c.tokens, 2] for prompt, c in zip(PROMPTS, plain, strict=True)]
    monkeypatch.setattr(answers, "Lookup", prophet(texts, rng))
    monkeypatch.setattr(lm.engine, "costs", _Free())
    for prompts in ([[prompt] for prompt in PROMPTS], [PROMPTS]):
        found = [c for some in prompts for c in lm.generate(some, **options)]
        assert [parts(c) for c in found] == [parts(c) for c in plain]
        assert lm.batch >= 4 or 0 < sum(c.accepted_tokens for c in found) < sum(c.drafted_tokens for c in found)


def test_steps_are_saved(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a text that repeats itself, with rows that cost nothing."""
    monkeypatch.setattr(lm.engine, "costs", _Free())
    plain, found = (lm.generate(PROMPTS[0], max_tokens=50, speculate=speculate) for speculate in (False, True))
    # Of the prompt the second one finds all there but the last token.
    again = lm.generate(PROMPTS[0], max_tokens=50, speculate=False)
    assert parts(found) == parts(plain)
    assert found.accepted_tokens > 0
    assert again.counters.runs - found.counters.runs == found.accepted_tokens


def test_pieces_and_a_session(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several tokens come at once; what the device holds afterwards is the text, and no draft."""
    monkeypatch.setattr(lm.engine, "costs", _Free())
    plain = lm.generate(PROMPTS[3], max_tokens=30, speculate=False)
    session = lm.session()
    pieces = list(session.generate(PROMPTS[3], max_tokens=30, stream=True))
    assert "".join(piece.text for piece in pieces) == plain.text
    assert tuple(token for piece in pieces for token in piece.tokens) == plain.tokens
    both = [session.generate("more", max_tokens=5), lm.generate([*session.tokens[:-5]], max_tokens=5, speculate=False)]
    assert both[0].tokens == both[1].tokens
    assert both[0].reused_tokens > 0


def test_a_processor_that_fails_in_the_middle(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lm.engine, "costs", _Free())

    def fails(tokens: Any, logits: Any) -> Any:
        if len(tokens) > 20:
            raise RuntimeError("no more")
        return logits

    with pytest.raises(RuntimeError, match="^no more$"):
        lm.generate(PROMPTS[0], max_tokens=30, logits_processor=fails)
    assert lm.generate(PROMPTS[0], max_tokens=30).tokens == lm.generate(PROMPTS[0], max_tokens=30, speculate=False).tokens


def test_drafts_do_not_pay_where_rows_cost_as_much_as_passes(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    class Dear(Costs):
        def of(self, rows: int) -> float:
            return float(rows)

    monkeypatch.setattr(lm.engine, "costs", Dear())
    assert lm.generate(PROMPTS[0], max_tokens=30).drafted_tokens == 0


def test_a_text_that_always_misleads_costs_little(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said to be likely is never right; a row costs a tenth of a pass."""
    # As many as leave rows for drafts.
    texts = ["q" * 4] * max(lm.batch // 2, 1)
    plain = lm.generate(texts, max_tokens=50, speculate=False)
    told = [[*lm.tokenizer.encode(text), *c.tokens, 2] for text, c in zip(texts, plain, strict=True)]

    class Liar:
        def draft(self, tokens: list[int], most: int) -> Draft:
            return Draft(((told[0][len(tokens)] + 1) % 259,) * most, (0.99,) * most)

    monkeypatch.setattr(answers, "Lookup", lambda first, before: Liar())
    costs = Fixed(1.0, 0.1)
    monkeypatch.setattr(lm.engine, "costs", costs)
    take, times = lm.decoder.take, list[tuple[int, float]]()

    def note(given: Any, kind: Any, fills: bool) -> Any:
        rows = sum(len(tokens) for tokens in given if tokens)
        texts = sum(1 for tokens in given if tokens)
        times.append((rows - texts, costs.of(rows) / costs.of(texts)))
        return take(given, kind, fills)

    monkeypatch.setattr(lm.decoder, "take", note)
    found = lm.generate(texts, max_tokens=50)
    assert [c.tokens for c in found] == [c.tokens for c in plain]
    assert sum(c.accepted_tokens for c in found) == 0
    answered = times[-50:]
    assert sum(drafts for drafts, _ in answered) > 0
    # As fast as without drafts would be 50.
    assert sum(time for _, time in answered) <= 50 * 1.015 + 0.5


def test_something_else_than_yes_or_no(lm: LanguageModel) -> None:
    wrong: Any = "often"
    with pytest.raises(ConfigError, match=r"^speculate must be True or False, not 'often'$"):
        lm.generate("a", speculate=wrong)
