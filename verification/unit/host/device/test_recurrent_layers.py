"""Layers that keep more of their past than keys and values: short convolutions, and linear attention over its folds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tailrace.command.cli import main
from tailrace.command.inspect import predicted_lines
from tailrace.device.decoder import Decoder
from tailrace.device.driver import Device
from tailrace.firmware.placement import StatePlace
from tailrace.generation.session_file import fingerprint, read_session, write_session
from tailrace.gguf.describe import import_model
from tailrace.gguf.file import open_model
from tailrace.image.predicted import predict_step
from tailrace.image.predicted_cycles import PredictedCycles
from tailrace.image.state import StoredState
from tailrace.sim.devices import open_device
from tailrace.spec.config import parse_config
from tailrace.spec.errors import DeviceError, ErrorCode, LimitError, ModelError
from tailrace.spec.linear_attention import FOLD

pytest.importorskip("transformers")
from verification.races.overlap import races
from verification.unit.host.references import decode, divergence, reference_logits
from verification.unit.host.transformers_models import make_model

SEED = 11
#: More than two folds, and more than a ring of recent rows.
LENGTH = 150
#: Three shapes of each: heads and sizes of linear attention, taps, and the build.
SHAPES: dict[str, dict[str, Any]] = {
    "qwen35, one key head": {"architecture": "qwen35", "linear": (1, 3, 64, 32), "rotary": 0.25, "config": "base"},
    "qwen35, as many key heads": {"architecture": "qwen35", "linear": (4, 4, 32, 64), "tied": True, "config": "wide"},
    "qwen35, three layers": {
        "architecture": "qwen35", "linear": (2, 6, 96, 32), "layers": 3, "every": 3, "kernel": 3,
        "config": "base,bus_width=256,right_hand_sides=2",
    },
    "qwen35moe": {"architecture": "qwen35moe", "linear": (2, 4, 32, 32), "rotary": 0.5, "config": "wide"},
    "qwen3next": {"architecture": "qwen3next", "linear": (2, 6, 32, 64), "rotary": 0.5, "config": "base"},
    "granitehybrid, groups": {"architecture": "granitehybrid", "linear": (2, 4, 96, 32), "layers": 3, "every": 3, "config": "base"},
    "granitehybrid, long keys": {
        "architecture": "granitehybrid", "linear": (1, 2, 256, 64), "kernel": 2, "tied": True,
        "config": "base,bus_width=256,right_hand_sides=2",
    },
    "granitehybridmoe": {"architecture": "granitehybridmoe", "linear": (1, 6, 64, 32), "hidden": 96, "config": "wide"},
    "nemotron_h": {"architecture": "nemotron_h", "linear": (2, 4, 64, 32), "layers": 3, "every": 3, "config": "base"},
    "nemotron_h_moe": {"architecture": "nemotron_h_moe", "layers": 3, "config": "wide"},
    "mamba2": {"architecture": "mamba2", "linear": (1, 4, 128, 32), "tied": True, "config": "base,bus_width=512"},
    "falcon-h1": {"architecture": "falcon-h1", "linear": (2, 4, 64, 32), "config": "base"},
    "falcon-h1, no norm": {"architecture": "falcon-h1", "linear": (1, 4, 32, 32), "config": "wide"},
    "lfm2": {"architecture": "lfm2", "kernel": 3, "config": "base"},
    "lfm2, long kernels": {"architecture": "lfm2", "kernel": 5, "hidden": 96, "layers": 4, "config": "wide"},
    "lfm2, tied": {"architecture": "lfm2", "kernel": 2, "tied": True, "head_size": 64, "config": "base,bus_width=512"},
}  # fmt: skip


def open_decoder(path: Path, config: str = "base", kind: str = "emulator", **options: Any) -> Decoder:
    imported = import_model(open_model(path), 256)
    return Decoder(Device(open_device(kind, parse_config(config), 1 << 26)), imported, **options)


def text(count: int, seed: int = SEED) -> list[int]:
    return [int(t) for t in np.random.default_rng(seed).integers(0, 301, count)]


def same(a: Any, b: Any) -> bool:
    return np.array_equal(np.asarray(a).view(np.uint32), np.asarray(b).view(np.uint32))


@pytest.fixture(scope="module", params=["qwen35", "falcon-h1", "lfm2"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("models") / "model.gguf"
    make_model(path, request.param, seed=SEED, context=256)
    return path


@pytest.fixture(scope="module")
def logits(path: Path) -> Any:
    """What one long run gives, step by step."""
    decoder = open_decoder(path)
    return np.array([decoder.step(token) for token in text(LENGTH)])


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_are_those_of_transformers(shape: str, tmp_path: Path) -> None:
    sizes = dict(SHAPES[shape])
    config = sizes.pop("config")
    model = make_model(tmp_path / "model.gguf", seed=SEED, context=256, **sizes)
    tokens = text(LENGTH)
    logits, held = decode(open_decoder(tmp_path / "model.gguf", config), tokens)
    apart = divergence(reference_logits(model, tokens, held), logits)
    assert apart.mean() < 1e-6, (shape, SEED, apart)
    assert divergence(reference_logits(model, tokens), logits).mean() < 1e-3, (shape, SEED)


@pytest.mark.parametrize("config", ["base,right_hand_sides=4", "wide", "base,bus_width=256,right_hand_sides=2"])
def test_builds_give_the_same_bits(path: Path, logits: Any, config: str) -> None:
    decoder = open_decoder(path, config)
    assert all(same(decoder.step(token), expected) for token, expected in zip(text(LENGTH), logits, strict=True))


@pytest.mark.parametrize(("room", "sizes"), [("buffer_entries", range(10, 14)), ("vector_blocks", range(6, 9))])
def test_no_bit_depends_on_the_room(path: Path, logits: Any, room: str, sizes: range) -> None:
    """A prompt in as many rows as fit, and a step: where places for two products or heads are short, they share one."""
    fitting = 0
    for size in sizes:
        try:
            decoder = open_decoder(path, f"base,right_hand_sides=4,{room}={1 << size}")
        except LimitError:
            continue
        tokens, fitting = text(LENGTH), fitting + 1
        decoder.prefill(tokens[:-1])
        assert same(decoder.step(tokens[-1]), logits[-1]), (SEED, room, 1 << size)
    assert fitting > 1


def test_a_run_goes_over_folds(path: Path) -> None:
    tokens = text(FOLD - 5)
    single, several = open_decoder(path), open_decoder(path, tokens_per_doorbell=100)
    expected = []
    for decoder in (single, several):
        decoder.prefill(tokens[:-1])
    token = tokens[-1]
    for _ in range(80):
        token = int(single.step(token).argmax())
        expected.append(token)
    assert several.run(tokens[-1], 80) == expected
    assert several.positions == single.positions
    assert same(several.step(token), single.step(token))


def test_sequences_of_a_batch_fold_each_for_itself(path: Path, logits: Any) -> None:
    """One is 60 tokens ahead; the other sits out, once right before its fold."""
    decoder, tokens = open_decoder(path, "wide", batch=2), text(LENGTH)
    decoder.prefill([tokens[:60], []])
    for position in range(60, LENGTH):
        behind = position - 60
        found = decoder.step([tokens[position], tokens[behind]])
        assert same(found, [logits[position], logits[behind]]), position
        if behind in (FOLD - 1, FOLD, 7):
            break
    for position in range(decoder.positions[0], LENGTH):
        assert same(decoder.step([tokens[position], None])[0], logits[position])
    for position in range(decoder.positions[1], LENGTH):
        assert same(decoder.step([None, tokens[position]])[1], logits[position])


@pytest.mark.parametrize("length", [LENGTH, 2 * FOLD, 2 * FOLD + 1, FOLD, 3])
@pytest.mark.parametrize("config", ["base", "wide"])
def test_what_was_kept_goes_on_anywhere(path: Path, logits: Any, length: int, config: str, tmp_path: Path) -> None:
    """A snapshot, through a file, on another build: the bits of one long run."""
    decoder, tokens = open_decoder(path), text(LENGTH)
    decoder.prefill(tokens[:length])
    name, imported = fingerprint(decoder.imported, None), decoder.imported  # type: ignore[arg-type]
    write_session(tmp_path / "kept.npz", name, tokens[:length], decoder.snapshot())
    _, snapshot, _ = read_session(tmp_path / "kept.npz", name, imported)  # type: ignore[arg-type]
    other = open_decoder(path, config, batch=2 if config == "wide" else 1)
    assert snapshot is not None
    other.restore(snapshot, other.batch - 1)
    nothing = [None] * (other.batch - 1)
    for position in range(length, min(length + 70, LENGTH)):
        assert same(other.step([*nothing, tokens[position]])[-1], logits[position]), position


@pytest.mark.parametrize("length", [5, FOLD + 5])
def test_what_memory_had_before_is_not_seen(path: Path, logits: Any, length: int, tmp_path: Path) -> None:
    """Not by tokens, and not in what is kept, though every byte was one of something that is no number."""
    decoder, tokens, clean = open_decoder(path), text(length + 1), open_decoder(path)
    for place in decoder.image.placement.caches[0]:
        if isinstance(place, StatePlace):
            decoder.device.write(place.address, b"\xff" * place.layout.size)
    for one in (decoder, clean):
        one.prefill(tokens[:length])
    kept, expected = decoder.snapshot(), clean.snapshot()
    name = fingerprint(decoder.imported, None)  # type: ignore[arg-type]
    write_session(tmp_path / "kept.npz", name, tokens[:length], kept)
    _, snapshot, _ = read_session(tmp_path / "kept.npz", name, decoder.imported)  # type: ignore[arg-type]
    for ours, theirs in zip(kept.layers, expected.layers, strict=True):
        if isinstance(ours, StoredState) and isinstance(theirs, StoredState):
            assert all(np.array_equal(part, theirs.parts[name]) for name, part in ours.parts.items())
    assert snapshot is not None
    decoder.restore(snapshot)
    assert same(decoder.step(tokens[length]), logits[length])


def test_a_sequence_is_cut_within_its_list(path: Path, logits: Any) -> None:
    decoder, tokens = open_decoder(path), text(LENGTH)
    decoder.prefill(tokens)
    earliest = decoder.earliest()
    assert earliest == (2 * FOLD if len(decoder.programs.loaded) > 3 else LENGTH - 128 + 3)
    snapshot = decoder.snapshot()
    for length in (LENGTH - 1, earliest + 5, earliest):
        decoder.truncate(length)
        assert same(decoder.step(tokens[length]), logits[length])
        decoder.restore(snapshot.first(length))
        assert same(decoder.step(tokens[length]), logits[length])
        decoder.restore(snapshot)
    for cut in (decoder.truncate, snapshot.first):
        with pytest.raises(LimitError) as caught:
            cut(earliest - 1)
        assert str(caught.value) == (
            f"a sequence of {LENGTH} tokens can be cut to 0, or to {earliest} to {LENGTH}, not {earliest - 1}: what came before"
            " is overwritten"
        )
    decoder.truncate(0)
    assert same(decoder.step(tokens[0]), logits[0])


def test_an_interrupted_fold_is_not_gone_on_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_model(tmp_path / "model.gguf", "qwen35", seed=SEED, context=256)
    decoder, tokens = open_decoder(tmp_path / "model.gguf"), text(FOLD + 1)
    decoder.prefill(tokens[:FOLD])
    start, fold = decoder.device.start, decoder.programs.loaded["first fold"].address

    def stops(address: int, *args: Any, **options: Any) -> Any:
        if address == fold:
            raise DeviceError(ErrorCode.READ_ERROR, 1, 64)
        return start(address, *args, **options)

    monkeypatch.setattr(decoder.device, "start", stops)
    with pytest.raises(DeviceError):
        decoder.step(tokens[FOLD])
    monkeypatch.undo()
    with pytest.raises(LimitError) as caught:
        decoder.step(tokens[FOLD])
    assert str(caught.value) == (
        "sequence 0 can't go on: a run was interrupted, and wrote over what its next token would see. Start it over"
    )
    decoder.reset()
    decoder.prefill(tokens)


def test_what_a_fold_takes_is_predicted(tmp_path: Path) -> None:
    make_model(tmp_path / "model.gguf", "qwen35", seed=SEED, context=256)
    decoder = open_decoder(tmp_path / "model.gguf")
    line = list(predicted_lines(decoder.programs, parse_config("base"), [0], "ideal", 1e8))[1]
    cycles = predict_step(decoder.programs, parse_config("base"), 0, program="fold").cycles
    assert (
        line == f"predicted for each 64th token of a sequence, before it: {cycles:,} cycles to fold its lists into its states"
    )
    sizes = [sum(decoder.programs.loaded["logits"].program.bytes_read(n)) for n in (1, FOLD, FOLD + 1)]
    # The list begins anew; the KV cache of the other layer does not.
    assert sizes[0] < sizes[2] < sizes[1]


def test_a_run_tells_folds_from_tokens(tmp_path: Path) -> None:
    """Two folds in the prompt of 130 letters and one in the answer; the steps of the decoder have them, too."""
    make_model(tmp_path / "model.gguf", "qwen35", seed=SEED, context=256)
    command = ["run", str(tmp_path / "model.gguf"), "--raw", "-p", "x" * 130, "-n", "80", "--tokens-per-doorbell", "16"]
    result = CliRunner().invoke(main, command, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "129 tokens before the last on the device, up to 4 at a time" in result.output
    assert "80 decode steps on the device" in result.output
    chosen = "base,right_hand_sides=4"
    assert f"taken: configuration {chosen}," in result.output
    cycles = PredictedCycles(open_decoder(tmp_path / "model.gguf", chosen).programs, parse_config(chosen))
    # Around position 168, with a list that is half full.
    assert f"{cycles.exactly('tokens', 160) + cycles.exactly('fold', 0) / 80:,.0f} cycles a token" in result.output
    decoder = open_decoder(tmp_path / "model.gguf")
    decoder.prefill(text(2 * FOLD + 2))
    folds = {step: count for step, count in decoder.steps.items() if step[0] != "prompt"}
    assert folds == {("first fold", FOLD): 1, ("fold", 2 * FOLD): 1}


def test_what_a_layer_does_not_keep_is_refused(tmp_path: Path) -> None:
    """Keys and values of a layer with a state, and the other way round."""
    make_model(tmp_path / "model.gguf", "qwen35", seed=SEED, context=256)
    decoder, nothing = open_decoder(tmp_path / "model.gguf"), np.zeros((2, 1, 32), np.float32)
    with pytest.raises(ModelError) as caught:
        decoder.load_cache(0, 0, 0, nothing, nothing)
    assert str(caught.value) == "layer 0 has no KV cache: write its state, with load_state"
    with pytest.raises(ModelError) as caught:
        decoder.load_state(1, 0, 1, nothing[0])
    assert str(caught.value) == "layer 1 has no state: write its keys and values, with load_cache"
    with pytest.raises(LimitError) as full:
        decoder.load_state(0, 0, 257, nothing[0])
    assert str(full.value) == (
        "the context is full: it has room for 256 tokens, and 257 are needed. Ask for a longer one with --context, or start over"
    )


@pytest.mark.parametrize("length", [0, FOLD, 2 * FOLD])
@pytest.mark.parametrize("config", ["base", "wide"])
def test_golden_does_the_same_without_races(path: Path, logits: Any, length: int, config: str) -> None:
    """The first tokens, or a fold and the tokens after it: logits, and every number and code that is kept."""
    tokens = text(LENGTH)
    traced: list[tuple[int, bytes]] = []
    found: list[str] = []

    def check(counters: Any) -> None:
        found.extend(races([command for _, command in traced], parse_config(config)))
        traced.clear()

    emulated, golden = (
        open_decoder(path, config, kind, tokens_per_doorbell=4, on_step=check) for kind in ("emulator", "golden")
    )
    emulated.prefill(tokens[:length])
    golden.restore(emulated.snapshot())
    golden.device.transport.trace = lambda index, opcode, command: traced.append((index, command))  # type: ignore[attr-defined]
    assert same(golden.step(tokens[length]), logits[length])
    emulated.step(tokens[length])
    assert golden.run(tokens[length + 1], 2) == emulated.run(tokens[length + 1], 2)
    assert found == []
    for ours, theirs in zip(golden.snapshot().layers, emulated.snapshot().layers, strict=True):
        kept = [held.parts if isinstance(held, StoredState) else vars(held) for held in (ours, theirs)]
        assert all(np.array_equal(kept[0][name], kept[1][name]) for name in kept[0])
