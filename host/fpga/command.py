"""``tailrace build``: from a configuration to cells, a frequency, a bitstream."""

from pathlib import Path

import click

from tailrace.hdl.boards import BOARDS
from tailrace.spec.config import parse_config
from tailrace.spec.errors import ConfigError

from ..command.finite_range import FiniteRange
from ..command.output_file import OutputFolder, writing
from ..command.plain_console import PlainConsole
from ..command.without_effect import refuse
from .families import FAMILIES
from .parts import PARTS
from .progress import shown

#: Bits of bus that a board's memory is gathered to.
_BUS_WIDTH = 128
#: Where builds go when no folder is named.
FOLDER = Path("build") / "fpga"


@click.command()
@click.option("--family", type=click.Choice(tuple(FAMILIES)), help="FPGA to synthesise for; ecp5 is placed and routed too.")
@click.option("--board", type=click.Choice(BOARDS), help="Board to make a bitstream for.")
@click.option("--table", is_flag=True, help="The table of all configurations; takes hours, and goes on where it was.")
@click.option("--config", default="base", show_default=True, help="Build of the device; tailrace devices lists them.")
@click.option(
    "--part",
    type=click.Choice(PARTS),
    metavar="PART",
    default="core",
    show_default=True,
    help="What to build for a family: core, engine, lane, or a single block, as tailrace bench area --help lists them.",
)
@click.option(
    "--target",
    type=FiniteRange(min=1),
    help="MHz to aim for, default 100; on a board the core's clock.",
)
@click.option("--seed", type=int, help="Seed of the placement; default: 1, or the board's own.")
@click.option("-o", "--output", type=OutputFolder(), help=f"Folder for everything; default: one below {FOLDER}.")
@click.pass_context
def build(
    context: click.Context,
    family: str | None,
    board: str | None,
    table: bool,
    config: str,
    part: str,
    target: float | None,
    seed: int | None,
    output: Path | None,
) -> None:
    """Build for an FPGA: cells and frequency (--family), a bitstream (--board), or the table of configurations (--table)."""
    if sum((family is not None, board is not None, table)) != 1:
        raise click.UsageError("choose one of --family, --board and --table")
    if board:
        refuse(context, ["part"], "is not for --board")
    if table:
        refuse(context, ["config", "part"], "is not for --table")
    if family and not FAMILIES[family].capacity:
        refuse(
            context, ["target", "seed"], f"is for what is placed and routed, and that is only ecp5: leave it out for {family}"
        )
    built = parse_config(config)
    if board and built.channels > 1:
        raise ConfigError(f"{board} has one memory, and {config} has {built.channels} memory ports")
    if board and built.bus_width != _BUS_WIDTH:
        raise ConfigError(
            f"{board} takes a bus of {_BUS_WIDTH} bits, and {config} has {built.bus_width}: its memory has 16,"
            " and more lanes would only wait for it"
        )
    if board:
        _build_board(board, config, target, seed, output or FOLDER / board)
    elif table:
        _build_table(output or FOLDER / "table", target or 100.0, 1 if seed is None else seed)
    else:
        assert family is not None
        _build_part(part, config, family, output, target or 100.0, 1 if seed is None else seed)


def _build_part(part: str, config: str, family: str, output: Path | None, target: float, seed: int) -> None:
    from .build import build_name, build_part
    from .report import mapping_text, record_table

    folder = output or FOLDER / build_name(part, config, family)
    with writing(folder):
        with shown(f"{part} of {config} for {family}") as progress:
            record = build_part(part, config, family, folder, target=target, seed=seed, progress=progress)
        (folder / "mapping.md").write_text(mapping_text(record), encoding="utf-8")
    _console().print(record_table(record))
    click.echo(f"netlist, logs and reports are in {folder}; mapping.md says what became of memories and products")
    if family != "ecp5":
        click.echo("Frequencies of this family are estimates: nothing was placed or routed.")


def _build_table(folder: Path, target: float, seed: int) -> None:
    from .table import build_all, table_text

    with writing(folder):
        with shown("table of configurations") as progress:
            text = table_text(build_all(folder, progress, target=target, seed=seed))
        (folder / "table.md").write_text(text, encoding="utf-8")
    click.echo(text)


def _build_board(board: str, config: str, target: float | None, seed: int | None, folder: Path) -> None:
    from .board import build as build_board

    with writing(folder), shown(f"{board} with {config}") as progress:
        clock = round(target * 1e6) if target else None
        bitstream = build_board(board, folder, parse_config(config), clock, seed, progress)
    for name, (reached, wanted) in bitstream.megahertz.items():
        click.echo(f"clock {name}: {reached:.1f} MHz reached, {wanted:.1f} MHz needed")
    for kind, (used, available) in bitstream.cells.items():
        if used:
            click.echo(f"{kind}: {used:,} of {available:,}")
    click.echo(f"bitstream: {bitstream.path}")


def _console() -> PlainConsole:
    console = PlainConsole()
    if not console.is_terminal:
        console.width = 120
    return console
