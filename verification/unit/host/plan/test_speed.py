"""Cycles of a core of a board are those of `predict_step`, with the memory that the board has."""

from dataclasses import replace

import pytest

from tailrace.benchmark.models import imported_shape
from tailrace.image.builds import lay_out
from tailrace.image.geometry import Geometry
from tailrace.image.image import ImageRequest
from tailrace.image.predicted import predict_step
from tailrace.image.programs import Programs
from tailrace.models.shapes import Shape
from tailrace.plan.described import PlannedModel, find_model
from tailrace.plan.speed import Behind, Cores, behind
from tailrace.plan.table import Board, read_table
from tailrace.sim.memory_models import DDR4_2400, HBM2
from tailrace.spec.linear_attention import FOLD
from verification.unit.host.plan.boards import BOARD, WIDE, shakespeare

SHIPPED = {board.name: board for board in read_table().boards}


def programs_of(model: PlannedModel, board: Board, users: int) -> Programs:
    request = ImageRequest(users, whole_embedding=False)
    return lay_out(model.imported, Geometry.of_config(board.config), request).programs


def test_the_memory_behind_a_core() -> None:
    assert behind(BOARD) == Behind("ddr4", 1.0)
    assert behind(SHIPPED["kv260"]) == behind(SHIPPED["u250"]) == Behind("ddr4", 1.0)
    assert behind(SHIPPED["u280"]) == Behind("hbm2", 1.0)
    # A core at half the clock takes what it can; one at twice the clock waits, for what refreshes leave as well.
    assert behind(replace(BOARD, clock_mhz=50.0)) == Behind("ideal", 1.0)
    assert behind(replace(BOARD, clock_mhz=200.0)) == Behind("ideal", DDR4_2400.ceiling / 2)
    assert behind(replace(BOARD, clock_mhz=200.0, memory_timing="hbm2")) == Behind("ideal", HBM2.ceiling / 2)
    assert behind(replace(BOARD, memory_timing="ideal", reads=0.8)) == Behind("ideal", 0.8)
    # Two cores have half of it each.
    assert behind(replace(BOARD, cores=2)) == Behind("ideal", DDR4_2400.ceiling / 2)


@pytest.mark.parametrize("clock", [100.0, 200.0])
@pytest.mark.parametrize("users", [1, 3])
def test_a_step_is_that_of_predict_step(clock: float, users: int) -> None:
    board, model = replace(WIDE, clock_mhz=clock), shakespeare()
    programs, there = programs_of(model, board, users), behind(board)
    core = Cores(model).of(board, users)

    def predicted(program: str, position: int) -> int:
        return predict_step(
            programs, board.config, position, program=program, memory=there.memory, bandwidth=there.bandwidth
        ).cycles

    assert (core.users, core.position, core.most_rows) == (users, 63, 4)
    assert core.step() == predicted("tokens", 63)
    assert core.drafts(4) == predicted(programs.name_of("tokens", [0] * 4), 60)
    # Nine tokens: two passes of four at a mean position of 2, and the step that takes the last.
    four = predicted(programs.name_of("prompt", [0] * 4), 2)
    assert core.prompt(9) == 2 * four + predicted(programs.name_of("tokens", [0]), 8)
    assert core.prompt(1) == core.last(1)
    assert board.rate(core.step()) == clock * 1e6 / core.step()


def test_boards_with_the_same_core_share_it() -> None:
    cores = Cores(shakespeare())
    assert cores.of(WIDE) is cores.of(replace(WIDE, name="other", usd=1.0))
    assert cores.of(WIDE) is not cores.of(replace(WIDE, clock_mhz=200.0))
    assert cores.of(WIDE, 2) is not cores.of(WIDE)


def test_folds_are_part_of_steps_and_prompts() -> None:
    shape = Shape("hybrid", "qwen35", 4, 256, 4, 2, 64, 256, 512, context=256, rotary=32, linear=(2, 4, 64, 64))
    model = PlannedModel("hybrid", imported_shape(shape, 256))
    programs, core = programs_of(model, WIDE, 1), Cores(model).of(WIDE)

    def predicted(program: str, position: int) -> int:
        return predict_step(programs, WIDE.config, position, program=program, memory="ddr4").cycles

    fold = predicted("fold", 0)
    # Of the last 64 tokens half are in the list.
    assert core.position == 224
    assert core.step() == predicted("tokens", 224) + fold / FOLD
    assert fold > 0


def test_the_board_in_simulation_takes_as_long() -> None:
    """docs/boards/simulation.md counts 587,012 cycles a token, over a few steps. The table has a mean rate, not LiteDRAM, hence 1 %."""
    assert Cores(shakespeare()).of(SHIPPED["ulx3s"]).last(9) == pytest.approx(587_012, rel=0.01)


def test_a_context_is_not_longer_than_trained() -> None:
    assert shakespeare(64).imported.context == 64
    assert find_model("shakespeare", None, 100).imported.context == 100
    assert find_model("shakespeare", None, 1 << 20).imported.context == find_model("shakespeare", None, 4096).imported.trained
