"""The tables that the command line closes with."""

from dataclasses import dataclass, field

from rich.table import Table

from tailrace.sim.timing.prediction import LARGEST_ERROR
from tailrace.spec.registers import COUNTERS

from ..device.counters import STALLS, Counters
from ..huggingface.placement import Place, Plan
from ..image.geometry import Geometry
from .expectation import Expectation

_CAUSES = {name: doc.removeprefix("cycles without a read beat: ") for name, doc in COUNTERS}


@dataclass(frozen=True)
class Setting:
    """Where a run took place.

    Attributes
    ----------
    device_name : str
    config_name : str or None
        None: hardware, which states its build in its registers.
    simulated : bool
        Whether cycles are those of a simulation.
    conditions : str
        What the cycles depend on besides the build, such as the memory's latency.
    clock : float or None
        Clock frequency in MHz to state the speed for; None: not known.
    expected : Expectation or None
        What the answer should take; None: not known.
    expected_of : str
        What that depends on besides the build.
    """

    device_name: str
    config_name: str | None
    simulated: bool
    conditions: str
    clock: float | None
    expected: Expectation | None = None
    expected_of: str = ""


@dataclass(frozen=True)
class Run:
    """What is known about a run after it.

    Attributes
    ----------
    prompt_tokens, new_tokens : int
    seed : int or None
        What the new tokens were drawn with; None: nothing was drawn.
    steps : int
        Decode steps on the device.
    counters : Counters
        Sums over these steps.
    seconds : float
        Wall-clock time of the decode.
    digest : str
        SHA-256 over all results that the host has read.
    on_host : list of str
        Matrices that ran on the host because the user allowed it.
    doorbells : int
        Runs of the device for these steps.
    whole_steps : bool
        Whether all of a step runs on the device.
    prompt_steps : int
        Tokens of the prompt that the device computed before.
    prompt_rows : int
        How many of them a pass takes at most.
    prompt_counters : Counters
    prompt_seconds : float
        The time that the prompt took, wherever it was computed.
    drafted, accepted : int
        Tokens that were drafted and verified, and how many of them were right.
    """

    prompt_tokens: int
    new_tokens: int
    seed: int | None
    steps: int
    counters: Counters
    seconds: float
    digest: str
    on_host: list[str] = field(default_factory=list)
    doorbells: int = 0
    whole_steps: bool = False
    prompt_steps: int = 0
    prompt_rows: int = 1
    prompt_counters: Counters = field(default_factory=Counters)
    prompt_seconds: float = 0.0
    drafted: int = 0
    accepted: int = 0

    @property
    def taken(self) -> int:
        """Tokens that the steps have taken."""
        return self.steps + self.accepted


def run_table(run: Run, setting: Setting, geometry: Geometry) -> Table:
    """The closing table of a run."""
    build = "hardware" if setting.config_name is None else f"configuration {setting.config_name}"
    title = f"{setting.device_name}, {build} ({geometry.bus_width}-bit bus)"
    table = Table(title=title, show_header=False)
    table.add_column(style="bold")
    table.add_column()
    what = f"{run.doorbells} doorbells" if run.whole_steps else "linear layers only, the rest on the host"
    table.add_row(
        "tokens", f"{run.new_tokens} new after a prompt of {run.prompt_tokens}; {run.steps} decode steps on the device, {what}"
    )
    if run.seed is not None:
        table.add_row("drawn", f"with --seed {run.seed}, which gives the same tokens again")
    if run.whole_steps:
        _add_prompt(table, run)
    if run.drafted:
        each = f"{run.taken / run.steps:.2f} tokens a step"
        table.add_row("speculation", f"{run.accepted} of {run.drafted} drafted tokens were right: {each}")
    if run.on_host:
        table.add_row("on the host, as allowed", f"{len(run.on_host)} matrices: {', '.join(run.on_host)}")
    steps, total = run.taken, run.counters
    if steps:
        weights, read = total.weight_bytes / steps, total.read_beats * geometry.beat_bytes / steps
        others = "commands, KV cache, tables and padding" if run.whole_steps else "commands, vectors and padding"
        table.add_row("bytes per token", f"{_count(weights)} of the model; {_count(read)} read over the bus, with {others}")
        if total.cycles:
            _add_cycles(table, run, setting, geometry)
        elif not setting.expected:
            table.add_row("cycles", f"not counted: {setting.device_name} has no clock")
        if setting.expected:
            _add_expected(table, run, setting, setting.expected)
        if setting.config_name is None:
            table.add_row("speed, host included", f"{steps / run.seconds:.2f} tokens/s: {run.seconds:.1f} s in all")
        else:
            table.add_row("time on this machine", f"{run.seconds:.1f} s, {run.seconds / steps:.2f} s per token")
        table.add_row("results", f"SHA-256 {run.digest[:16]}… over every result that was read")
    return table


def predicted_text(cycles: float, clock: float | None) -> str:
    """Cycles that a token is predicted to take, and its speed, if a clock is known."""
    return f"{_count(cycles)} cycles a token" + (f", {clock * 1e6 / cycles:,.2f} tokens/s at {clock:g} MHz" if clock else "")


#: How well cycles are predicted.
ACCURACY = f"model's error at most {LARGEST_ERROR:.1%}"


def _add_expected(table: Table, run: Run, setting: Setting, expected: Expectation) -> None:
    """What the answer was expected to take, without drafts and with them, and what it took.

    What memory hardware has is not known: with the fastest one the cycles are a bound.
    """
    known = setting.config_name is not None
    name = "expected" if known else "at best"
    memory = setting.expected_of if known else "with a memory that gives a beat in every cycle"
    table.add_row(name, f"{predicted_text(expected.plain, setting.clock)} ({ACCURACY}); {memory}")
    if run.drafted:
        times = f"{expected.plain / expected.in_all:.2f} times as fast"
        table.add_row(f"{name} with drafts", f"{predicted_text(expected.in_all, setting.clock)}: {times}")
    if run.counters.cycles:
        cycles = run.counters.cycles / run.taken
        more = cycles / expected.taken - 1
        difference = f"{abs(more):.1%} {'more' if more > 0 else 'fewer'} cycles"
        than = f"than {'expected of' if known else 'at best for'} these passes"
        table.add_row("got", f"{predicted_text(cycles, setting.clock)}: {difference} {than}")


def _add_prompt(table: Table, run: Run) -> None:
    together = f"up to {run.prompt_rows} at a time" if run.prompt_rows > 1 else "one by one"
    where = f"{run.prompt_steps} tokens before the last on the device, {together}" if run.prompt_steps else "on the host"
    cycles = f", {_count(run.prompt_counters.cycles / run.prompt_steps)} cycles each" if run.prompt_counters.cycles else ""
    if run.prompt_tokens > 1:
        table.add_row("prompt", f"{where}{cycles}; {run.prompt_seconds:.1f} s")


def _add_cycles(table: Table, run: Run, setting: Setting, geometry: Geometry) -> None:
    steps, total = run.taken, run.counters
    cycles = total.cycles / steps
    label = "simulated" if setting.simulated else "counted by the device"
    conditions = f", {setting.conditions}" if setting.conditions else ""
    table.add_row("cycles per token", f"{_count(cycles)} ({label}{conditions})")
    table.add_row("bus utilisation", f"{total.beat_utilisation:.2%} beats carried over cycles;"
                  f" {total.model_utilisation(geometry.beat_bytes):.2%} model bytes over cycles x width")  # fmt: skip
    for name in STALLS:
        if total[name]:
            what = f"{_count(total[name] / steps)} cycles per token, {total[name] / total.cycles:.2%}: {_CAUSES[name]}"
            table.add_row(name.lower().replace("_", " "), what)
    if setting.clock is None:
        return
    source = "estimate from simulated cycles" if setting.simulated else "device only, from its cycles"
    if setting.simulated and not run.whole_steps:
        source += "; attention, norms and the host's time are not in it"
    table.add_row(f"speed at {setting.clock:g} MHz", f"{setting.clock * 1e6 / cycles:.2f} tokens/s ({source})")


def plan_table(plan: Plan) -> Table:
    """Tensor by tensor: what would run where."""
    table = Table(box=None, pad_edge=False)
    for name in ("tensor", "shape", "type", "bits/weight", "runs on", "bytes per token"):
        table.add_column(name, justify="right" if name in ("bits/weight", "bytes per token") else "left", no_wrap=True)
    table.add_column("note", overflow="fold")
    for p in plan.placements:
        kind = p.tensor.type_name if not p.quantise else f"{p.tensor.type_name} → {p.format.name}"  # type: ignore[union-attr]
        table.add_row(
            p.tensor.name,
            " x ".join(map(str, p.tensor.shape)),
            kind,
            f"{(p.format or p.tensor).bits_per_weight:.2f}",
            p.place.value,
            f"{p.stream_bytes:,}" if p.stream_bytes else "",
            p.reason,
        )
    return table


def plan_summary(plan: Plan) -> list[str]:
    """Totals of a plan, line by line."""
    device, refused = plan.placed(Place.DEVICE), plan.placed(Place.REFUSED)
    file_bytes = sum(p.tensor.bytes for p in device if not p.quantise)
    lines = [
        f"{len(device)} matrices on the device, {len(refused)} refused,"
        f" {len(plan.placed(Place.HOST))} other tensors on the host (norms, biases, attention and the embedding's look-up)",
        f"bytes per token: {plan.stream_bytes:,} read over the bus"
        + (f", {file_bytes:,} in the file" if not any(p.quantise for p in device) else ""),
    ]
    reasons: dict[str, list[str]] = {}
    for p in refused:
        reasons.setdefault(p.reason, []).append(p.tensor.name)
    lines += [
        f"refused: {', '.join(names[:3])}{' …' if len(names) > 3 else ''} ({len(names)}): {reason}"
        for reason, names in reasons.items()
    ]
    return lines


def _count(value: float) -> str:
    return f"{round(value):,}"
