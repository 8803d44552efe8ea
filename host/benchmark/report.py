"""The tables of `tailrace bench`."""

from collections.abc import Sequence

from rich.table import Table

from ..device.counters import STALLS
from ..fpga.record import Record
from .comparison import Quality
from .gemv import Product
from .speed import Speed


def product_table(products: Sequence[Product], config: str, latency: int) -> Table:
    """Cycles and utilisation, a row for each format and bus width."""
    first = products[0]
    table = Table(
        title=(
            f"{first.rows} x {first.columns} product, vectors: {first.vectors}, configuration {config},"
            f" memory latency {latency} cycles (simulated)"
        ),
        caption=(
            "Useful: bytes of the matrix as in the GGUF file. Utilisation: useful bytes over bus bytes in all cycles, from the"
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
    """How fast the simulator decodes a model, a row for each configuration."""
    table = Table(
        title=f"decode of {name} in simulation on this machine",
        caption="Whole decode steps, the driver's work included.",
        caption_justify="left",
    )
    for column in ("configuration", "threads", "cycles per token", "cycles per second", "tokens per second"):
        table.add_column(column, justify="left" if column == "configuration" else "right")
    for s in speeds:
        table.add_row(
            s.config,
            str(s.threads),
            f"{s.counters.cycles // s.tokens:,}",
            f"{s.counters.cycles / s.seconds:,.0f}",
            f"{s.tokens / s.seconds:.3f}",
        )
    return table


def quality_table(name: str, quality: Quality, what: str) -> Table:
    """Distances between the device's distributions and float32's; `what` runs on the device."""
    table = Table(
        title=f"{name}, {what}, teacher-forced over {quality.positions} positions, against float32", show_header=False
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
