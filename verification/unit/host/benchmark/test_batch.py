"""Batches: what is measured if nothing is said."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tailrace.benchmark import batch
from tailrace.benchmark.command import bench
from verification.unit.host.tiny_models import write_model


@dataclass
class Cycles:
    cycles: float = 1.0


@dataclass
class Recorded:
    whole: Cycles


def test_the_context_is_one_that_the_model_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[Any] = []
    monkeypatch.setattr(batch, "record", lambda job: jobs.append(job) or Recorded(Cycles()))
    for trained, expected in ((64, 63), (2048, 512)):
        path = write_model(tmp_path / f"{trained}.gguf", context=trained)
        steps = list(batch.measure_batches(str(path), "wide"))
        assert [(s.batch, s.context) for s in steps] == [(1, expected), (2, expected), (4, expected)]
        assert {job.position for job in jobs} == {expected}
        assert {job.image.imported.context for job in jobs} == {expected + 1}
        jobs.clear()


def test_every_batch_is_laid_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight sequences are more than arguments hold tokens for."""
    monkeypatch.setattr(batch, "record", lambda job: Recorded(Cycles()))
    config = "wide,right_hand_sides=8"
    steps = list(batch.measure_batches(str(write_model(tmp_path / "m.gguf")), config))
    assert tuple(step.batch for step in steps) == batch.batches_of(config) == (1, 2, 4, 8)
    assert len({step.weight_bytes for step in steps}) == 1


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("base", (1,)),
        ("wide", (1, 2, 4)),
        ("wide,right_hand_sides=8", (1, 2, 4, 8)),
        ("wide,right_hand_sides=16", (1, 2, 4, 8)),
    ],
)
def test_as_many_sequences_as_a_pass_has_rows(config: str, expected: tuple[int, ...]) -> None:
    assert batch.batches_of(config) == expected


def test_memories_are_known_ones() -> None:
    result = CliRunner().invoke(bench, ["batch", "--memory", "sdram"])
    assert result.exit_code == 2
    assert "'sdram' is not one of 'ideal', 'ddr4', 'hbm2', 'ddr3'" in result.output
