"""``tailrace doctor``: tells whether a device is in order, and if not, what is wrong."""

import click

from tailrace.sim.devices import open_device
from tailrace.spec.config import parse_config
from tailrace.spec.transport import Transport

from ..command.device_option import DeviceName, refuse_what_the_device_ignores
from ..command.finite_range import FiniteRange
from ..command.terminal import Terminal
from ..transports.facts import clock_of
from ..transports.open import is_hardware, open_transport
from ..transports.sizes import parse_size
from .checks import CHECKS, Outcome, examine
from .examination import Check, Examination


@click.command()
@click.option(
    "--device",
    type=DeviceName(),
    required=True,
    help="emulator, golden, verilator, or hardware such as serial:/dev/ttyUSB0, xdma:/dev/xdma0,memory=4GiB,"
    " uio:/dev/uio0,memory=udmabuf0 or litex:build/csr.csv.",
)
@click.option("--config", default="base", show_default=True, help="Build of a device without hardware.")
@click.option("--memory", default="16MiB", show_default=True, help="Memory of a device without hardware.")
@click.option("--clock", type=FiniteRange(min=0, min_open=True), help="MHz of the core, if the device does not tell it.")
@click.option("--timeout", type=FiniteRange(min=0, min_open=True), default=10.0, show_default=True,
              help="Seconds without progress after which a run is given up.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of random patterns and products.")
@click.pass_context
def doctor(
    context: click.Context, device: str, config: str, memory: str, clock: float | None, timeout: float, seed: int
) -> None:
    """Check a device step by step, and say what is wrong with it and what to do.

    What the device's memory holds is lost. Exits with 1 if a step fails.
    """
    refuse_what_the_device_ignores(context)
    build, size = parse_config(config), parse_size(memory)

    def opener() -> Transport:
        transport = open_transport(device) if is_hardware(device) else open_device(device, build, size)
        examination.clock = examination.clock or clock_of(transport)
        return transport

    terminal = Terminal()
    examination = Examination(device, opener, timeout, seed, clock, terminal.progress)
    click.echo(f"examining {device}: what its memory holds will be lost")
    outcomes = examine(examination, _show, [_with_phase(check, terminal) for check in CHECKS])
    failed = sum(outcome.verdict == "failed" for outcome in outcomes)
    skipped = sum(outcome.verdict == "skipped" for outcome in outcomes)
    if failed:
        click.echo(f"{failed} of {len(outcomes)} steps failed, {skipped} skipped")
        context.exit(1)
    click.echo(f"{device} is in order: {len(outcomes) - skipped} steps passed, {skipped} skipped")


def _with_phase(check: Check, terminal: Terminal) -> Check:
    def run(examination: Examination) -> str:
        with terminal.phase(check.name):
            return check.run(examination)

    return Check(check.name, run, check.needs, check.advice)


def _show(outcome: Outcome) -> None:
    seconds = f" ({outcome.seconds:.1f} s)" if outcome.verdict != "skipped" else ""
    click.echo(f"{outcome.verdict:<8} {outcome.name}: {outcome.text}{seconds}")
    if outcome.advice:
        click.echo(f"         advice: {outcome.advice}")
