"""A model that drafts for itself: answers are those without drafts, right or wrong, alone and in a batch."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tailrace
from tailrace import ConfigError, LanguageModel, Outlook
from tailrace.firmware.decode import MAX_ROWS
from tailrace.generation.drafting import Trust
from tailrace.generation.own_draft import OwnDraft
from tailrace.gguf.file import open_model

pytest.importorskip("torch")
from verification.unit.host.draft_layers import make_drafting
from verification.unit.host.generation.draft_models import Fixed, Steady
from verification.unit.host.tiny_models import write_model

CONTEXT = 160
PROMPTS = ["hello", "x", "the quick brown fox", "q"]
#: So few tokens that random drafts are right now and then.
FEW = dict.fromkeys(range(100, 105), 30.0)
CHOICES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "greedy, few tokens": {"logit_bias": FEW},
    "drawn, few tokens": {"temperature": 1.5, "seed": 5, "logit_bias": FEW},
    "with log probabilities and penalties": {"logprobs": 2, "prompt_logprobs": 1, "repetition_penalty": 1.2, "logit_bias": FEW},
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "model.gguf"
    make_drafting(path, "qwen35", seed=3, context=CONTEXT, rotary=0.5)
    return path


@pytest.fixture(scope="module", params=[1, 3])
def lm(path: Path, request: pytest.FixtureRequest) -> Iterator[LanguageModel]:
    with tailrace.load(path, config="base,right_hand_sides=4,buffer_entries=16384", batch=request.param) as opened:
        yield opened


def always(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let drafts cost nothing, so that the layer is asked wherever it can draft."""
    monkeypatch.setattr(lm.engine, "costs", Fixed(1.0, 0.0))
    assert lm.engine.drafting is not None
    monkeypatch.setattr(lm.engine.drafting, "costs", Fixed(1e-6, 0.0))
    monkeypatch.setattr(lm.engine.drafting, "upkeep", Steady(1.0))


@pytest.mark.parametrize("choice", CHOICES)
def test_answers_are_those_without_drafts(lm: LanguageModel, choice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options: Any = {"max_tokens": 70, "ignore_ends": True, **CHOICES[choice]}
    plain = lm.generate(PROMPTS, speculate=False, **options)
    always(lm, monkeypatch)
    found = lm.generate(PROMPTS, **options)
    for one, other in zip(found, plain, strict=True):
        assert (one.text, one.tokens, one.logprobs, one.prompt_logprobs) == (
            other.text, other.tokens, other.logprobs, other.prompt_logprobs,
        )  # fmt: skip
    assert lm.engine.drafting is not None
    assert lm.engine.drafting.failure is None
    drafted, accepted = sum(c.drafted_tokens for c in found), sum(c.accepted_tokens for c in found)
    assert drafted > 20
    assert accepted < drafted or "penalties" in choice
    assert accepted > 0 or "logit_bias" not in options


def test_a_session_goes_on_and_is_kept(lm: LanguageModel, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in a file, for a model with the layer and without."""
    options: Any = {"max_tokens": 30, "ignore_ends": True, "logit_bias": FEW}
    always(lm, monkeypatch)
    session = lm.session()
    session.generate(PROMPTS[2], **options)
    session.save(tmp_path / "saved.npz")
    again = lm.load_session(tmp_path / "saved.npz")
    expected = lm.generate([*session.tokens, 7], speculate=False, **options).tokens
    for one in (session, again):
        assert one.generate([7], **options).tokens == expected
    with tailrace.load(path, draft=False) as without:
        other = without.load_session(tmp_path / "saved.npz")
        found = other.generate([7], **options)
        assert found.tokens == expected
        assert found.reused_tokens > 0
        other.save(tmp_path / "without.npz")
    last = lm.load_session(tmp_path / "without.npz")
    assert last.generate([8], **options).tokens == lm.generate([*last.tokens[:-30]], speculate=False, **options).tokens


def test_what_does_not_pay_is_not_kept_up(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where drafts cost more than they can bring, passes leave nothing for them; where they are wrong, few do."""
    options: Any = {"max_tokens": 60, "ignore_ends": True}
    plain, filled = lm.generate(PROMPTS, speculate=False, **options), []
    always(lm, monkeypatch)
    take = lm.decoder.take

    def noted(tokens: Any, kind: Any, fills: bool) -> Any:
        filled.append(fills)
        return take(tokens, kind, fills)

    monkeypatch.setattr(lm.decoder, "take", noted)
    monkeypatch.setattr(lm.engine, "costs", Fixed(1.0, 1.0))
    assert [c.tokens for c in lm.generate(PROMPTS, **options)] == [c.tokens for c in plain]
    assert not any(filled)
    filled.clear()
    monkeypatch.setattr(lm.engine, "costs", Fixed(1.0, 0.01))
    assert lm.engine.drafting is not None
    monkeypatch.setattr(lm.engine.drafting, "upkeep", Steady(1.1))
    lm.engine.drafting._idle, lm.engine.drafting._general = 0, Trust()
    assert [c.tokens for c in lm.generate(PROMPTS, **options)] == [c.tokens for c in plain]
    assert filled[0]
    # 0.48 tokens for each answer, and 0.015 for each of its tokens: a tenth of that is a pass.
    assert sum(filled) < len(filled) / 3


def test_what_it_can_draft(lm: LanguageModel) -> None:
    """Behind the one token that no pass has taken, as far as the context goes."""
    draft, decoder = OwnDraft(lm.decoder), lm.decoder
    decoder.reset()
    assert draft.outlook(0, [5]) == Outlook()
    decoder.prefill([[5, 6, 7], *[[] for _ in range(lm.batch - 1)]])
    assert draft.outlook(0, [5, 6, 7, 8]) == Outlook(1, 1, MAX_ROWS)
    assert draft.outlook(0, [5, 6, 7, 8, 9]) == draft.outlook(0, [5, 6, 7]) == Outlook()
    decoder.prefill([[5] * (CONTEXT - 5), *[[] for _ in range(lm.batch - 1)]])
    assert draft.outlook(0, [5] * (CONTEXT - 1)) == Outlook(1, 1, 2)
    logits = draft.logits({0: [5] * (CONTEXT - 1)})[0]
    assert logits.shape == (lm.decoder.imported.description.vocabulary,)
    assert np.isfinite(logits).all()
    decoder.reset()


def test_who_drafts(path: Path, tmp_path: Path) -> None:
    """A draft model that is given does in its place; nobody does where nothing could be verified, or nobody is to."""
    assert open_model(path).has_draft_layer
    plain = write_model(tmp_path / "plain.gguf", layers=1, context=CONTEXT)
    for options in ({"draft": False}, {"config": "base"}, {"tokens_per_doorbell": 4}):
        with tailrace.load(path, **options) as lm:  # type: ignore[arg-type]
            assert lm.engine.drafting is None
            assert lm.decoder.imported.description.draft_layer is None
    with tailrace.load(path) as other, tailrace.load(path, draft=other) as lm:
        assert lm.engine.drafting is not None
        assert not isinstance(lm.engine.drafting.model, OwnDraft)
        assert lm.decoder.imported.description.draft_layer is None
    with tailrace.load(plain) as lm:
        assert lm.engine.drafting is None
    with pytest.raises(ConfigError, match="^draft must be"):
        tailrace.load(path, draft=True)
