"""Draws what the memory port did over a token."""

from pathlib import Path

import numpy as np

from tailrace.sim.timeline import BEATS, USES
from tailrace.spec.errors import MissingPackage, ToolError

from .trace import THREADS, PortUse

#: Points of the curve at most; more could not be seen.
POINTS = 1200
_COLOURS = ("#9a6bb3", "#3f8fbf", "#1f4e79", "#d98a29", "#c9b63d", "#b5423c", "#8c8c8c", "#5a5a5a")


def draw(use: PortUse, path: Path) -> float:
    """Draw the use of the memory port over time, stacked by what it did, above the FIFO's level and the units' work.

    Parameters
    ----------
    use : PortUse
    path : Path
        Image file to write; its ending says which kind (PNG, SVG, PDF).

    Returns
    -------
    float
        Mean utilisation: beats over cycles.

    Raises
    ------
    ToolError
        If matplotlib is missing, or the file can't be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackage("matplotlib", "to draw", "plot") from error

    step = max(1, -(-len(use.uses) // POINTS))
    rows = -(-len(use.uses) // step)
    padded = np.zeros((rows * step, len(USES)), dtype=np.int64)
    padded[: len(use.uses)] = use.uses
    uses = padded.reshape(rows, step, -1).sum(axis=1)
    shares = uses / np.maximum(uses.sum(axis=1, keepdims=True), 1)
    levels = np.zeros(rows * step)
    levels[: len(use.levels)] = use.levels
    time = (np.arange(rows) * step * use.bucket_cycles) / 1000
    mean = float(use.uses[:, :BEATS].sum() / max(use.uses.sum(), 1))

    figure = Figure(figsize=(12, 6.5), layout="constrained")
    FigureCanvasAgg(figure)
    port, fifo, units = figure.subplots(3, 1, sharex=True, height_ratios=(4, 1, 1))
    port.stackplot(time, shares.T * 100, labels=USES, colors=_COLOURS, step="post")
    port.set_ylim(0, 100)
    port.set_ylabel("cycles of the port, %")
    port.set_title(f"{use.title}: {100 * mean:.1f} % of {use.uses.sum():,} cycles carried a beat")
    order = [n for n in range(len(USES)) if use.uses[:, n].any()]
    handles, labels = port.get_legend_handles_labels()
    chosen = [(handles[n], f"{labels[n]}{'' if n < BEATS else ' (stall)'}") for n in order]
    port.legend(*zip(*chosen, strict=True), loc="lower left", ncols=4, fontsize=8)
    fifo.fill_between(time, levels.reshape(rows, step).mean(axis=1), step="post", color=_COLOURS[2])
    fifo.set_ylabel("read FIFO,\nbeats")
    for row, thread in enumerate(THREADS):
        bars = [((start - use.start) / 1000, (end - start) / 1000) for _, start, end in use.spans[thread]]
        units.broken_barh(bars, (row - 0.4, 0.8), color=_COLOURS[row])
    units.set_yticks(range(len(THREADS)), THREADS)
    units.invert_yaxis()
    units.set_xlabel("thousands of cycles")
    units.set_xlim(0, float(time[-1]) + step * use.bucket_cycles / 1000)
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise ToolError(f"the picture {path} can't be written: {error}") from error
    return mean
