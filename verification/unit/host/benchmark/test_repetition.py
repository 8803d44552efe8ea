"""Which layers of a model stand for others."""

import pytest

from tailrace.benchmark.models import imported_shape
from tailrace.benchmark.must_read import measured_bytes
from tailrace.benchmark.repetition import Repetition, repetition_of, whole
from tailrace.image.geometry import Geometry
from tailrace.image.image import ImageRequest
from tailrace.image.plan import plan_image
from tailrace.models.shapes import Shape
from tailrace.spec.config import CONFIGS

DENSE = Shape("dense", "llama", 12, 64, 2, 1, 32, 96, 192)
#: Two layers without experts come first.
LED = Shape("led", "glm4moe", 12, 64, 2, 1, 32, 96, 192, experts=4, used=2, dense_layers=2, dense=128)
#: Every fourth layer is another one, and two are left at the end.
HYBRID = Shape("hybrid", "qwen35", 22, 64, 2, 1, 32, 96, 192, linear=(1, 2, 32, 32))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (DENSE, Repetition(12, 0, 1, 2)),
        (LED, Repetition(12, 2, 1, 4)),
        (HYBRID, Repetition(22, 0, 4, 10)),
    ],
    ids=lambda value: value.name if isinstance(value, Shape) else None,
)
def test_what_repeats(shape: Shape, expected: Repetition) -> None:
    """And what must be read is the same, of the layers that are run and of all of them."""
    every = imported_shape(shape, 128)
    assert repetition_of(every) == expected
    geometry, request = Geometry.of_config(CONFIGS["base"]), ImageRequest()
    of_all = measured_bytes(plan_image(every, geometry, request), 70)
    run = plan_image(imported_shape(shape, 128, expected.present), geometry, request)
    assert measured_bytes(run, 70, expected) == of_all


def test_more_than_half_is_all() -> None:
    assert repetition_of(imported_shape(Shape("short", "llama", 3, 64, 2, 1, 32, 96, 192), 128)) == whole(3)


def test_layers_that_stand_for_others() -> None:
    found = Repetition(22, 0, 4, 10)
    assert [found.stands_for(n) for n in range(22)] == [0, 1, 2, 3, 4, 5, 6, 7, *(4, 5, 6, 7) * 3, 8, 9]
    assert (found.missing, found.rounds) == (3, 5.5)
    led = Repetition(7, 2, 1, 4)
    assert [led.stands_for(n) for n in range(7)] == [0, 1, 2, 3, 3, 3, 3]
    assert led.missing == 3
    assert [whole(3).stands_for(n) for n in range(3)] == [0, 1, 2]
