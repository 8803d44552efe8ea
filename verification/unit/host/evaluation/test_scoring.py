"""Likelihoods of continuations: those of a decoder that is driven by hand, whatever shares its steps."""

import re
from pathlib import Path

import numpy as np
import pytest

import tailrace
from tailrace.evaluation.scoring import Likelihood, Text, score
from tailrace.generation.engine import Engine
from tailrace.generation.sampling import log_probabilities
from tailrace.spec.errors import LimitError, TailraceError
from verification.unit.host.tiny_models import write_model

CONTEXT = 24


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "m.gguf")


@pytest.fixture(scope="module")
def windowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that loses what lies outside a sliding window, so that not every sequence can be cut."""
    pytest.importorskip("torch")
    from verification.unit.host.transformers_models import make_model

    path = tmp_path_factory.mktemp("models") / "windowed.gguf"
    make_model(path, "phi3", layers=1, window=5, head_size=16, kv_heads=2)
    return path


def opened(path: Path, device: str, batch: int) -> tailrace.LanguageModel:
    return tailrace.load(path, device, context=CONTEXT, batch=batch)


def by_hand(engine: Engine, text: Text) -> Likelihood:
    """One token after the other, from an empty sequence."""
    decoder, found = engine.decoder, Likelihood()
    decoder.reset()
    for place, token in enumerate(text.tokens[:-1]):
        logits = decoder.step([token, *[None] * (decoder.batch - 1)])[0]
        if place + 1 >= text.start:
            following = text.tokens[place + 1]
            found.logprob += float(log_probabilities(logits)[following])
            found.is_greedy &= following == int(np.argmax(logits))
            found.judged += 1
    return found


def drawn(rng: np.random.Generator) -> list[Text]:
    """Questions with choices, some of which begin with others; texts with a context of one token; the same one twice."""
    texts = []
    for length in (1, 5, 9, 9):
        context = tuple(map(int, rng.integers(3, 60, length)))
        for choice in (1, 2, 2, 3, 6):
            texts.append(Text((*context, *map(int, rng.integers(3, 6, choice))), length))
        texts.append(Text((*texts[-1].tokens, 7), length))
    texts.append(texts[3])
    texts.append(Text(tuple(map(int, rng.integers(3, 60, CONTEXT + 1))), 1))
    # One that continues with nothing, and one whose context goes on with another's continuation.
    texts.append(Text(texts[0].tokens, len(texts[0].tokens)))
    texts.append(Text(texts[4].tokens, len(texts[4].tokens) - 1))
    return [texts[n] for n in rng.permutation(len(texts))]


@pytest.fixture(params=["model", "windowed"])
def path(request: pytest.FixtureRequest) -> Path:
    return Path(request.getfixturevalue(request.param))


def test_it_is_what_the_device_says(path: Path, rng: np.random.Generator) -> None:
    """On golden and the emulator, alone and in full batches, twice: equal numbers, to the last bit."""
    texts = drawn(rng)
    with opened(path, "golden", 1) as alone:
        expected = [by_hand(alone.engine, text) for text in texts]
    with opened(path, "golden", 4) as lm:
        assert score(lm.engine, texts) == expected
    for batch in (1, 4):
        with opened(path, "emulator", batch) as lm:
            for _ in range(2):
                assert score(lm.engine, texts) == expected
            assert score(lm.engine, texts[::-1]) == expected[::-1]


def test_the_most_probable_continuation_is_greedy(model: Path) -> None:
    with opened(model, "emulator", 2) as lm:
        chosen = lm.generate([5, 6, 7], max_tokens=4).tokens
        best, other = Text((5, 6, 7, *chosen), 3), Text((5, 6, 7, *chosen[:-1], (chosen[-1] + 1) % 60), 3)
        found = score(lm.engine, [best, other])
        assert [likelihood.is_greedy for likelihood in found] == [True, False]
        assert [likelihood.judged for likelihood in found] == [len(chosen)] * 2
        assert found[0].logprob > found[1].logprob


def test_each_beginning_is_computed_once(model: Path) -> None:
    """Ten questions of twelve tokens, with four choices that share their first token, one after the other."""
    contexts = [tuple(range(n, n + 12)) for n in range(3, 13)]
    texts = [Text((*context, 40, choice), 12) for context in contexts for choice in range(20, 24)]
    with opened(model, "emulator", 1) as lm:
        score(lm.engine, texts)
        # Of each question eleven tokens in passes of 4, 4 and 3, the one behind them, and the one that all choices begin with.
        assert lm.decoder.programs.most_rows == 4
        assert lm.decoder.counters.runs == 10 * (3 + 2)
        before = lm.decoder.counters.runs
        # Of the last question all is there but the token whose logits are wanted.
        score(lm.engine, texts[-4:])
        assert lm.decoder.counters.runs == before + 2


def test_passages_without_a_context_fill_the_sequences(model: Path, rng: np.random.Generator) -> None:
    """Sixteen of 21 tokens that share their first one: four at a time, and all of them are told as they are judged."""
    texts = [Text((1, *map(int, rng.integers(3, 60, 20))), 1) for _ in range(16)]
    with opened(model, "emulator", 1) as alone:
        expected = score(alone.engine, texts)
    told: list[int] = []
    with opened(model, "emulator", 4) as lm:
        assert score(lm.engine, texts, told.append) == expected
        # The last token of a text is judged, and not taken; what one sequence still holds of a text's beginning is not taken again.
        assert lm.decoder.counters.runs <= 16 / 4 * 20
    assert told == sorted(told)
    assert told[-1] == 16


def test_other_work_in_between(model: Path) -> None:
    """Whoever generates while texts are judged takes sequences away, and nothing changes."""
    texts = [Text((3, 4, 5, n, n + 1, n + 2), 3) for n in range(10, 20)]
    with opened(model, "emulator", 2) as lm:
        expected = score(lm.engine, texts)
        told: list[int] = []

        def interfere(count: int) -> None:
            told.append(count)
            lm.generate([7, 8, len(told) % 50 + 3], max_tokens=2)

        assert score(lm.engine, texts, interfere) == expected
        assert told == sorted(told)
        assert told[-1] == len(texts)


def test_what_is_refused(model: Path) -> None:
    with opened(model, "emulator", 2) as lm:
        text = (
            f"a text has {CONTEXT + 2} tokens, and the context has room for {CONTEXT} and one more: load the model with a larger"
            " context, or shorten the text"
        )
        with pytest.raises(LimitError, match=f"^{re.escape(text)}$"):
            score(lm.engine, [Text((3,) * (CONTEXT + 2), 1)])
        for start in (0, 5):
            with pytest.raises(TailraceError, match=f"^a context has 1 to 4 tokens of a text of so many, not {start}$"):
                score(lm.engine, [Text((3, 4, 5, 6), start)])
        assert score(lm.engine, []) == []


def test_an_error_leaves_the_sequences_free(model: Path) -> None:
    with opened(model, "emulator", 1) as lm:

        def stop(count: int) -> None:
            raise RuntimeError("stop")

        with pytest.raises(RuntimeError, match=r"^stop$"):
            score(lm.engine, [Text((3, 4, 5, 6), 2)], stop)
        assert score(lm.engine, [Text((3, 4, 5, 6), 2)])[0].judged == 2
