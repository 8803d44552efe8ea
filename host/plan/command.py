"""``tailrace plan``: which board, how many, which prefill, for a model and a wish."""

from dataclasses import replace
from pathlib import Path

import click

from tailrace.spec.errors import ConfigError

from ..command.finite_range import FiniteRange
from ..command.output_file import OutputFile, writing
from ..command.plain_console import PlainConsole
from ..command.terminal import Terminal
from ..command.without_effect import refuse
from .candidates import RANKS, Wish, candidates
from .described import find_model
from .picture import draw
from .report import candidate_table, foot_lines, head_lines, recommended_lines, refused_table, what_if_line, what_if_table
from .speed import Cores
from .table import SHIPPED, Hardware, read_table
from .table import write_table as write_shipped
from .what_if import TOKENS_PER_PASS
from .what_if import what_if as other_builds

#: Tokens that a context has if none is asked for, or what the model was trained for.
CONTEXT = 4096
#: Characters of a line where there is no terminal.
_WIDTH = 100
_POSITIVE = FiniteRange(min=0, min_open=True)


@click.command()
@click.argument("model", required=False)
@click.option("--context", type=click.IntRange(min=1), help=f"Tokens of each user; without it {CONTEXT}, or as trained.")
@click.option("--users", type=click.IntRange(min=1), default=1, show_default=True, help="Answered at the same time.")
@click.option("--tokens-per-second", type=_POSITIVE, default=4.0, show_default=True, help="For each user, with a full context.")
@click.option("--prompt", type=click.IntRange(min=1), default=512, show_default=True, help="Tokens of a prompt.")
@click.option(
    "--first-token", type=_POSITIVE, default=10.0, show_default=True, help="Seconds from a prompt to its first token, at most."
)
@click.option("--board", "boards", multiple=True, metavar="NAME", help="Look at this board only; may be given several times.")
@click.option("--prefill", metavar="NAME", help="What computes prompts: device, or a GPU of the table; without it what does.")
@click.option("--clock", type=_POSITIVE, help="MHz to reckon with on all boards, in place of the table's.")
@click.option("--by", "rank", type=click.Choice(RANKS), default="usd", show_default=True, help="What ranks first.")
@click.option(
    "--what-if", is_flag=True, help="Say, too, what other rows and buses, and drafts, would bring on the first board."
)
@click.option(
    "--tokens-per-pass", type=FiniteRange(min=1), default=TOKENS_PER_PASS, show_default=True,
    help="Tokens that a pass with drafts gives, for --what-if; by default as measured where they pay.",
)  # fmt: skip
@click.option("--plot", "picture", type=OutputFile(), metavar="FILE", help="Draw tokens/s against what --by says.")
@click.option(
    "--table", type=click.Path(path_type=Path, dir_okay=False), help="Boards and GPUs of your own, in place of Tailrace's."
)
@click.option("--write-table", type=OutputFile(), metavar="FILE", help="Write Tailrace's table there, to be edited.")
def plan(
    model: str | None, context: int | None, users: int, tokens_per_second: float, prompt: int, first_token: float,
    boards: tuple[str, ...], prefill: str | None, clock: float | None, rank: str, what_if: bool, tokens_per_pass: float,
    picture: Path | None, table: Path | None, write_table: Path | None,
) -> None:  # fmt: skip
    """Say which board runs a MODEL as wished, how many of it, and what computes the prompts; all predicted.

    MODEL is one that run takes, or the name of a shape, such as Llama-3-8B: no weights are needed.
    """
    if write_table is not None:
        _write_table(write_table, model)
        return
    if model is None:
        raise click.UsageError("Missing argument 'MODEL'.")
    if not what_if:
        refuse(click.get_current_context(), ["tokens_per_pass"], "is for --what-if")
    if prompt >= (context or CONTEXT):
        raise click.UsageError(f"--prompt {prompt} leaves no room for an answer in a context of {context or CONTEXT}")
    hardware = _chosen(read_table(table or SHIPPED), boards, prefill, clock)
    wish = Wish(users, tokens_per_second, prompt, first_token)
    terminal = Terminal()
    with terminal.phase(f"predicting {model} on {', '.join(board.name for board in hardware.boards)}"):
        planned = find_model(model, context, CONTEXT, terminal.progress)
        if prompt >= planned.imported.context:
            raise ConfigError(
                f"a prompt of {prompt} tokens leaves no room for an answer: {planned.name} was trained for"
                f" {planned.imported.context}. Choose a shorter one with --prompt"
            )
        cores = Cores(planned)
        found = candidates(cores, hardware, wish, rank, prefill, terminal.progress)
        variants = other_builds(cores, found[0].board, prompt, tokens_per_pass, terminal.progress) if what_if else []
    console = PlainConsole()
    if not console.is_terminal:
        console.width = _WIDTH
    for line in (*head_lines(planned, wish), "", *recommended_lines(found), ""):
        console.print(line)
    if found[0].first:
        console.print(candidate_table(found), "")
    if found[-1].reason:
        console.print(refused_table(found), "")
    if variants:
        console.print(what_if_table(variants, tokens_per_pass), what_if_line(tokens_per_pass), "", sep="\n")
    for line in foot_lines(found, hardware.gpus):
        console.print(line)
    if picture is not None:
        draw(f"{planned.name}, {users} users" if users > 1 else planned.name, found, wish, rank, picture)


def _write_table(path: Path, model: str | None) -> None:
    if model is not None:
        raise click.UsageError("--write-table writes the table and nothing else: leave MODEL out")
    with writing(path):
        write_shipped(path)
    click.echo(f"{path}: edit it, and use it with --table {path}", err=True)


def _chosen(hardware: Hardware, boards: tuple[str, ...], prefill: str | None, clock: float | None) -> Hardware:
    """What the options leave of a table.

    Raises
    ------
    ConfigError
        If a board or a GPU is not in it.
    """
    names = [board.name for board in hardware.boards]
    for name in boards:
        if name not in names:
            raise ConfigError(f"there is no board {name!r} in the table: choose from {', '.join(names)}")
    prefills = ["device", *(gpu.name for gpu in hardware.gpus)]
    if prefill is not None and prefill not in prefills:
        raise ConfigError(f"--prefill {prefill!r} is not in the table: choose from {', '.join(prefills)}")
    chosen = [board for board in hardware.boards if not boards or board.name in boards]
    if clock is not None:
        chosen = [replace(board, clock_mhz=clock, clock_is="given") for board in chosen]
    return Hardware(tuple(chosen), hardware.gpus)
