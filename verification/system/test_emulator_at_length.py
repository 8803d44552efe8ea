"""The emulator and golden for longer: many programs, all builds, compilers and architectures; whole models."""

import platform
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tailrace.device.decoder import Decoder
from tailrace.device.driver import Device
from tailrace.gguf.describe import DescribedModel, import_model
from tailrace.gguf.file import open_model
from tailrace.models.fetch import resolve_model
from tailrace.sim.devices import open_device
from tailrace.sim.emulator.build import build_emulator
from tailrace.sim.toolchain import Compiler, compiler_named
from tailrace.spec.config import BUS_WIDTHS, RIGHT_HAND_SIDES, parse_config
from tailrace.spec.errors import ErrorCode
from verification.emulator_twins import twins_of
from verification.programs import random_program
from verification.unit.host.architectures import ARCHITECTURES, SIZED_BY_HIDDEN

BUILDS = [f"base,bus_width={width},right_hand_sides={r}" for width in BUS_WIDTHS for r in RIGHT_HAND_SIDES]
#: With and without AVX, and with AVX-512 where there is one.
PROCESSORS = ("native", "x86-64", "x86-64-v3") if platform.machine() in ("x86_64", "AMD64") else ("native",)


def compilers() -> list[Compiler]:
    """GCC, and Clang wherever it lies."""
    places = [shutil.which("g++"), shutil.which("clang++"), *sorted(map(str, Path("/usr/lib").glob("llvm-*/bin/clang++")))[-1:]]
    return [compiler_named(place) for place in places if place]


@pytest.mark.slow
@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("threads", [1, 2])
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, (1 << 64) - 1))
def test_many_programs(build: str, threads: int, seed: int) -> None:
    config = parse_config(build)
    for twins in twins_of(config, threads=threads):
        assert twins.check(random_program(np.random.default_rng(seed), config, 30), f"seed {seed}").code is ErrorCode.NONE


@pytest.mark.slow
@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("compiler", compilers(), ids=lambda compiler: compiler.name)
def test_every_compiler(compiler: Compiler, processor: str, rng: np.random.Generator) -> None:
    config = parse_config("wide")
    library = build_emulator(processor, compiler)
    for twins in twins_of(config, library=library):
        for number in range(60):
            assert twins.check(random_program(rng, config, 30), f"program {number}").code is ErrorCode.NONE


def same_memory(model: DescribedModel, config: str, memory: int, steps: list[list[int]], threads: int = 2) -> None:
    """Every byte of memory, after steps with logits and a run of tokens."""
    memories = []
    for kind, options in (("emulator", {"threads": threads}), ("golden", {})):
        with Device(open_device(kind, parse_config(config), memory, **options)) as device:
            decoder = Decoder(device, model, batch=len(steps[0]), tokens_per_doorbell=3)
            logits = [decoder.step(step).tobytes() for step in steps]
            logits.append(repr(decoder.run(steps[0], 3)).encode())
            memories.append((logits, device.read(0, device.memory_size)))
    assert memories[0] == memories[1]


@pytest.mark.slow
@pytest.mark.parametrize("config", ["base", "base,bus_width=256,right_hand_sides=2", "wide"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture(architecture: str, config: str, tmp_path: Path, rng: np.random.Generator) -> None:
    pytest.importorskip("transformers")
    from verification.unit.host.transformers_models import make_model

    path = tmp_path / "model.gguf"
    make_model(path, architecture, **({"head_size": 16} if architecture in SIZED_BY_HIDDEN else {}))
    model: Any = import_model(open_model(path), 64)
    batch = parse_config(config).right_hand_sides
    steps = [[int(t) for t in rng.integers(0, model.description.vocabulary, batch)] for _ in range(40)]
    same_memory(model, config, 1 << 25, steps)


@pytest.mark.slow
def test_smollm2_over_512_tokens(rng: np.random.Generator) -> None:
    model = import_model(open_model(resolve_model("smollm2")), 576)
    same_memory(model, "base", 1 << 28, [[int(t)] for t in rng.integers(0, 49152, 512)])
