"""Sampling: against the processors of transformers, and by formula; seeds; what is out of range."""

import re
from typing import Any

import numpy as np
import pytest

from tailrace.generation.sampling import Sampler, log_probabilities, process
from tailrace.spec.errors import ConfigError, TailraceError

VOCABULARY = 500


@pytest.fixture
def logits(rng: np.random.Generator) -> np.ndarray:
    values = (3 * rng.standard_normal(VOCABULARY)).astype(np.float32)
    values[100:110] = values[90:100]  # some are equal
    return values


def of_transformers(logits: np.ndarray, tokens: list[int], **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Kept tokens and their probabilities by transformers' processors, in the order in which its `generate` has them."""
    torch = pytest.importorskip("torch")
    from transformers.generation.logits_process import (
        MinPLogitsWarper,
        RepetitionPenaltyLogitsProcessor,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    scores = torch.from_numpy(logits.copy())[None]
    ids = torch.tensor([tokens])
    if "repetition_penalty" in options:
        scores = RepetitionPenaltyLogitsProcessor(options["repetition_penalty"])(ids, scores)
    # From here on without float32's rounding, so that both sides have the same numbers.
    scores = scores.double()
    for name, warper in (
        ("temperature", TemperatureLogitsWarper),
        ("top_k", TopKLogitsWarper),
        ("top_p", TopPLogitsWarper),
        ("min_p", MinPLogitsWarper),
    ):
        if name in options:
            scores = warper(options[name])(ids, scores)
    scores = scores[0]
    kept = torch.isfinite(scores).nonzero()[:, 0].numpy()
    return kept, torch.softmax(scores, dim=-1).numpy()[kept]


CASES: list[dict[str, Any]] = [
    {"temperature": 1.0},
    {"temperature": 0.3},
    {"temperature": 7.5},
    *({"temperature": 1.0, "top_k": k} for k in (1, 2, 40, 499, 500, 9999)),
    *({"temperature": 1.0, "top_p": p} for p in (0.001, 0.1, 0.5, 0.9, 0.999)),
    *({"temperature": 1.0, "min_p": p} for p in (0.001, 0.05, 0.5, 1.0)),
    *({"temperature": 1.0, "repetition_penalty": p} for p in (0.5, 1.1, 2.0)),
    {"temperature": 0.7, "top_k": 50, "top_p": 0.9},
    {"temperature": 1.3, "top_p": 0.95, "min_p": 0.05},
    {"temperature": 0.8, "top_k": 20, "top_p": 0.8, "min_p": 0.1, "repetition_penalty": 1.2},
]


@pytest.mark.parametrize("options", CASES, ids=lambda options: ",".join(f"{k}={v}" for k, v in options.items()))
def test_what_is_drawn_from_is_that_of_transformers(options: dict[str, Any], logits: np.ndarray) -> None:
    tokens = [3, 90, 3, 499, 104]
    sampler = Sampler(**options)
    kept, probabilities = sampler.distribution(sampler.adjust(logits, tokens, 2))
    expected, reference = of_transformers(logits, tokens, **options)
    assert kept.tolist() == expected.tolist()
    # Sums in another order.
    assert probabilities == pytest.approx(reference, rel=1e-12)


def test_penalties_and_bias_by_formula(logits: np.ndarray) -> None:
    tokens, answer = [7, 8, 9, 9, 10, 9], 4
    bias = {9: -1.5, 0: 2.0, 4: -np.inf}
    adjusted = Sampler(presence_penalty=0.5, frequency_penalty=0.25, logit_bias=bias).adjust(logits, tokens, answer)
    expected = logits.copy()
    for token, value in bias.items():
        expected[token] += np.float32(value)
    for token, times in ((9, 3), (10, 1)):
        expected[token] -= np.float32(0.25 * times + 0.5)
    assert np.array_equal(adjusted, expected)
    assert adjusted.dtype == np.float32
    # In the prompt alone they do not count.
    assert np.array_equal(Sampler(presence_penalty=0.5).adjust(logits, tokens, 0), logits)


def test_repetition_penalty_is_that_of_transformers_to_the_bit(logits: np.ndarray) -> None:
    torch = pytest.importorskip("torch")
    from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor

    tokens = [1, 2, 2, 77, 400]
    reference = RepetitionPenaltyLogitsProcessor(1.3)(torch.tensor([tokens]), torch.from_numpy(logits.copy())[None])[0].numpy()
    assert np.array_equal(Sampler(repetition_penalty=1.3).adjust(logits, tokens, 1), reference)
    assert not np.array_equal(reference, logits)


def drawn(sampler: Sampler, logits: np.ndarray, times: int = 4000) -> np.ndarray:
    return np.bincount([sampler.choose(logits, position) for position in range(times)], minlength=len(logits)) / times


def test_draws_follow_the_distribution() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], dtype=np.float32))
    assert drawn(Sampler(1.0, seed=1), logits) == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.03)
    hot = np.exp(logits / 2)
    assert drawn(Sampler(2.0, seed=1), logits) == pytest.approx(hot / hot.sum(), abs=0.03)
    assert drawn(Sampler(1.0, top_p=0.8, seed=2), logits) == pytest.approx([0.625, 0.375, 0, 0], abs=0.03)
    assert drawn(Sampler(1e-6, seed=2), logits).tolist() == [1, 0, 0, 0]


def test_seed_and_position_decide(logits: np.ndarray) -> None:
    one, two = Sampler(5.0, seed=3), Sampler(5.0, seed=3)
    assert [one.choose(logits, p) for p in range(20)] == [two.choose(logits, p) for p in reversed(range(20))][::-1]
    assert len({one.choose(logits, p) for p in range(20)}) > 5
    assert [Sampler(5.0, seed=4).choose(logits, p) for p in range(20)] != [one.choose(logits, p) for p in range(20)]
    # Largest seed, far position.
    assert 0 <= Sampler(5.0, seed=2**64 - 1).choose(logits, 10**6) < VOCABULARY


def test_seeds_differ_unless_given() -> None:
    seeds = {Sampler(1.0).seed for _ in range(5)}
    assert len(seeds) == 5
    assert None not in seeds
    assert Sampler(1.0, seed=0).seed == 0
    assert Sampler().seed is None
    assert Sampler(0.0, top_p=0.9).seed is None


def test_the_best_token(logits: np.ndarray) -> None:
    for temperature in (None, 0, 0.0):
        assert Sampler(temperature).choose(logits, 0) == int(logits.argmax())
    assert Sampler().takes_the_best
    assert Sampler(0.0, top_k=5).takes_the_best
    for options in ({"temperature": 1.0}, {"repetition_penalty": 1.1}, {"presence_penalty": 0.1}, {"logit_bias": {1: 1.0}}):
        assert not Sampler(**options).takes_the_best  # type: ignore[arg-type]


NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        *(
            ({"temperature": t}, f"temperature must be 0, for the best token, or from 1e-06 to 1e+06, not {t}")
            for t in (NAN, INFINITE, -1.0, 1e-310, 1e-7, 1e7, True, "1")
        ),
        *(
            ({"temperature": 1, "seed": s}, f"seed must be a whole number from 0 to 18446744073709551615, not {s}")
            for s in (-1, 2**64, 1.5, NAN)
        ),
        *(({"temperature": 1, "top_p": p}, f"top_p must be above 0 and at most 1, not {p}") for p in (NAN, 0, -0.1, 1.01)),
        *(({"temperature": 1, "min_p": p}, f"min_p must be from 0 to 1, not {p}") for p in (NAN, -0.1, 1.01)),
        *(({"temperature": 1, "top_k": k}, f"top_k must be a whole number of 0, for all, or more, not {k}") for k in (-1, 2.5)),
        *(
            ({"repetition_penalty": p}, f"repetition_penalty must be from 1e-06 to 1e+06, not {p}")
            for p in (0, -1, NAN, INFINITE)
        ),
        ({"presence_penalty": NAN}, "presence_penalty must be from -1e+06 to 1e+06, not nan"),
        ({"frequency_penalty": INFINITE}, "frequency_penalty must be from -1e+06 to 1e+06, not inf"),
        ({"logit_bias": {5: NAN}}, "logit_bias of token 5 must be -inf, or from -1e+06 to 1e+06, not nan"),
        ({"logit_bias": {-5: 1.0}}, "a token of logit_bias must be a whole number of 0 or more, not -5"),
        ({"top_p": 0.9}, "top_p chooses what is drawn from, and nothing is drawn without a temperature: give one"),
        ({"top_k": 9}, "top_k chooses what is drawn from, and nothing is drawn without a temperature: give one"),
    ],
)
def test_what_is_out_of_range(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        Sampler(**options)


def test_processors(logits: np.ndarray) -> None:
    processed = process([lambda tokens, scores: scores * 2, lambda tokens, scores: scores + len(tokens)], [1, 2], logits)
    assert np.array_equal(processed, logits * 2 + 2)
    for wrong, what in ((lambda t, s: s[:5], "float32 of shape (5,)"), (lambda t, s: None, "nothing")):
        text = f"a logits processor must return logits of shape (500,), and it returned {what}"
        with pytest.raises(TailraceError, match=re.escape(text)):
            process([wrong], [1], logits)


def test_nothing_to_choose_from(logits: np.ndarray) -> None:
    logits[5] = np.nan
    for values in (logits, np.full(4, -np.inf, np.float32), np.array([1, np.inf], np.float32)):
        for sampler in (Sampler(), Sampler(1.0)):
            with pytest.raises(
                TailraceError, match="no token can be chosen: a logit is not a number, or all tokens are banned"
            ):
                sampler.choose(values, 0)


def test_log_probabilities(logits: np.ndarray) -> None:
    values = log_probabilities(logits)
    assert np.exp(values).sum() == pytest.approx(1, abs=1e-12)
    assert values[3] - values[4] == pytest.approx(float(logits[3]) - float(logits[4]), abs=1e-12)
