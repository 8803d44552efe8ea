"""Drafts, right and wrong, are verified in one pass: logits, chosen tokens and caches are those of one token after the other."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailrace.device.decoder import Decoder
from tailrace.spec.errors import ConfigError, LimitError, TailraceError

pytest.importorskip("transformers")
from verification.unit.host.architectures import ARCHITECTURES, SIZED_BY_HIDDEN
from verification.unit.host.device.test_prompts import ONE_BY_ONE, WINDOWS, open_decoder, same
from verification.unit.host.transformers_models import make_model

#: One of each kind of layer that keeps something; all others are in the slow suite.
QUICK = ("llama", "qwen35", "lfm2", "deepseek2")
CONFIG = "base,right_hand_sides=4"
LARGE = "wide,right_hand_sides=8"
#: Tokens of each sequence: past a fold, and past the end of windows.
LENGTH = 70


def compare(path: Path, rng: np.random.Generator, length: int = LENGTH, config: str = CONFIG) -> Decoder:
    """Two sequences, each at its own place, with drafts that are right up to somewhere."""
    together = open_decoder(path, config, batch=2)
    vocabulary = together.imported.description.vocabulary
    alone = [open_decoder(path) for _ in range(2)]
    texts = [[int(token) for token in rng.integers(0, vocabulary, length)] for _ in alone]
    expected = [[single.step(token) for token in text] for single, text in zip(alone, texts, strict=True)]
    while any(position < length for position in together.positions):
        given: list[list[int] | None] = [None, None]
        right: dict[int, int] = {}
        spare = together.programs.most_together
        for n in rng.permutation(2)[: int(rng.integers(1, 3))]:
            position = together.positions[n]
            most = min(spare, together.reversible(n), length - position)
            if most < 1:
                continue
            count = int(rng.integers(1, most + 1))
            right[n] = int(rng.integers(1, count + 1))
            drafts = [int(token) for token in rng.integers(0, vocabulary, count - right[n])]
            given[n] = [*texts[n][position : position + right[n]], *drafts]
            spare -= count
        if not right:
            continue
        kind = rng.choice(["logits", "tokens", "prompt"])
        before = list(together.positions)
        results = together.take(given, str(kind))  # type: ignore[arg-type]
        for n, count in right.items():
            where = f"{kind} of {given} from {before}, sequence {n}"
            wanted = expected[n][before[n] : before[n] + count]
            if kind == "logits":
                assert results[n][:count].tobytes() == np.stack(wanted).tobytes(), where
            elif kind == "tokens":
                assert results[n][:count] == [int(np.argmax(logits)) for logits in wanted], where
            else:
                assert results[n] is None
            together.truncate(before[n] + count, n)
    for n, single in enumerate(alone):
        same(single, together, n)
    return together


@pytest.mark.parametrize("architecture", [a if a in QUICK else pytest.param(a, marks=pytest.mark.slow) for a in ARCHITECTURES])
def test_drafts_change_nothing(architecture: str, tmp_path: Path, rng: np.random.Generator) -> None:
    sizes = {"hidden": 128} if architecture in SIZED_BY_HIDDEN else {}
    make_model(tmp_path / "model.gguf", architecture, seed=1, context=256, **sizes)
    decoder = compare(tmp_path / "model.gguf", rng)
    assert any("0, 0" in name for name, _ in decoder.steps)


@pytest.mark.parametrize("architecture", [a if a in QUICK else pytest.param(a, marks=pytest.mark.slow) for a in ARCHITECTURES])
def test_passes_of_up_to_eight_rows(architecture: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """The driver writes the embeddings of so many; where there is no room for eight, passes have fewer."""
    sizes = {"hidden": 128} if architecture in SIZED_BY_HIDDEN else {}
    make_model(tmp_path / "model.gguf", architecture, seed=1, context=256, **sizes)
    decoder = compare(tmp_path / "model.gguf", rng, config=LARGE)
    assert 4 < decoder.programs.most_rows <= 8
    assert any(len(decoder.programs.loaded[name].rows) > 4 for name, _ in decoder.steps)
    whole = open_decoder(tmp_path / "model.gguf", LARGE, tokens_per_doorbell=2)
    assert whole.programs.most_rows == 4


@pytest.mark.parametrize("batch", [5, 8])
def test_batches_of_up_to_eight_sequences(batch: int, tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "model.gguf"
    make_model(path, "llama", seed=1, context=64)
    together, alone = open_decoder(path, LARGE, batch=batch), [open_decoder(path) for _ in range(batch)]
    for step in range(3):
        tokens = [int(token) for token in rng.integers(0, 301, batch)]
        expected = [single.step(token) for single, token in zip(alone, tokens, strict=True)]
        if step < 2:
            assert together.step(tokens).tobytes() == b"".join(logits.tobytes() for logits in expected)
        else:
            assert together.run(tokens) == [[int(logits.argmax())] for logits in expected]
    text = (
        "^a batch of 8 takes more rows than the 4 that a pass has where the device goes on by itself: leave tokens_per_doorbell"
    )
    with pytest.raises(LimitError, match=text):
        open_decoder(path, LARGE, batch=8, tokens_per_doorbell=2)


@pytest.mark.parametrize(
    "architecture",
    ["gemma3", "llama4", *(pytest.param(a, marks=pytest.mark.slow) for a in WINDOWS if a not in ("gemma3", "llama4"))],
)
def test_windows_that_close(architecture: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """Behind the end of a window one token can be taken back: a second one would have overwritten what is still seen.

    Of a chunk all but the first can: the next one begins at 33.
    """
    make_model(tmp_path / "model.gguf", architecture, seed=1, context=256, **WINDOWS[architecture])
    decoder = compare(tmp_path / "model.gguf", rng, 24)
    assert decoder.reversible() == (1 if architecture in ONE_BY_ONE else 4 if architecture == "llama4" else 2)
    decoder.truncate(0)
    assert decoder.reversible() == (1 if architecture in ONE_BY_ONE else 4)
    decoder.prefill([list(range(8)), []])
    assert decoder.reversible() == (1 if architecture in ONE_BY_ONE else 3)


def test_what_goes_into_a_pass(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    make_model(path, "qwen35", seed=1, context=256)
    decoder = open_decoder(path, CONFIG, batch=2)
    wrong: Any = "best"
    with pytest.raises(ConfigError, match=r"^kind must be one of prompt, logits, tokens, not 'best'$"):
        decoder.take([[1], None], wrong)
    with pytest.raises(ValueError, match=r"^this decoder has 2 sequences, and 1 were given$"):
        decoder.take([[1]])
    with pytest.raises(LimitError, match=r"^a pass of this decoder takes 1 to 4 tokens, not 0$"):
        decoder.take([None, []])
    with pytest.raises(LimitError, match=r"^a pass of this decoder takes 1 to 4 tokens, not 5$"):
        decoder.take([[1, 2], [3, 4, 5]])
    with pytest.raises(LimitError, match=r"^a pass takes at most 4 tokens of sequence 0 now$"):
        decoder.take([[1, 2, 3, 4, 5], None])
    with pytest.raises(TailraceError, match=r"^token 999999 is not one of the model's "):
        decoder.take([[1, 999999], None])
    decoder.prefill([list(range(62)), []])
    with pytest.raises(LimitError, match=r"^a pass takes at most 2 tokens of sequence 0 now$"):
        decoder.take([[1, 2, 3], None])
    assert (decoder.together(), decoder.together(1)) == (2, 4)
    decoder.prefill([[0] * (decoder.limit - 62), []])
    with pytest.raises(LimitError, match=r"^the context is full"):
        decoder.take([[1], None])
    assert decoder.positions == [decoder.limit, 0]


def test_programs_are_written_anew_when_their_room_is_full(tmp_path: Path) -> None:
    """Two sequences have more programs than there is room for; each is right again when its turn comes again."""
    path = tmp_path / "model.gguf"
    make_model(path, "llama", seed=1, context=64)
    decoder, alone = open_decoder(path, CONFIG, batch=2), open_decoder(path)
    expected = [alone.step(token) for token in range(1, 5)]
    written: list[int] = []
    write = decoder.device.write

    def noted(address: int, data: bytes) -> None:
        if address in decoder.programs.room:
            assert address + len(data) <= decoder.programs.end
            written.append(address)
        write(address, data)

    decoder.device.write = noted  # type: ignore[method-assign,assignment]
    for _ in range(2):
        for first in range(5):
            for second in range(5 - first):
                if first + second < 2:
                    continue
                decoder.reset()
                results = decoder.take([list(range(1, first + 1)), list(range(1, second + 1))])
                for n, count in enumerate((first, second)):
                    assert count == 0 or results[n].tobytes() == np.stack(expected[:count]).tobytes()
    assert written.count(decoder.programs.room.start) >= 2


def test_rows_that_do_not_fit_beside_each_other_go_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    make_model(path, "llama", seed=1, context=64, hidden=256, heads=4, head_size=64)
    decoder = open_decoder(path, "tiny,right_hand_sides=4,buffer_entries=2048", batch=2)
    alone = open_decoder(path)
    expected = np.stack([alone.step(token) for token in (1, 2)])
    most = decoder.programs.most_rows
    assert most < 4
    results = decoder.take([[1] if most == 2 else [1, 2], [1]])
    assert results[1].tobytes() == expected[:1].tobytes()
    decoder.reset()
    decoder.prefill([[1, 2, 3], [4, 5]])
    assert decoder.positions == [3, 2]
