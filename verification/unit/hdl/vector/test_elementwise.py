"""The elementwise unit against the text of the commands, bit for bit."""

import random

import pytest

from tailrace.spec.config import Config

from .elementwise_bench import Bench
from .elementwise_model import Model, draw_elementwise, draw_floats, draw_rotate

BUS_WIDTHS = (128, 256, 512)


def config(bus_width: int, right_hand_sides: int = 1) -> Config:
    return Config("test", bus_width, right_hand_sides, vector_blocks=64, buffer_entries=1024)


@pytest.mark.parametrize("stalls", [False, True])
@pytest.mark.parametrize("bus_width", BUS_WIDTHS)
def test_random_commands(bus_width: int, stalls: bool) -> None:
    seed = bus_width + stalls
    rng = random.Random(seed)
    shape = config(bus_width, {128: 1, 256: 2, 512: 4}[bus_width])
    model = Model(shape)
    model.write(0, draw_floats(rng, shape.buffer_entries))
    cases = [(draw_rotate if rng.random() < 0.15 else draw_elementwise)(rng, shape) for _ in range(40)]
    Bench(shape, seed if stalls else None).run(cases, model)
