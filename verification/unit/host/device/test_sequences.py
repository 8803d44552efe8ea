"""Sequences of a decoder, one by one: sitting out, cut short, kept and restored; bit for bit."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailrace.device.decoder import Decoder
from tailrace.device.driver import Device
from tailrace.gguf.describe import import_model
from tailrace.gguf.file import open_model
from tailrace.sim.devices import open_device
from tailrace.spec.config import parse_config
from tailrace.spec.errors import LimitError, ModelError, TailraceError
from verification.unit.host.tiny_models import write_model

CONTEXT = 24
WINDOW = 5


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "plain.gguf")


@pytest.fixture(scope="module")
def windowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    from verification.unit.host.transformers_models import make_model

    path = tmp_path_factory.mktemp("models") / "windowed.gguf"
    make_model(path, "phi3", layers=1, window=WINDOW, head_size=16, kv_heads=2)
    return path


@pytest.fixture(scope="module")
def chunked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layer that sees the tokens of a chunk, and one that sees all."""
    pytest.importorskip("torch")
    from verification.unit.host.transformers_models import make_model

    path = tmp_path_factory.mktemp("models") / "chunked.gguf"
    make_model(path, "llama4", window=WINDOW, period=4)
    return path


def open_decoder(path: Path, batch: int = 1, config: str = "tiny", context: int = CONTEXT, **options: Any) -> Decoder:
    device = Device(open_device("golden", parse_config(f"{config},right_hand_sides={1 if batch == 1 else 4}"), 1 << 25))
    return Decoder(device, import_model(open_model(path), context), batch=batch, **options)


def text(count: int, seed: int = 5) -> list[int]:
    return [int(t) for t in np.random.default_rng(seed).integers(0, 256, count)]


def test_tokens_are_taken_as_they_come(plain: Path) -> None:
    torch = pytest.importorskip("torch")
    decoder = open_decoder(plain)
    tokens = text(4)
    expected = None
    for form in (list, tuple, np.array, torch.tensor, lambda t: [np.int32(x) for x in t], lambda t: torch.tensor([t])):
        decoder.reset()
        decoder.prefill(form(tokens[:-1]))
        assert decoder.positions == [3]
        logits = decoder.step(np.int64(tokens[-1]))
        assert logits.shape == (288,)
        expected = logits if expected is None else expected
        assert np.array_equal(logits, expected)
        decoder.truncate(3)
        assert decoder.step(torch.tensor([tokens[-1]])).shape == (1, 288)
        decoder.truncate(3)
        best = int(expected.argmax())
        assert decoder.run(torch.tensor(tokens[-1])) == [best]
        decoder.truncate(3)
        assert decoder.run(np.array([tokens[-1]])) == [[best]]
    with pytest.raises(TailraceError, match=re.escape("a token is a whole number, not 1.5")):
        decoder.step(1.5)  # type: ignore[arg-type]
    with pytest.raises(TailraceError, match=re.escape("tokens are whole numbers, and this is text: encode it")):
        decoder.prefill("text")  # type: ignore[arg-type]


def test_logits_are_the_callers_own(plain: Path) -> None:
    decoder = open_decoder(plain)
    logits = decoder.step(1)
    kept = logits.copy()
    logits /= 2
    logits[3] = -np.inf
    decoder.reset()
    assert np.array_equal(decoder.step(1), kept)


@pytest.mark.parametrize("model", ["plain", "windowed"])
def test_a_sequence_sits_out(model: str, request: pytest.FixtureRequest) -> None:
    """Steps of others change nothing for it, wherever it stands, its window closed or not."""
    path = request.getfixturevalue(model)
    own, other = text(12, 1), text(14, 2)
    alone = open_decoder(path)
    expected = [alone.step(t) for t in own]
    batch = open_decoder(path, 2)
    done = 0
    for token in other:
        if done < len(own) and token % 2:
            logits = batch.step([own[done], None])
            assert np.array_equal(logits[0], expected[done])
            assert np.isnan(logits[1]).all()
            done += 1
        batch.step([None, token])
    batch.prefill([own[done:-1], []])
    assert np.array_equal(batch.step([own[-1], None])[0], expected[-1])
    assert batch.positions == [len(own), len(other)]
    assert batch.run([None, 1])[0] == []


def test_a_full_sequence_stays_as_it_is_while_others_go_on(plain: Path) -> None:
    own = text(CONTEXT)
    batch = open_decoder(plain, 3)
    batch.prefill([own[:-1], [], []])
    last = batch.step([own[-1], None, None])[0]
    batch.step([None, 7, None])
    assert batch.positions == [CONTEXT, 1, 0]
    batch.step([None, 7, 7])
    assert batch.positions == [CONTEXT, 2, 1]
    batch.truncate(CONTEXT - 1)
    assert np.array_equal(batch.step([own[-1], None, None])[0], last)


def test_one_sequence_starts_over(plain: Path) -> None:
    batch, alone = open_decoder(plain, 2), open_decoder(plain)
    tokens = text(5)
    expected = [alone.step(t) for t in tokens]
    for t in tokens[:3]:
        batch.step([t, 9])
    batch.reset(1)
    assert batch.positions == [3, 0]
    for n, t in enumerate(tokens[:2]):
        logits = batch.step([tokens[3 + n], t])
        assert np.array_equal(logits[0], expected[3 + n])
        assert np.array_equal(logits[1], expected[n])


def test_a_sequence_is_cut_short(plain: Path) -> None:
    decoder = open_decoder(plain, tokens_per_doorbell=4)
    tokens = text(6)
    expected = [decoder.step(t) for t in tokens]
    for length in (4, 1, 0):
        decoder.truncate(length)
        assert decoder.positions == [length]
        assert np.array_equal(decoder.step(tokens[length]), expected[length])
    decoder.run(3, 4)
    with pytest.raises(LimitError, match=re.escape("a sequence of 5 tokens can be cut to 0 to 5, not 6")):
        decoder.truncate(6)
    with pytest.raises(LimitError, match=re.escape("a sequence of 5 tokens can be cut to 0 to 5, not -1")):
        decoder.truncate(-1)


def test_a_window_that_has_closed_is_cut_by_one_token_only(windowed: Path) -> None:
    tokens = text(12)
    decoder = open_decoder(windowed)
    expected = [decoder.step(t) for t in tokens]
    assert decoder.earliest() == 11
    message = "a sequence of 12 tokens can be cut to 0, or to 11 to 12, not 10: what came before is overwritten"
    with pytest.raises(LimitError, match=re.escape(message)):
        decoder.truncate(10)
    decoder.truncate(11)
    assert np.array_equal(decoder.step(tokens[11]), expected[11])
    decoder.truncate(0)
    assert decoder.earliest() == 0
    decoder.prefill(tokens[:WINDOW])
    decoder.truncate(2)
    for n in range(2, 8):
        assert np.array_equal(decoder.step(tokens[n]), expected[n])


def test_chunks_are_cut_to_where_the_last_one_began(chunked: Path) -> None:
    tokens = text(13)
    decoder = open_decoder(chunked)
    expected = [decoder.step(t) for t in tokens]
    assert decoder.earliest() == 10
    message = "a sequence of 13 tokens can be cut to 0, or to 10 to 13, not 9: what came before is overwritten"
    with pytest.raises(LimitError, match=re.escape(message)):
        decoder.truncate(9)
    kept = decoder.snapshot()
    for length in (12, 10):
        decoder.truncate(length)
        for n in range(length, 13):
            assert np.array_equal(decoder.step(tokens[n]), expected[n])
        other = open_decoder(chunked)
        other.restore(kept.first(length))
        assert np.array_equal(other.step(tokens[length]), expected[length])
    # A chunk that is full has lost nothing of its own.
    decoder.reset()
    decoder.prefill(tokens[: 2 * WINDOW])
    assert decoder.earliest() == WINDOW
    assert decoder.reversible() == 1
    decoder.truncate(WINDOW)
    for n in range(WINDOW, 13):
        assert np.array_equal(decoder.step(tokens[n]), expected[n])


def test_an_interrupted_step_counts_as_written(windowed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = open_decoder(windowed)
    decoder.prefill(text(8))
    assert decoder.earliest() == 7

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(decoder.device, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        decoder.step(1)
    assert (decoder.positions, decoder.earliest()) == ([8], 8)


@pytest.mark.parametrize("model", ["plain", "windowed", "chunked"])
def test_a_snapshot_goes_anywhere(model: str, request: pytest.FixtureRequest) -> None:
    """Read from one build, restored in another sequence of another build: the same bits follow, and the same bytes are stored."""
    path = request.getfixturevalue(model)
    tokens = text(11)
    decoder = open_decoder(path)
    decoder.prefill(tokens[:9])
    kept = decoder.snapshot()
    expected = [decoder.step(t) for t in tokens[9:]]
    other = open_decoder(path, 2, "tiny,bus_width=512", context=20)
    other.prefill([text(3, 8), text(13, 9)])
    other.restore(kept, 1)
    assert other.positions == [3, 9]
    again = other.snapshot(1)
    assert (again.length, again.earliest) == (kept.length, kept.earliest)
    for one, two in zip(kept.layers, again.layers, strict=True):
        for name in ("key_scales", "key_codes", "value_scales", "value_codes"):
            a, b = getattr(one, name), getattr(two, name)
            assert a.dtype == b.dtype
            assert np.array_equal(a, b)
            assert a.any()
    for n, t in enumerate(tokens[9:]):
        assert np.array_equal(other.step([None, t])[1], expected[n])


def test_part_of_a_snapshot(plain: Path, windowed: Path) -> None:
    tokens = text(9)
    decoder = open_decoder(plain)
    expected = [decoder.step(t) for t in tokens]
    kept = decoder.snapshot()
    decoder.reset()
    decoder.restore(kept.first(4))
    assert decoder.positions == [4]
    assert np.array_equal(decoder.step(tokens[4]), expected[4])
    decoder.restore(kept.first(0))
    assert np.array_equal(decoder.step(tokens[0]), expected[0])
    ring = open_decoder(windowed)
    expected = [ring.step(t) for t in tokens]
    kept = ring.snapshot()
    ring.restore(kept.first(8))
    assert np.array_equal(ring.step(tokens[8]), expected[8])
    with pytest.raises(LimitError, match=re.escape("can be cut to 0, or to 8 to 9, not 7: what came before is overwritten")):
        kept.first(7)
    with pytest.raises(ModelError, match=re.escape("the snapshot is that of another model: use one of the same")):
        decoder.restore(kept)
    short = open_decoder(plain, context=6)
    with pytest.raises(LimitError, match=re.escape("the context is full: it has room for 6 tokens, and 9 are needed")):
        short.restore(kept_of(plain, tokens))


def test_what_a_hand_over_leaves_out_is_gone(windowed: Path) -> None:
    """Of a window, transformers keeps fewer tokens than the device does."""
    decoder = open_decoder(windowed)
    numbers = np.ones((2, WINDOW - 1, 16), dtype=np.float32)
    decoder.load_cache(0, 0, 3, numbers, numbers)
    decoder.positions = [3 + WINDOW - 1]
    assert decoder.earliest() == 3 + WINDOW - 1
    decoder.step(1)
    decoder.truncate(7)


def test_of_chunks_only_the_last_one_is_handed_over(chunked: Path) -> None:
    decoder = open_decoder(chunked)
    numbers = np.ones((2, WINDOW - 1, 32), dtype=np.float32)
    decoder.load_cache(0, 0, 3, numbers, numbers)
    decoder.positions = [3 + WINDOW - 1]
    assert decoder.earliest() == WINDOW
    decoder.step(1)
    decoder.truncate(WINDOW)


def kept_of(path: Path, tokens: list[int]) -> Any:
    decoder = open_decoder(path)
    decoder.prefill(tokens)
    return decoder.snapshot()
