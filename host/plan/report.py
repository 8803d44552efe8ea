"""What `tailrace plan` prints."""

from collections.abc import Iterator, Sequence

from rich.table import Table

from tailrace.sim.timing.prediction import LARGEST_ERROR

from .candidates import Candidate, Wish
from .described import PlannedModel
from .speed import behind
from .table import Board, Gpu
from .what_if import Variant

#: What clocks are known from, the least first.
_CLOCKS = {
    "assumed": "nobody has built it",
    "estimated": "after synthesis",
    "given": "by --clock",
    "routed": "placed and routed",
}


def head_lines(model: PlannedModel, wish: Wish) -> Iterator[str]:
    """What is planned for."""
    used = "" if model.used > 0.8 * model.parameters else f", of which a token uses {_count(model.used)}"
    yield f"model: {model.name}, {_count(model.parameters)} parameters{used}"
    yield (
        f"wish: {_number(wish.users, 'user')}, {wish.tokens_per_second:g} tokens/s each at {model.imported.context:,} tokens;"
        f" prompts of {wish.prompt:,}, first token within {wish.first_token:g} s"
    )


def recommended_lines(found: Sequence[Candidate]) -> Iterator[str]:
    """The first candidate in words; or that none will do."""
    best = found[0]
    if best.first is None:
        yield "recommended: nothing of the table"
        return
    yield f"recommended: {_number_of(best)}, {_users(best)}, {_clock(best.board)} MHz"
    total = f", {best.total:.1f} in all" if best.users > 1 else ""
    yield f"  {best.speed:.2f} tokens/s each{total}; {_watts(best)} W, {_usd(best)} USD"
    first = best.first
    if first.gpu is None:
        yield f"  first token in {_seconds(first.seconds)}: prompt on the device itself"
    else:
        yield (
            f"  first token in {_seconds(first.seconds)}: prompt on a {first.gpu.title} {_seconds(first.prefill)},"
            f" hand-over {_seconds(first.hand_over)}, step {_seconds(first.step)}"
        )


def candidate_table(found: Sequence[Candidate]) -> Table:
    """Candidates that do, as many columns as 100 characters have room for."""
    table = Table(box=None, pad_edge=False)
    left = ("board", "build", "clock, MHz", "prefill")
    several = any(c.users > 1 for c in found)
    total = ("in all",) if several else ()
    for name in (*left[:3], "boards", "users\na core", left[3], "tokens/s\neach", *total, "first\ntoken", "watts", "USD"):
        table.add_column(name, justify="left" if name in left else "right", no_wrap=name != "build", overflow="fold")
    for c in found:
        if c.first is not None:
            cells = [c.board.name, c.board.build, _clock(c.board), str(c.boards), str(c.sharing), c.first.name]
            cells += [f"{c.speed:.2f}", *([f"{c.total:.1f}"] * several), _seconds(c.first.seconds), _watts(c), _usd(c)]
            table.add_row(*cells)
    return table


def refused_table(found: Sequence[Candidate]) -> Table:
    """Boards that will not do, with the reason."""
    table = Table(box=None, pad_edge=False)
    for name in ("will not do", "clock, MHz", "tokens/s", "why"):
        table.add_column(name, justify="right" if name == "tokens/s" else "left", no_wrap=name != "why", overflow="fold")
    for c in found:
        if c.first is None:
            table.add_row(c.board.name, _clock(c.board), f"{c.speed:.2f}" if c.speed else "", c.reason)
    return table


def what_if_table(variants: Sequence[Variant], tokens_per_pass: float) -> Table:
    """What other builds would bring on a board."""
    board = variants[0].board
    table = Table(title=f"what if {board.name} had another build", title_justify="left", box=None, pad_edge=False)
    drafts = f"with drafts,\n{tokens_per_pass:g} a pass"
    for name in (
        "build",
        "rows",
        "bus",
        "tokens/s\nalone",
        drafts,
        "users",
        "tokens/s\nin all",
        "first token,\non the device",
        "",
    ):
        table.add_column(name, justify="left" if name in ("build", "") else "right", overflow="fold")
    for v in variants:
        rows, bits = str(v.board.config.right_hand_sides), str(8 * v.board.bus_bytes)
        cells = [f"{number:.2f}" if number else "" for number in (v.alone, v.drafts)]
        together = [str(v.users), f"{v.total:.2f}", _seconds(v.first)] if v.users else [""] * 3
        table.add_row(v.board.build, rows, bits, *cells, *together, v.note)
    return table


def what_if_line(tokens_per_pass: float) -> str:
    """What that table leaves open."""
    return (
        "Whether these builds fit its FPGA is not looked at. What drafts bring depends on the text: 1.03 to 3.31 tokens a pass"
        f" were counted (docs/speculation.md), not {tokens_per_pass:g} everywhere."
    )


def foot_lines(found: Sequence[Candidate], gpus: Sequence[Gpu]) -> Iterator[str]:
    """What the figures are, and what they are not."""
    boards = [c.board for c in found]
    yield (
        f"Predicted, not measured: cycles of the core (within {LARGEST_ERROR:.1%} of the simulation) at the table's clocks; the"
        " host's part of a step is left out."
    )
    clocks = {kind: [b.name for b in boards if b.clock_is == kind] for kind in _CLOCKS}
    yield "Clocks: " + "; ".join(f"{kind} ({_CLOCKS[kind]}): {', '.join(n)}" for kind, n in clocks.items() if n) + "."
    yield "Memory of a core: " + "; ".join(f"{b.name} {_memory(b)}" for b in boards) + "."
    if any(c.reason.startswith("memory") for c in found):
        yield "A model is not split over several cores or boards: that is not built."
    used = {gpu.name: gpu for c in found if c.first and (gpu := c.first.gpu)}
    if used or any(c.reason.startswith("first token") for c in found):
        parts = ", ".join(sorted({f"{gpu.part:.0%}" for gpu in used.values() or gpus}))
        yield f"GPUs are assumed to reach {parts} of their peak in a prefill."
    yield "Watts and USD with ~ hold a guess: --write-table FILE writes the table, --table FILE reads yours."


def _number_of(best: Candidate) -> str:
    cores = f", {best.board.cores} cores of build {best.board.build}" if best.board.cores > 1 else f", build {best.board.build}"
    return f"{best.boards} x {best.board.title}{cores}"


def _users(best: Candidate) -> str:
    return f"{_number(best.sharing, 'user')} on a core"


def _clock(board: Board) -> str:
    return f"{board.clock_mhz:g} {board.clock_is}"


def _memory(board: Board) -> str:
    there, each = behind(board), f"{board.memory_gb_s / board.cores:.3g} GB/s"
    if there.memory != "ideal":
        return f"{there.memory.upper()}, {each}"
    return f"{each}, {there.bandwidth:.1%} of its bus" if there.bandwidth < 1 else f"{each}, more than its bus"


def _watts(c: Candidate) -> str:
    return f"{'~' if _guessed(c, 'watts') else ''}{c.watts:,.0f}"


def _usd(c: Candidate) -> str:
    return f"{'~' if _guessed(c, 'usd') else ''}{c.usd:,.0f}"


def _guessed(c: Candidate, what: str) -> bool:
    return what in c.board.guessed or bool(c.first and c.first.gpu and what in c.first.gpu.guessed)


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _count(number: int) -> str:
    return f"{number / 1e9:.2f} billion" if number >= 1e9 else f"{number / 1e6:.1f} million"


def _seconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:,.1f} s"
