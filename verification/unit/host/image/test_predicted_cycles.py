"""Cycles between passes that are worked out are as good as predictions are at all."""

import numpy as np
import pytest

from tailrace.benchmark.models import imported_shape
from tailrace.gguf.describe import DescribedModel, import_model
from tailrace.gguf.file import open_model
from tailrace.image import predicted_cycles
from tailrace.image.builds import lay_out
from tailrace.image.geometry import Geometry
from tailrace.image.image import ImageRequest
from tailrace.image.predicted import predict_step
from tailrace.image.predicted_cycles import FEW, KNOT, STEP, PredictedCycles
from tailrace.image.programs import Programs
from tailrace.models.published import PUBLISHED
from tailrace.sim.timing.prediction import LARGEST_ERROR
from tailrace.spec.attention import CHUNK
from tailrace.spec.config import parse_config
from tailrace.spec.linear_attention import FOLD
from verification.unit.host.tiny_models import write_model

WIDE = "wide"
CAPACITY = 2 * CHUNK
SHAPES = {shape.name: shape for shape in PUBLISHED}


def programs_of(imported: DescribedModel, config: str) -> Programs:
    return lay_out(imported, Geometry.of_config(parse_config(config)), ImageRequest(whole_embedding=False)).programs


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    path = write_model(tmp_path_factory.mktemp("models") / "tiny.gguf", layers=1, context=300)
    return programs_of(import_model(open_model(path), 300), "base,right_hand_sides=4")


@pytest.mark.parametrize("memory", ["ideal", "ddr4"])
@pytest.mark.parametrize(
    ("name", "layers"),
    [("SmolLM2-135M", 2), ("Gemma-3-270M", 6), pytest.param("Qwen3.5-4B", 4, marks=pytest.mark.slow)],
    ids=["full", "window", "folds"],
)
def test_between_knots_the_error_is_within_that_of_predictions(
    name: str, layers: int, memory: str, rng: np.random.Generator
) -> None:
    """Layers of real sizes, without a head, which would make errors small: full attention, windows, and lists that are folded."""
    programs = programs_of(imported_shape(SHAPES[name], CAPACITY, layers), WIDE)
    config = parse_config(WIDE)
    folded = "fold" in programs.loaded
    cycles = PredictedCycles(programs, config, memory=memory)
    edges = [0, 40, FOLD - 1, 512, CHUNK - 2, CHUNK, CAPACITY - 1]
    for rows in (1, programs.most_rows):
        program = programs.name_of("prompt", [0] * rows)
        last = CAPACITY - rows
        for position in sorted({*edges, *rng.integers(0, last + 1, 4).tolist()}):
            # No pass goes over a fold.
            if position > last or (folded and position % FOLD > FOLD - rows):
                continue
            exact = predict_step(programs, config, position, program=program, memory=memory).cycles
            found = cycles.of(program, position)
            assert abs(found - exact) <= LARGEST_ERROR * exact, (name, memory, rows, position, found, exact)


def test_few_passes_are_worked_out(tiny: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []

    def predict(programs: Programs, config: object, position: int, *, program: str, **options: object) -> object:
        asked.append((program, position))
        return predict_step(programs, config, position, program=program, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(predicted_cycles, "predict_step", predict)
    cycles, config = PredictedCycles(tiny, parse_config("base,right_hand_sides=4")), parse_config("base,right_hand_sides=4")
    # Room is made in whole groups of rows.
    last = tiny.image.capacity - 1
    found = [cycles.of("tokens", position) for position in range(last + 1)]
    assert last % KNOT == KNOT - 1
    few = [knot for first in range(0, FEW, STEP) for knot in (first, first + STEP - 1)]
    knots = [*few, *range(FEW, last, KNOT), last]
    assert asked == [("tokens", knot) for knot in knots]
    # Those are what they are, and what is between two of them lies on a line.
    exact = [predict_step(tiny, config, knot, program="tokens").cycles for knot in knots]
    assert found == [float(np.interp(position, knots, exact)) for position in range(last + 1)]
    assert exact == sorted(exact)


def test_a_sum_counts_each_pass(tiny: Programs) -> None:
    cycles = PredictedCycles(tiny, parse_config("base,right_hand_sides=4"))
    four = tiny.name_of("tokens", [0] * 4)
    steps = {("tokens", 128): 2, ("tokens", 7): 1, (four, 9): 3}
    expected = 2 * cycles.exactly("tokens", 128) + cycles.of("tokens", 7) + 3 * cycles.of(four, 9)
    assert cycles.sum(steps) == expected
    assert cycles.sum({}) == 0


@pytest.mark.parametrize("name", ["SmolLM2-135M", pytest.param("Qwen3.5-4B", marks=pytest.mark.slow)], ids=["full", "folds"])
def test_an_estimate_takes_one_prediction_of_each_program(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers of some hundred tokens, with passes of one row and of several."""
    programs, config = programs_of(imported_shape(SHAPES[name], 1024, 4), WIDE), parse_config(WIDE)
    several = programs.name_of("logits", [0] * programs.most_rows)
    steps = {("logits", position): 1 for position in range(30, 550)} | {(several, position): 2 for position in range(400, 420)}
    exact = PredictedCycles(programs, config).sum(steps)
    asked = []
    monkeypatch.setattr(
        predicted_cycles,
        "predict_step",
        lambda *given, **options: asked.append(options["program"]) or predict_step(*given, **options),
    )
    found = PredictedCycles(programs, config).estimate(steps)
    assert sorted(asked) == sorted(["logits", several])
    assert abs(found - exact) < 0.002 * exact


def test_where_the_cache_ends(tiny: Programs) -> None:
    """Positions of a batch's sequences are told as their mean, behind which there may be no room for as many rows."""
    cycles = PredictedCycles(tiny, parse_config("base,right_hand_sides=4"))
    four = tiny.name_of("tokens", [0] * 4)
    last = tiny.image.capacity - 4
    assert cycles.of(four, last) == cycles.of(four, last + 3) == cycles.exactly(four, last)


def test_the_memory_counts(tiny: Programs) -> None:
    config = parse_config("base,right_hand_sides=4")
    for memory in ({"latency": 300}, {"bandwidth": 0.5}, {"memory": "ddr4"}):
        found = PredictedCycles(tiny, config, **memory).of("tokens", 128)  # type: ignore[arg-type]
        assert found == predict_step(tiny, config, 128, program="tokens", **memory).cycles  # type: ignore[arg-type]
        assert found != PredictedCycles(tiny, config).of("tokens", 128)


@pytest.mark.slow
def test_a_fold_takes_the_same_everywhere() -> None:
    programs = programs_of(imported_shape(SHAPES["Qwen3.5-4B"], 256, 4), WIDE)
    cycles = PredictedCycles(programs, parse_config(WIDE))
    exact = predict_step(programs, parse_config(WIDE), 0, program="fold").cycles
    assert cycles.of("fold", 0) == cycles.of("fold", 192) == exact
