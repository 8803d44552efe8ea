"""Contexts of several chunks: the numbers of transformers, and the same bits however tokens are taken.

Chunks are 256 tokens here: a contract's length is no parameter of a build, but nothing depends on how long they are.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailrace.device.counters import Counters
from tailrace.device.decoder import Decoder
from tailrace.device.driver import Device
from tailrace.gguf.describe import import_model
from tailrace.gguf.file import open_model
from tailrace.sim.devices import open_device
from tailrace.spec.attention import chunk_starts, reach
from tailrace.spec.config import parse_config

pytest.importorskip("transformers")
from verification.races.overlap import races
from verification.unit.host.architectures import SIZED_BY_HIDDEN
from verification.unit.host.device.test_prompts import same
from verification.unit.host.references import decode, divergence, reference_logits
from verification.unit.host.transformers_models import make_model

SEED = 31
LENGTH, STEP, CONTEXT = 256, 128, 768
#: One for each way of attention: groups, capped scores and windows, nothing but windows, chunks of two chunks of the cache and
#: growing scores, sinks, a latent, states beside it, gathered heads.
MODELS: dict[str, dict[str, Any]] = {
    "llama": {},
    "gemma2": {"window": 300, "layers": 2, "hidden": 64},
    "phi3": {"window": 300},
    "llama4": {"window": 2 * LENGTH, "period": 50},
    "gpt-oss": {"window": 40, "layers": 2},
    "deepseek2": {},
    "qwen35": {},
    "heads of 40": {"architecture": "llama", "hidden": 160, "heads": 4, "kv_heads": 1, "head_size": 40, "tied": True},
}
#: Those of which no layer sees the whole context.
ALL_IN_WINDOWS = ("phi3",)
#: Those that transformers' attention can be given the device's codes for.
WITHOUT_STATES = [name for name in MODELS if name != "qwen35"]


@pytest.fixture(autouse=True)
def _short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch, LENGTH, STEP)


def shorten(monkeypatch: pytest.MonkeyPatch, chunk: int, step: int) -> None:
    """Make chunks shorter, everywhere."""
    monkeypatch.setattr("tailrace.spec.attention.STEP", step)
    for module in ("spec.attention", "firmware.passes", "firmware.start", "image.programs"):
        monkeypatch.setattr(f"tailrace.{module}.CHUNK", chunk)


def make(path: Path, name: str, context: int) -> Any:
    sizes = {"architecture": name, **MODELS[name]}
    if sizes["architecture"] in SIZED_BY_HIDDEN:
        sizes.setdefault("hidden", 128)
    return make_model(path, seed=SEED, context=context, **sizes)


def open_decoder(path: Path, config: str = "base", kind: str = "emulator", context: int = CONTEXT, **options: Any) -> Decoder:
    return Decoder(Device(open_device(kind, parse_config(config), 1 << 26)), import_model(open_model(path), context), **options)


def text(count: int, seed: int = SEED) -> list[int]:
    return [int(t) for t in np.random.default_rng(seed).integers(0, 301, count)]


@pytest.mark.parametrize("name", WITHOUT_STATES)
def test_logits_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    """In the first, second and third chunk, at their ends and beginnings."""
    path, positions = tmp_path / "model.gguf", 2 * LENGTH + 9
    model = make(path, name, CONTEXT)
    logits, held = decode(open_decoder(path), tokens := text(positions))
    exact = divergence(reference_logits(model, tokens, held), logits)
    # Where experts are nearly as good as each other, the last bit counts more.
    assert exact.mean() < 2e-7, (name, SEED, exact)
    assert np.quantile(exact, 0.99) < 1e-6, (name, SEED, exact)
    assert exact.max() < 1e-4, (name, SEED, exact)


@pytest.mark.parametrize("name", MODELS)
def test_the_same_bits_however_tokens_are_taken(name: str, tmp_path: Path) -> None:
    """One by one, in passes of several rows that go over the ends of chunks, and on another bus."""
    path, prompt = tmp_path / "model.gguf", text(2 * LENGTH + 21)
    make(path, name, CONTEXT)
    single, rows, wide = open_decoder(path), open_decoder(path, "base,right_hand_sides=4"), open_decoder(path, "wide")
    for decoder in (rows, wide):
        decoder.prefill(prompt)
    for token in prompt:
        single.prefill([token])
    assert rows.programs.most_tokens == (CONTEXT if name not in ALL_IN_WINDOWS else MODELS[name]["window"])
    for decoder in (rows, wide):
        same(single, decoder)
    logits = single.step(7)
    assert logits.tobytes() == rows.step(7).tobytes() == wide.step(7).tobytes()


@pytest.mark.parametrize("name", ["llama", "llama4", "gpt-oss", "deepseek2", "gemma2"])
def test_a_batch_of_different_lengths(name: str, tmp_path: Path) -> None:
    """Each sequence sees chunks of its own number."""
    path = tmp_path / "model.gguf"
    make(path, name, CONTEXT)
    lengths = (3, LENGTH - 1, 2 * LENGTH + 5)
    batch = open_decoder(path, "base,right_hand_sides=4", batch=3)
    singles = [open_decoder(path) for _ in lengths]
    batch.prefill(prompts := [text(length, n) for n, length in enumerate(lengths)])
    for single, prompt in zip(singles, prompts, strict=True):
        single.prefill(prompt)
    for token in (5, 6, 7):
        logits = batch.step([token] * 3)
        for sequence, single in enumerate(singles):
            assert single.step(token).tobytes() == logits[sequence].tobytes(), (sequence, single.positions)


def test_the_last_two_chunks_are_of_about_the_same_length() -> None:
    """Whatever the length; and all positions of a stretch have the same ones."""
    for tokens in range(LENGTH + 1, 5 * LENGTH):
        starts = chunk_starts(tokens)
        sizes = np.diff([*starts, tokens])
        assert (sizes[:-2] == LENGTH).all()
        assert 0 <= sizes[-2] - sizes[-1] < STEP, (tokens, sizes)
        assert LENGTH >= sizes[-2]
        assert not any(start % 64 for start in starts)
        assert starts == chunk_starts(reach(tokens - 1))
    assert chunk_starts(LENGTH) == (0,)


def test_runs_go_on_behind_a_chunk(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    make(path, "llama", CONTEXT)
    alone, running = open_decoder(path), open_decoder(path, tokens_per_doorbell=100)
    for decoder in (alone, running):
        decoder.prefill(text(LENGTH - 20))
    chosen = running.run(5, 100)
    token, found = 5, []
    for _ in range(100):
        found.append(token := alone.run(token)[0])
    assert found == chosen


def test_up_to_a_chunk_nothing_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bits of a context without chunks."""
    path = tmp_path / "model.gguf"
    make(path, "llama", CONTEXT)
    short = open_decoder(path)
    short.prefill(text(LENGTH - 1))
    logits = short.step(5)
    shorten(monkeypatch, CONTEXT, STEP)
    whole = open_decoder(path)
    assert whole.programs.at("logits", [CONTEXT - 1]) == "logits"
    whole.prefill(text(LENGTH - 1))
    assert whole.step(5).tobytes() == logits.tobytes()


def test_a_context_beyond_the_buffer(tmp_path: Path) -> None:
    """Scores of a chunk must fit the build, those of the context need not."""
    path = tmp_path / "model.gguf"
    make(path, "llama", 1024)
    config = "tiny,buffer_entries=2048,vector_blocks=64"
    decoder = open_decoder(path, config, context=1024)
    assert decoder.programs.most_tokens == 1024
    other = open_decoder(path, context=1024)
    for one in (decoder, other):
        one.prefill(text(1000))
    assert decoder.step(5).tobytes() == other.step(5).tobytes()


@pytest.mark.parametrize("name", MODELS)
def test_golden_does_the_same_without_races(name: str, tmp_path: Path) -> None:
    """Passes in the second chunk, and over its end, and a step in the third one."""
    path, config = tmp_path / "model.gguf", "base,right_hand_sides=4"
    make(path, name, CONTEXT)
    emulated, golden = (open_decoder(path, config, kind=kind) for kind in ("emulator", "golden"))
    traced: list[tuple[int, bytes]] = []
    found: list[str] = []

    def check(counters: Counters) -> None:
        found.extend(races([command for _, command in traced], parse_config(config)))
        traced.clear()

    emulated.prefill(text(2 * LENGTH - 6))
    golden.restore(emulated.snapshot())
    golden.device.transport.trace = lambda index, opcode, command: traced.append((index, command))  # type: ignore[attr-defined]
    golden.on_step = check
    for decoder in (emulated, golden):
        decoder.prefill(text(10, 3))
    assert emulated.step(5).tobytes() == golden.step(5).tobytes()
    same(emulated, golden)
    assert found == []


def test_programs_that_are_kept(tmp_path: Path) -> None:
    """So many, and a name that is asked for again is made again."""
    path = tmp_path / "model.gguf"
    make(path, "llama", CONTEXT)
    decoder = open_decoder(path, "base,right_hand_sides=4", batch=4)
    programs, seen = decoder.programs, set()
    positions = [[LENGTH * ((n >> 2 * s) & 3) for s in range(4)] for n in range(1, 80)]
    for where in positions:
        seen.add(name := programs.at("logits", where))
        assert name in programs.loaded
    assert len(seen) == 79
    assert sum("up to" in name for name in programs.loaded) == 32
    assert programs.at("logits", positions[0]) in programs.loaded
