"""The language model: prompts, chats, streams, batches; what is reused, interrupted, shared; bits are always those of a model alone."""

import copy
import pickle
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tailrace
from tailrace import Completion, ConfigError, LanguageModel, LimitError, ModelError, Stream, TailraceError
from tailrace.device.driver import Device
from tailrace.sim.devices import open_device
from tailrace.spec.config import parse_config
from verification.unit.host.tiny_models import write_model

CONTEXT = 40


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny.gguf", layers=1)


@pytest.fixture(scope="module")
def windowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    from verification.unit.host.transformers_models import make_model

    path = tmp_path_factory.mktemp("models") / "windowed.gguf"
    make_model(path, "phi3", layers=1, window=5, head_size=16, kv_heads=2)
    return path


def load(path: Path, **options: Any) -> LanguageModel:
    return tailrace.load(path, context=options.pop("context", CONTEXT), **options)


@pytest.fixture(scope="module")
def lm(model: Path) -> Iterator[LanguageModel]:
    with load(model) as opened:
        yield opened


_ALONE: dict[Path, LanguageModel] = {}


def alone(path: Path, prompt: Any, **options: Any) -> Completion:
    """The answer of a model that knows of nothing else."""
    if path not in _ALONE:
        _ALONE[path] = load(path)
    _ALONE[path].decoder.reset()
    answer: Completion = _ALONE[path].generate(prompt, **options)
    assert answer.reused_tokens == 0
    return answer


def same(one: Completion, two: Completion) -> bool:
    return (one.text, one.tokens, one.finish_reason, one.logprobs) == (two.text, two.tokens, two.finish_reason, two.logprobs)


def test_an_answer(lm: LanguageModel) -> None:
    answer = lm.generate("abcd", max_tokens=6, speculate=False)
    assert len(answer.tokens) == 6
    assert (answer.finish_reason, answer.prompt_tokens, answer.seed, answer.logprobs) == ("length", 2, None, None)
    assert str(answer) == answer.text == lm.tokenizer.decode(answer.tokens, at_start=False)
    # The whole prompt in one pass, which gives the first token.
    assert answer.counters.runs == 1 + 5
    assert answer.seconds > 0
    # By hand.
    lm.decoder.reset()
    token, tokens = 0, lm.tokenizer.encode("abcd")
    for token in tokens:
        logits = lm.decoder.step(token)
    expected = []
    for _ in range(6):
        expected.append(int(logits.argmax()))
        logits = lm.decoder.step(expected[-1])
    lm.decoder.reset()
    assert list(answer.tokens) == expected
    assert same(lm.generate(tokens, max_tokens=6), answer)
    assert same(lm.generate(np.array(tokens), max_tokens=6), answer)


def test_the_device_chooses_several_tokens(model: Path, lm: LanguageModel) -> None:
    with load(model, tokens_per_doorbell=4) as several:
        expected = lm.generate("abcd", max_tokens=6)
        answer = several.generate("abcd", max_tokens=6)
        assert same(answer, expected)
        assert answer.counters.runs == 1 + 2
        # The device went on behind the end; the sequence did not.
        stop = next(t for t in (several.tokenizer.decode([t], at_start=False) for t in expected.tokens[1:]) if t)
        cut = several.generate("abcd", max_tokens=6, stop=stop)
        assert cut.finish_reason == "stop"
        assert several.decoder.positions[0] <= cut.prompt_tokens + len(cut.tokens)
        assert same(cut, lm.generate("abcd", max_tokens=6, stop=stop))
        assert same(several.generate("abcd", max_tokens=6), expected)


def test_the_end_of_the_context(lm: LanguageModel) -> None:
    answer = lm.generate("x" * (CONTEXT - 2), logit_bias={2: -np.inf, 0: -np.inf})
    assert answer.finish_reason == "context"
    assert len(answer.tokens) == 3
    assert len(lm.generate("x" * CONTEXT, max_tokens=5, logit_bias={2: -np.inf}).tokens) == 1
    text = f"the prompt has {CONTEXT + 1} tokens, and the context has room for {CONTEXT}: load the model with a larger context, or shorten the prompt"
    with pytest.raises(LimitError, match=re.escape(text)):
        lm.generate("x" * (CONTEXT + 1))
    with pytest.raises(TailraceError, match=re.escape("the prompt is empty: it has no tokens")):
        lm.generate("")


def test_an_end_token(lm: LanguageModel) -> None:
    """A token that ends the answer is not in it, even as the first one."""
    answer = lm.generate("ab", logit_bias={2: 1e5})
    assert (answer.text, answer.tokens, answer.finish_reason) == ("", (), "stop")

    def third(tokens: np.ndarray, logits: np.ndarray) -> np.ndarray:
        if len(tokens) == 4:
            logits[2] = 1e5
        return logits

    answer = lm.generate("ab", logits_processor=third, max_tokens=9)
    assert (len(answer.tokens), answer.finish_reason) == (3, "stop")


def forced(text: str, lm: LanguageModel, start: int) -> Any:
    """A processor that makes the model say a text."""
    wanted = lm.tokenizer.encode(text)

    def force(tokens: np.ndarray, logits: np.ndarray) -> np.ndarray:
        logits[wanted[min(len(tokens) - start, len(wanted) - 1)]] = 1e5
        return logits

    return force


@pytest.mark.parametrize(
    ("said", "stop", "text"),
    [
        ("abcdxyz", "dx", "abc"),
        ("abcdxyz", ["zz", "yz"], "abcdx"),
        ("abab\n\nxx", ["\n\n"], "abab"),
        ("é€x!", "€", "é"),
    ],
)
def test_stop_strings(said: str, stop: Any, text: str, lm: LanguageModel) -> None:
    """They end an answer wherever tokens end, and nothing of them is ever handed on."""
    options: dict[str, Any] = {
        "stop": stop,
        "logits_processor": forced(said, lm, 1),
        "max_tokens": len(lm.tokenizer.encode(said)) + 1,
    }
    answer = lm.generate("x", **options)
    assert (answer.text, answer.finish_reason) == (text, "stop")
    pieces = list(lm.generate("x", stream=True, **options))
    assert "".join(p.text for p in pieces) == text
    assert [p.finish_reason for p in pieces] == [None] * (len(pieces) - 1) + [answer.finish_reason]
    assert tuple(t for p in pieces for t in p.tokens) == answer.tokens
    assert all(p.text for p in pieces[:-1])


def test_what_is_held_back_comes_at_the_end(lm: LanguageModel) -> None:
    options: dict[str, Any] = {"logits_processor": forced("abcd", lm, 1), "max_tokens": 2}
    answer = lm.generate("x", stop="cde", **options)
    assert (answer.text, answer.finish_reason) == ("abcd", "length")
    pieces = list(lm.generate("x", stop="cde", stream=True, **options))
    assert [p.text for p in pieces] == ["ab", "cd"]


def test_a_stream(lm: LanguageModel) -> None:
    expected = lm.generate("ab", max_tokens=5)
    stream = lm.generate("ab", max_tokens=5, stream=True)
    with pytest.raises(
        TailraceError, match="the stream has not ended: read all its pieces, or close it, then ask for the result"
    ):
        _ = stream.result
    assert "".join(piece.text for piece in stream) == expected.text
    assert same(stream.result, expected)
    with lm.generate("ab", max_tokens=5, stream=True) as early:
        first = next(early)
    assert early.result.finish_reason == "closed"
    assert early.result.tokens == first.tokens == expected.tokens[: len(first.tokens)]
    assert next(early, None) is None


def test_log_probabilities(lm: LanguageModel) -> None:
    answer = lm.generate("ab", max_tokens=3, logprobs=4, temperature=3.0, seed=1)
    assert answer.logprobs is not None
    lm.decoder.reset()
    tokens = [*lm.tokenizer.encode("ab"), *answer.tokens]
    logits = np.array([lm.decoder.step(t) for t in tokens])[-4:-1].astype(np.float64)
    lm.decoder.reset()
    for row, chosen, token in zip(logits, answer.logprobs, answer.tokens, strict=True):
        expected = row - np.log(np.exp(row - row.max()).sum()) - row.max()
        assert chosen.token == token
        assert chosen.logprob == pytest.approx(expected[token], abs=1e-12)
        assert [t.token for t in chosen.top] == np.argsort(-expected, kind="stable")[:4].tolist()
        assert [t.logprob for t in chosen.top] == pytest.approx(np.sort(expected)[::-1][:4].tolist(), abs=1e-12)
        assert chosen.text == lm.tokenizer.decode([token], at_start=False)
    with_pieces = list(lm.generate("ab", max_tokens=3, logprobs=4, temperature=3.0, seed=1, stream=True))
    assert tuple(entry for p in with_pieces for entry in p.logprobs or ()) == answer.logprobs
    assert lm.generate("ab", max_tokens=1, logprobs=0).logprobs[0].top == ()  # type: ignore[index]


def test_a_processor_of_the_callers_own(lm: LanguageModel) -> None:
    seen = []

    def note(tokens: np.ndarray, logits: np.ndarray) -> np.ndarray:
        seen.append(tokens.tolist())
        logits[:] = -1
        logits[77] = 1
        return logits

    answer = lm.generate("ab", max_tokens=3, logits_processor=[note, lambda tokens, logits: logits * 2])
    assert answer.tokens == (77, 77, 77)
    start = lm.tokenizer.encode("ab")
    assert seen == [start, [*start, 77], [*start, 77, 77]]
    with pytest.raises(
        TailraceError, match=re.escape("a logits processor must return logits of shape (288,), and it returned nothing")
    ):
        lm.generate("ab", logits_processor=lambda tokens, logits: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(TailraceError, match="no token can be chosen: a logit is not a number, or all tokens are banned"):
        lm.generate("ab", logits_processor=lambda tokens, logits: logits * np.float32(np.nan))


def test_a_processor_may_ask_the_model(model: Path) -> None:
    with load(model) as opened:

        def ask(tokens: np.ndarray, logits: np.ndarray) -> np.ndarray:
            opened.generate("zz", max_tokens=2)
            return logits

        assert (
            opened.generate("abcd", max_tokens=4, logits_processor=ask).tokens == opened.generate("abcd", max_tokens=4).tokens
        )


def test_seeds(lm: LanguageModel) -> None:
    options: dict[str, Any] = {"max_tokens": 6, "temperature": 5.0}
    one, two = (lm.generate("ab", **options) for _ in range(2))
    assert one.seed != two.seed
    assert one.tokens != two.tokens
    assert one.seed is not None
    assert same(lm.generate("ab", seed=one.seed, **options), one)
    assert lm.generate("ab", max_tokens=1).seed is None


def test_none_is_as_good_as_left_out(lm: LanguageModel) -> None:
    options: Any = dict.fromkeys(tailrace.Options.__annotations__) | {"max_tokens": 3}
    assert same(lm.generate("ab", **options), lm.generate("ab", max_tokens=3))


def test_wrong_options(lm: LanguageModel) -> None:
    for options, text in (
        ({"max_tokens": 0}, "max_tokens must be a whole number of 1 or more, or None, not 0"),
        ({"logprobs": -1}, "logprobs must be a whole number of 0 or more, or None, not -1"),
        ({"logprobs": True}, "logprobs must be a whole number of 0 or more, or None, not True"),
        ({"stop": ""}, "a stop string must be some text, not ''"),
        ({"stop": ["a", 5]}, "a stop string must be some text, not 5"),
        ({"logit_bias": {999: 1.0}}, "logit_bias has token 999, which is not one of the model's 288"),
    ):
        with pytest.raises(ConfigError, match=re.escape(text)):
            lm.generate("ab", **options)
    with pytest.raises(TypeError, match="unknown option 'max_new_tokens': choose from max_tokens, temperature, top_k"):
        lm.generate("ab", max_new_tokens=5)  # type: ignore[call-overload]
    with pytest.raises(TailraceError, match=re.escape("token 300 is not one of the model's 288")):
        lm.generate([300])
    assert lm.generate("ab", max_tokens=1).tokens


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"stop": 5}, "stop must be a text or several, not 5"),
        ({"logits_processor": 5}, "logits_processor must be a callable or several, not 5"),
        ({"logits_processor": [None]}, "a logits processor must be callable, not None"),
        ({"logit_bias": [1]}, "logit_bias must be a mapping of tokens to numbers, not [1]"),
        (
            {"temperature": np.array([0.5, 1.0])},
            "temperature must be 0, for the best token, or from 1e-06 to 1e+06, not [0.5 1. ]",
        ),
    ],
)
def test_options_of_another_type(lm: LanguageModel, options: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        lm.generate("ab", **options)


@pytest.mark.parametrize("given", [None, 5, b"ab"])
def test_what_the_tokenizer_can_not_encode(lm: LanguageModel, given: Any) -> None:
    with pytest.raises(TailraceError, match=f"^{re.escape(f'a text is expected, not {given!r}')}$"):
        lm.tokenizer.encode(given)


@pytest.mark.parametrize("token", ["a", 1.5, True, None])
def test_what_the_tokenizer_can_not_decode(lm: LanguageModel, token: Any) -> None:
    assert lm.tokenizer.decode(np.array([50])) == lm.tokenizer.decode([50])
    with pytest.raises(TailraceError, match=f"^{re.escape(f'a token must be a whole number, not {token!r}')}$"):
        lm.tokenizer.decode([token])


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        (None, "a prompt is a text or a list of whole numbers, its tokens, and None is no token"),
        ([1, None], "a prompt is a text or a list of whole numbers, its tokens, and None is no token"),
        ([[1], [2, None]], "a prompt is a text or a list of whole numbers, its tokens, and None is no token"),
        ([[[1]]], "a prompt is a text or a list of whole numbers, its tokens, and [1] is no token"),
        (np.zeros((1, 1, 2), int), "a prompt is a text or a list of whole numbers, its tokens, and [0, 0] is no token"),
        ({"role": "user"}, "a token is a whole number, not {'role': 'user'}"),
        ({7}, "a token is a whole number, not {7}"),
        (Path("prompt.txt"), "a token is a whole number, not PosixPath('prompt.txt')"),
        (np.array([1.0]), "a token is a whole number, not 1.0"),
        (b"ab", "tokens are whole numbers, and this is text: encode it with the model's tokenizer"),
    ],
)
def test_prompts_of_another_type(lm: LanguageModel, prompt: Any, text: str) -> None:
    with pytest.raises(TailraceError, match=f"^{re.escape(text)}$"):
        lm.generate(prompt)


@pytest.mark.parametrize("messages", [None, 5, b"ab", {"role": "user", "content": "ab"}, ["ab"], [{"content": "ab"}]])
def test_what_is_no_conversation(lm: LanguageModel, messages: Any) -> None:
    text = "a conversation is a text or a list of messages such as {'role': 'user', 'content': 'Hello'}, not "
    with pytest.raises(TailraceError, match=f"^{re.escape(text)}"):
        lm.chat(messages)


def test_neither_copied_nor_pickled(lm: LanguageModel) -> None:
    """A shallow copy would share what its original changes."""
    for call in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="^a language model is on a device, and can't be copied or pickled: load it"):
            call(lm)
        with pytest.raises(TypeError, match="^a session is on a device, and can't be copied or pickled: fork it, or save it"):
            call(lm.session("ab"))


def test_a_stream_that_is_read_twice_at_a_time(lm: LanguageModel) -> None:
    calls = []

    def read(tokens: np.ndarray, logits: np.ndarray) -> np.ndarray:
        for call in (lambda: next(stream), stream.close):
            with pytest.raises(TailraceError, match="^the stream is being read at this moment: read it in one thread, and not"):
                call()
            calls.append(call)
        return logits

    stream = lm.generate("abcd", max_tokens=3, logit_bias={2: -1e5}, logits_processor=read, stream=True)
    list(stream)
    assert len(calls) == 2 * 3
    assert same(stream.result, lm.generate("abcd", max_tokens=3, logit_bias={2: -1e5}))


def test_interrupted_between_two_pieces(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where what computes them does not see it; and the error is kept, as an interactive Python keeps it."""
    session = lm.session("abcd")
    tokens, following = session.tokens, Stream.__next__
    calls: list[Stream] = []

    def interrupted(stream: Stream) -> Any:
        calls.append(stream)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return following(stream)

    with monkeypatch.context() as patched:
        patched.setattr(Stream, "__next__", interrupted)
        with pytest.raises(KeyboardInterrupt) as kept:
            session.generate(max_tokens=8, logit_bias={2: -1e5, 70: 1e5})
    assert kept.tb is not None
    assert session.tokens == tokens
    assert same(session.generate(max_tokens=3), lm.generate("abcd", max_tokens=3))


TURN = {"role": "user", "content": "abcd"}


def test_chat_reuses_the_turns_before(model: Path, lm: LanguageModel) -> None:
    first = lm.chat([TURN], max_tokens=4)
    conversation = [TURN, {"role": "assistant", "content": first.text}, {"role": "user", "content": "cdab"}]
    tokens = lm.tokenizer.encode_chat(conversation)
    with load(model) as other:
        expected = other.chat(conversation, max_tokens=4, logprobs=1)
        assert (expected.reused_tokens, expected.prompt_tokens) == (0, len(tokens))
        assert same(lm.chat(conversation, max_tokens=4, logprobs=1), expected)
        lm.generate("zzzz", max_tokens=2)
        lm.chat([TURN], max_tokens=4)
        again = lm.chat(conversation, max_tokens=4, logprobs=1)
        assert again.reused_tokens >= 2
        assert same(again, expected)
        # The last answer once more: all but the last token of its prompt is there.
        assert lm.chat(conversation, max_tokens=4).reused_tokens == len(tokens) - 1
        with_text = lm.chat("abcd", max_tokens=4)
        assert same(with_text, first)
    pieces = list(lm.chat([TURN], max_tokens=4, stream=True))
    assert "".join(p.text for p in pieces) == first.text


@pytest.mark.parametrize("which", ["model", "windowed"])
def test_reuse_changes_nothing(which: str, request: pytest.FixtureRequest, rng: np.random.Generator) -> None:
    """Prompts that share beginnings of all lengths, one after the other, windows closed or not."""
    path = request.getfixturevalue(which)
    base = [int(t) for t in rng.integers(10, 250, 16)]
    with load(path) as opened:
        for length in (16, 9, 3, 15):
            prompt = base[:length] + [11] * (length % 2)
            answer = opened.generate(prompt, max_tokens=3, logprobs=1)
            assert same(answer, alone(path, prompt, max_tokens=3, logprobs=1))


def test_a_batch(model: Path, rng: np.random.Generator) -> None:
    """More prompts than sequences, of unequal lengths, greedy and drawn: each has the answer that it has alone."""
    prompts = [[int(t) for t in rng.integers(10, 250, n)] for n in (3, 7, 1, 5)]
    for options in ({"max_tokens": 5}, {"max_tokens": 5, "temperature": 2.0, "seed": 5, "logprobs": 1}):
        expected = [alone(model, p, **options) for p in prompts]
        with load(model, batch=3) as opened:
            answers = opened.generate(prompts, **options)  # type: ignore[call-overload]
            assert [same(a, e) for a, e in zip(answers, expected, strict=True)] == [True] * 4
            steps = opened.generate(prompts, stream=True, **options)  # type: ignore[call-overload]
            texts = [""] * 4
            for piece in steps:
                texts[piece.index] += piece.text
            assert texts == [e.text for e in expected]
            with pytest.raises(TailraceError, match="the stream answers several prompts: ask for its results"):
                _ = steps.result
            assert [same(a, e) for a, e in zip(steps.results, expected, strict=True)] == [True] * 4


def test_a_batch_with_windows(windowed: Path) -> None:
    """A sequence that waits while others go on, its window closed, has what it needs when it goes on itself."""
    prompts = [list(range(20, 20 + n)) for n in (9, 2, 5)]
    with load(windowed, batch=2) as opened:
        for prompt, answer in zip(prompts, opened.generate(prompts, max_tokens=7, logprobs=1), strict=True):
            assert same(answer, alone(windowed, prompt, max_tokens=7, logprobs=1))
        for prompt in prompts:
            longer = [*prompt, 50]
            assert same(opened.generate(longer, max_tokens=3), alone(windowed, longer, max_tokens=3))


def test_a_full_sequence_keeps_company(model: Path) -> None:
    """Its last token is computed again."""
    full, other = [30 + n % 7 for n in range(CONTEXT - 1)], [20, 21]
    options: dict[str, Any] = {"max_tokens": 6, "logit_bias": {2: -1e5}}
    with load(model, batch=2) as opened:
        first = opened.generate([full, other], **options)
        assert [a.finish_reason for a in first] == ["context", "length"]
        assert len(first[0].tokens) == 2
        for prompt, answer in zip((full, other), first, strict=True):
            assert same(answer, alone(model, prompt, **options))
            assert same(opened.generate(prompt, **options), answer)


def test_a_batch_shares_steps(model: Path) -> None:
    """Two prompts at a time need half the steps, and a third one begins when the first is done."""
    with load(model, batch=2) as opened:
        seen: list[int] = []
        start = opened.device.counters.runs
        ban = {2: -np.inf, 0: -np.inf}
        opened.generate(["a", "c"], max_tokens=8, logit_bias=ban, speculate=False)
        assert opened.device.counters.runs - start == 8
        start = opened.device.counters.runs

        def short(tokens: np.ndarray, logits: np.ndarray) -> np.ndarray:
            logits[2] = 1e5 if tokens[0] == opened.tokenizer.encode("x")[0] and len(tokens) == 3 else -1e5
            seen.append(len(tokens))
            return logits

        opened.generate(["x", "c", "d"], max_tokens=6, logits_processor=short, speculate=False)
        assert opened.device.counters.runs - start == 3 + 6


def test_streams_side_by_side(model: Path) -> None:
    """Read in turns on one sequence, each has its own answer."""
    expected = [alone(model, p, max_tokens=5) for p in ("abcd", "cdab")]
    with load(model) as opened:
        streams = [opened.generate(p, max_tokens=5, stream=True) for p in ("abcd", "cdab")]
        texts, going = ["", ""], [0, 1]
        while going:
            for n in list(going):
                piece = next(streams[n], None)
                if piece is None:
                    going.remove(n)
                else:
                    texts[n] += piece.text
        assert texts == [e.text for e in expected]
        assert [same(s.result, e) for s, e in zip(streams, expected, strict=True)] == [True, True]


@pytest.mark.parametrize("batch", [1, 2])
def test_threads(model: Path, batch: int) -> None:
    prompts = ["abcd", "cdab", "xyz", "ab"]
    expected = [alone(model, p, max_tokens=5) for p in prompts]
    with load(model, batch=batch) as opened:
        found: dict[int, list[Completion]] = {}

        def work(n: int) -> None:
            stream = opened.generate(prompts[n], max_tokens=5, stream=True)
            for _ in stream:
                pass
            found[n] = [stream.result, opened.generate(prompts[n], max_tokens=5)]

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for n in range(4):
        assert [same(answer, expected[n]) for answer in found[n]] == [True, True]


@pytest.mark.parametrize("which", ["model", "windowed"])
def test_interrupted(which: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C at any doorbell, before or after the device was done, and the next answer is right."""
    path = request.getfixturevalue(which)
    prompts = [[20, 21, 22, 23, 24, 25, 26], [20, 21, 22, 23, 40]]
    expected = [alone(path, p, max_tokens=4, logprobs=1) for p in prompts]
    with load(path, tokens_per_doorbell=3) as opened:
        start = opened.device.start
        left = [0]

        def interrupted(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] == -1:
                raise KeyboardInterrupt
            result = start(*arguments, **options)
            if left[0] == 0:
                raise KeyboardInterrupt
            return result

        monkeypatch.setattr(opened.device, "start", interrupted)
        for after in (0, 1, 3, 6, 7):
            for n in (0, 1):
                # A prompt that begins differently each time, so that nothing of it is there already.
                own = [30 + after, *prompts[n][1:]]
                left[0] = min(after, len(own))
                with pytest.raises(KeyboardInterrupt):
                    opened.generate(own, max_tokens=12, logit_bias={2: -1e5} if after % 2 else None)
                left[0] = 1000
                assert same(opened.generate(prompts[1 - n], max_tokens=4, logprobs=1), expected[1 - n])


def test_interrupted_anywhere(model: Path, rng: np.random.Generator) -> None:
    """Ctrl-C at any moment, again and again, with two sessions that move to and fro."""
    prompts = [[20, 21, 22, 23, 24], [20, 21, 22, 40, 41]]
    options: dict[str, Any] = {"max_tokens": 5, "logprobs": 1, "logit_bias": {2: -1e5}}
    expected = [alone(model, p, **options) for p in prompts]

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGALRM, interrupt)
    try:
        with load(model) as opened:
            sessions, hits, turn = [opened.session(p) for p in prompts], 0, -1
            while hits < 12:
                turn += 1
                try:
                    # As long as both take, on machines of any speed: now and then in vain.
                    signal.setitimer(signal.ITIMER_REAL, float(2 ** -rng.uniform(3, 11)))
                    sessions[turn % 2].fork().generate(**options)
                    opened.generate(prompts[turn % 2], **options)
                except KeyboardInterrupt:
                    hits += 1
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                answer = (
                    sessions[turn % 2].fork().generate(**options) if turn % 4 else opened.generate(prompts[turn % 2], **options)
                )
                assert same(answer, expected[turn % 2])
    finally:
        signal.signal(signal.SIGALRM, old)


@pytest.mark.slow
def test_the_rtl_gives_the_same_answers(model: Path) -> None:
    options: dict[str, Any] = {"max_tokens": 4, "temperature": 2.0, "seed": 7, "logprobs": 2}
    expected = [alone(model, p, **options) for p in ("abcd", "cdx")]
    with load(model, device="verilator", config="tiny") as simulated:
        session = simulated.session("abcd")
        assert same(session.generate(**options), expected[0])
        assert same(simulated.generate("cdx", **options), expected[1])
        answer = session.generate([50], **options)
        assert answer.reused_tokens == len(session) - len(answer.tokens) - 2
        assert answer.counters.cycles > 0
        assert same(answer, alone(model, session.tokens[: -len(answer.tokens)], **options))


def test_what_was_taken_is_told(model: Path) -> None:
    with load(model) as opened:
        config = "base,right_hand_sides=4"
        assert (opened.config, opened.memory_bytes, opened.context, opened.batch) == (config, 1 << 20, CONTEXT, 1)
        what = f"configuration {config}, 1MiB of memory, context 40, batch 1"
        assert repr(opened) == f"<LanguageModel tiny.gguf on emulator: {what}>"
    with load(model, config="auto,bus_width=256,right_hand_sides=2", memory="3MiB", batch=2) as opened:
        assert (opened.config, opened.memory_bytes) == ("base,bus_width=256,right_hand_sides=2", 3 << 20)
        assert opened.config is not None
        with load(model, config=opened.config, memory=f"{opened.memory_bytes}") as again:
            assert (again.config, again.memory_bytes, again.batch) == (opened.config, opened.memory_bytes, 1)

    class Wire:
        """Hardware does not know its configuration."""

        name = "serial:/dev/ttyUSB0"

        def __init__(self) -> None:
            self._far = open_device("golden", parse_config("tiny"), 1 << 22)

        def __getattr__(self, name: str) -> Any:
            if name == "config":
                raise AttributeError(name)
            return getattr(self._far, name)

    with Device(Wire()) as device, tailrace.load(model, device, context=CONTEXT) as opened:  # type: ignore[arg-type]
        assert opened.config is None
        assert repr(opened) == "<LanguageModel tiny.gguf on serial:/dev/ttyUSB0: 4MiB of memory, context 40, batch 1>"


def test_two_models_on_a_device(model: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "other.gguf", layers=1, seed=3)
    with Device(open_device("golden", parse_config("tiny"), 1 << 23)) as device:
        models = [tailrace.load(path, device, context=CONTEXT) for path in (model, other)]
        answers = [[m.generate("abcd", max_tokens=4, logprobs=1) for m in models] for _ in range(2)]
    for path, found in zip((model, other), zip(*answers), strict=True):
        assert all(same(answer, alone(path, "abcd", max_tokens=4, logprobs=1)) for answer in found)


def test_a_stream_that_is_left(model: Path, lm: LanguageModel) -> None:
    expected = alone(model, "abcd", max_tokens=5)
    for pieces in (0, 1, 3):
        stream = lm.generate("abcd", max_tokens=5, stream=True)
        for _ in range(pieces):
            next(stream, None)
        stream.close()
        stream.close()
        assert same(lm.generate("abcd", max_tokens=5), expected)


def test_a_template_is_told_more(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}{{ mood }}>"
    with load(write_model(tmp_path / "m.gguf", layers=1, chat_template=template)) as opened:
        answer = opened.chat("ab", chat_template_kwargs={"mood": "xyz"}, max_tokens=3)
        assert same(answer, opened.generate("abxyz>", max_tokens=3))
        session = opened.session()
        assert same(session.chat("ab", chat_template_kwargs={"mood": "xyz"}, max_tokens=3), answer)
    with load(write_model(tmp_path / "n.gguf", layers=1, chat_template=None)) as opened:
        with pytest.raises(ModelError, match="has no chat template: continue the prompt as it is, with `generate` or --raw$"):
            opened.chat("ab")


def test_what_is_wrong_with_a_tokenizer_is_a_warning(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", layers=1, metadata={"tokenizer.ggml.eot_token_id": 9999})
    with pytest.warns(UserWarning, match="eot_token_id is 9,999, but there are 288 tokens: it is left out") as caught:
        load(path).close()
    assert caught[0].filename == __file__


def test_steps_are_told_and_counted(model: Path) -> None:
    """Whoever listens to the decoder's steps does not take them from the answers."""
    with load(model) as opened:
        seen: list[int] = []
        opened.decoder.on_step = lambda counters: seen.append(counters.runs)
        answer = opened.generate("abcd", max_tokens=3, logit_bias={2: -1e5}, speculate=False)
        assert len(seen) == answer.counters.runs == 1 + 2
        opened.decoder.on_step = None
        assert opened.generate("xy", max_tokens=3, logit_bias={2: -1e5}, speculate=False).counters.runs == 1 + 2


def test_closing(model: Path) -> None:
    device = Device(open_device("golden", parse_config("tiny"), 1 << 22))
    with tailrace.load(model, device, context=CONTEXT) as opened:
        stream = opened.generate("abcd", stream=True)
        next(stream)
    opened.close()
    for call in (lambda: next(stream), lambda: opened.generate("ab"), lambda: opened.chat("ab")):
        with pytest.raises(TailraceError, match="the language model is closed: load it again"):
            call()
    # The device was the caller's, and still is.
    again = tailrace.load(model, device, context=CONTEXT)
    assert again.generate("ab", max_tokens=1).tokens
    device.close()


def test_what_can_not_be_loaded(model: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape("unknown device 'gold': choose one of emulator, golden, verilator")):
        tailrace.load(model, "gold")
    with Device(open_device("golden", parse_config("tiny"), 1 << 22)) as device:
        with pytest.raises(ConfigError, match="config is for devices without hardware that are opened here: leave it out"):
            tailrace.load(model, device, config="tiny")
    with pytest.raises(LimitError, match="was made for a context of 64 tokens"):
        tailrace.load(model, context=65)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"device": None}, "unknown device None: choose one of emulator, golden, verilator"),
        ({"config": None}, "config must be a text, as in 'auto', not None"),
        ({"memory": 1 << 20}, "memory must be a text, as in 'auto', not 1048576"),
        ({"context": np.int64(16)}, "context must be a whole number (int) of 1 or more, not np.int64(16)"),
        ({"context": "16"}, "context must be a whole number (int) of 1 or more, not '16'"),
        ({"context": 0}, "context must be a whole number (int) of 1 or more, not 0"),
        ({"batch": 1.5}, "batch must be a whole number (int) of 1 or more, not 1.5"),
        ({"batch": 0}, "batch must be a whole number (int) of 1 or more, not 0"),
        ({"tokens_per_doorbell": 0}, "tokens_per_doorbell must be a whole number (int) of 1 or more, not 0"),
    ]
    for options, text in wrong:
        with pytest.raises(ConfigError, match=f"^{re.escape(text)}"):
            tailrace.load(model, **options)
    with tailrace.load(str(model)) as opened:
        assert opened.context == 64
