"""Scores as a table, and as JSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from ..generation.whole_file import written_whole
from .evaluate import Score


def score_table(title: str, device: str, scores: Sequence[Score], reference: Sequence[Score] | None) -> Table:
    """Scores, a row for each metric.

    Parameters
    ----------
    title : str
    device : str
        What they were computed on.
    scores : sequence of Score
    reference : sequence of Score or None
        The same in float32.
    """
    table = Table(title=title)
    table.add_column("task")
    table.add_column("metric")
    columns = ["samples", device, *(["float32", "difference"] if reference is not None else []), "standard error"]
    for name in columns:
        table.add_column(name, justify="right")
    expected = {(score.task, score.metric): score.value for score in reference or ()}
    for score in scores:
        row = [score.task, score.metric, str(score.samples), f"{score.value:.4f}"]
        if reference is not None:
            theirs = expected[score.task, score.metric]
            row += [f"{theirs:.4f}", f"{score.value - theirs:+.4f}"]
        table.add_row(*row, "" if score.error is None else f"{score.error:.4f}")
    return table


def write_scores(path: Path, facts: dict[str, Any], scores: Sequence[Score], reference: Sequence[Score] | None) -> None:
    """Write scores as JSON.

    Parameters
    ----------
    path : Path
    facts : dict
        What was evaluated, and how.
    scores, reference
        As for `score_table`.
    """
    found = {**facts, "device": [vars(score) for score in scores]}
    if reference is not None:
        found["float32"] = [vars(score) for score in reference]
    with written_whole(path) as file:
        file.write((json.dumps(found, indent=1) + "\n").encode())
