"""``tailrace eval``: a model on tasks of lm_eval."""

import importlib.util
import os
from pathlib import Path
from typing import Any

import click

from tailrace.spec.errors import MissingPackage, ToolError

from ..command.cli_options import CONFIG, MEMORY, QUANTISE
from ..command.device_option import DeviceName, refuse_what_the_device_ignores
from ..command.grouped_help import GroupedCommand
from ..command.output_file import OutputFile
from ..command.plain_console import PlainConsole
from ..command.terminal import Terminal
from ..loading import load
from ..models.fetch import resolve_model

_TASKS = "tailrace_choices,tailrace_prose,tailrace_needles_256"
_GROUPS = {
    "Tasks": ("tasks", "task_folder", "limit", "compare", "output"),
    "Model and device": ("context", "batch", "device", "config", "memory", "quantise"),
}


@click.command("eval", cls=GroupedCommand, groups=_GROUPS)
@click.argument("model")
@click.option(
    "--tasks",
    default=_TASKS,
    show_default=True,
    help="Tasks, with commas between them; there are tailrace_choices, tailrace_prose and tailrace_needles, or of that one"
    " length: tailrace_needles_256, _512, _1024, _2048 and _4096.",
)
@click.option(
    "--task-folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder with tasks of your own; lm_eval's own tasks, which fetch their data, can be named then, too.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Documents of each task; without it all.")
@click.option(
    "--compare",
    type=click.Choice(["float32"]),
    help="Run the tasks a second time, by lm_eval's own class for Hugging Face's models, with the same weights in float32.",
)
@click.option("-o", "--output", type=OutputFile(), metavar="FILE", help="Write the scores as JSON, too.")
@click.option(
    "-c", "--context", type=click.IntRange(min=2), help="Tokens of context and continuation; without it 4096, or as trained."
)
@click.option(
    "--batch",
    type=click.Choice(["1", "2", "4"]),
    default="4",
    show_default=True,
    help="Texts that share steps; scores do not depend on it.",
)
@click.option("--device", type=DeviceName(), default="emulator", show_default=True, help="As for run.")
@CONFIG
@MEMORY
@QUANTISE
def evaluate(model: str, **options: Any) -> None:
    """Evaluate MODEL with lm_eval, on tasks that come along and need no network.

    The same scores come from every device without hardware, to the last bit.
    """
    refuse_what_the_device_ignores(click.get_current_context())
    for package in ("lm_eval", *(("torch", "transformers", "accelerate") if options["compare"] else ())):
        if importlib.util.find_spec(package) is None and package != "lm_eval":
            raise MissingPackage(package, "for --compare float32", "torch")
        if importlib.util.find_spec(package) is None:
            # `make setup` leaves it out.
            raise ToolError(
                "the Python package lm-eval is needed for tailrace eval: in Tailrace's folder run .venv/bin/pip install"
                " --no-deps --require-hashes -r requirements/eval.txt"
            )
    # lm_eval's libraries look for models and data in the hub, unless they are told that there is no need.
    if options["task_folder"] is None:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
    from .evaluate import in_float32, on_device
    from .report import score_table, write_scores

    terminal = Terminal()
    path = resolve_model(model, terminal.progress)
    tasks = [name.strip() for name in options["tasks"].split(",")]
    asked: dict[str, Any] = {"limit": options["limit"], "folder": options["task_folder"]}
    with terminal.phase(f"loading {path.name} into {options['device']}"):
        loaded = load(
            path,
            options["device"],
            config=options["config"],
            memory=options["memory"],
            context=options["context"],
            batch=int(options["batch"]),
            quantise=options["quantise"],
            progress=terminal.progress,
        )
    with loaded:
        terminal.remark(f"{', '.join(tasks)} on {options['device']}, with a context of {loaded.context}")
        scores = on_device(loaded, path, tasks, **asked)
        context = loaded.context
    reference = None
    if options["compare"]:
        terminal.remark("the same in float32")
        reference = in_float32(path, tasks, context=context, **asked)
    console = PlainConsole()
    if not console.is_terminal:
        console.width = 120
    console.print(score_table(f"{path.name}, context {context}", options["device"], scores, reference))
    if options["output"]:
        facts = {"model": path.name, "device_name": options["device"], "context": context, "limit": options["limit"]}
        write_scores(options["output"], facts, scores, reference)
