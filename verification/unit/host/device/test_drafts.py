"""The layer that drafts (multi-token prediction): its logits, and what it leaves as it was."""

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
from tailrace.spec.errors import ConfigError, LimitError

pytest.importorskip("torch")
from verification.races.overlap import races
from verification.unit.host.draft_layers import DraftingModel, make_drafting
from verification.unit.host.references import decode, divergence, read_cache

SEED, CONTEXT = 5, 256
#: Sizes, the build, and tokens: more than a fold, or on a slow device a few.
SHAPES: dict[str, dict[str, Any]] = {
    "dense": {"architecture": "qwen35", "rotary": 0.25, "config": "base,right_hand_sides=4", "length": 75},
    "dense, on the golden model": {"architecture": "qwen35", "tied": True, "config": "base,right_hand_sides=2", "length": 6},
    "mixture": {"architecture": "qwen35moe", "rotary": 0.5, "config": "wide", "length": 20},
    "rows in turn": {"architecture": "qwen3next", "layers": 3, "config": "base,bus_width=256,right_hand_sides=2", "length": 20},
}  # fmt: skip


def open_decoder(path: Path, config: str = "base,right_hand_sides=4", kind: str = "emulator", **options: Any) -> Decoder:
    imported = import_model(open_model(path), CONTEXT, drafts=True)
    return Decoder(Device(open_device(kind, parse_config(config), 1 << 26)), imported, **options)


def text(count: int, seed: int = SEED) -> list[int]:
    return [int(t) for t in np.random.default_rng(seed).integers(0, 301, count)]


def same(a: Any, b: Any) -> bool:
    return np.array_equal(np.asarray(a).view(np.uint32), np.asarray(b).view(np.uint32))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DraftingModel]:
    path = tmp_path_factory.mktemp("models") / "model.gguf"
    return path, make_drafting(path, "qwen35", seed=SEED, context=CONTEXT, rotary=0.5)


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_are_those_of_transformers(shape: str, tmp_path: Path) -> None:
    """With the device's codes of keys and values, its own are within rounding; also of drafts that follow drafts."""
    sizes = dict(SHAPES[shape])
    config, tokens = sizes.pop("config"), text(sizes.pop("length"))
    model = make_drafting(tmp_path / "model.gguf", seed=SEED, context=CONTEXT, **sizes)
    decoder = open_decoder(tmp_path / "model.gguf", config, "golden" if "golden" in shape else "emulator")
    number, found = len(decoder.imported.description.layers), []
    assert decoder.imported.description.draft_layer is not None
    step = decoder.step

    def drafted(token: int) -> Any:
        position = decoder.positions[0]
        if position:
            found.append(decoder.draft([(token, position)])[0])
        return step(token)

    decoder.step = drafted  # type: ignore[method-assign]
    logits, held = decode(decoder, tokens)
    hidden = model.hidden(tokens, held[:-1])
    assert divergence(model.main.lm_head(hidden).numpy(), logits).mean() < 1e-6, (shape, SEED)
    rows = [tuple(part[:, : len(tokens) - 1] for part in read_cache(decoder, number))]
    expected, _ = model.drafts(tokens, hidden[:-1], rows)
    apart = divergence(expected, np.array(found))
    assert apart.mean() < 1e-6, (shape, SEED, apart)
    # Drafts after drafts start from what the layer has left itself.
    said, more = [*tokens, *text(3, SEED + 1)], hidden
    for position in range(len(tokens), len(said)):
        chained = decoder.draft([(said[position], position)])[0]
        rows = [tuple(part[:, :position] for part in read_cache(decoder, number))]
        expected, left = model.drafts(said[: position + 1], more, rows)
        assert divergence(expected[-1:], np.array([chained])).max() < 1e-5, (shape, SEED, position)
        more = left.new_tensor(np.concatenate([more.numpy(), left[-1:].numpy()]))
    assert decoder.positions == [len(tokens)]


def test_passes_give_the_bits_that_they_give_without(made: tuple[Path, DraftingModel]) -> None:
    """Whatever has been drafted between them, and so do drafts, however the tokens before them came."""
    path, _ = made
    tokens = text(90)
    plain = Decoder(Device(open_device("emulator", parse_config("base"), 1 << 26)), import_model(open_model(path), CONTEXT))
    logits = [plain.step(token) for token in tokens]
    stepped, prompted = open_decoder(path), open_decoder(path, "wide")
    for position, token in enumerate(tokens):
        if position % 3 == 1:
            for more in range(3):
                stepped.draft([(text(3, position)[more], position + more)])
        assert same(stepped.step(token), logits[position]), position
    prompted.prefill(tokens)
    expected = stepped.draft([(7, len(tokens))])[0]
    assert same(prompted.draft([(7, len(tokens))])[0], expected)
    # Verified drafts that were wrong are taken back.
    prompted.take([[7, 8, 9]])
    prompted.truncate(len(tokens))
    assert same(prompted.draft([(7, len(tokens))])[0], expected)


@pytest.mark.parametrize("config", ["base,right_hand_sides=2", "wide"])
def test_golden_does_the_same_without_races(made: tuple[Path, DraftingModel], config: str) -> None:
    """Passes of a prompt, steps, and drafts after drafts, of two sequences."""
    path, _ = made
    traced: list[tuple[int, bytes]] = []
    found: list[str] = []

    def check(counters: Any) -> None:
        found.extend(races([command for _, command in traced], parse_config(config)))
        traced.clear()

    emulated, golden = (open_decoder(path, config, kind, batch=2, on_step=check) for kind in ("emulator", "golden"))
    golden.device.transport.trace = lambda index, opcode, command: traced.append((index, command))  # type: ignore[attr-defined]
    results = []
    for decoder in (emulated, golden):
        decoder.prefill([text(3), text(2, 1)])
        results.append([decoder.draft([(4, 3 + n), (6, 2 + n)]) for n in range(2)])
        results[-1].append(list(decoder.step([4, 6])))
        results[-1].append([decoder.draft([None, (9, 3)])[1]])
    assert all(same(one, other) for one, other in zip(*results, strict=True))
    assert found == []


@pytest.mark.parametrize("batch", [3, 8])
def test_sequences_draft_together_as_alone(made: tuple[Path, DraftingModel], batch: int) -> None:
    """Also more of them than there are registers for tokens; one sits out."""
    path, _ = made
    config = f"base,right_hand_sides={max(batch, 4)},buffer_entries=32768"
    both, alone = open_decoder(path, config, batch=batch), open_decoder(path)
    texts = [text(3 + n, n) for n in range(batch)]
    texts[1] = []
    both.prefill(texts)
    together = both.draft([(n, len(one)) if one else None for n, one in enumerate(texts)])
    assert together[1] is None
    for n in (n for n in range(batch) if texts[n]):
        alone.reset()
        alone.prefill(texts[n])
        assert same(alone.draft([(n, len(texts[n]))])[0], together[n]), n


def test_snapshots_have_what_it_needs(made: tuple[Path, DraftingModel]) -> None:
    """And nothing of what was drafted and never came."""
    path, _ = made
    decoder, other, clean = open_decoder(path), open_decoder(path, "wide"), open_decoder(path)
    tokens = text(70)
    for one in (decoder, clean):
        one.prefill(tokens)
    expected = [decoder.draft([(token, 70 + n)])[0] for n, token in enumerate([5, 6])]
    snapshot = decoder.snapshot()
    for held, wanted in zip(snapshot.layers[:-1], clean.snapshot().layers[:-1], strict=True):
        parts = vars(held).get("parts") or vars(held)
        wanted_parts = vars(wanted).get("parts") or vars(wanted)
        assert all(np.array_equal(parts[name], wanted_parts[name]) for name in parts)
    other.restore(snapshot)
    assert same([other.draft([(token, 70 + n)])[0] for n, token in enumerate([5, 6])], expected)
    other.restore(snapshot.first(68))
    other.prefill(tokens[68:])
    assert same([other.draft([(token, 70 + n)])[0] for n, token in enumerate([5, 6])], expected)


def test_passes_without_it_take_less_and_give_the_same_bits(made: tuple[Path, DraftingModel]) -> None:
    """It sees zeros in place of their tokens, and goes on behind them: whatever was there before, and once it is asked to."""
    path, _ = made
    tokens, fills = text(90), [n % 20 < 12 for n in range(90)]
    always, paused, other = (open_decoder(path) for _ in range(3))
    other.prefill(text(90, 9))
    other.reset()
    for token, is_filled in zip(tokens, fills, strict=True):
        expected, before = always.step(token), [one.counters.weight_bytes for one in (paused, other)]
        for one, earlier in zip((paused, other), before, strict=True):
            assert same(one.take([[token]], fills=is_filled)[0][0], expected)
            assert one.has_filled() == is_filled
            assert one.counters.weight_bytes - earlier == one.image.token_bytes - (0 if is_filled else one.image.filling_bytes)
    assert not any(kind.endswith("nothing for drafts") for kind, _ in always.steps)
    assert sum(count for (kind, _), count in paused.steps.items() if kind.endswith("nothing for drafts")) == 90 - sum(fills)
    drafted = [one.draft([(7, 90)])[0] for one in (always, paused, other)]
    assert same(drafted[1], drafted[2])
    assert not same(drafted[0], drafted[1])
    number = len(paused.imported.description.layers)
    for part, whole in zip(read_cache(paused, number), read_cache(always, number), strict=True):
        rows = [n for n in range(89) if fills[n] and fills[n + 1]]
        assert np.array_equal(part[:, rows], whole[:, rows])
        # Also that of the first token behind a pause, whose own is made from zeros.
        assert not part[:, [n for n in range(89) if not fills[n] and not fills[n + 1]]].any()


def test_tokens_that_were_computed_elsewhere(made: tuple[Path, DraftingModel]) -> None:
    """It sees nothing of them, and drafts finite numbers."""
    path, _ = made
    decoder = open_decoder(path)
    decoder.prefill(text(10, 3))
    decoder.reset()
    decoder.resume(0, 64)
    first = decoder.draft([(1, 64)])[0]
    assert first is not None
    assert np.isfinite(first).all()


def test_what_is_refused(made: tuple[Path, DraftingModel]) -> None:
    path, _ = made
    decoder = open_decoder(path)
    for position in (0, 1):
        with pytest.raises(LimitError, match=rf"^nothing can be drafted for position {position} of sequence 0$"):
            decoder.draft([(1, position)])
    decoder.prefill(text(CONTEXT))
    with pytest.raises(LimitError, match="the context is full"):
        decoder.draft([(1, CONTEXT)])
    for without in (open_decoder(path, "base"), open_decoder(path, tokens_per_doorbell=4)):
        without.step(1)
        with pytest.raises(ConfigError, match=r"model\.gguf was imported without a layer that drafts$"):
            without.draft([(1, 1)])
