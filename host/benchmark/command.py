"""``tailrace bench``: the measurements behind the published figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import click
from rich.table import Table

from tailrace.sim.devices import KINDS
from tailrace.sim.memory_models import MEMORIES as _MEMORIES
from tailrace.spec.config import BUS_WIDTHS, RIGHT_HAND_SIDES, VECTOR_WIDTHS
from tailrace.spec.errors import LimitError, MissingPackage
from tailrace.spec.formats import BY_NAME

from ..command.finite_range import FiniteRange
from ..command.output_file import OutputFile, OutputFolder
from ..command.plain_console import PlainConsole
from ..command.terminal import Terminal
from ..command.without_effect import refuse
from ..fpga.command import FOLDER
from ..fpga.parts import BLOCKS, PARTS
from ..fpga.progress import shown
from ..models.fetch import resolve_model
from ..transports.sizes import parse_size
from .area import measure_area

_Choice = TypeVar("_Choice", str, int)
_MEMORY = parse_size("1GiB")
#: Models and widths of a quick look at utilisation.
_QUICK = (("SmolLM2-135M", "Llama-2-7B"), (512,))
#: Configurations that the simulator's speed is stated for, and threads of the simulation.
_SPEED_CONFIGS = ("base", "base,bus_width=512")
#: Builds that decode steps are measured on.
_BUILDS = click.option(
    "--config",
    "configs",
    multiple=True,
    help="Build of the device, in place of --widths, such as kv260, whose four ports have a memory each; may be given several"
    " times.",
)


def _show(table: Table) -> None:
    console = PlainConsole()
    if not console.is_terminal:
        console.width = 160
    console.print(table)


@click.group(invoke_without_command=True)
@click.pass_context
def bench(context: click.Context) -> None:
    """Measure: decode steps, products, the simulator's speed, the numbers' quality.

    Without a command: gemv, speed, batch and decode --quick, which takes a quarter of an hour.
    """
    if context.invoked_subcommand is None:
        context.invoke(gemv)
        context.invoke(speed)
        context.invoke(batch)
        context.invoke(decode, quick=True)


@bench.command()
@click.option("--rows", type=click.IntRange(min=1), default=4096, show_default=True)
@click.option("--columns", type=click.IntRange(min=256), default=4096, show_default=True, help="A multiple of 256.")
@click.option(
    "--config",
    default="base",
    show_default=True,
    help="Build of the device; the bus width is replaced. With more right-hand sides, as many vectors share the pass.",
)
@click.option("--latency", type=click.IntRange(min=1), default=100, show_default=True, help="Cycles of the simulated memory.")
@click.option("--widths", help="Bits of the bus, with commas between them; default: 128,256,512.")
@click.option("--formats", help="With commas between them; default: all.")
def gemv(rows: int, columns: int, config: str, latency: int, widths: str | None, formats: str | None) -> None:
    """Cycles of one product in each format and bus width (simulated, deterministic)."""
    from .gemv import MATRIX_FORMATS, measure_products
    from .report import product_table, simulator_table

    if columns % 256:
        raise click.UsageError(f"--columns must be a multiple of 256, not {columns}")
    bus_widths = _chosen("--widths", widths, BUS_WIDTHS, BUS_WIDTHS)
    names = [fmt.name for fmt in MATRIX_FORMATS]
    wanted = [BY_NAME[name] for name in _chosen("--formats", formats, names, names)]
    terminal = Terminal()
    products = []
    with terminal.phase(f"measuring {rows} x {columns} products on buses of {', '.join(map(str, bus_widths))} bits"):
        for product in measure_products(rows, columns, config=config, latency=latency, bus_widths=bus_widths, formats=wanted):
            products.append(product)
            done = len(products) / (len(bus_widths) * len(wanted))
            terminal.progress(f"{product.bus_width} bits, {product.format.name}", done)
    _show(product_table(products, config, latency))
    _show(simulator_table(products))


@bench.command()
@click.argument("model", default="smollm2")
@click.option(
    "--config", "configs", multiple=True, default=_SPEED_CONFIGS, show_default=True, help="May be given several times."
)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of the simulation.")
@click.option("--quick", is_flag=True, help="The emulator and llama.cpp alone.")
@click.option(
    "--large",
    is_flag=True,
    help="A Llama-2-7B with random weights (Q4_0) as well, on the emulator and in llama.cpp: 8 GB of disk for the time being.",
)
def speed(model: str, configs: tuple[str, ...], threads: int, quick: bool, large: bool) -> None:
    """How many tokens a second of MODEL the devices without hardware decode on this machine, with llama.cpp beside them.

    And how long it takes from the command to the first token. A quarter of an hour with everything on a quiet machine.
    """
    from .large_model import large_model

    terminal = Terminal()
    path = resolve_model(model, terminal.progress)
    _measure_speed(terminal, path, configs, threads, slow=not quick)
    if large:
        with large_model(terminal.progress) as path:
            _measure_speed(terminal, path, (), threads, slow=False)


def _measure_speed(terminal: Terminal, path: Path, configs: Sequence[str], threads: int, *, slow: bool) -> None:
    from .report import speed_table, start_table
    from .speed import compare, measure_llama_cpp_start, measure_start

    speeds, starts = [], []
    with terminal.phase(f"decoding {path.name}"):
        for measure in compare(path, configs, threads, slow=slow):
            try:
                speeds.append(measure())
            except MissingPackage as error:
                terminal.warn(str(error))
                break
            except LimitError as error:
                # More sequences than any build takes of a large model; what fits is measured.
                terminal.warn(f"not measured: {error}")
                continue
            terminal.console.print(f"{speeds[-1].what}, {speeds[-1].batch}: {speeds[-1].rate:.3g} tokens/s", soft_wrap=True)
    _show(speed_table(path.name, speeds))
    with terminal.phase(f"starting with {path.name}"):
        starts.append(measure_start(path))
        if any(found.what == "llama.cpp" for found in speeds):
            starts.append(measure_llama_cpp_start(path))
    _show(start_table(path.name, starts))


@bench.command()
@click.option("--models", help="Names, with commas between them; default: all.")
@click.option("--widths", help="Bits of the bus; default: 128,512.")
@_BUILDS
@click.option("--contexts", help="Tokens in the cache; default: 0,1024,4096.")
@click.option("--memories", help="Of ideal, ddr4, hbm2 and ddr3; default: ideal,ddr4.")
@click.option(
    "--right-hand-sides",
    type=click.Choice(list(map(str, RIGHT_HAND_SIDES))),
    default="4",
    show_default=True,
    help="Heads that share a read of K and V.",
)
@click.option(
    "--vector-width",
    type=click.Choice(list(map(str, VECTOR_WIDTHS))),
    default="0",
    show_default=True,
    help="Elements that the vector unit takes in a cycle; 0: as many as there are lanes.",
)
@click.option("--quick", is_flag=True, help="SmolLM2-135M and Llama-2-7B, on a bus of 512 bits.")
@click.option("--known", is_flag=True, help="Show what has been measured before, and simulate nothing.")
@click.option("--stalls", is_flag=True, help="Show the largest stalls of each step as well.")
@click.option("--predict", is_flag=True, help="Predict all of it, in minutes, and simulate nothing.")
@click.pass_context
def decode(
    context: click.Context,
    models: str | None,
    widths: str | None,
    configs: tuple[str, ...],
    contexts: str | None,
    memories: str | None,
    right_hand_sides: str,
    vector_width: str,
    quick: bool,
    known: bool,
    stalls: bool,
    predict: bool,
) -> None:
    """How much of the memory's bandwidth decode steps use, for each model, bus, memory and context.

    All of it takes hours. What has been measured is kept, so it can be interrupted and goes on where it was.
    """
    if predict and (known or stalls):
        raise click.UsageError(f"--predict shows nothing that was simulated: leave {'--known' if known else '--stalls'} out")
    from ..models.measured import SHAPES
    from .decode import CONFIGS, CONTEXTS, LONGEST, MEMORIES, REAL, build_of, is_checked, measure, measure_by_shape, points
    from .decode_report import check_table, decode_table, predicted_table, stall_table

    quick_models, quick_widths = _QUICK if quick else (tuple(SHAPES), tuple(CONFIGS))
    if configs:
        refuse(context, ("widths", "right_hand_sides", "vector_width"), "is part of --config")
    chosen = _chosen("--widths", widths, quick_widths, tuple(CONFIGS))
    wanted = points(
        _chosen("--models", models, quick_models, tuple(SHAPES)),
        configs or [build_of(width, int(right_hand_sides), int(vector_width)) for width in chosen],
        _numbers("--contexts", contexts, CONTEXTS, LONGEST),
        _chosen("--memories", memories, MEMORIES, _MEMORIES),
    )
    terminal = Terminal()
    if predict:
        from .prediction import predicted_step

        predicted = []
        with terminal.phase(f"predicting {len(wanted)} decode steps"):
            for n, point in enumerate(wanted):
                terminal.progress(point.title, n / len(wanted))
                predicted.append(predicted_step(point))
        _show(predicted_table(predicted))
        return
    if known:
        wanted = [point for point in wanted if is_checked(point)]
        if not wanted:
            raise click.UsageError("nothing of this has been measured with these sources: leave --known out")
    steps, checks = [], []
    with terminal.phase(f"simulating {len(wanted)} decode steps"):
        for point in wanted:
            steps.append(measure(point, terminal.progress))
            terminal.console.print(f"{point.title}: {steps[-1].utilisation:.2%}", soft_wrap=True)
            if point.model == REAL:
                checks.append((steps[-1], measure_by_shape(point, terminal.progress)))
    _show(decode_table(steps))
    if stalls:
        _show(stall_table(steps))
    if checks:
        _show(check_table(checks))


@bench.command()
@click.option("--models", help="Names, with commas between them; default: all.")
@click.option("--widths", help="Bits of the bus; default: 128,512.")
@_BUILDS
@click.option("--contexts", help="Tokens in the cache; default: 0,1024,4096.")
@click.option("--memories", help="Of ideal, ddr4, hbm2 and ddr3; default: ideal,ddr4.")
@click.option("--known", is_flag=True, help="Compare with what has been simulated before, and simulate nothing.")
@click.pass_context
def prediction(
    context: click.Context,
    models: str | None,
    widths: str | None,
    configs: tuple[str, ...],
    contexts: str | None,
    memories: str | None,
    known: bool,
) -> None:
    """Predicted against simulated cycles of decode steps, and the largest error.

    What has been simulated is kept, so it can be interrupted and goes on where it was; `bench decode` uses it, too.
    """
    from ..models.measured import SHAPES
    from .decode import CONFIGS, CONTEXTS, LONGEST, MEMORIES, build_of, is_measured, points
    from .decode_report import prediction_table
    from .prediction import compare

    if configs:
        refuse(context, ("widths",), "is part of --config")
    wanted = points(
        _chosen("--models", models, tuple(SHAPES), tuple(SHAPES)),
        configs or [build_of(width) for width in _chosen("--widths", widths, tuple(CONFIGS), tuple(CONFIGS))],
        _numbers("--contexts", contexts, CONTEXTS, LONGEST),
        _chosen("--memories", memories, MEMORIES, _MEMORIES),
    )
    if known:
        wanted = [point for point in wanted if is_measured(point)]
        if not wanted:
            raise click.UsageError("nothing of this has been simulated with these sources: leave --known out")
    terminal = Terminal()
    comparisons = []
    with terminal.phase(f"predicting {len(wanted)} decode steps, and simulating those that have not been"):
        for point in wanted:
            comparisons.append(compare(point, terminal.progress))
            terminal.console.print(f"{point.title}: {comparisons[-1].error:+.3%}", soft_wrap=True)
    _show(prediction_table(comparisons))


def _chosen(option: str, text: str | None, default: Sequence[_Choice], known: Sequence[_Choice]) -> list[_Choice]:
    """What was asked for, each of it known."""
    if text is None:
        return list(default)
    names = {str(value).lower(): value for value in known}
    wanted = [part.strip().lower() for part in text.split(",")]
    for name in wanted:
        if name not in names:
            raise click.UsageError(f"{option} knows no {name!r}: choose from {', '.join(map(str, known))}")
    return [names[name] for name in wanted]


def _numbers(option: str, text: str | None, default: Sequence[int], largest: int) -> list[int]:
    if text is None:
        return list(default)
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) <= largest for part in parts):
        raise click.UsageError(f"{option} must be whole numbers up to {largest} with commas between them, not {text!r}")
    return [int(part) for part in parts]


@bench.command()
def models() -> None:
    """What published models need, and how fast boards would decode them, predicted: planned, not simulated."""
    from .models import UTILISATION, all_needs, table_rows

    terminal = Terminal()
    with terminal.phase("planning published models"):
        titles, *rows = table_rows(all_needs(on_progress=terminal.progress))
    table = Table(
        box=None, pad_edge=False, caption=f"tokens per second of boards: predicted, {UTILISATION:.0%} of the memory's peak"
    )
    for n, title in enumerate(titles):
        table.add_column(title, justify="right" if n > 1 else "left")
    for row in rows:
        table.add_row(*row)
    _show(table)


@bench.command()
@click.option(
    "--models",
    help="Comma-separated names as `bench decode` has them; by default a small one, a large one, a hybrid and a mixture.",
)
@click.option("--config", default="wide", show_default=True, help="Build of the device.")
@click.option("--tokens", type=click.IntRange(1, 4096), default=512, show_default=True, help="Tokens of the prompt.")
@click.option(
    "--memory",
    "memory_model",
    type=click.Choice(_MEMORIES),
    default="ideal",
    show_default=True,
    help="Memory behind the device.",
)
@click.option("--clock", type=FiniteRange(min=1), default=300.0, show_default=True, help="Assumed clock in MHz.")
def prompt(models: str | None, config: str, tokens: int, memory_model: str, clock: float) -> None:
    """Predict a prompt's cycles, token by token and several tokens in a pass."""
    from ..models.measured import SHAPES
    from .decode import imported_model
    from .decode_report import prompt_table
    from .prompt import MODELS, predict_prompt

    terminal = Terminal()
    with terminal.phase("predicting prompts"):
        prompts = [
            predict_prompt(
                name, imported_model(name), config, tokens=tokens, memory=memory_model, on_progress=terminal.progress
            )
            for name in _chosen("--models", models, MODELS, tuple(SHAPES))
        ]
    _show(prompt_table(prompts, clock))


@bench.command()
@click.argument("model", default="smollm2")
@click.option("--config", default="wide", show_default=True, help="Build of the device.")
@click.option("--tokens", type=click.IntRange(1, 1024), default=192, show_default=True, help="Tokens of each answer.")
@click.option("--memory", "memory_model", type=click.Choice(_MEMORIES), default="ideal", show_default=True)
@click.option("--clock", type=FiniteRange(min=1), default=300.0, show_default=True, help="Assumed clock in MHz.")
@click.option("--draft", metavar="MODEL", help="A small model with the same tokens that drafts, too.")
@click.option("--cycles-of", "shape", metavar="NAME", help="A shape of `bench decode` whose cycles count in place of MODEL's.")
@click.option("--texts", "wanted", help="Comma-separated beginnings of the texts' names; default: all.")
def speculation(
    model: str, config: str, tokens: int, memory_model: str, clock: float, draft: str | None, shape: str | None,
    wanted: str | None,
) -> None:  # fmt: skip
    """Answers of MODEL with drafts and without: tokens of a pass, predicted speed.

    Drafts come from the text. Of a file with a layer that drafts (multi-token prediction) they come from that, too, and its
    cycles count. With --draft they come from a small model instead: once on a device of the same build, whose cycles count,
    and once for free, as on a GPU of the host that has nothing else to do. With --cycles-of it is told what drafts that are
    right as often would bring to a larger model.
    """
    from ..models.measured import SHAPES
    from .asked import texts
    from .decode_report import speculation_table
    from .speculation import measure_speculation

    asked = texts()
    if wanted is not None:
        asked = {name: one for name, one in asked.items() if name.startswith(tuple(wanted.split(",")))}
        if not asked:
            raise click.BadParameter(f"no text begins so: choose from {'; '.join(texts())}", param_hint="--texts")
    if shape is not None:
        _chosen("--cycles-of", shape, (), tuple(SHAPES))
    terminal = Terminal()
    found = []
    with terminal.phase(f"answering with {model}"):
        for one in measure_speculation(
            model, config, asked, tokens=tokens, memory=memory_model, draft=draft, shape=shape, on_progress=terminal.progress
        ):
            found.append(one)
    drafts = f", drafts of {Path(draft).name}" if draft else ""
    drafts += f", cycles of {shape}" if shape else ""
    _show(speculation_table(found, f"{model}{drafts}, configuration {config}, memory {memory_model} (predicted)", clock))


@bench.command()
@click.option("--models", help="Comma-separated names as `bench decode` has them; default: hybrids with such a layer.")
@click.option("--config", default="wide", show_default=True, help="Build of the device.")
@click.option("--context", type=click.IntRange(1, 4095), default=512, show_default=True, help="Tokens in the cache.")
@click.option("--memory", "memory_model", type=click.Choice(_MEMORIES), default="ideal", show_default=True)
def drafts(models: str | None, config: str, context: int, memory_model: str) -> None:
    """Predict what a layer that drafts (multi-token prediction) takes: a draft, and what passes take more."""
    from .draft_layer import MODELS, draft_table, predict_draft

    terminal = Terminal()
    found = []
    with terminal.phase("predicting drafts"):
        for name in _chosen("--models", models, MODELS, MODELS):
            terminal.progress(name, 0.0)
            found.append(predict_draft(name, config, context, memory_model))
    _show(draft_table(found, f"configuration {config}, memory {memory_model}, {context} tokens in the cache (predicted)"))


@bench.command()
@click.option("--models", help="Comma-separated names as `bench decode` has them; default: as for `bench prompt`.")
@click.option("--config", default="wide", show_default=True, help="Build of the device.")
@click.option("--context", type=click.IntRange(0, 4095), default=512, show_default=True, help="Tokens in the cache.")
@click.option("--memory", "memory_model", type=click.Choice(_MEMORIES), default="ideal", show_default=True)
def rows(models: str | None, config: str, context: int, memory_model: str) -> None:
    """Predict what a pass over several tokens of a sequence takes, and what each row adds."""
    from ..models.measured import SHAPES
    from .decode import imported_model
    from .decode_report import rows_table
    from .prompt import MODELS
    from .speculation import costs_of_rows

    terminal = Terminal()
    found = {}
    with terminal.phase("predicting passes"):
        for name in _chosen("--models", models, MODELS, tuple(SHAPES)):
            terminal.progress(name, 0.0)
            found[name] = costs_of_rows(imported_model(name), config, context, memory_model)
    _show(rows_table(found, f"configuration {config}, memory {memory_model}, {context} tokens in the cache (predicted)"))


@bench.command()
@click.argument("model", default="smollm2")
@click.option("--config", default="wide", show_default=True, help="Build of the device.")
@click.option(
    "--context",
    type=click.IntRange(min=0),
    help="Tokens in each cache; default: 512, or all that the model was trained for but one.",
)
@click.option(
    "--memory",
    "memory_model",
    type=click.Choice(_MEMORIES),
    default="ideal",
    show_default=True,
    help="Memory behind the device.",
)
@click.option("--clock", type=FiniteRange(min=1), default=300.0, show_default=True, help="Assumed clock in MHz.")
def batch(model: str, config: str, context: int | None, memory_model: str, clock: float) -> None:
    """Speed of 1, 2, 4 and 8 sequences of MODEL at once, as far as the build has right-hand sides."""
    from .batch import batches_of, measure_batches
    from .decode_report import batch_table

    terminal = Terminal()
    path = resolve_model(model, terminal.progress)
    steps, batches = [], batches_of(config)
    with terminal.phase(f"decoding a step of {path.name} for {', '.join(map(str, batches))} sequences"):
        for step in measure_batches(str(path), config, context=context, memory=memory_model):
            steps.append(step)
            terminal.progress(f"{step.batch} sequences", len(steps) / len(batches))
    _show(batch_table(steps, clock))


@bench.command()
@click.argument("model", default="smollm2")
@click.option("--positions", type=click.IntRange(min=2), default=512, show_default=True, help="Tokens of text.")
@click.option(
    "--window",
    type=click.IntRange(min=2),
    default=2048,
    show_default=True,
    help="Tokens after which the context is empty again; as many windows as the build has right-hand sides share steps.",
)
@click.option("--text", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A text file; default: The Tempest.")
@click.option("--device", type=click.Choice(KINDS), default="emulator", show_default=True)
@click.option("--config", default="base,right_hand_sides=4", show_default=True, help="Build of the device.")
@click.option(
    "--path",
    type=click.Choice(["decoder", "operations"]),
    default="decoder",
    show_default=True,
    help="Whole decode steps; or linear layers one by one, with attention and norms on the host in float32.",
)
def quality(model: str, positions: int, window: int, text: Path | None, device: str, config: str, path: str) -> None:
    """Divergence from float32 of MODEL, teacher-forced over real text."""
    from ..command.run import require_torch

    require_torch()
    from .prose import PROSE
    from .quality import measure_quality
    from .report import quality_table

    terminal = Terminal()
    file = resolve_model(model, terminal.progress)
    with terminal.phase("comparing distributions"):
        measured = measure_quality(
            str(file),
            positions=positions,
            window=window,
            operations=path == "operations",
            text=text or PROSE,
            device=device,
            config=config,
            on_progress=terminal.progress,
        )
    _show(quality_table(file.name, measured, "whole decode steps" if path == "decoder" else "linear layers"))


@bench.command()
@click.argument("model", default="smollm2")
@click.option("--config", default="wide", show_default=True, help="Build of the device.")
@click.option("--position", type=click.IntRange(min=0), default=512, show_default=True, help="Tokens in the KV cache.")
@click.option("--memory", "memory_model", type=click.Choice(_MEMORIES), default="ideal", show_default=True)
@click.option("--bucket", type=click.IntRange(min=1), default=64, show_default=True, help="Cycles of a row of the port's use.")
@click.option("-o", "--output", type=OutputFile(), default=Path("token.json"), show_default=True)
def timeline(model: str, config: str, position: int, memory_model: str, bucket: int, output: Path) -> None:
    """A timeline of one token, for Perfetto and `tailrace plot`."""
    from .timeline import trace_token

    terminal = Terminal()
    with terminal.phase("recording a token"):
        path = str(resolve_model(model, terminal.progress))
        cycles = trace_token(
            path,
            output,
            position=position,
            config=config,
            memory=memory_model,
            bucket=bucket,
            on_progress=terminal.progress,
        )
    click.echo(f"{output}: {cycles:,} cycles; open it at ui.perfetto.dev, or draw it with tailrace plot")


@bench.command()
@click.option(
    "--part",
    "parts",
    multiple=True,
    type=click.Choice(PARTS),
    metavar="PART",
    help=f"Part to build, one of {', '.join(PARTS)}; can be repeated.  [default: the single blocks]",
)
@click.option("--config", default="base", show_default=True, help="Build of the device.")
@click.option("-o", "--output", type=OutputFolder(), default=FOLDER, show_default=True, help="Folder for builds.")
def area(parts: tuple[str, ...], config: str, output: Path) -> None:
    """Cells and routed frequency of parts of the gateware on an ECP5. What is finished in the folder is not built again."""
    from .report import area_table

    with shown(f"parts of {config}") as progress:
        records = list(measure_area(parts or BLOCKS, config, output, progress))
    _show(area_table(records))
