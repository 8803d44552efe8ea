import random

import pytest

from tailrace.hdl.axi.signature import ReadKind
from tailrace.hdl.control.counters import Counters
from tailrace.spec.registers import COUNTERS

from ..simulate import simulate

NAMES = [name for name, _ in COUNTERS]
FACTS = ("clear", "running", "beat", "beat_kind", "waiting", "blocked", "fence", "drain", "command", "write_beat")
EVENTS = {"command": "COMMANDS", "write_beat": "WRITE_BEATS", "matrix_busy": "MATRIX_BUSY", "vector_busy": "VECTOR_BUSY"}
FACTS += ("matrix_busy", "vector_busy")
#: What a cycle of a run is counted as, first to last, as the registers' texts say.
STALLS = (
    ("waiting", "STALL_MEMORY"),
    ("blocked", "STALL_BUFFER"),
    ("fence", "STALL_FENCE"),
    ("drain", "STALL_DRAIN"),
)
#: The counters of which each cycle of a run is in one.
PARTS = NAMES[NAMES.index("COMMAND_BEATS") : NAMES.index("STALL_DRAIN") + 1]


def counted(facts: dict[str, int]) -> list[str]:
    """Counters that a cycle adds one to."""
    if not facts["running"]:
        return []
    if facts["beat"]:
        use = f"{ReadKind(facts['beat_kind']).name}_BEATS"
    else:
        use = next((name for fact, name in STALLS if facts[fact]), "STALL_COMMAND")
    return ["CYCLES", use, *(name for fact, name in EVENTS.items() if facts[fact])]


def set_facts(ctx, dut: Counters, facts: dict[str, int]) -> None:
    for name in FACTS:
        value = facts.get(name, 0)
        ctx.set(getattr(dut, name), ReadKind(value) if name == "beat_kind" else value)


async def read(ctx, dut: Counters, place: int) -> int:
    """A word, within a round."""
    ctx.set(dut.read.place, place)
    ctx.set(dut.read.valid, 1)
    for _ in range(dut.period + 1):
        await ctx.tick()
        if ctx.get(dut.read.found):
            ctx.set(dut.read.valid, 0)
            return ctx.get(dut.read.value)
    raise AssertionError(f"word {place} is not found")


def run(cycles: list[dict[str, int]], preset: dict[str, int] | None = None) -> dict[str, int]:
    """The counters after these cycles and four more; those of `preset` begin with that number."""
    dut = Counters()
    found = {}

    async def testbench(ctx):
        # The first round takes no notice of the memory.
        await ctx.tick().repeat(dut.period + 1)
        for name, value in (preset or {}).items():
            for half in range(2):
                ctx.set(dut.memory.data[2 * NAMES.index(name) + half], value >> 32 * half & 0xFFFF_FFFF)
        for facts in [*cycles, *[{}] * 4]:
            set_facts(ctx, dut, facts)
            await ctx.tick()
        for name in random.Random(len(cycles)).sample(NAMES, len(NAMES)):
            place = 2 * NAMES.index(name)
            found[name] = await read(ctx, dut, place) | await read(ctx, dut, place + 1) << 32

    simulate(dut, testbench)
    return found


def random_facts(chance: random.Random) -> dict[str, int]:
    facts = {name: chance.randrange(2) for name in FACTS}
    return facts | {"beat_kind": chance.randrange(3), "running": chance.random() < 0.9, "clear": chance.random() < 0.02}


def test_every_cycle_is_counted_once(seed: int):
    """Words that are read while a run lasts have what had happened five cycles before."""
    chance = random.Random(seed)
    dut = Counters()
    cycles = [random_facts(chance) for _ in range(3000)]
    #: Counters before each cycle.
    sums = [dict.fromkeys(NAMES, 0)]
    for facts in cycles:
        now = {name: sums[-1][name] + (name in counted(facts)) for name in NAMES}
        sums.append(dict.fromkeys(NAMES, 0) if facts["clear"] else now)
    reads = 0

    async def testbench(ctx):
        nonlocal reads
        wanted = None
        for now, facts in enumerate(cycles):
            if ctx.get(dut.read.found):
                assert wanted is not None
                # The upper halves stay 0. A clear is seen two cycles earlier than what is counted.
                name, upper = NAMES[wanted // 2], wanted % 2
                cleared = any(before["clear"] for before in cycles[now - 4 : now - 2])
                expected = 0 if upper or cleared else sums[now - 4][name]
                assert ctx.get(dut.read.value) == expected, (now, name, upper)
                ctx.set(dut.read.valid, 0)
                wanted, reads = None, reads + 1
            elif wanted is None and chance.random() < 0.3:
                wanted = chance.randrange(2 * len(NAMES))
                ctx.set(dut.read.place, wanted)
                ctx.set(dut.read.valid, 1)
            set_facts(ctx, dut, facts)
            await ctx.tick()

    simulate(dut, testbench)
    assert reads > 50
    for row in sums:
        assert row["CYCLES"] == sum(row[name] for name in PARTS)


def test_order_of_causes():
    """All combinations of facts of a cycle."""
    names = ("beat", "waiting", "blocked", "fence", "drain")
    for bits in range(1 << len(names)):
        facts = dict.fromkeys(FACTS, 0) | {"running": 1} | {name: bits >> n & 1 for n, name in enumerate(names)}
        assert {name for name, value in run([facts]).items() if value} == set(counted(facts)), facts


def test_kinds_of_beats():
    for kind in ReadKind:
        facts = dict.fromkeys(FACTS, 0) | {"running": 1, "beat": 1, "beat_kind": kind.value}
        assert run([facts] * 3) == dict.fromkeys(NAMES, 0) | {"CYCLES": 3, f"{kind.name}_BEATS": 3}


@pytest.mark.parametrize("begin", [0xFFFF_FFFE, 0x1234_FFFF_FFFF, 0xFFFF_FFFF_FFFF_FFF0])
def test_wide(begin: int):
    """A count goes on in the upper word, for one counter and not for its neighbours."""
    cycles = [dict.fromkeys(FACTS, 0) | {"running": 1, "write_beat": 1}] * 100
    counts = run(cycles, {"WRITE_BEATS": begin})
    nothing = dict.fromkeys(NAMES, 0)
    assert counts == nothing | {"CYCLES": 100, "STALL_COMMAND": 100, "WRITE_BEATS": (begin + 100) % (1 << 64)}


@pytest.mark.parametrize("length", [1, 5, 26, 27, 100])
def test_a_round_holds_what_happens_in_it(length: int):
    """Every cycle counts in every round, wherever the adder is when they begin."""
    for lead in range(0, Counters.period, 5):
        idle = [dict.fromkeys(FACTS, 0)] * lead
        busy = [dict.fromkeys(FACTS, 0) | {"running": 1, "command": 1, "matrix_busy": 1, "vector_busy": 1}] * length
        counts = run(idle + busy)
        assert counts["CYCLES"] == counts["COMMANDS"] == counts["MATRIX_BUSY"] == counts["VECTOR_BUSY"] == length
