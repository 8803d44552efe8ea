"""``tailrace export``: the core as a package for other designs."""

from pathlib import Path

import click

from tailrace.spec.config import CONFIGS, parse_config

from ..command.output_file import OutputFolder


@click.command()
@click.option(
    "--config",
    default="base",
    show_default=True,
    help=f"Configuration: {', '.join(CONFIGS)}, with changes if need be, as in base,bus_width=256.",
)
@click.option("-o", "--output", type=OutputFolder(), required=True, metavar="FOLDER", help="Folder to write.")
@click.option("--force", is_flag=True, help="Replace an earlier export in that folder.")
def export(config: str, output: Path, force: bool) -> None:
    """Write the core as Verilog, with its register map, a testbench, FuseSoC targets and an XRT kernel's description.

    Nothing that is written needs Python or Amaranth; its README.md says what is what.
    """
    from .export import export_core

    core = export_core(parse_config(config), output, replace=force, report=lambda line: click.echo(line, err=True))
    click.echo(f"{output}: {core.module}; read README.md there")
