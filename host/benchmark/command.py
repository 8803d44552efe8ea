"""``tailrace bench``: the measurements behind the published figures."""

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from tailrace.spec.config import BUS_WIDTHS
from tailrace.spec.formats import WEIGHT_FORMATS

from ..fetch import resolve_model
from ..terminal import Terminal
from ..units import parse_size
from .area import PARTS, measure_area

_MEMORY = parse_size("1GiB")
#: Configurations that the simulator's speed is stated for, and threads of the simulation.
_SPEED_CONFIGS = ("base", "base,bus_width=512")


def _show(table: Table) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160
    console.print(table)


@click.group(invoke_without_command=True)
@click.pass_context
def bench(context: click.Context) -> None:
    """Measure: cycles of products, the simulator's speed, the numbers' quality.

    Without a command: gemv and speed.
    """
    if context.invoked_subcommand is None:
        context.invoke(gemv)
        context.invoke(speed)


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
def gemv(rows: int, columns: int, config: str, latency: int) -> None:
    """Cycles of one product in each format and bus width (simulated, deterministic)."""
    from .gemv import measure_products
    from .report import product_table, simulator_table

    if columns % 256:
        raise click.UsageError(f"--columns must be a multiple of 256, not {columns}")
    terminal = Terminal()
    products = []
    with terminal.phase(f"measuring {rows} x {columns} products on buses of {', '.join(map(str, BUS_WIDTHS))} bits"):
        for product in measure_products(rows, columns, config=config, latency=latency):
            products.append(product)
            done = len(products) / (len(BUS_WIDTHS) * len(WEIGHT_FORMATS))
            terminal.progress(f"{product.bus_width} bits, {product.format.name}", done)
    _show(product_table(products, config, latency))
    _show(simulator_table(products))


@bench.command()
@click.argument("model", default="smollm2")
@click.option(
    "--config", "configs", multiple=True, default=_SPEED_CONFIGS, show_default=True, help="May be given several times."
)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of the simulation.")
def speed(model: str, configs: tuple[str, ...], threads: int) -> None:
    """How many tokens a second of MODEL the simulator decodes on this machine."""
    from .report import speed_table
    from .speed import measure_speed

    terminal = Terminal()
    path = resolve_model(model, terminal.progress)
    speeds = []
    for config in configs:
        with terminal.phase(f"decoding a token of {path.name} with configuration {config}"):
            speeds.append(measure_speed(str(path), config, memory_size=_MEMORY, threads=threads))
    _show(speed_table(path.name, speeds))


@bench.command()
@click.argument("model", default="smollm2")
@click.option("--positions", type=click.IntRange(min=2), default=512, show_default=True, help="Tokens of text.")
@click.option("--text", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A text file; default: The Tempest.")
@click.option("--device", type=click.Choice(["golden", "verilator"]), default="golden", show_default=True)
@click.option("--config", default="base,right_hand_sides=4", show_default=True, help="Build of the device.")
def quality(model: str, positions: int, text: Path | None, device: str, config: str) -> None:
    """Divergence from float32 of MODEL, teacher-forced over real text."""
    from ..session import require_torch

    require_torch()
    from .quality import TEXT, measure_quality
    from .report import quality_table

    terminal = Terminal()
    path = resolve_model(model, terminal.progress)
    with terminal.phase("comparing distributions"):
        measured = measure_quality(
            str(path),
            positions=positions,
            text=text or TEXT,
            device=device,
            config=config,
            memory_size=_MEMORY,
            on_progress=terminal.progress,
        )
    _show(quality_table(path.name, measured))


@bench.command()
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS), default=("lane",), show_default=True)
@click.option("--config", default="base", show_default=True, help="Build of the device.")
def area(parts: tuple[str, ...], config: str) -> None:
    """Cells and routed frequency of parts of the gateware on an ECP5."""
    from .report import area_table

    terminal = Terminal()
    areas = []
    with terminal.phase(f"synthesis, placement and routing of {', '.join(parts)}: minutes each"):
        for measured in measure_area(parts, config):
            areas.append(measured)
            terminal.progress(measured.part, len(areas) / len(parts))
    _show(area_table(areas))
