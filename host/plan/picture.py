"""Draws candidates: tokens per second against what they cost, or take."""

from collections.abc import Sequence
from pathlib import Path

from tailrace.spec.errors import MissingPackage, ToolError

from .candidates import Candidate, Wish

_DOES, _DOES_NOT, _WISH = "#1f4e79", "#b5423c", "#5a5a5a"
_AXES = {"usd": "USD of all boards and the GPU", "watts": "watts of all boards and the GPU"}


def draw(title: str, found: Sequence[Candidate], wish: Wish, rank: str, path: Path) -> None:
    """Draw tokens per second of each user against price or watts, with the wish as a line.

    Parameters
    ----------
    title : str
    found : sequence of Candidate
        Those without a speed are left out.
    wish : Wish
    rank : str
        What is on the axis below: one of `tailrace.plan.candidates.RANKS`.
    path : Path
        Image file to write; its ending says which kind (PNG, SVG, PDF).

    Raises
    ------
    ToolError
        If matplotlib is missing, or the file can't be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogLocator, NullFormatter
    except ImportError as error:
        raise MissingPackage("matplotlib", "to draw", "plot") from error
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.axhline(wish.tokens_per_second, color=_WISH, linestyle="--", label=f"wish: {wish.tokens_per_second:g} tokens/s")
    for does, colour in ((True, _DOES), (False, _DOES_NOT)):
        points = [(c, c.by(rank), c.speed) for c in found if bool(c.first) is does and c.speed]
        label = "does" if does else "will not do: one board"
        axes.scatter(
            [x for _, x, _ in points], [y for *_, y in points], label=label, edgecolors=colour,
            facecolors=colour if does else "none",
        )  # fmt: skip
        for c, x, y in points:
            text = (
                f"{c.boards} x {c.board.name}, {c.first.name}" if c.first else f"{c.board.name}: {c.reason.partition(':')[0]}"
            )
            axes.annotate(text, (x, y), xytext=(5, 5), textcoords="offset points", fontsize=8)
    for scale, axis in ((axes.set_xscale, axes.xaxis), (axes.set_yscale, axes.yaxis)):
        scale("log")
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter("{x:,g}")
        axis.set_minor_formatter(NullFormatter())
    axes.margins(0.25)
    axes.set_xlabel(_AXES[rank])
    axes.set_ylabel("tokens/s of each user, predicted")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(loc="best", fontsize=8)
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise ToolError(f"the picture {path} can't be written: {error}") from error
