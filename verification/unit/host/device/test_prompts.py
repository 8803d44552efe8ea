"""Prompts are taken several tokens at a time: caches and logits are those of one token after the other, bit by bit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailrace.device.counters import Counters
from tailrace.device.decoder import Decoder, Snapshot
from tailrace.device.driver import Device
from tailrace.gguf.describe import import_model
from tailrace.gguf.file import open_model
from tailrace.sim.devices import open_device
from tailrace.spec.config import parse_config
from tailrace.spec.errors import LimitError

pytest.importorskip("transformers")
from verification.races.overlap import races
from verification.unit.host.architectures import ARCHITECTURES, SIZED_BY_HIDDEN
from verification.unit.host.transformers_models import make_model

SEED = 23
#: Pieces of a prompt, which passes of 2, 3 and 4 rows take; a fold lies in between.
PIECES = (1, 7, 6, 38, 23)
#: One of each kind; all others are in the slow suite.
QUICK = ("llama", "gpt-oss", "gemma4-a4b", "qwen35", "falcon-h1", "lfm2", "deepseek2", "gpt2")
#: Models with windows, which close in the second piece.
WINDOWS: dict[str, dict[str, Any]] = {
    architecture: {"window": 11, "layers": 6, "hidden": 128 if architecture in SIZED_BY_HIDDEN else 64}
    for architecture in ("gemma2", "gemma3", "gemma4", "gemma4-e2b", "gpt-oss", "llama4", "cohere2", "olmo3", "exaone4", "phi3")
}
#: Those of them that go token by token: keys and values in sliding windows are shared by layers.
ONE_BY_ONE = ("gemma4-e2b",)


def open_decoder(path: Path, config: str = "base", kind: str = "emulator", **options: Any) -> Decoder:
    model = open_model(path)
    imported = import_model(model, min(model.context_length, 256))
    return Decoder(Device(open_device(kind, parse_config(config), 1 << 26)), imported, **options)


def pieces(seed: int) -> Iterator[list[int]]:
    rng = np.random.default_rng(seed)
    for length in PIECES:
        yield [int(t) for t in rng.integers(0, 301, length)]


def numbers(snapshot: Snapshot) -> list[bytes]:
    """All that layers keep."""
    return [array.tobytes() for held in snapshot.layers for array in _arrays(vars(held))]


def _arrays(held: Any) -> Iterator[Any]:
    if isinstance(held, np.ndarray):
        yield held
    elif isinstance(held, dict):
        for value in held.values():
            yield from _arrays(value)


def same(one: Decoder, other: Decoder, sequence: int = 0) -> None:
    kept, expected = other.snapshot(sequence), one.snapshot()
    assert (kept.length, kept.begun) == (expected.length, expected.begun)
    assert len(numbers(kept)) >= len(kept.layers)
    assert numbers(kept) == numbers(expected)


def compare(path: Path, most_rows: int = 4) -> None:
    single, chunks = open_decoder(path), open_decoder(path, "base,right_hand_sides=4")
    assert single.programs.most_rows == 1
    assert chunks.programs.most_rows == most_rows
    for prompt in pieces(SEED):
        for decoder in (single, chunks):
            decoder.prefill(prompt[:-1])
        same(single, chunks)
        assert single.step(prompt[-1]).tobytes() == chunks.step(prompt[-1]).tobytes()
    assert single.positions == chunks.positions == [sum(PIECES)]
    assert most_rows == 1 or sum(chunks.steps.values()) < sum(single.steps.values()) / 2


@pytest.mark.parametrize("architecture", [a if a in QUICK else pytest.param(a, marks=pytest.mark.slow) for a in ARCHITECTURES])
def test_prompts_in_chunks_have_the_bits_of_single_tokens(architecture: str, tmp_path: Path) -> None:
    sizes = {"hidden": 128} if architecture in SIZED_BY_HIDDEN else {}
    make_model(tmp_path / "model.gguf", architecture, seed=SEED, context=256, **sizes)
    compare(tmp_path / "model.gguf")


@pytest.mark.parametrize("architecture", WINDOWS)
def test_prompts_that_close_windows(architecture: str, tmp_path: Path) -> None:
    make_model(tmp_path / "model.gguf", architecture, seed=SEED, context=256, **WINDOWS[architecture])
    compare(tmp_path / "model.gguf", 1 if architecture in ONE_BY_ONE else 4)


def test_prompts_of_a_batch_do_not_disturb_each_other(tmp_path: Path) -> None:
    """One is taken while the other one is in the middle of its text; neither sits out a step for it."""
    path = tmp_path / "model.gguf"
    make_model(path, "llama", seed=SEED, context=256)
    batch, singles = open_decoder(path, "base,right_hand_sides=4", batch=2), [open_decoder(path) for _ in range(2)]
    first, second, third, *_ = pieces(SEED)
    for prompts in ([first, second], [[], third], [second, first[:1]], [third, third]):
        batch.prefill(prompts)
        for sequence, (single, prompt) in enumerate(zip(singles, prompts, strict=True)):
            single.prefill(prompt)
            same(single, batch, sequence)
    assert batch.positions == [single.positions[0] for single in singles]
    logits = batch.step([5, 6])
    assert logits.tobytes() == b"".join(single.step(token).tobytes() for single, token in zip(singles, (5, 6), strict=True))


def test_embeddings_that_the_driver_writes_or_the_device_has(tmp_path: Path) -> None:
    """One of them has a row of the table for each token of a pass."""
    path = tmp_path / "model.gguf"
    make_model(path, "llama", seed=SEED, context=256)
    written, whole = (open_decoder(path, "base,right_hand_sides=4", tokens_per_doorbell=n) for n in (1, 2))
    *_, prompt = pieces(SEED)
    for decoder in (written, whole):
        decoder.prefill(prompt)
    same(written, whole)


def test_a_full_context_is_filled_to_its_last_token(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    make_model(path, "llama", seed=SEED, context=64)
    decoder = open_decoder(path, "base,right_hand_sides=4")
    decoder.prefill(list(range(decoder.limit)))
    assert decoder.positions == [decoder.limit]
    with pytest.raises(LimitError, match="^the context is full"):
        decoder.prefill([1])
    decoder.truncate(decoder.limit - 3)
    with pytest.raises(LimitError, match="^the context is full"):
        decoder.prefill([1, 2, 3, 4])
    assert decoder.positions == [decoder.limit - 3]


def test_a_pass_that_fails_leaves_a_prompt_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Like Ctrl-C between two passes: what was taken stays, and the rest can be given again."""
    path = tmp_path / "model.gguf"
    make_model(path, "llama", seed=SEED, context=256)
    single, chunks = open_decoder(path), open_decoder(path, "base,right_hand_sides=4")
    *_, prompt = pieces(SEED)
    start, starts = chunks.device.start, []

    def interrupted(*arguments: Any, **options: Any) -> Any:
        starts.append(arguments)
        if len(starts) == 3:
            raise KeyboardInterrupt
        return start(*arguments, **options)

    monkeypatch.setattr(chunks.device, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        chunks.prefill(prompt)
    assert chunks.positions == [8]
    chunks.prefill(prompt[8:])
    single.prefill(prompt)
    same(single, chunks)


def test_rows_that_do_not_fit_are_left_out(tmp_path: Path) -> None:
    """A build whose buffer has room for the activations of two tokens, and not of three."""
    path = tmp_path / "model.gguf"
    make_model(path, "llama", seed=SEED, context=64, hidden=256, heads=4, head_size=64)
    config = "tiny,right_hand_sides=4,buffer_entries=2048"
    decoder, single = open_decoder(path, config), open_decoder(path)
    assert 1 < decoder.programs.most_rows < 4
    with pytest.raises(LimitError, match=r"^the activation buffer has no room for "):
        decoder.programs.name_of("prompt", (0,) * 4)
    with pytest.raises(LimitError, match=r"^a pass takes at most \d tokens of sequence 0 now$"):
        decoder.take([[1, 2, 3, 4]])
    for taken in (decoder, single):
        taken.prefill(list(range(20)))
    same(single, decoder)


@pytest.mark.parametrize(
    "architecture", ["qwen35", "gpt-oss", *(pytest.param(a, marks=pytest.mark.slow) for a in ("falcon-h1", "lfm2"))]
)
def test_golden_does_the_same_without_races(architecture: str, tmp_path: Path) -> None:
    """A pass before a fold, and one after it, in windows that have closed."""
    path, config = tmp_path / "model.gguf", "base,right_hand_sides=4"
    make_model(path, architecture, seed=SEED, context=256, **WINDOWS.get(architecture, {}))
    emulated, golden = (open_decoder(path, config, kind=kind) for kind in ("emulator", "golden"))
    traced: list[tuple[int, bytes]] = []
    found: list[str] = []

    def check(counters: Counters) -> None:
        found.extend(races([command for _, command in traced], parse_config(config)))
        traced.clear()

    *_, prompt, _ = pieces(SEED)
    emulated.prefill(prompt)
    emulated.prefill(prompt[:22])
    golden.restore(emulated.snapshot())
    golden.device.transport.trace = lambda index, opcode, command: traced.append((index, command))  # type: ignore[attr-defined]
    golden.on_step = check
    for decoder in (golden, emulated):
        decoder.prefill(prompt[:8])
    assert found == []
    same(golden, emulated)
