"""Answers are the same whatever a draft model says, or fails to; and it is asked where that is worth its time."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tailrace
from tailrace import Completion, ConfigError, Grammar, LanguageModel
from tailrace.generation.draft import Outlook
from tailrace.generation.drafting import Drafting, Trust
from tailrace.generation.engine_draft import EngineDraft
from verification.unit.host.generation.draft_models import VOCABULARY, Fixed, Scripted, certain, liar
from verification.unit.host.tiny_models import write_model

CONTEXT = 64
PROMPTS = ["abcabcabca", "hello", "x", "yes yes yes yes ye", "12", "the the the", "q", "ababab"]
#: Ways to choose tokens; each has its own path through the engine.
CHOICES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "drawn": {"temperature": 1.0, "seed": 5},
    "drawn from few": {"temperature": 0.7, "top_k": 20, "min_p": 0.05, "seed": 6},
    "with log probabilities": {"logprobs": 2, "prompt_logprobs": 1},
    "with penalties": {"repetition_penalty": 1.2, "presence_penalty": 0.3, "logit_bias": {5: 2.0}, "min_tokens": 20},
    "with a stop string": {"stop": ["b", "e"]},
    "with a processor": {"logits_processor": lambda tokens, logits: -logits},
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny.gguf", layers=1, context=CONTEXT)


@pytest.fixture(scope="module", params=[1, 4])
def large(path: Path, request: pytest.FixtureRequest) -> Iterator[LanguageModel]:
    config = "base,right_hand_sides=8,buffer_entries=32768"
    with tailrace.load(path, config=config, context=CONTEXT, batch=request.param) as opened:
        yield opened


@pytest.fixture
def lm(large: LanguageModel) -> Iterator[LanguageModel]:
    """Rows cost next to nothing, and nobody drafts yet."""
    large.engine.costs = Fixed(1, 0.01)
    yield large
    large.engine.drafting = None


@pytest.fixture(scope="module", params=["itself in 4 bits", "another one"])
def small(path: Path, large: LanguageModel, request: pytest.FixtureRequest) -> Iterator[LanguageModel]:
    """The same model in fewer bits, which is often right; or one with other weights, which seldom is."""
    changes: Any = {"default_type": "Q4_0"} if request.param == "itself in 4 bits" else {"seed": 2}
    other = write_model(path.with_name(f"{request.param}.gguf"), layers=1, context=CONTEXT, **changes)
    with tailrace.load(other, context=CONTEXT, batch=large.batch) as opened:
        yield opened


def draft_with(lm: LanguageModel, model: Any, first: float = 0.01, more: float = 0.0) -> Drafting:
    """Let a model draft whose passes take so long; one of the large model takes 1."""
    drafting = lm.engine.draft_with(model)
    drafting.costs = Fixed(first, more)
    return drafting


def parts(completion: Completion) -> tuple[Any, ...]:
    c = completion
    return c.text, c.tokens, c.finish_reason, c.logprobs, c.prompt_logprobs, c.seed


@pytest.mark.parametrize("choice", CHOICES)
def test_every_answer_is_the_one_without(lm: LanguageModel, small: LanguageModel, choice: str) -> None:
    options: Any = {"max_tokens": 24, **CHOICES[choice]}
    plain = lm.generate(PROMPTS, speculate=False, **options)
    drafting = draft_with(lm, EngineDraft(small.engine))
    for prompts in ([[prompt] for prompt in PROMPTS], [PROMPTS]):
        found = [c for some in prompts for c in lm.generate(some, **options)]
        assert [parts(c) for c in found] == [parts(c) for c in plain]
        assert drafting.failure is None
        assert sum(c.drafted_tokens for c in found) > 0


def test_a_good_one_saves_passes(lm: LanguageModel, path: Path) -> None:
    """Alone: each draft that is right is a pass less."""
    with tailrace.load(path, context=CONTEXT, batch=lm.batch) as same:
        draft_with(lm, EngineDraft(same.engine))
        for options in ({}, {"temperature": 1.0, "seed": 3}, {"repetition_penalty": 1.3}):
            prompt: Any = "xyz"
            lm.generate(prompt, max_tokens=1, speculate=False)
            found = lm.generate(prompt, max_tokens=40, **options)
            again = lm.generate(prompt, max_tokens=40, speculate=False, **options)
            assert parts(found) == parts(again)
            assert again.counters.runs - found.counters.runs == found.accepted_tokens
            # It is the model itself, to the last bit, and is drawn from with the same random numbers.
            assert found.accepted_tokens == found.drafted_tokens > 25


def test_a_grammar(lm: LanguageModel, small: LanguageModel) -> None:
    pytest.importorskip("llguidance")
    grammar = Grammar.regex(r"[a-f]{3,12}(, [0-9]+)*")
    plain = lm.generate(PROMPTS, max_tokens=30, grammar=grammar, speculate=False)
    draft_with(lm, EngineDraft(small.engine))
    assert [parts(c) for c in lm.generate(PROMPTS, max_tokens=30, grammar=grammar)] == [parts(c) for c in plain]


def test_turns_rewinds_and_streams_that_are_closed(lm: LanguageModel, small: LanguageModel, rng: np.random.Generator) -> None:
    """A session that is cut anywhere, and goes on, or is left in the middle of an answer."""
    draft_with(lm, EngineDraft(small.engine))
    session = lm.session("once")
    for turn in range(12):
        before = list(session.tokens)
        if turn % 3 == 2:
            stream = session.generate("b", max_tokens=20, stream=True)
            for _ in range(int(rng.integers(1, 4))):
                next(stream, None)
            stream.close()
            said = list(session.tokens)
            lm.generate(PROMPTS[turn % 8], max_tokens=4)
        else:
            prompt = lm.tokenizer.encode("a", at_start=False)
            found = session.generate(prompt, max_tokens=8)
            said = [*before, *prompt, *found.tokens]
        assert list(session.tokens) == said
        added = len(before) + 1
        plain = lm.generate(said[:added], max_tokens=len(said) - added, speculate=False, ignore_ends=True)
        assert said[added:] == list(plain.tokens)[: len(said) - added]
        session.truncate(int(rng.integers(1, min(len(said), 30) + 1)))


def test_more_answers_than_sequences(lm: LanguageModel, small: LanguageModel) -> None:
    """Some begin while others are being drafted for."""
    plain = lm.generate(PROMPTS * 2, max_tokens=9, speculate=False)
    draft_with(lm, EngineDraft(small.engine))
    assert [parts(c) for c in lm.generate(PROMPTS * 2, max_tokens=9)] == [parts(c) for c in plain]


def test_a_liar_changes_nothing_and_is_soon_left_alone(lm: LanguageModel, rng: np.random.Generator) -> None:
    plain = lm.generate(PROMPTS, max_tokens=40, speculate=False, ignore_ends=True)
    lm.engine.costs = Fixed(1, 0.1)
    model = liar(rng)
    drafting = draft_with(lm, model, 0.25, 0.02)
    found = lm.generate(PROMPTS, max_tokens=40, ignore_ends=True)
    assert [parts(c) for c in found] == [parts(c) for c in plain]
    assert drafting.failure is None
    assert 0 < len(model.calls) <= 10
    lm.generate(PROMPTS, max_tokens=40, ignore_ends=True)
    assert len(model.calls) <= 12


def test_nonsense_changes_nothing(lm: LanguageModel, rng: np.random.Generator) -> None:
    """Logits that are no numbers, too few, too many, or favour what the model does not have."""
    plain = lm.generate(PROMPTS, max_tokens=20, speculate=False)
    for says in (
        lambda tokens: np.full(VOCABULARY, np.nan, np.float32),
        lambda tokens: np.zeros(0, np.float32),
        lambda tokens: certain(900, vocabulary=1000),
        lambda tokens: rng.standard_normal(40).astype(np.float32),
    ):
        draft_with(lm, Scripted(says))
        assert [parts(c) for c in lm.generate(PROMPTS, max_tokens=20)] == [parts(c) for c in plain]


def test_one_that_fails_is_asked_no_more(lm: LanguageModel, caplog: pytest.LogCaptureFixture) -> None:
    """In the middle of an answer, which goes on without it."""
    plain = lm.generate(PROMPTS, max_tokens=30, speculate=False)

    def fails(tokens: list[int]) -> Any:
        if len(model.calls) > 3:
            raise OSError("unplugged")
        return certain(70)

    model = Scripted(fails)
    drafting = draft_with(lm, model, 0.0)
    with caplog.at_level(logging.WARNING, logger="tailrace.generation"):
        found = lm.generate(PROMPTS, max_tokens=30)
    assert [parts(c) for c in found] == [parts(c) for c in plain]
    assert [record.getMessage() for record in caplog.records] == [
        "the draft model has failed, and answers go on without it: unplugged"
    ]
    assert isinstance(drafting.failure, OSError)
    assert len(model.calls) == 4
    lm.generate(PROMPTS, max_tokens=5)
    assert len(model.calls) == 4


def test_it_is_interrupted(lm: LanguageModel, small: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """By Ctrl-C, at each of its passes: the next answer is right, and it goes on drafting."""
    plain = lm.generate(PROMPTS[1], max_tokens=20, speculate=False)
    drafting = draft_with(lm, EngineDraft(small.engine))
    take, left = small.decoder.take, [0]

    def interrupted(*arguments: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return take(*arguments)

    monkeypatch.setattr(small.decoder, "take", interrupted)
    for left[0] in (1, 2, 5):
        with pytest.raises(KeyboardInterrupt):
            lm.generate(PROMPTS[1], max_tokens=20)
        found = lm.generate(PROMPTS[1], max_tokens=20)
        assert parts(found) == parts(plain)
        assert found.drafted_tokens > 0
    assert drafting.failure is None


def test_a_shorter_context(lm: LanguageModel, path: Path) -> None:
    """Behind its end there are no drafts, and the answer goes on."""
    plain = lm.generate("hello", max_tokens=50, speculate=False, ignore_ends=True)
    with tailrace.load(path, context=24, batch=lm.batch) as same:
        drafting = draft_with(lm, EngineDraft(same.engine))
        found = lm.generate("hello", max_tokens=50, ignore_ends=True)
        assert parts(found) == parts(plain)
        assert drafting.failure is None
        assert 0 < same.decoder.positions[0] <= 24


def test_one_that_takes_as_long_as_the_model_is_not_asked(lm: LanguageModel, rng: np.random.Generator) -> None:
    for first, calls in ((1.0, 0), (0.9, 0)):
        model = liar(rng)
        draft_with(lm, model, first)
        lm.generate("hello", max_tokens=30, ignore_ends=True)
        assert len(model.calls) == calls


def test_the_text_is_asked_first_where_it_knows(lm: LanguageModel, rng: np.random.Generator) -> None:
    """A text that is said to be the answer is right, and costs nothing."""
    options: Any = {"max_tokens": 40, "ignore_ends": True}
    plain = lm.generate("hello", speculate=False, **options)
    model = liar(rng)
    draft_with(lm, model, 0.1)
    found = lm.generate("hello", prediction=plain.tokens, **options)
    assert parts(found) == parts(plain)
    assert max(len(text) for call in model.calls for text in call.values()) < 20 < len(plain.tokens)


def test_a_long_prompt_is_not_worth_a_short_answer(lm: LanguageModel) -> None:
    class Slow(Scripted):
        def outlook(self, place: int, tokens: Any) -> Outlook:
            return Outlook(len(tokens), len(tokens), 16)

    for tokens, asked in ((3, False), (40, True)):
        model = Slow(lambda tokens: certain(70))
        draft_with(lm, model, 0.1)
        lm.generate("hello, hello, ", max_tokens=tokens, ignore_ends=True)
        assert bool(model.calls) == asked


def test_until_it_is_measured_its_weights_say_how_long_it_takes(lm: LanguageModel, rng: np.random.Generator) -> None:
    for part, asked in ((0.05, True), (1.0, False)):
        model = liar(rng)
        model.weight_bytes = int(part * lm.decoder.image.token_bytes)
        lm.engine.draft_with(model)
        lm.generate("hello", max_tokens=30, ignore_ends=True)
        assert bool(model.calls) == asked


def test_what_has_not_been_asked_for_long_is_asked_again(lm: LanguageModel, rng: np.random.Generator) -> None:
    lm.engine.costs = Fixed(1, 0.1)
    model = liar(rng)
    draft_with(lm, model, 0.25)
    # Two answers, each of which may lose some time, until it is known for what it is.
    lm.generate([PROMPTS[1]] * 2, max_tokens=40, ignore_ends=True)
    before = len(model.calls)
    assert before > 0
    lm.generate([PROMPTS[1]] * 10, max_tokens=40, ignore_ends=True, prediction="")
    if lm.batch == 1:
        assert len(model.calls) == before
        lm.generate([PROMPTS[1]] * 4, max_tokens=40, ignore_ends=True)
        assert len(model.calls) > before


def test_trust_follows_what_was_right() -> None:
    trust = Trust()
    for _ in range(20):
        trust.note(5, 0.0)
    assert trust.usual < 0.15
    assert trust.by_kind.chance(5) < 0.2
    assert trust.by_kind.chance(4) == 0.75
    later = Trust(trust)
    assert later.usual == pytest.approx(trust.usual)
    assert later.by_kind.chances() == pytest.approx(trust.by_kind.chances())
    # A draft that nobody has looked at counts as likely as it was.
    later.note(4, None)
    assert trust.usual < later.usual < 0.9
    assert later.by_kind.chance(4) == 0.75


@pytest.mark.parametrize(("architecture", "sizes"), [("phi3", {"window": 5, "head_size": 16, "kv_heads": 2}), ("qwen35", {})])
def test_windows_that_close_and_states_that_fold(architecture: str, sizes: dict[str, Any], tmp_path: Path) -> None:
    """Of both models: neither can go back as far as it likes."""
    pytest.importorskip("torch")
    from verification.unit.host.transformers_models import make_model

    path = tmp_path / "model.gguf"
    make_model(path, architecture, seed=1, context=160, **sizes)
    with tailrace.load(path, context=160, batch=2) as lm, tailrace.load(path, context=160, batch=2) as same:
        plain = lm.generate(["hello", "x"], max_tokens=140, temperature=2.0, seed=4, ignore_ends=True, speculate=False)
        lm.engine.costs = Fixed(1, 0.01)
        draft_with(lm, EngineDraft(same.engine))
        found = lm.generate(["hello", "x"], max_tokens=140, temperature=2.0, seed=4, ignore_ends=True)
        assert [parts(c) for c in found] == [parts(c) for c in plain]
        assert all(c.accepted_tokens == c.drafted_tokens > 60 for c in found)


def test_what_can_not_be_drafted_for(path: Path, rng: np.random.Generator) -> None:
    for options, text in (
        (
            {"config": "base,right_hand_sides=1"},
            r"drafts are verified in the rows that a pass has left, and this build has one: choose one with more right-hand sides"
            r" \(config='auto,right_hand_sides=4'\), or leave the draft model out",
        ),
        (
            {"tokens_per_doorbell": 4},
            "drafts are verified by the host, and with tokens_per_doorbell the device goes on by itself: leave it out, or the"
            " draft model",
        ),
    ):
        with pytest.raises(ConfigError, match=f"^{text}$"):
            tailrace.load(path, context=CONTEXT, draft=liar(rng), **options)  # type: ignore[arg-type]
