"""Sessions: kept, cut short, forked, saved and loaded; what follows has the bits of a text that is computed in one go."""

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tailrace
from tailrace import Completion, LanguageModel, LimitError, ModelError, TailraceError
from tailrace.spec.errors import ConfigError
from verification.unit.host.tiny_models import write_model

CONTEXT = 48
#: No end of the answer, so that lengths are known.
OPTIONS: Any = {"max_tokens": 4, "logprobs": 1, "logit_bias": {2: -1e5}}


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
    return tailrace.load(path, context=CONTEXT, **options)


@pytest.fixture(scope="module")
def lm(model: Path) -> Iterator[LanguageModel]:
    with load(model) as opened:
        yield opened


@pytest.fixture(scope="module")
def reference(model: Path) -> Iterator[LanguageModel]:
    with load(model) as opened:
        yield opened


def alone(reference: LanguageModel, tokens: Any) -> Completion:
    """The answer of a model that computes the whole text."""
    reference.decoder.reset()
    answer: Completion = reference.generate(list(tokens), **OPTIONS)
    assert answer.reused_tokens == 0
    return answer


def same(one: Completion, two: Completion) -> bool:
    return (one.text, one.tokens, one.finish_reason, one.logprobs) == (two.text, two.tokens, two.finish_reason, two.logprobs)


def test_a_session_goes_on(lm: LanguageModel, reference: LanguageModel) -> None:
    session = lm.session("abcd")
    assert len(session) == 2
    first = session.generate(**OPTIONS)
    assert same(first, alone(reference, lm.tokenizer.encode("abcd")))
    assert session.tokens == (*lm.tokenizer.encode("abcd"), *first.tokens)
    before = session.tokens
    second = session.generate("cdx", **OPTIONS)
    assert same(second, alone(reference, (*before, *lm.tokenizer.encode("cdx", at_start=False))))
    # All but the last token of the first answer was there.
    assert second.reused_tokens == len(before) - 1
    assert session.text == lm.tokenizer.decode(session.tokens)
    empty = lm.session()
    assert (len(empty), empty.text) == (0, "")
    assert same(empty.generate("abcd", **OPTIONS), first)


@pytest.mark.parametrize("which", ["model", "windowed"])
def test_a_session_outlives_what_others_do(which: str, request: pytest.FixtureRequest) -> None:
    """With one sequence on the device, its cache moves to this machine and back."""
    path = request.getfixturevalue(which)
    tokens = list(range(20, 32))
    with load(path) as opened, load(path) as whole:
        session = opened.session(tokens)
        first = session.generate(**OPTIONS)
        others = [opened.session([40 + n] * 7) for n in range(2)]
        for other in others:
            assert same(other.generate(**OPTIONS), alone(whole, [40 + others.index(other)] * 7))
        opened.generate([99] * 9, **OPTIONS)
        second = session.generate([50], **OPTIONS)
        assert same(second, alone(whole, [*tokens, *first.tokens, 50]))
        assert second.reused_tokens == len(tokens) + 3
        assert others[1].generate([60], **OPTIONS).reused_tokens == 7 + 3


def test_a_session_is_cut_short(lm: LanguageModel, reference: LanguageModel) -> None:
    session = lm.session("abcdxyz")
    session.generate(**OPTIONS)
    tokens = session.tokens
    session.truncate(3)
    assert session.tokens == tokens[:3]
    answer = session.generate([77], **OPTIONS)
    assert same(answer, alone(reference, [*tokens[:3], 77]))
    assert answer.reused_tokens == 3
    with pytest.raises(LimitError, match=re.escape("a session of 8 tokens can be cut to 0 to 8, not 9")):
        session.truncate(9)
    wrong: tuple[Any, ...] = (1.5, np.array([1, 2]), True)
    for no_number in wrong:
        with pytest.raises(ConfigError, match="^the length that a session is cut to must be a whole number, not "):
            session.truncate(no_number)


def test_a_fork_goes_its_own_way(lm: LanguageModel, reference: LanguageModel) -> None:
    session = lm.session("abcdxyz")
    session.generate(**OPTIONS)
    tokens = session.tokens
    other = session.fork()
    one, two = session.generate([70], **OPTIONS), other.generate([71], **OPTIONS)
    assert same(one, alone(reference, [*tokens, 70]))
    assert same(two, alone(reference, [*tokens, 71]))
    assert two.reused_tokens >= len(tokens) - 1
    assert session.tokens != other.tokens
    # Of one that is not on the device either.
    third = session.fork()
    third.truncate(4)
    answer = third.fork().generate([72], **OPTIONS)
    assert same(answer, alone(reference, [*tokens[:4], 72]))
    assert answer.reused_tokens == 4


@pytest.mark.parametrize("which", ["model", "windowed"])
def test_a_saved_session_goes_on_anywhere(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Saved by one build, loaded by another one: the codes are those that were stored, and the same bits follow."""
    path, file = request.getfixturevalue(which), tmp_path / "talk.npz"
    tokens = list(range(20, 31))
    with load(path, config="tiny") as opened, load(path) as whole:
        session = opened.session(tokens)
        session.generate(**OPTIONS)
        session.save(file)
        stored = opened.decoder.snapshot()
        expected = session.generate([50], **OPTIONS)
        with load(path, config="wide", batch=2) as other:
            loaded = other.load_session(file)
            assert loaded.tokens == session.tokens[: len(loaded)]
            assert len(loaded) == 11 + 4
            answer = loaded.generate([50], **OPTIONS)
            assert answer.reused_tokens == stored.length == 11 + 3
            assert same(answer, expected)
            assert same(answer, alone(whole, [*session.tokens[:15], 50]))
            again = tmp_path / "again.npz"
            other.load_session(file).save(again)
            assert again.read_bytes() == file.read_bytes()
    with np.load(file, allow_pickle=False) as arrays:
        for n, layer in enumerate(stored.layers):
            for name in ("key_scales", "key_codes", "value_scales", "value_codes"):
                assert np.array_equal(arrays[f"layer_{n}_{name}"], getattr(layer, name))
                assert arrays[f"layer_{n}_{name}"].any()


def test_a_session_that_was_never_computed(lm: LanguageModel, tmp_path: Path) -> None:
    lm.session("abcd").save(tmp_path / "new.npz")
    loaded = lm.load_session(tmp_path / "new.npz")
    assert loaded.tokens == tuple(lm.tokenizer.encode("abcd"))
    assert same(loaded.generate(**OPTIONS), lm.generate("abcd", **OPTIONS))


def test_a_session_that_is_longer_than_the_context(lm: LanguageModel, model: Path, tmp_path: Path) -> None:
    session = lm.session([30 + n for n in range(20)])
    session.generate(**OPTIONS)
    session.save(tmp_path / "long.npz")
    with tailrace.load(model, context=16) as short:
        loaded = short.load_session(tmp_path / "long.npz")
        text = "the prompt has 24 tokens, and the context has room for 16: load the model with a larger context, or shorten the prompt"
        with pytest.raises(LimitError, match=re.escape(text)):
            loaded.generate(**OPTIONS)
        loaded.truncate(10)
        answer = loaded.generate([9], **OPTIONS)
        assert answer.reused_tokens == 10
        assert same(answer, lm.generate([*range(30, 40), 9], **OPTIONS))


def changed(path: Path, **arrays: Any) -> Path:
    """A copy of a session's file with other arrays."""
    with np.load(path) as file:
        held = dict(file)
    other = path.with_name(f"changed-{len(list(path.parent.iterdir()))}.npz")
    np.savez(other, **{**held, **arrays})
    return other


def test_what_is_no_session(lm: LanguageModel, tmp_path: Path) -> None:
    session = lm.session("abcdxyz")
    session.generate(**OPTIONS)
    session.save(tmp_path / "good.npz")
    good = tmp_path / "good.npz"
    codes = np.load(good)["layer_0_key_codes"]
    scales = np.load(good)["layer_0_value_scales"]
    broken = np.full_like(scales, np.nan)
    (tmp_path / "text.npz").write_text("no session")
    (tmp_path / "short.npz").write_bytes(good.read_bytes()[:-40])
    flipped = bytearray(good.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    (tmp_path / "flipped.npz").write_bytes(flipped)
    cases = [
        (tmp_path / "text.npz", "is no session of tailrace, or is damaged: File is not a zip file"),
        (tmp_path / "short.npz", "is no session of tailrace, or is damaged: "),
        (tmp_path / "flipped.npz", "is no session of tailrace, or is damaged: "),
        (tmp_path / "none.npz", "does not exist: give the path of a session that was saved"),
        (tmp_path, "is no session of tailrace, or is damaged: it is not a file"),
        (Path("/dev/zero"), "is no session of tailrace, or is damaged: it is not a file"),
        (
            changed(good, tailrace_session=np.array([2, 0, 0])),
            "was saved by another version of tailrace: start the session anew",
        ),
        (
            changed(good, tailrace_session=np.array([1, 99, 0])),
            "is no session of tailrace, or is damaged: its numbers contradict",
        ),
        (changed(good, tokens=np.array([5, 999])), "is no session of tailrace, or is damaged: its numbers contradict"),
        (changed(good, tokens=np.zeros(10**6, np.int64)), "is no session of tailrace, or is damaged: tokens has 8000128 bytes"),
        (changed(good, layer_0_key_codes=codes[:, :1]), "layer_0_key_codes has the type int8 and the shape (1, 1, 1, 32)"),
        (changed(good, layer_0_key_codes=codes.astype(np.int16)), "layer_0_key_codes has the type int16"),
        (changed(good, layer_0_value_scales=broken), "layer_0_value_scales has something that is not a number"),
        (changed(good, tokens=np.array([{}], dtype=object)), "is no session of tailrace, or is damaged: "),
    ]
    for path, text in cases:
        with pytest.raises(ModelError, match=re.escape(text)) as caught:
            lm.load_session(path)
        assert str(caught.value).startswith(str(path))
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(ModelError, match="is no session of tailrace, or is damaged"):
        lm.load_session(tmp_path / "other.npz")


def test_damage_in_a_compressed_session(lm: LanguageModel, tmp_path: Path, rng: np.random.Generator) -> None:
    """Whoever packs a file again may choose another compression, and each has errors of its own."""
    session = lm.session("abcdxyz")
    session.generate(**OPTIONS)
    session.save(tmp_path / "good.npz")
    text = "is no session of tailrace, or is damaged: "
    for kind in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        packed = tmp_path / f"packed-{kind}.npz"
        with zipfile.ZipFile(tmp_path / "good.npz") as archive, zipfile.ZipFile(packed, "w", kind) as other:
            for name in archive.namelist():
                other.writestr(name, archive.read(name))
        assert lm.load_session(packed).tokens == session.tokens
        data = packed.read_bytes()
        for _ in range(30):
            broken = bytearray(data)
            # Within the archive's members, whose sums of bytes are checked.
            broken[int(rng.integers(60, len(data) // 2))] ^= 1 << int(rng.integers(8))
            (tmp_path / "broken.npz").write_bytes(broken)
            try:
                assert lm.load_session(tmp_path / "broken.npz").tokens == session.tokens
            except ModelError as error:
                assert text in str(error)


@pytest.mark.parametrize("shape", [(10**12,), (2**62,), (10**30,), (-1,), (2, 2), ()])
def test_a_header_that_promises_too_much(lm: LanguageModel, tmp_path: Path, shape: Any) -> None:
    """No memory is taken for it."""
    session = lm.session("abcdxyz")
    session.save(tmp_path / "good.npz")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<i8", "fortran_order": False, "shape": shape})
    path = tmp_path / "wrong.npz"
    with zipfile.ZipFile(tmp_path / "good.npz") as archive, zipfile.ZipFile(path, "w") as other:
        for name in archive.namelist():
            data = archive.read(name)
            other.writestr(name, header.getvalue() + data[128:] if name == "tokens.npy" else data)
    with pytest.raises(ModelError, match=re.escape(f"{path} is no session of tailrace, or is damaged: ")):
        lm.load_session(path)


@pytest.mark.parametrize("header", [b"{'descr': '<i8', 'x': ((", b"\xff" * 20, b"'" * 3, b"[" * 100, b"-" * 100, b"{'a': 1}"])
def test_a_header_that_is_none(lm: LanguageModel, tmp_path: Path, header: bytes) -> None:
    """Numpy reads it as Python, and raises what Python raises."""
    lm.session("abcdxyz").save(tmp_path / "good.npz")
    path = tmp_path / "wrong.npz"
    with zipfile.ZipFile(tmp_path / "good.npz") as archive, zipfile.ZipFile(path, "w") as other:
        for name in archive.namelist():
            data = archive.read(name)
            other.writestr(name, data[:10] + header + data[10 + len(header) :] if name == "tokens.npy" else data)
    with pytest.raises(ModelError, match=re.escape(f"{path} is no session of tailrace, or is damaged: ")):
        lm.load_session(path)


def test_a_session_of_another_model(lm: LanguageModel, tmp_path: Path) -> None:
    """Other weights in one matrix are another model."""
    session = lm.session("abcd")
    session.generate(**OPTIONS)
    session.save(tmp_path / "talk.npz")
    other = write_model(tmp_path / "other.gguf", layers=1, seed=2)
    with load(other) as opened:
        text = (
            f"{tmp_path / 'talk.npz'} was saved with another model than {other}, or, if its angles depend on the context (LongRoPE),"
            " with another context: load it with what it was saved with"
        )
        with pytest.raises(ModelError, match=re.escape(text)):
            opened.load_session(tmp_path / "talk.npz")


def test_saving_keeps_the_old_file_if_it_fails(lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = lm.session("abcd")
    session.save(tmp_path / "talk.npz")
    old = (tmp_path / "talk.npz").read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(TailraceError, match=f"^{tmp_path / 'talk.npz'} can't be written: No space left on device$"):
        session.save(tmp_path / "talk.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["talk.npz"]
    assert (tmp_path / "talk.npz").read_bytes() == old
    assert zipfile.is_zipfile(tmp_path / "talk.npz")


def test_a_stream_holds_its_session(lm: LanguageModel) -> None:
    session = lm.session("abcd")
    stream = session.generate("xy", stream=True, **{**OPTIONS, "logit_bias": {2: -1e5, 70: 1e5}})
    first = next(stream)
    for call in (lambda: session.generate(), lambda: session.truncate(1), session.fork, lambda: session.save("never.npz")):
        text = "the session is at work on an answer: read its stream to the end, or close it"
        with pytest.raises(TailraceError, match=text):
            call()
    stream.close()
    added = lm.tokenizer.encode("xy", at_start=False)
    assert session.tokens == (*lm.tokenizer.encode("abcd"), *added, *first.tokens)
    assert stream.result.finish_reason == "closed"
    assert session.generate(**OPTIONS).tokens


def test_an_answer_that_fails_leaves_the_session_as_it_was(lm: LanguageModel, reference: LanguageModel) -> None:
    session = lm.session("abcd")
    session.generate(**OPTIONS)
    tokens = session.tokens

    def fail(seen: np.ndarray, logits: np.ndarray) -> np.ndarray:
        if len(seen) > len(tokens) + 2:
            raise KeyboardInterrupt
        return logits

    with pytest.raises(KeyboardInterrupt):
        session.generate("x", **{**OPTIONS, "logits_processor": fail})
    assert session.tokens == tokens
    assert same(session.generate([33], **OPTIONS), alone(reference, [*tokens, 33]))


def test_a_session_chats(lm: LanguageModel) -> None:
    turn = {"role": "user", "content": "abcd"}
    session = lm.session()
    first = session.chat([turn], **OPTIONS)
    assert same(first, lm.chat([turn], **OPTIONS))
    assert session.tokens == (*lm.tokenizer.encode_chat([turn]), *first.tokens)
    lm.generate("zzzzzz", **OPTIONS)
    again = session.chat([turn], **OPTIONS)
    assert same(again, first)
    assert again.reused_tokens == again.prompt_tokens - 1
