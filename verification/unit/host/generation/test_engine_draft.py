"""A model on a device of its own that drafts: its logits are those of its texts, whatever was drafted before."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tailrace
from tailrace import ConfigError, LanguageModel, Outlook
from tailrace.firmware.decode import MAX_ROWS
from tailrace.generation.engine_draft import EngineDraft
from verification.unit.host.tiny_models import SPECIAL, byte_alphabet, write_model

CONTEXT = 48
#: Architectures that can't go back as far as they like: windows of five tokens, states that are folded at every 64th position.
TIED: dict[str, dict[str, Any]] = {"phi3": {"window": 5, "head_size": 16, "kv_heads": 2}, "qwen35": {}}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny.gguf", layers=1, context=CONTEXT)


@pytest.mark.parametrize("batch", [1, 3])
def test_logits_are_those_of_the_text_alone(path: Path, batch: int, rng: np.random.Generator) -> None:
    """Texts that grow, and lose what was wrong, in any order."""
    with tailrace.load(path, batch=batch, config="base,right_hand_sides=4") as lm, tailrace.load(path) as alone:
        draft = EngineDraft(lm.engine)
        texts = {place: [1] for place in range(batch)}
        for _ in range(30):
            for place, text in texts.items():
                kept = int(rng.integers(1, len(text) + 1)) if len(text) > 30 or rng.random() < 0.5 else len(text)
                texts[place] = [*text[:kept], *(int(token) for token in rng.integers(3, 259, rng.integers(1, 7)))]
            asked = {place: text for place, text in texts.items() if rng.random() < 0.8}
            if not asked:
                continue
            for place, text in asked.items():
                before = lm.decoder.counters.runs
                outlook = draft.outlook(place, text)
                assert lm.decoder.counters.runs == before, "nothing is computed"
                assert outlook.missing >= 1
                assert outlook.most == min(MAX_ROWS, CONTEXT - len(text) + 1)
            before = lm.decoder.counters.runs
            expected = {place: draft.outlook(place, text).passes for place, text in asked.items()}
            found = draft.logits(asked)
            if len(asked) == 1:
                assert lm.decoder.counters.runs - before == next(iter(expected.values()))
            for place, text in asked.items():
                alone.decoder.reset()
                alone.decoder.prefill(text[:-1])
                assert found[place].tobytes() == alone.decoder.step(text[-1]).tobytes()


def test_its_owner_may_use_it_in_between(path: Path) -> None:
    with tailrace.load(path) as lm:
        plain = lm.generate("hello", max_tokens=8)
        draft = EngineDraft(lm.engine)
        text = lm.tokenizer.encode("something else")
        before = draft.logits({0: text})[0]
        assert lm.generate("hello", max_tokens=8).tokens == plain.tokens
        assert draft.logits({0: text})[0].tobytes() == before.tobytes()


def test_where_it_ends(path: Path) -> None:
    with tailrace.load(path, context=10) as lm:
        draft = EngineDraft(lm.engine)
        assert draft.outlook(0, [5] * 9) == Outlook(9, 3, 2)
        assert draft.outlook(0, [5] * 10) == Outlook(10, 4, 1)
        assert draft.outlook(0, [5] * 11) == Outlook()
        assert draft.outlook(0, [5, 900]) == Outlook()


@pytest.mark.parametrize("architecture", TIED)
def test_no_draft_is_beyond_what_can_be_taken_back(architecture: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """All drafts that it offers are taken, then the text goes on otherwise: nothing is computed again but that."""
    pytest.importorskip("torch")
    from verification.unit.host.transformers_models import make_model

    make_model(tmp_path / "model.gguf", architecture, seed=1, context=160, **TIED[architecture])
    with (
        tailrace.load(tmp_path / "model.gguf", context=160) as lm,
        tailrace.load(tmp_path / "model.gguf", context=160) as alone,
    ):
        draft = EngineDraft(lm.engine)
        text, most = [3], set()
        while len(text) < 140:
            outlook = draft.outlook(0, text)
            assert len(text) == 1 or outlook.missing <= 3
            most.add(outlook.most)
            drafted = [int(token) for token in rng.integers(3, 250, outlook.most)]
            for count in range(outlook.most):
                found = draft.logits({0: [*text, *drafted[:count]]})[0]
            alone.decoder.reset()
            alone.decoder.prefill([*text, *drafted[: outlook.most - 1]][:-1])
            assert found.tobytes() == alone.decoder.step([*text, *drafted[: outlook.most - 1]][-1]).tobytes()
            right = int(rng.integers(0, outlook.most + 1))
            text += [*drafted[:right], int(rng.integers(3, 250))]
        assert min(most) <= 3 < max(most)


def other_tokens(path: Path, change: Any) -> Path:
    tokens = SPECIAL + byte_alphabet() + ["ab", "cd"]
    tokens += [f"<unused{i}>" for i in range(-len(tokens) % 32)]
    change(tokens)
    return write_model(path, layers=1, context=CONTEXT, metadata={"tokenizer.ggml.tokens": tokens})


def test_a_few_tokens_may_have_other_names(path: Path, tmp_path: Path) -> None:
    def rename(tokens: list[str]) -> None:
        tokens[270:280] = [f"<other{i}>" for i in range(10)]

    with tailrace.load(path, draft=other_tokens(tmp_path / "other.gguf", rename)) as lm:
        assert lm.engine.drafting is not None


def test_other_tokens_are_refused(path: Path, tmp_path: Path) -> None:
    def rename(tokens: list[str]) -> None:
        tokens[100:240] = tokens[101:241]
        tokens[240] = "zz"

    other = other_tokens(tmp_path / "other.gguf", rename)
    tokens = byte_alphabet()
    text = (
        f"{other} can't draft for this model, because its tokens are others: token 100 is {tokens[98]!r}, not {tokens[97]!r}, and"
        " 140 more differ. Take a smaller model of the same family, which has the same tokenizer"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        tailrace.load(path, draft=other)


def test_too_few_sequences_are_refused(path: Path) -> None:
    with tailrace.load(path) as small:
        text = f"{path} can draft for 1 texts at a time, and the model has 2: load it with batch=2"
        with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
            tailrace.load(path, batch=2, draft=small)
        assert isinstance(small, LanguageModel)
        assert small.generate("a", max_tokens=2).tokens
