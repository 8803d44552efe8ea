"""Runs tasks of lm_eval: on the device, and with the same weights in float32."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lm_eval
from lm_eval.tasks import TaskManager

from tailrace.spec.errors import ConfigError

from ..language_model import LanguageModel
from . import TASKS
from .lm_eval_model import TailraceModel


@dataclass(frozen=True)
class Score:
    """What lm_eval found in a task.

    Attributes
    ----------
    task, metric : str
    value : float
    error : float or None
        Standard error, where lm_eval computes one.
    samples : int
    """

    task: str
    metric: str
    value: float
    error: float | None
    samples: int


def on_device(
    model: LanguageModel, path: Path, tasks: Sequence[str], *, limit: int | None = None, folder: Path | None = None
) -> list[Score]:
    """Run tasks on a device.

    Parameters
    ----------
    model : LanguageModel
    path : Path
        Its GGUF file.
    tasks : sequence of str
    limit : int or None
        Documents of each task; None: all.
    folder : Path or None
        A folder with more tasks than those that come along.

    Raises
    ------
    ConfigError
        If there is no such task.
    """
    return _run(TailraceModel(model), path, tasks, limit, folder)


def in_float32(
    path: Path, tasks: Sequence[str], *, context: int, limit: int | None = None, folder: Path | None = None
) -> list[Score]:
    """Run tasks with lm_eval's own class for models of Hugging Face, with the weights of the file in float32, on the CPU.

    Parameters
    ----------
    path, tasks, limit, folder
        As for `on_device`.
    context : int
        Tokens that context and continuation have room for together.
    """
    from lm_eval.models.huggingface import HFLM

    from tailrace.spec.config import parse_config

    from ..gguf.file import open_model
    from ..huggingface.loader import load_model, load_tokenizer
    from ..huggingface.placement import make_plan
    from ..image.geometry import Geometry

    model = open_model(path)
    host = load_model(make_plan(model, Geometry.of_config(parse_config("wide"))), context, "cpu").model
    theirs = HFLM(
        pretrained=host, tokenizer=load_tokenizer(model), backend="causal", device="cpu", batch_size=1, max_length=context
    )
    return _run(theirs, path, tasks, limit, folder)


def _run(model: Any, path: Path, tasks: Sequence[str], limit: int | None, folder: Path | None) -> list[Score]:
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    folders = [str(TASKS), *([str(folder)] if folder else [])]
    manager = TaskManager(include_path=folders, include_defaults=folder is not None, metadata={"gguf": str(path)})
    unknown = sorted(set(tasks) - set(manager.all_tasks))
    if unknown:
        known = sorted(name for name in manager.all_tasks if name.startswith("tailrace"))
        raise ConfigError(
            f"there is no task {unknown[0]!r}: choose from {', '.join(known)}, or name a folder with --task-folder"
        )
    # Errors of means have a formula; of what has none, lm_eval resamples, by default for longer than a task takes.
    found = lm_eval.simple_evaluate(model=model, tasks=list(tasks), task_manager=manager, limit=limit, bootstrap_iters=100)
    assert found is not None
    return _scores(found)


def _scores(found: dict[str, Any]) -> list[Score]:
    scores = []
    counts = found["n-samples"]
    for task, values in found["results"].items():
        for key, value in values.items():
            metric, _, kind = key.partition(",")
            if not kind or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = values.get(f"{metric}_stderr,{kind}")
            samples = (
                counts[task]["effective"]
                if task in counts
                else sum(counts[t]["effective"] for t in found["group_subtasks"][task])
            )
            scores.append(Score(task, metric, float(value), float(error) if isinstance(error, int | float) else None, samples))
    return scores
