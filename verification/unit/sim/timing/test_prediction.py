"""Predicted cycles are those of the gateware, but for a small error."""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tailrace.device.driver import Device
from tailrace.gguf.describe import import_model
from tailrace.gguf.file import open_model
from tailrace.image.builds import lay_out
from tailrace.image.geometry import Geometry
from tailrace.image.image import ImageRequest
from tailrace.image.predicted import predict_step
from tailrace.image.programs import Programs
from tailrace.models.shapes import Shape, write_header
from tailrace.sim.timing.prediction import Prediction, predict
from tailrace.sim.verilated import VerilatedDevice
from tailrace.spec.commands import encode
from tailrace.spec.config import CONFIGS, Config, parse_config
from tailrace.spec.errors import ConfigError
from tailrace.spec.isa import ARGUMENTS, Opcode

CAPACITY = 256
#: Small models of every architecture, and of most formats: what is lost between products, which a large model hides, is most of it.
SHAPES = (
    Shape("llama", "llama", 4, 128, 4, 2, 32, 256, 320, "Q4_0", "Q8_0"),
    Shape("mixtral", "llama", 2, 64, 4, 2, 32, 64, 320, "Q4_1", "Q8_0", experts=4, used=2),
    Shape("qwen2", "qwen2", 3, 128, 4, 2, 32, 160, 320, "Q5_1", "Q8_0", tied=True),
    Shape("qwen3", "qwen3", 3, 96, 4, 1, 32, 128, 320, "Q5_0", "Q8_0"),
    Shape("qwen3moe", "qwen3moe", 3, 64, 4, 2, 32, 32, 320, "MXFP4", "Q8_0", experts=8, used=3),
    Shape("gemma3", "gemma3", 7, 64, 2, 1, 64, 96, 320, "Q4_0", "Q8_0", tied=True, window=16),
    Shape("phi3", "phi3", 2, 96, 3, 3, 32, 192, 320, "Q8_0", "Q8_0", window=31),
    Shape(
        "llama4", "llama4", 4, 64, 4, 2, 32, 64, 320, "Q4_0", "Q8_0", experts=4, used=1, shared=64, window=32, context=CAPACITY
    ),
    Shape("gpt2", "gpt2", 2, 64, 2, 2, 32, 256, 320, "Q8_0", "Q8_0", tied=True),
)
#: Largest error for these, which are a thousandth of a model of today; for those docs/blocks/timing.md has the table.
BOUND = {"ideal": 0.025, "ddr4": 0.06, "hbm2": 0.08, "ddr3": 0.06}
#: The default run builds one core; the others take minutes each.
CONFIGURATIONS = [
    "base",
    *(
        pytest.param(c, marks=pytest.mark.slow)
        for c in (
            "wide",
            "base,bus_width=256,right_hand_sides=2",
            "base,vector_width=4",
            "wide,vector_width=1",
            "base,channels=2",
            "base,channels=4",
        )
    ),
]


@lru_cache
def laid_out(shape: Shape, config: Config, batch: int = 1) -> Programs:
    with TemporaryDirectory() as folder:
        path = write_header(Path(folder) / "shape.gguf", replace(shape, context=CAPACITY))
        imported = import_model(open_model(path), CAPACITY)
    return lay_out(imported, Geometry.of_config(config), ImageRequest(batch=batch)).programs


def steps(programs: Programs) -> Iterator[tuple[str, int]]:
    """Programs and the positions that they are run at: a row of each sequence."""
    yield from (("tokens", 0), ("logits", CAPACITY - 1), ("prompt", 100))


@pytest.mark.parametrize("memory", BOUND)
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_small_models(name: str, memory: str) -> None:
    """Every architecture, at the start and at the end of its context, one sequence and as many as there is room for."""
    config = parse_config(name)
    for shape in SHAPES:
        for batch in sorted({1, config.right_hand_sides}):
            programs = laid_out(shape, config, batch)
            with VerilatedDevice(config, -(-programs.end // 4096) * 4096, memory=memory) as transport:
                device = Device(transport)
                for loaded in programs.loaded.values():
                    transport.write(loaded.address, b"".join(loaded.program.commands))
                for program, position in steps(programs):
                    loaded = programs.loaded[program]
                    arguments = [0] * 4 + [position] * batch
                    simulated = device.start(loaded.address, len(loaded.program.commands), arguments=arguments)
                    predicted = predict_step(programs, config, position, program=program, memory=memory)
                    error = predicted.cycles / simulated.cycles - 1
                    assert abs(error) < BOUND[memory], f"{shape.name}, batch {batch}, {program} at {position}: {error:+.2%}"
                    # Commands past a loop that is left are asked for in vain: how many depends on single cycles.
                    assert abs(predicted.beats - simulated.read_beats) <= 0.01 * simulated.read_beats


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wide", "base,bus_width=256,right_hand_sides=2"])
def test_several_tokens_of_a_sequence(name: str) -> None:
    """Their results are written in most cycles of a product with keys or values, and the vector unit's words wait for it."""
    config = parse_config(name)
    for shape in SHAPES:
        programs = laid_out(shape, config)
        rows = min(config.right_hand_sides, programs.most_rows)
        program = programs.name_of("prompt", [0] * rows)
        loaded = programs.loaded[program]
        with VerilatedDevice(config, -(-programs.end // 4096) * 4096) as transport:
            transport.write(loaded.address, b"".join(loaded.program.commands))
            for position in (0, 100):
                arguments = [0] * 4 + [position + n for n in range(rows)]
                simulated = Device(transport).start(loaded.address, len(loaded.program.commands), arguments=arguments).cycles
                predicted = predict_step(programs, config, position, program=program).cycles
                error = predicted / simulated - 1
                assert abs(error) < BOUND["ideal"], f"{shape.name}, {rows} rows at {position}: {error:+.2%}"


@pytest.mark.parametrize(("latency", "bandwidth"), [(1, 1.0), (20, 1.0), (300, 1.0), (100, 0.5), (100, 0.9)])
def test_other_memories(latency: int, bandwidth: float) -> None:
    config = CONFIGS["base"]
    programs = laid_out(SHAPES[0], config)
    loaded = programs.loaded["tokens"]
    size = -(-programs.end // 4096) * 4096
    with VerilatedDevice(config, size, latency=latency, bandwidth=bandwidth) as transport:
        transport.write(loaded.address, b"".join(loaded.program.commands))
        simulated = Device(transport).start(loaded.address, len(loaded.program.commands), arguments=[0] * 8).cycles
    predicted = predict_step(programs, config, 0, program="tokens", latency=latency, bandwidth=bandwidth).cycles
    assert abs(predicted / simulated - 1) < BOUND["ideal"]


@pytest.mark.parametrize("memory", BOUND)
def test_what_is_left_of_a_loop_is_a_sum(memory: str) -> None:
    """Turns that have become equal need not be worked out one by one."""
    config = CONFIGS["base"]
    shape = replace(SHAPES[0], layers=24, hidden=256, feed_forward=1024)
    programs = laid_out(shape, config)
    commands, address = programs.loaded["logits"].program.commands, programs.loaded["logits"].address
    whole = predict(commands, config, address=address, memory=memory, exact=True)
    sums = predict(commands, config, address=address, memory=memory)
    assert abs(sums.beats / whole.beats - 1) < 1e-3
    # Where refreshes fall differs from turn to turn: two that are equal need not be like all others.
    assert abs(sums.cycles / whole.cycles - 1) < (1e-5 if memory == "ideal" else 2e-3)


def test_a_longer_context_takes_longer() -> None:
    programs = laid_out(SHAPES[0], CONFIGS["base"])
    cycles = [predict_step(programs, CONFIGS["base"], position).cycles for position in range(0, CAPACITY, 50)]
    assert cycles == sorted(cycles)
    assert cycles[0] < cycles[-1]


def test_tokens_per_second() -> None:
    assert Prediction(1_000_000, 0).tokens_per_second(100) == 100.0


def test_errors() -> None:
    config = CONFIGS["base"]
    with pytest.raises(ConfigError, match="^unknown memory 'ddr5': choose one of ideal, ddr4, hbm2, ddr3$"):
        predict([encode(Opcode.FENCE)], config, memory="ddr5")
    with pytest.raises(ValueError, match="^a run has at most 8 arguments, not 9$"):
        predict([], config, arguments=[0] * (ARGUMENTS + 1))
    with pytest.raises(ValueError, match="^opcode 0 is none: a prediction needs a program that runs$"):
        predict([bytes(64)], config)
