"""What `tailrace inspect` predicts of drafts, from passes over several rows."""

from pathlib import Path

import pytest

from tailrace.command.inspect import predicted_lines
from tailrace.gguf.describe import import_model
from tailrace.gguf.file import open_model
from tailrace.image.builds import lay_out
from tailrace.image.geometry import Geometry
from tailrace.image.image import ImageRequest
from tailrace.image.predicted import predict_step
from tailrace.image.programs import Programs
from tailrace.spec.config import parse_config
from verification.unit.host.tiny_models import write_model


def programs_of(folder: Path, config: str) -> Programs:
    imported = import_model(open_model(write_model(folder / "tiny.gguf")), 32)
    return lay_out(imported, Geometry.of_config(parse_config(config)), ImageRequest()).programs


@pytest.mark.parametrize(("sides", "named"), [(2, "2"), (4, "2, 3 or 4")])
def test_from_when_on_drafts_pay(sides: int, named: str, tmp_path: Path) -> None:
    config = f"base,right_hand_sides={sides}"
    programs = programs_of(tmp_path, config)
    *_, empty, full = predicted_lines(programs, parse_config(config), [0, 31], "ddr4", 250.0)
    for line, place in ((empty, 0), (full, 31)):
        cycles = [
            # The last pass begins where all of its rows have room.
            predict_step(
                programs, parse_config(config), min(place, programs.image.capacity - rows),
                program=programs.name_of("logits", [0] * rows), memory="ddr4",
            ).cycles
            for rows in range(1, sides + 1)
        ]  # fmt: skip
        least = ", ".join(f"{many / cycles[0]:.2f}" for many in cycles[1:])
        most = ", ".join(f"{rows * 250e6 / many:,.2f}" for rows, many in enumerate(cycles[1:], 2))
        assert line == (
            f"predicted with drafts and {place} tokens in the cache: a pass over {named} rows pays from {least} tokens on that"
            f" it gives, and reaches {most} tokens/s if all drafts are right"
        )


def test_a_build_of_one_row_has_no_drafts(tmp_path: Path) -> None:
    *_, last = predicted_lines(programs_of(tmp_path, "base"), parse_config("base"), [0, 31], "ideal", 100.0)
    text = "predicted with drafts: the same, since a pass has one row here; --config auto,right_hand_sides=4 has four"
    assert last == text
