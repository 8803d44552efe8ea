"""The tables of `tailrace bench`."""

from collections.abc import Sequence

from rich.table import Table

from tailrace.sim.processes import usable_processors

from ..device.counters import STALLS
from ..fpga.record import Record
from .comparison import Quality
from .gemv import Product
from .speed import REPEATS, Speed, Start


def product_table(products: Sequence[Product], config: str, latency: int) -> Table:
    """Cycles and utilisation, a row for each format and bus width."""
    first = products[0]
    table = Table(
        title=(
            f"{first.rows} x {first.columns} product, vectors: {first.vectors}, configuration {config},"
            f" memory latency {latency} cycles (simulated)"
        ),
        caption=(
            "Useful: bytes of the matrix in its format. Utilisation: useful bytes over bus bytes in all cycles, from the"
            " doorbell to the last result written. Stalls: cycles without a read beat, by cause."
        ),
        caption_justify="left",
    )
    for name in ("format", "bus", "useful bytes", "cycles", "utilisation", *(s.removeprefix("STALL_").lower() for s in STALLS)):
        table.add_column(name, justify="left" if name == "format" else "right")
    for p in products:
        stalls = (f"{p.counters[s]:,}" for s in STALLS)
        cells = (
            p.format.name,
            str(p.bus_width),
            f"{p.counters.weight_bytes:,}",
            f"{p.counters.cycles:,}",
            f"{p.utilisation:.2%}",
        )
        table.add_row(*cells, *stalls)
    return table


def simulator_table(products: Sequence[Product]) -> Table:
    """How fast the simulator ran the products, a row for each bus width."""
    table = Table(title="the simulator on this machine, during the products above")
    for name in ("bus", "cycles per second", "products per second"):
        table.add_column(name, justify="right")
    for width in sorted({p.bus_width for p in products}):
        of_width = [p for p in products if p.bus_width == width]
        seconds = sum(p.seconds for p in of_width)
        cycles = sum(p.counters.cycles for p in of_width)
        table.add_row(
            str(width), f"{cycles / seconds:,.0f}", f"{sum(p.vectors * p.rows * p.columns for p in of_width) / seconds:,.0f}"
        )
    return table


def speed_table(name: str, speeds: Sequence[Speed]) -> Table:
    """How fast a model is decoded, a row for each device, build and batch."""
    table = Table(
        title=f"decode of {name} on this machine ({usable_processors()} processors)",
        caption=(
            f"Tokens a second of all sequences together: the median of {REPEATS} repetitions, which follow one warm step. Whole"
            " decode steps; the driver's work, reading the logits and taking the best token are included. Slowest over quickest"
            " repetition: how busy the machine was. Between passes: from the end of one on the device to the doorbell of the"
            " next, the median."
        ),
        caption_justify="left",
    )
    for n, column in enumerate(
        (
            "",
            "build and compiler",
            "threads",
            "batch",
            "steps",
            "tokens/s",
            "slowest/quickest",
            "cycles/step",
            "cycles/s",
            "between passes, ms",
        )
    ):
        table.add_column(column, justify="left" if n < 2 else "right")
    for s in speeds:
        cycles = (f"{s.cycles:,}", f"{s.cycles * s.rate / s.batch:,.0f}") if s.cycles else ("", "")
        between = f"{1e3 * s.between:.2f}" if s.between else ""
        numbers = (s.threads, s.batch, s.steps)
        table.add_row(s.what, s.conditions, *map(str, numbers), f"{s.rate:.3g}", f"{s.spread:.2f}", *cycles, between)
    return table


def start_table(name: str, starts: Sequence[Start]) -> Table:
    """How long it takes until the first token."""
    table = Table(
        title=f"from the command to the first token of {name}",
        caption=(
            "Seconds of a whole process that loads the model, takes a short prompt and ends after one token. First: all is"
            f" compiled, the model is laid out and kept. Second: it is mapped; the median of {REPEATS}. llama.cpp maps the file"
            " each time."
        ),
        caption_justify="left",
    )
    for n, column in enumerate(("", "first start", "second start")):
        table.add_column(column, justify="right" if n else "left")
    for start in starts:
        table.add_row(start.what, f"{start.first:.2f} s", f"{start.second:.2f} s")
    return table


def quality_table(name: str, quality: Quality, what: str) -> Table:
    """Distances between the device's distributions and float32's; `what` runs on the device."""
    windows = f" in windows of {quality.window:,}" if quality.window < quality.positions else ""
    table = Table(
        title=f"{name}, {what}, teacher-forced over {quality.positions:,} positions{windows}, against float32",
        show_header=False,
    )
    table.add_row("mean KL divergence", f"{quality.mean_divergence:.3g} nats")
    table.add_row("largest KL divergence", f"{quality.largest_divergence:.3g} nats")
    table.add_row("same best token", f"{quality.same_best:.2%}")
    table.add_row("perplexity", f"{quality.device_perplexity:.4f} (float32: {quality.reference_perplexity:.4f})")
    return table


def area_table(records: Sequence[Record]) -> Table:
    """Cells and frequency, a row for each part."""
    table = Table(
        title=f"ECP5-85, speed grade 8, configuration {records[0].config}, each part by itself and without pins",
        caption="Cells after synthesis; frequency after place and route, register to register.",
        caption_justify="left",
    )
    table.add_column("part")
    for name in (*records[0].cells, "MHz", "tools' time"):
        table.add_column(name, justify="right")
    for record in records:
        cells = (f"{count:,}" for count in record.cells.values())
        speed = f"{record.megahertz:.1f}" if record.megahertz else "does not fit"
        table.add_row(record.part, *cells, speed, f"{record.seconds:.0f} s")
    return table
