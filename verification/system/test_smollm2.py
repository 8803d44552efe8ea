"""A real model from its GGUF file, on golden and on the gateware: the same bytes, the same text, at the stated distance from float32."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tailrace.device.decoder import Decoder
from tailrace.device.driver import Device
from tailrace.gguf.describe import ImportedModel, import_model
from tailrace.gguf.file import open_model
from tailrace.models.fetch import resolve_model
from tailrace.sim.devices import open_device
from tailrace.spec.config import BUS_WIDTHS, RIGHT_HAND_SIDES, parse_config
from tailrace.spec.errors import ToolError
from tailrace.text.tokenizer import Tokenizer
from verification.system.twins import Twins

QUESTION = "What is the capital of France?"
TEXT = "Once upon a time, there"
MEMORY = 1 << 28
CONTEXT = 64


@pytest.fixture(scope="module")
def path() -> Path:
    try:
        return resolve_model("smollm2")
    except ToolError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def imported(path: Path) -> ImportedModel:
    return import_model(open_model(path), CONTEXT)


def tokens_of(imported: ImportedModel) -> list[int]:
    return Tokenizer(imported.model).encode(TEXT)


def open_golden(imported: ImportedModel, config: str, **options: int) -> Decoder:
    return Decoder(Device(open_device("golden", parse_config(config), MEMORY)), imported, **options)


def decode(decoder: Decoder, prompt: list[int], count: int) -> tuple[list[int], list[bytes]]:
    """Tokens, the best each time, and the bits of all logits."""
    decoder.prefill(prompt[:-1])
    token, tokens, logits = prompt[-1], [], []
    for _ in range(count):
        logits.append(decoder.step(token).tobytes())
        token = int(np.frombuffer(logits[-1], dtype=np.float32).argmax())
        tokens.append(token)
    return tokens, logits


@pytest.fixture(scope="module")
def decoded(imported: ImportedModel) -> tuple[list[int], list[bytes]]:
    """What golden says to the end of the text, in the build base."""
    return decode(open_golden(imported, "base"), tokens_of(imported)[-2:], 3)


BUILDS = [(width, sides) for width in BUS_WIDTHS for sides in RIGHT_HAND_SIDES]
#: Each number of right-hand sides once, over all widths.
SOME = [(128, 1), (256, 4), (512, 16), (128, 2), (256, 8)]


@pytest.mark.parametrize(
    ("width", "sides"), [pytest.param(*build, marks=() if build in SOME else pytest.mark.slow) for build in BUILDS]
)
def test_every_build_gives_the_same_bits(
    imported: ImportedModel, decoded: tuple[list[int], list[bytes]], width: int, sides: int
) -> None:
    """Three tokens: every bit of all logits is the same for every bus width and every number of right-hand sides."""
    decoder = open_golden(imported, f"base,bus_width={width},right_hand_sides={sides}")
    assert decode(decoder, tokens_of(imported)[-2:], 3) == decoded


def test_the_device_chooses_as_its_logits_say(imported: ImportedModel, decoded: tuple[list[int], list[bytes]]) -> None:
    """A run of tokens with one doorbell is that of the best logits, one doorbell each."""
    prompt = tokens_of(imported)[-2:]
    doorbells: list[object] = []
    decoder = Decoder(Device(open_device("golden", parse_config("base"), MEMORY)), imported, tokens_per_doorbell=3)
    decoder.prefill(prompt[:-1])
    decoder.on_step = doorbells.append
    assert decoder.run(prompt[-1], 3) == decoded[0]
    assert len(doorbells) == 1


@pytest.mark.slow
@pytest.mark.parametrize("width", [128, 512])
def test_one_doorbell_per_token(imported: ImportedModel, width: int) -> None:
    """32 tokens: the gateware leaves golden's bytes everywhere in memory, and chooses its tokens."""
    prompt = tokens_of(imported)
    with Twins(imported, f"base,bus_width={width}", MEMORY) as twins:
        twins.prefill(prompt[:-1])
        token = prompt[-1]
        for _ in range(32):
            token = int(twins.step(token).argmax())
        assert twins.doorbells == [len(prompt) + 31] * 2
        twins.check_memory()


@pytest.mark.slow
@pytest.mark.parametrize("width", [128, 512])
def test_one_doorbell_for_a_run(imported: ImportedModel, width: int) -> None:
    """The device chooses 32 tokens by itself: those of golden, and the same bytes in memory."""
    prompt = tokens_of(imported)
    with Twins(imported, f"base,bus_width={width}", MEMORY, tokens_per_doorbell=32) as twins:
        twins.prefill(prompt[:-1])
        tokens = twins.run(prompt[-1], 32)
        assert twins.doorbells == [len(prompt)] * 2
        twins.check_memory()
    assert tokens == decode(open_golden(imported, "base"), prompt, 32)[0]


@pytest.mark.slow
@pytest.mark.parametrize("config", ["base,right_hand_sides=4", "base,bus_width=256,right_hand_sides=2", "wide"])
def test_other_builds_of_the_gateware_give_golden_bits(imported: ImportedModel, config: str) -> None:
    """Two tokens on each, and so the bits of all builds are the same, as golden's are."""
    prompt = tokens_of(imported)
    with Twins(imported, config, MEMORY) as twins:
        for token in prompt[:2]:
            twins.step(token)
        twins.check_memory()


def answer(device: str, config: str, tokens: int) -> tuple[str, str]:
    """Text of an answer, and the digest over every result vector."""
    command = [sys.executable, "-m", "tailrace", "run", "smollm2", "-p", QUESTION, "-n", str(tokens)]
    run = subprocess.run([*command, "--device", device, "--config", config], capture_output=True, text=True, timeout=3600)
    assert run.returncode == 0, run.stderr
    digest = re.search(r"SHA-256 ([0-9a-f]{16})", run.stderr)
    assert digest, run.stderr
    return run.stdout, digest[1]


@pytest.mark.slow
@pytest.mark.parametrize(("config", "tokens"), [("base", 8), ("base,bus_width=256", 2), ("base,bus_width=512", 2)])
def test_same_answer(config: str, tokens: int) -> None:
    """The command line gives the same text, and the logits behind it have the same bits, on every bus."""
    golden = answer("golden", "tiny", tokens)
    assert answer("verilator", config, tokens) == golden
    text = golden[0].strip()
    assert text
    assert "The capital of France is Paris.".startswith(text)


@pytest.mark.slow
def test_distance_from_float32(path: Path) -> None:
    """Whole steps, teacher-forced over 512 positions of real text: near float32 with the same weights."""
    from tailrace.benchmark.quality import measure_quality

    quality = measure_quality(str(path), positions=512)
    assert quality.positions == 512
    assert quality.mean_divergence <= 1e-3
    assert abs(quality.device_perplexity / quality.reference_perplexity - 1) <= 0.005


@pytest.mark.slow
def test_distance_of_linear_layers_from_float32(path: Path) -> None:
    """With attention and norms on the host in float32, what is left is the rounding of activations and results."""
    from tailrace.benchmark.quality import measure_quality

    assert measure_quality(str(path), positions=512, operations=True).mean_divergence <= 1e-6
