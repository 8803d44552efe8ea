"""The tables of `tailrace bench decode`, `batch` and `prompt`."""

from collections.abc import Mapping, Sequence

from rich.table import Table

from tailrace.sim.timeline import BEATS, USES
from tailrace.spec.linear_attention import FOLD

from .batch import BatchStep
from .decode import CAPACITY, Step
from .prediction import Comparison
from .prompt import Prompt
from .speculation import LAYER, TEXT, Speculation
from .waits import NO_WORK

_METHOD = (
    "Utilisation: bytes that the token must read at least once (codes and scales of the weights, of the chosen experts only,"
    " keys and values; no norms, no embedding, no commands) over bus bytes in all cycles, from doorbell to interrupt."
    f" Room for {CAPACITY} tokens, or for as many as a longer context has."
)
#: A column: utilisation, where what refresh takes of a DRAM does not count.
_REFRESHED = "of what refresh leaves"
_STALLS = (
    " Stalls: part of all cycles without a read beat. The largest loss: for a stall its cause, and what the vector unit was"
    " doing."
)
_SUM = (
    " A star: two rounds of the layers that repeat, those before them and the head were run with an empty cache. Each further"
    " round adds the cycles from the end of its first product to that of the next one; a context adds what these grow by,"
    " measured in a run with that context."
)
_FOLDED = (
    f" Linear attention: {FOLD // 2} tokens more than the context says, so that its list is half full, and a part of the fold"
    f" that every {FOLD}th token takes."
)


def largest_loss(step: Step) -> str:
    """What costs most, and its part of all cycles: a stall, by what the port waited for, or keys and values read twice."""
    total = step.total
    causes = {use: total.uses.get(use, 0.0) / total.cycles for use in USES[BEATS:]}
    cause = max(causes, key=lambda name: causes[name])
    if step.part(step.again) > causes[cause]:
        return f"K and V read again {step.part(step.again):.2%}"
    if not causes[cause]:
        return "none"
    behind = {work: cycles / total.cycles for (name, work), cycles in total.waits.items() if name == cause}
    work = max(behind, key=lambda name: behind[name])
    text = f"{cause} {causes[cause]:.2%}"
    return text if work == NO_WORK else f"{text} ({work} {behind[work]:.2%})"


def _folds(steps: Sequence[Step]) -> str:
    """What is to be said of folds, the largest part that they take of each model's cycles included."""
    parts: dict[str, float] = {}
    for step in steps:
        if step.fold:
            part = step.fold / FOLD / step.total.cycles
            parts[step.point.model] = max(parts.get(step.point.model, 0.0), part)
    listed = ", ".join(f"{model} {part:.2%}" for model, part in parts.items())
    return f"{_FOLDED} It is of the cycles, at most: {listed}." if parts else ""


def decode_table(steps: Sequence[Step]) -> Table:
    """Utilisation, a row for each step."""
    table = Table(
        title="decode, batch 1 (simulated)",
        caption=f"{_builds(steps)}. {_METHOD}{_STALLS}{'' if all(s.whole for s in steps) else _SUM}{_folds(steps)}",
        caption_justify="left",
    )
    for name in (
        "model",
        "bus",
        "memory",
        "context",
        "must read",
        "cycles",
        "utilisation",
        _REFRESHED,
        "stalls",
        "largest loss",
    ):
        table.add_column(name, justify="left" if name in ("model", "memory", "largest loss") else "right")
    for s in steps:
        stalls = sum(s.total.uses.get(use, 0.0) for use in USES[BEATS:])
        table.add_row(
            s.point.model,
            s.point.bus,
            s.point.memory,
            str(s.point.context),
            f"{s.needed:,}",
            f"{s.total.cycles:,.0f}{'' if s.whole else '*'}",
            f"{s.utilisation:.2%}",
            f"{s.of_ceiling:.2%}",
            f"{stalls / s.total.cycles:.2%}",
            largest_loss(s),
        )
    return table


def predicted_table(steps: Sequence[Step]) -> Table:
    """Utilisation as it is predicted, a row for each step."""
    table = Table(
        title="decode, batch 1 (predicted: nothing was simulated)",
        caption=f"{_builds(steps)}. {_METHOD}{_folds(steps)} What predictions are worth: tailrace bench prediction.",
        caption_justify="left",
    )
    for name in ("model", "bus", "memory", "context", "must read", "cycles", "utilisation", _REFRESHED, "K and V read again"):
        table.add_column(name, justify="left" if name in ("model", "memory") else "right")
    for s in steps:
        point, cycles = s.point, f"{s.total.cycles:,.0f}"
        row = (point.model, point.bus, point.memory, str(point.context), f"{s.needed:,}", cycles)
        table.add_row(*row, f"{s.utilisation:.2%}", f"{s.of_ceiling:.2%}", f"{s.part(s.again):.2%}")
    return table


def _builds(steps: Sequence[Step]) -> str:
    found = {s.point.build: s.point for s in steps}
    return ", ".join(f"{point.bus} bits: `{build}`" for build, point in sorted(found.items()))


def check_table(pairs: Sequence[tuple[Step, Step]]) -> Table:
    """How well the sum for all layers meets the model that was run whole."""
    table = Table(title="the sum for all layers, checked on a model that was run whole")
    for name in ("model", "bus", "memory", "context", "cycles, whole", "cycles, sum", "difference"):
        table.add_column(name, justify="left" if name in ("model", "memory") else "right")
    for whole, by_shape in pairs:
        point, cycles, total = whole.point, whole.total.cycles, by_shape.total.cycles
        row = (point.model, point.bus, point.memory, str(point.context), f"{cycles:,.0f}", f"{total:,.0f}")
        table.add_row(*row, f"{(total - cycles) / cycles:+.3%}")
    return table


def prediction_table(comparisons: Sequence[Comparison]) -> Table:
    """Predicted and simulated cycles, a row for each decode step."""
    worst = max(comparisons, key=lambda c: abs(c.error))
    slowest = max(c.seconds for c in comparisons)
    table = Table(
        title="decode, batch 1: predicted and simulated cycles",
        caption=f"Largest error: {worst.error:+.3%}, {worst.point.title}. Longest prediction: {slowest:.2f} s (user time).",
        caption_justify="left",
    )
    for name in ("model", "bus", "memory", "context", "simulated", "predicted", "error"):
        table.add_column(name, justify="left" if name in ("model", "memory") else "right")
    for c in comparisons:
        point, cycles = c.point, (f"{c.simulated:,.0f}", f"{c.predicted:,}")
        table.add_row(point.model, point.bus, point.memory, str(point.context), *cycles, f"{c.error:+.3%}")
    return table


def batch_table(steps: Sequence[BatchStep], megahertz: float) -> Table:
    """Speed of several sequences together, a row for each batch."""
    first = steps[0]
    table = Table(
        title=f"{first.model}, configuration {first.config}, memory {first.memory}, context {first.context} (simulated)",
        caption=f"Tokens per second at an assumed clock of {megahertz:g} MHz: no build has been timed at it.",
        caption_justify="left",
    )
    for name in ("batch", "cycles per step", "weight bytes read per token", "tokens/s per sequence", "tokens/s in all"):
        table.add_column(name, justify="right")
    for s in steps:
        rate = megahertz * 1e6 / s.cycles
        weights = f"{s.weight_bytes / s.batch:,.0f}"
        table.add_row(str(s.batch), f"{s.cycles:,.0f}", weights, f"{rate:,.1f}", f"{rate * s.batch:,.1f}")
    return table


def prompt_table(prompts: Sequence[Prompt], megahertz: float) -> Table:
    """What prompts take token by token, and several tokens in a pass."""
    first = prompts[0]
    table = Table(
        title=f"prompts of {first.tokens} tokens, configuration {first.config}, memory {first.memory} (predicted)",
        caption=f"Seconds at an assumed clock of {megahertz:g} MHz: no build has been timed at it.",
        caption_justify="left",
    )
    for name in ("model", "tokens in a pass", "cycles token by token", "cycles in passes", "seconds", "times as fast"):
        table.add_column(name, justify="left" if name == "model" else "right")
    for p in prompts:
        seconds = f"{p.together / (megahertz * 1e6):.2f}"
        table.add_row(p.model, str(p.rows), f"{p.single:,}", f"{p.together:,}", seconds, f"{p.ratio:.2f}")
    return table


def speculation_table(answers: Sequence[Speculation], title: str, megahertz: float) -> Table:
    """What drafts bring on each kind of text."""
    sources = {a.drafts for a in answers}
    caption = (
        f"The answers are the same with and without drafts. Tokens/s at an assumed clock of {megahertz:g} MHz: no build has"
        " been timed at it."
    )
    if LAYER in sources:
        caption += (
            " A layer that drafts takes its cycles on the model's device, between passes, and passes take more that fill its"
            " cache; without, and with drafts from the text alone, there is no such layer."
        )
    elif sources != {TEXT}:
        caption += (
            " With drafts of a model each of its passes takes its cycles on a device of the same build, while the other one"
            " waits; for free: none, as if something else computed them meanwhile. Its prompt is left out, too."
        )
    table = Table(title=title, caption=caption, caption_justify="left")
    texts = ("text",) if sources == {TEXT} else ("text", "drafts from")
    numbers = (
        "prompt",
        "tokens",
        "passes",
        "tokens a pass",
        "passes a token",
        "drafted",
        "right",
        "right a pass",
        "tokens/s without",
        "with",
        "times as fast",
    )
    for name in (*texts, *numbers):
        table.add_column(name, justify="left" if name in texts else "right")
    for a in answers:
        kind = (a.text, a.drafts)[: len(texts)]
        passes = (a.prompt_tokens, a.tokens, a.passes, f"{a.tokens / a.passes:.2f}", f"{a.passes / a.tokens:.2f}")
        drafts = (a.drafted, a.accepted, f"{a.accepted / a.passes:.2f}")
        rates = [a.tokens * megahertz * 1e6 / cycles for cycles in (a.plain, a.cycles)]
        speeds = [f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}" for rate in rates]
        table.add_row(*kind, *map(str, (*passes, *drafts)), *speeds, f"{a.ratio:.2f}")
    return table


def rows_table(costs: Mapping[str, Sequence[int]], title: str) -> Table:
    """Cycles of passes with 1, 2, 3, ... rows."""
    table = Table(title=title, caption="In parentheses: times those of one row.", caption_justify="left")
    table.add_column("model")
    for rows in range(1, max(map(len, costs.values())) + 1):
        table.add_column("1 row" if rows == 1 else f"{rows} rows", justify="right")
    for name, cycles in costs.items():
        table.add_row(name, *(f"{found:,} ({found / cycles[0]:.3f})" for found in cycles))
    return table


def stall_table(steps: Sequence[Step], count: int = 6) -> Table:
    """The largest stalls of each step, by cause and the vector work at hand."""
    table = Table(title="stalls by cause, and what the vector unit was doing")
    for name in ("model", "bus", "memory", "context", "cause", "vector unit", "cycles", "part"):
        table.add_column(name, justify="right" if name in ("bus", "context", "cycles", "part") else "left")
    for s in steps:
        found: Mapping[tuple[str, str], float] = s.total.waits
        for cause, work in sorted(found, key=lambda key: -found[key])[:count]:
            cycles = found[cause, work]
            table.add_row(
                s.point.model, s.point.bus, s.point.memory, str(s.point.context), cause, work or "-",
                f"{cycles:,.0f}", f"{cycles / s.total.cycles:.2%}",
            )  # fmt: skip
    return table
