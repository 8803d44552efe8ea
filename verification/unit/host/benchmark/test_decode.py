"""Utilisation of decode steps: shapes, what must be read, sums over layers, and what the port waits for."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tailrace.benchmark.decode import CONTEXTS, REAL, Point, Step, build_of, points, sum_of_layers
from tailrace.benchmark.decode_report import largest_loss
from tailrace.benchmark.must_read import bytes_again, measured_bytes
from tailrace.benchmark.recording import Job, Recording, Stretch, first_products, record, simulate
from tailrace.benchmark.repetition import Repetition
from tailrace.benchmark.waits import uses_until, waits, work_of
from tailrace.command.cli import main
from tailrace.firmware.program import NO_TRAFFIC, Program, Traffic
from tailrace.gguf.describe import import_model
from tailrace.gguf.file import open_model
from tailrace.image.geometry import Geometry
from tailrace.image.image import ImageRequest
from tailrace.image.plan import plan_image
from tailrace.image.programs import build_programs
from tailrace.models.measured import SHAPES
from tailrace.models.published import PUBLISHED
from tailrace.models.shapes import Shape, write_header
from tailrace.sim.timeline import USES, EventKind, Timeline
from tailrace.spec.commands import encode
from tailrace.spec.config import CONFIGS
from tailrace.spec.floats import Function
from tailrace.spec.isa import Multiplier, Opcode, Reduce

#: Weights of the real models, from their publishers' pages, in millions.
PARAMETERS = {
    "SmolLM2-135M": 134.5,
    "Llama-2-7B": 6738.4,
    "Llama-3-8B": 8030.3,
    "Qwen3-8B": 8190.7,
    "Qwen3-30B-A3B": 30532.1,
    "Gemma-3-270M": 268.1,
    "gpt-oss-20b": 20914.8,
}
SMALL = Shape("small", "llama", 4, 64, 2, 1, 32, 96, 192, "Q8_0", "Q8_0")
#: Two layers for five.
FIVE = Repetition(5, 0, 1, 2)
MIXED = Shape("mixed", "qwen3moe", 2, 64, 4, 2, 32, 96, 192, experts=4, used=2)


@pytest.mark.parametrize("name", PARAMETERS)
def test_shapes_have_the_real_models_sizes(name: str, tmp_path: Path) -> None:
    path = write_header(tmp_path / "shape.gguf", SHAPES[name], SHAPES[name].layers)
    tensors = open_model(path).tensors.values()
    assert sum(t.rows * t.columns for t in tensors) / 1e6 == pytest.approx(PARAMETERS[name], abs=0.1)
    assert path.stat().st_size == pytest.approx(sum(t.bytes for t in tensors), rel=0.02)
    # The file system has nothing of the weights.
    assert path.stat().st_blocks * 512 < 1 << 20


def test_bytes_that_must_be_read(tmp_path: Path) -> None:
    imported = import_model(open_model(write_header(tmp_path / "shape.gguf", MIXED, 2)), 64)
    image = plan_image(imported, Geometry.of_config(CONFIGS["tiny"]), ImageRequest())
    # 4-bit blocks take 18 bytes for 32 weights. The router is kept exactly, in three planes of 8 bits: 34 bytes each.
    q, kv, o, expert = 128 * 64, 64 * 64, 64 * 128, 3 * 96 * 64
    layer = (q + 2 * kv + o + 2 * expert) * 18 // 32 + 3 * 4 * 64 * 34 // 32
    head = 192 * 64 * 18 // 32
    token = 2 * (34 + 36)
    assert measured_bytes(image, 0) == head + 2 * (layer + token)
    assert measured_bytes(image, 9, FIVE) == head + 5 * (layer + 10 * token)
    # Two heads share a KV head, and this build serves one at a time.
    assert bytes_again(image, 9, FIVE) == 5 * 10 * token


def test_a_window_limits_what_must_be_read(tmp_path: Path) -> None:
    shape = SHAPES["Gemma-3-270M"]
    imported = import_model(open_model(write_header(tmp_path / "shape.gguf", shape, shape.layers)), 1024)
    image = plan_image(imported, Geometry.of_config(CONFIGS["wide"]), ImageRequest())
    one = 256 * 34 // 32 + 260
    # Every sixth of 18 layers sees everything, the others 512 tokens.
    assert measured_bytes(image, 999) - measured_bytes(image, 0) == one * (3 * 999 + 15 * 511)


def test_chunks_begin_anew(tmp_path: Path) -> None:
    shape = next(shape for shape in PUBLISHED if shape.name == "Llama-4-Scout-17B-16E")
    imported = import_model(open_model(write_header(tmp_path / "shape.gguf", shape, 8)), 16384)
    image = plan_image(imported, Geometry.of_config(CONFIGS["wide"]), ImageRequest())
    one = 8 * (128 * 34 // 32 + 132)
    # Every fourth of 8 layers sees everything, the others the 8192 tokens of a chunk, or those of the next one.
    found = [measured_bytes(image, context) - measured_bytes(image, 0) for context in (8191, 8192, 8200)]
    assert found == [one * 8 * 8191, one * 2 * 8192, one * (2 * 8200 + 6 * 8)]


def test_points() -> None:
    found = points([REAL, "Llama-2-7B"], (build_of(128),), CONTEXTS, ("ddr4",))
    assert [p.context for p in found if p.model == REAL] == [0, 512, 1024, 4096]
    assert [p.context for p in found if p.model != REAL] == [0, 1024, 4096]
    assert points([REAL], (build_of(512),), (0,), ("ideal",)) == [Point(REAL, "wide", 0, "ideal")]
    assert [build_of(width, 8) for width in (512, 128)] == [
        "wide,right_hand_sides=8",
        "base,right_hand_sides=8,vector_blocks=1024,buffer_entries=65536",
    ]
    assert [build_of(width, 8, 2) for width in (512, 128)] == [
        "wide,right_hand_sides=8,vector_width=2",
        "base,right_hand_sides=8,vector_blocks=1024,buffer_entries=65536,vector_width=2",
    ]
    assert Point(REAL, "wide,vector_width=1", 0, "ideal").title == f"{REAL}, wide,vector_width=1, context 0, ideal"
    assert [Point(REAL, build, 0, "ideal").bus for build in ("wide", "kv260")] == ["512", "4 x 128"]


@pytest.mark.parametrize("build", ["wide", "kv260"])
def test_utilisation_is_of_all_ports(build: str) -> None:
    """And of DRAM there is what a sequential read gets."""
    cycles = stretch(1000)
    for memory, ceiling in (("ideal", 1.0), ("ddr4", 1 - (9 + 17 + 420 + 17) / 9360)):
        step = Step(Point(REAL, build, 0, memory), 32_000, 6_400, cycles, True)
        assert (step.utilisation, step.part(step.again)) == (0.5, 0.1)
        assert step.of_ceiling == pytest.approx(0.5 / ceiling)


def stretch(cycles: float, buffer: float = 0.0) -> Stretch:
    return Stretch(cycles, {"weights": cycles - buffer, "buffer": buffer}, {("buffer", "head: argmax"): buffer})


def test_sum_of_layers() -> None:
    empty = Recording(stretch(1000, 20), stretch(300, 10), {})
    full = Recording(None, stretch(350, 40), {})
    assert sum_of_layers([empty], Repetition(2, 0, 1, 2)).cycles == 1000
    total = sum_of_layers([empty], FIVE)
    assert (total.cycles, total.uses["buffer"]) == (1900, 50)
    total = sum_of_layers([empty, full], FIVE)
    assert total.cycles == 1000 + 3 * 300 + 5 * 50
    assert total.uses["buffer"] == 20 + 3 * 10 + 5 * 30
    assert total.waits["buffer", "head: argmax"] == total.uses["buffer"]


def test_largest_loss() -> None:
    def loss(total: Stretch, again: int) -> str:
        return largest_loss(Step(Point(REAL, build_of(128), 0, "ideal"), 0, again, total, True))

    assert loss(stretch(100), 0) == "none"
    assert loss(stretch(200, 30), 0) == "buffer 15.00% (head: argmax 15.00%)"
    assert loss(stretch(200, 30), 16 * 29) == "buffer 15.00% (head: argmax 15.00%)"
    assert loss(stretch(200, 30), 16 * 31) == "K and V read again 15.50%"


PROGRAM = Program(
    commands=(
        encode(Opcode.ELEMENTWISE, count=4, segments=1, reduce=Reduce.SUM_OF_SQUARES),
        encode(Opcode.GEMV, rows=4, blocks=1, slots=1),
        encode(Opcode.ELEMENTWISE, count=4, segments=1, reduce=Reduce.ARGMAX),
    ),
    sections=((0, "layers 0, 1, ... (2 rounds): attention"), (2, "head")),
    traffic=(NO_TRAFFIC, Traffic("weights", 0, 4, 1), NO_TRAFFIC),
    repeats=(2, 2, 1),
    steps_command=None,
    lanes=1,
)


def recorded() -> Timeline:
    """Two layers of 20 cycles, of which the port is idle in 10, and a head of 10, all idle; in buckets of 10 cycles."""
    kinds = EventKind
    events = [
        (100, kinds.RUN_START, 0), (100, kinds.VECTOR_START, 0), (107, kinds.VECTOR_FINISH, 0), (108, kinds.MATRIX_START, 1),
        (119, kinds.MATRIX_FINISH, 0), (120, kinds.VECTOR_START, 0), (127, kinds.VECTOR_FINISH, 0),
        (128, kinds.MATRIX_START, 1), (139, kinds.MATRIX_FINISH, 0), (140, kinds.VECTOR_START, 2),
        (145, kinds.VECTOR_FINISH, 0), (150, kinds.RUN_END, 0),
    ]  # fmt: skip
    uses = np.zeros((5, len(USES)), dtype=np.int64)
    weights, buffer, drain = (USES.index(name) for name in ("weights", "buffer", "drain"))
    uses[[0, 2], buffer], uses[[1, 3], weights], uses[4, drain] = 10, 10, 10
    events_array = np.array(events, dtype=[("cycle", "<u8"), ("kind", "<u4"), ("index", "<u4")])
    return Timeline(100, 10, events_array, uses, np.zeros(5))


def test_waits() -> None:
    assert waits(recorded(), PROGRAM, 100, 150) == {("buffer", "attention: norm"): 20, ("drain", "head: argmax"): 10}
    assert waits(recorded(), PROGRAM, 120, 125) == {("buffer", "attention: norm"): 5}
    assert waits(recorded(), PROGRAM, 110, 120) == {}


def test_uses_until() -> None:
    until = uses_until(recorded(), [100, 105, 120, 150])
    assert until.sum(axis=1).tolist() == [0, 5, 20, 50]
    assert until[1, USES.index("buffer")] == 5


def test_first_products() -> None:
    assert first_products(recorded(), PROGRAM) == [119, 139]


def test_names_of_work() -> None:
    common = {"count": 4, "segments": 1}
    assert work_of(encode(Opcode.ELEMENTWISE, **common, function=Function.EXP, reduce=Reduce.SUM)) == "softmax"
    assert work_of(encode(Opcode.ELEMENTWISE, **common, multiplier=Multiplier.STREAM)) == "norm"
    assert work_of(encode(Opcode.ELEMENTWISE, **common, a_stream=1)) == "load of a table"
    assert work_of(encode(Opcode.ELEMENTWISE, **common)) == "elementwise work"
    assert work_of(encode(Opcode.ROTATE, count=32, segments=1)) == "RoPE"
    assert work_of(bytes(64)) == "invalid"


def test_the_command_line_says_no() -> None:
    for arguments, text in (
        (["--models", "gpt-5"], "--models knows no 'gpt-5': choose from SmolLM2-135M, Llama-2-7B"),
        (["--widths", "256"], "--widths knows no '256': choose from 128, 512"),
        (["--contexts", "0,1k"], "--contexts must be whole numbers up to 1048512 with commas between them, not '0,1k'"),
        (["--predict", "--known"], "--predict shows nothing that was simulated: leave --known out"),
        (["--predict", "--stalls"], "--predict shows nothing that was simulated: leave --stalls out"),
        (["--config", "kv260", "--widths", "512"], "--widths is part of --config"),
        (["--config", "kv260", "--vector-width", "2"], "--vector-width is part of --config"),
        (["--contexts", "1048513"], "--contexts must be whole numbers up to 1048512 with commas between them, not '1048513'"),
    ):
        result = CliRunner().invoke(main, ["bench", "decode", *arguments])
        assert text in result.output
        assert result.exit_code == 2


def test_predictions_need_no_simulation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailrace.benchmark.decode.record", lambda *_: pytest.fail("simulated"))
    result = CliRunner().invoke(
        main, ["bench", "decode", "--predict", "--models", "SmolLM2-135M", "--widths", "512", "--contexts", "0"]
    )
    assert result.exit_code == 0, result.output
    assert result.stdout.count("SmolLM2-135M") == 2
    assert "predicted: nothing was simulated" in result.stdout


def test_predictions_of_several_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port of all ports' width is what they are predicted as."""
    monkeypatch.setattr("tailrace.benchmark.decode.record", lambda *_: pytest.fail("simulated"))
    arguments = ["bench", "decode", "--predict", "--models", "SmolLM2-135M", "--contexts", "0", "--memories", "ideal"]
    result = CliRunner().invoke(main, [*arguments, "--config", "kv260", "--config", "wide"])
    assert result.exit_code == 0, result.output
    rows = [line.split("│") for line in result.stdout.splitlines() if "SmolLM2-135M" in line]
    assert [row[2].strip() for row in rows] == ["4 x 128", "512"]
    assert rows[0][3:] == rows[1][3:]
    assert "4 x 128 bits: `kv260`, 512 bits: `wide`" in result.stdout


def job(tmp_path: Path, layers: int, **changes: object) -> Job:
    imported = import_model(open_model(write_header(tmp_path / f"{layers}.gguf", SMALL, layers)), 128)
    image = plan_image(imported, Geometry.of_config(CONFIGS["tiny"]), ImageRequest())
    facts = {"program": "tokens", "memory": "ideal", "position": 0, **changes}
    return Job(image, build_programs(image), config=CONFIGS["tiny"], **facts)  # type: ignore[arg-type]


@pytest.mark.slow
def test_cycles_do_not_depend_on_values(tmp_path: Path) -> None:
    zeros, random, others = (simulate(job(tmp_path, 2, position=20, seed=seed)) for seed in (None, 1, 2))
    assert zeros == random == others
    assert zeros.whole is not None
    assert sum(zeros.whole.uses.values()) == zeros.whole.cycles


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["ideal", "ddr4"])
def test_the_sum_meets_the_whole(memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = simulate(job(tmp_path, SMALL.layers, memory=memory, position=100)).whole
    assert whole is not None
    empty = simulate(job(tmp_path, 2, memory=memory))
    layer = simulate(job(tmp_path, 2, memory=memory, position=100, whole=False))
    total = sum_of_layers([empty, layer], Repetition(SMALL.layers, 0, 1, 2))
    assert total.cycles == pytest.approx(whole.cycles, rel=0.03)


@pytest.mark.slow
def test_what_is_measured_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = job(tmp_path, 2)
    found = record(wanted)
    monkeypatch.setattr("tailrace.benchmark.recording.simulate", lambda *_: pytest.fail("simulated again"))
    assert record(wanted) == found
