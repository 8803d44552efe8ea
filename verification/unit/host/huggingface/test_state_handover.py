"""A prompt that transformers has computed for a model with states: the device goes on from them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailrace.device.decoder import Decoder
from tailrace.device.driver import Device
from tailrace.firmware.description import LinearAttention, Rule, ShortConvolution
from tailrace.firmware.placement import StatePlace
from tailrace.generation.session_file import fingerprint, read_session, write_session
from tailrace.gguf.describe import import_model
from tailrace.gguf.file import open_model
from tailrace.image.state import StoredState
from tailrace.sim.devices import open_device
from tailrace.spec.config import parse_config
from tailrace.spec.errors import LimitError, ModelError
from tailrace.spec.kv_cache import value_place
from tailrace.spec.linear_attention import FOLD, StateLayout, quantise_state

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from transformers import DynamicCache  # noqa: E402

from tailrace.huggingface.handover import hand_over  # noqa: E402
from tailrace.huggingface.internals import with_cache  # noqa: E402
from verification.unit.host.references import divergence, reference_logits  # noqa: E402
from verification.unit.host.transformers_models import make_model  # noqa: E402

SEED = 23
#: Every architecture with states, once as transformers lays them out and once with other sizes or an order of its own.
SHAPES: dict[str, dict[str, Any]] = {
    "qwen35": {"architecture": "qwen35", "linear": (2, 6, 32, 64), "rotary": 0.25},
    "qwen35, other sizes": {"architecture": "qwen35", "linear": (1, 3, 64, 32), "kernel": 3},
    "qwen35moe": {"architecture": "qwen35moe", "linear": (2, 4, 32, 32), "rotary": 0.5},
    "qwen3next": {"architecture": "qwen3next", "linear": (2, 6, 32, 64), "rotary": 0.5},
    "granitehybrid": {"architecture": "granitehybrid", "linear": (2, 4, 96, 32)},
    "granitehybridmoe": {"architecture": "granitehybridmoe", "linear": (1, 6, 64, 32), "hidden": 96},
    "nemotron_h": {"architecture": "nemotron_h", "linear": (2, 4, 64, 32), "layers": 3, "every": 3},
    "nemotron_h_moe": {"architecture": "nemotron_h_moe", "layers": 3},
    "falcon-h1": {"architecture": "falcon-h1", "linear": (2, 4, 64, 32)},
    "mamba2": {"architecture": "mamba2", "linear": (1, 4, 128, 32)},
    "lfm2": {"architecture": "lfm2", "kernel": 3},
    "lfm2, long kernels": {"architecture": "lfm2", "kernel": 5, "hidden": 96, "layers": 4},
    "lfm2moe": {"architecture": "lfm2moe", "kernel": 3},
}
#: Less than a convolution sees, right before the first fold and the second, and at a fold.
LENGTHS = (2, FOLD - 3, FOLD, 2 * FOLD - 2)
#: Tokens that go on over a fold.
MORE = FOLD + 2


def open_decoder(path: Path, config: str = "base", kind: str = "emulator", **options: Any) -> Decoder:
    return Decoder(Device(open_device(kind, parse_config(config), 1 << 26)), import_model(open_model(path), 256), **options)


def text(count: int, seed: int = SEED) -> list[int]:
    return [int(t) for t in np.random.default_rng(seed).integers(0, 301, count)]


def computed(model: Any, prompts: list[list[int]]) -> Any:
    """Transformers' cache of prompts, padded on the left."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        places = {"position_ids": (mask.cumsum(-1) - 1).clamp(min=0)} if cache.layers and len(prompts) > 1 else {}
        model(ids, attention_mask=mask, **places, **with_cache(cache))
    return cache


def same(a: Any, b: Any) -> bool:
    return np.array_equal(np.asarray(a).view(np.uint32), np.asarray(b).view(np.uint32))


@pytest.fixture(scope="module", params=["qwen35", "falcon-h1", "mamba2", "lfm2"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    path: Path = tmp_path_factory.mktemp("models") / "model.gguf"
    return make_model(path, seed=SEED, context=256, **SHAPES[request.param]), path


@pytest.mark.parametrize("shape", SHAPES)
def test_the_device_goes_on_from_it(shape: str, tmp_path: Path) -> None:
    """As near to transformers in float32 as the codes of keys, values and states are, and nearer to the device's own prefill."""
    path = tmp_path / "model.gguf"
    model = make_model(path, seed=SEED, context=256, **SHAPES[shape])
    decoder, own = open_decoder(path, "wide"), open_decoder(path, "wide")
    for length in LENGTHS:
        tokens = text(length + 6)
        hand_over(decoder, computed(model, [tokens[:length]]), [length])
        assert decoder.positions == [length]
        assert decoder.earliest() == length
        own.reset()
        own.prefill(tokens[:length])
        found, kept = (np.array([one.step(token) for token in tokens[length:]]) for one in (decoder, own))
        # Measured: up to 1.4e-5, of four layers that have seen two tokens.
        assert divergence(kept, found).mean() < 5e-5, (shape, length, SEED)
        apart = divergence(reference_logits(model, tokens)[length:], found)
        # A mixture may choose another expert where two are next to each other, and that is one token.
        assert np.median(apart) < 1e-4, (shape, length, SEED, apart)
        assert apart.mean() < 1e-3, (shape, length, SEED, apart)


def their_head(a: LinearAttention, head: int) -> int:
    """Value head of transformers: files of Qwen 3.5 have the first one of each key head, then the second one of each."""
    return head % a.key_heads * (a.value_heads // a.key_heads) + head // a.key_heads if a.tiled else head


def expected_state(a: LinearAttention, state: Any) -> Any:
    """S of each value head of the device."""
    heads = [state[their_head(a, head)].numpy() for head in range(a.value_heads)]
    return np.array([head.T if a.rule is Rule.STATE_SPACE else head for head in heads])


def expected_inputs(mixer: Any, inputs: Any) -> Any:
    """Inputs of a convolution, all queries before all keys before all values."""
    if isinstance(mixer, ShortConvolution):
        return inputs
    if mixer.rule is Rule.STATE_SPACE:
        values, keys, queries = np.split(inputs, [mixer.values, mixer.values + mixer.keys])
    else:
        queries, keys, values = np.split(inputs, [mixer.keys, 2 * mixer.keys])
    heads = np.split(values, mixer.value_heads)
    return np.concatenate([queries, keys, *(heads[their_head(mixer, head)] for head in range(mixer.value_heads))])


def read_codes(memory: bytes, layout: StateLayout, head: int) -> Any:
    """Both planes of a head's S0, code by code."""
    codes = np.zeros((2 * layout.key_size, layout.value_size))
    for token, element in np.ndindex(*codes.shape):
        place = layout.offsets["state"] + head * layout.state_stride
        code = memory[place + value_place(token, element, 2 * layout.key_size, layout.lanes)]
        codes[token, element] = code - 256 * (code > 127)
    return codes.reshape(2, layout.key_size, layout.value_size)


@pytest.mark.parametrize("config", ["base", "wide"])
def test_what_lies_in_memory(pair: tuple[Any, Path], config: str) -> None:
    """S itself, codes that are half of a step away from it at most, inputs, and an empty list, whatever was there before."""
    model, path = pair
    decoder, length = open_decoder(path, config), FOLD + 5
    cache, description = computed(model, [text(length)]), decoder.imported.description
    places = [
        p for p in zip(description.mixers, decoder.image.placement.caches[0], strict=True) if isinstance(p[1], StatePlace)
    ]
    for _, place in places:
        decoder.device.write(place.address, b"\xff" * place.layout.size)
    hand_over(decoder, cache, [length])
    assert places
    for (n, mixer), place in places:
        layout, memory = place.layout, decoder.device.read(place.address, place.layout.size)
        kept = cache.layers[n]
        recent = layout.rows if isinstance(layout, StateLayout) else layout
        rows = np.frombuffer(memory[: recent.size], "<f4").reshape(-1, recent.pitch // 4)
        inputs = expected_inputs(mixer, kept.conv_states[0][0].numpy())
        for back in range(1, mixer.kernel):
            assert np.array_equal(rows[length - back, : recent.channels], inputs[:, -back]), (n, back, SEED)
        if not isinstance(layout, StateLayout):
            continue
        at, state = layout.offsets, expected_state(mixer, kept.recurrent_states[0][0])
        assert memory[at["master"] : at["end"]] == state.tobytes()
        scales = np.frombuffer(memory[at["state_scales"] : at["keys"]], "<f4").reshape(-1, 2, layout.key_size)
        for head in range(layout.value_heads):
            codes = read_codes(memory, layout, head)
            # Half of a step of the upper plane would be the code 128 of the lower one, which is limited to 127.
            bound = scales[head, 1][:, None] * np.where(np.abs(codes[1]) == 127, 1.01, 0.51)
            held = (codes * scales[head][..., None]).sum(axis=0)
            assert (np.abs(held - state[head]) <= bound).all(), (n, head, SEED)
        assert not any(memory[at["sums"] : at["state_scales"]] + memory[at["keys"] : at["state"]])


def test_codes_are_those_of_a_fold(tmp_path: Path) -> None:
    """What the device's own fold makes of its S, byte for byte."""
    make_model(tmp_path / "model.gguf", seed=SEED, context=256, **SHAPES["qwen35"])
    decoder = open_decoder(tmp_path / "model.gguf")
    for length in (FOLD, 2 * FOLD):
        decoder.prefill(text(length + 1)[decoder.positions[0] :])
        states = [held for held in decoder.snapshot().layers if isinstance(held, StoredState)]
        assert states
        for held in states:
            scales, codes = quantise_state(held.parts["master"].astype(np.float32))
            assert same(scales, held.parts["state_scales"]), (length, SEED)
            assert np.array_equal(codes, held.parts["state"]), (length, SEED)


def test_states_of_any_size_are_quantised() -> None:
    """Rows of zeros, of one number, very small and very large ones: within half of a step of the lower plane."""
    random = np.random.default_rng(SEED)
    rows = random.standard_normal((40, 32)).astype(np.float32) * np.float32(10.0) ** random.integers(-30, 30, (40, 1)).astype(
        np.float32
    )
    rows[3], rows[5, 1:] = 0, 0
    scales, codes = quantise_state(rows)
    held = scales[:40, None] * codes[:40].astype(np.float64) + scales[40:, None] * codes[40:].astype(np.float64)
    assert (np.abs(held - rows) <= 1.01 * scales[40:, None]).all(), SEED
    assert not codes[3].any()
    assert scales[3] == 0
    assert codes[5, 0] == 127 * np.sign(rows[5, 0])


@pytest.mark.parametrize("length", [3, FOLD - 1, FOLD, FOLD + 9])
def test_the_same_bits_in_a_batch_in_rows_and_from_files(pair: tuple[Any, Path], length: int, tmp_path: Path) -> None:
    """Alone and step by step, two sequences of a build with more right-hand sides, in rows, and after a session file."""
    model, path = pair
    tokens, other = text(length + MORE), text(20 + MORE, seed=SEED + 1)
    decoder = open_decoder(path)
    hand_over(decoder, computed(model, [tokens[:length]]), [length])
    snapshot = decoder.snapshot()
    logits = [decoder.step(token) for token in tokens[length:]]

    both = open_decoder(path, "wide", batch=2)
    for prompt, sequence in ((tokens[:length], 0), (other[:20], 1)):
        alone = open_decoder(path)
        hand_over(alone, computed(model, [prompt]), [len(prompt)])
        both.restore(alone.snapshot(), sequence)
    for n in range(MORE):
        assert same(both.step([tokens[length + n], other[20 + n]])[0], logits[n]), n

    name, imported = fingerprint(decoder.imported, None), decoder.imported  # type: ignore[arg-type]
    write_session(tmp_path / "kept.npz", name, tokens[:length], snapshot, is_foreign=True)
    _, restored, is_foreign = read_session(tmp_path / "kept.npz", name, imported)  # type: ignore[arg-type]
    assert restored is not None
    assert is_foreign
    both.restore(restored, 1)
    both.prefill([[], tokens[length : length + MORE - 1]])
    assert same(both.step([None, tokens[-1]])[1], logits[-1])


@pytest.mark.parametrize("shape", ["qwen35", "granitehybrid", "falcon-h1", "lfm2"])
def test_a_padded_batch(shape: str, tmp_path: Path) -> None:
    """Two prompts of different lengths in one cache of transformers."""
    path = tmp_path / "model.gguf"
    model = make_model(path, seed=SEED, context=256, **SHAPES[shape])
    prompts = [text(FOLD + 7), text(2, seed=SEED + 1)]
    decoder = open_decoder(path, "wide", batch=2)
    hand_over(decoder, computed(model, prompts), [FOLD + 7, 2])
    more = text(MORE, seed=SEED + 2)
    found = np.array([decoder.step([token, token]) for token in more])
    for sequence, prompt in enumerate(prompts):
        apart = divergence(reference_logits(model, [*prompt, *more])[len(prompt) :], found[:, sequence])
        assert apart.mean() < 1e-4, (shape, sequence, SEED, apart.max())


def test_a_sequence_of_no_tokens_beside_another(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    model = make_model(path, seed=SEED, context=256, **SHAPES["qwen35"])
    decoder, alone = open_decoder(path, "wide", batch=2), open_decoder(path)
    hand_over(decoder, computed(model, [text(5), [7]]), [5, 0])
    assert decoder.positions == [5, 0]
    assert same(decoder.step([3, 4])[1], alone.step(4))


def test_where_it_can_be_cut(pair: tuple[Any, Path]) -> None:
    """Not below the hand-over, which holds no older state; from there on as after any prompt."""
    model, path = pair
    decoder, tokens, length = open_decoder(path), text(2 * FOLD + 9), FOLD + 9
    hand_over(decoder, computed(model, [tokens[:length]]), [length])
    logits = [decoder.step(token) for token in tokens[length : length + 20]]
    decoder.truncate(length + 3)
    assert same(decoder.step(tokens[length + 3]), logits[3])
    with pytest.raises(LimitError) as caught:
        decoder.truncate(length - 1)
    assert str(caught.value) == (
        f"a sequence of {length + 4} tokens can be cut to 0, or to {length} to {length + 4}, not {length - 1}: what came before"
        " is overwritten"
    )
    fork = decoder.snapshot().first(length)
    decoder.truncate(0)
    fresh = open_decoder(path)
    assert same(decoder.step(tokens[0]), fresh.step(tokens[0]))
    decoder.restore(fork)
    assert same(decoder.step(tokens[length]), logits[0])
    decoder.prefill(tokens[length + 1 :])
    has_states = any(isinstance(mixer, LinearAttention) for _, mixer in decoder.imported.description.mixers)
    assert decoder.earliest() == (2 * FOLD if has_states else length)


def test_a_second_turn(pair: tuple[Any, Path]) -> None:
    """The cache grows on by transformers, answer and question at once, and is handed over again: as if computed in one go."""
    model, path = pair
    tokens = text(FOLD + 30)
    cache = computed(model, [tokens[:20]])
    decoder, whole = open_decoder(path), open_decoder(path)
    hand_over(decoder, cache, [20])
    decoder.prefill(tokens[20:25])
    with torch.no_grad():
        model(torch.tensor([tokens[20 : FOLD + 29]]), **with_cache(cache))
    hand_over(decoder, cache, [FOLD + 29])
    hand_over(whole, computed(model, [tokens[: FOLD + 29]]), [FOLD + 29])
    assert divergence(whole.step(tokens[-1]), decoder.step(tokens[-1])) < 1e-6, SEED


def test_an_interrupted_hand_over_leaves_an_empty_sequence(pair: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model, path = pair
    decoder, tokens = open_decoder(path), text(FOLD + 3)
    write, left = decoder.device.write, [3]

    def stops(address: int, data: bytes) -> None:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        write(address, data)

    monkeypatch.setattr(decoder.device, "write", stops)
    with pytest.raises(KeyboardInterrupt):
        hand_over(decoder, computed(model, [tokens]), [FOLD + 3])
    monkeypatch.undo()
    assert decoder.positions == [0]
    assert decoder.earliest() == 0
    assert same(decoder.step(tokens[0]), open_decoder(path).step(tokens[0]))


def refused(decoder: Decoder, cache: Any, lengths: list[int] | None, reason: str) -> None:
    decoder.prefill([5])
    with pytest.raises(ModelError) as caught:
        hand_over(decoder, cache, lengths)
    assert str(caught.value) == reason


def test_what_is_refused(tmp_path: Path) -> None:
    models = {
        name: make_model(tmp_path / f"{name}.gguf", seed=SEED, context=256, **SHAPES[name]) for name in ("qwen35", "mamba2")
    }
    longer = make_model(tmp_path / "longer.gguf", seed=SEED, context=256, **(SHAPES["qwen35"] | {"kernel": 3}))
    plain = make_model(tmp_path / "plain.gguf", "llama", seed=SEED, context=256)
    prompt = [text(5)]
    qwen, mamba = open_decoder(tmp_path / "qwen35.gguf"), open_decoder(tmp_path / "mamba2.gguf")
    same_model = "use that of the same model"
    refused(qwen, computed(plain, prompt), None, f"the cache of layer 0 has no state, and the model's has: {same_model}")
    refused(
        qwen, computed(longer, prompt), None,
        f"the cache of layer 0 has the last inputs of a convolution of the shape (1, 512, 3), not (1, 512, 4): {same_model}",
    )  # fmt: skip
    refused(
        mamba, computed(models["mamba2"], prompt), None,
        "a cache without keys and values does not say how many tokens it has seen: give their lengths",
    )  # fmt: skip
    refused(
        mamba, computed(models["mamba2"], prompt), [5, 5],
        "the cache has an unknown number of tokens for each of its sequences, which does not fit lengths [5, 5]",
    )  # fmt: skip
    refused(
        qwen, DynamicCache(config=models["qwen35"].config), [0],
        "the cache of layer 0 lacks the last inputs of a convolution: fill it with the prompt, by the same model",
    )  # fmt: skip
    refused(
        qwen, computed(models["qwen35"], prompt), [6],
        "the cache has 5 tokens for each of its sequences, which does not fit lengths [6]",
    )  # fmt: skip
    refused(
        open_decoder(tmp_path / "plain.gguf"), computed(models["qwen35"], prompt), None,
        f"the cache of layer 0 has no keys and values, and the model's has: {same_model}",
    )  # fmt: skip
