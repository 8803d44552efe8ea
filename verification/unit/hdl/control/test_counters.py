import random

from amaranth.sim import Simulator

from tailrace.hdl.axi.signature import ReadKind
from tailrace.hdl.control.counters import Counters
from tailrace.spec.registers import COUNTERS

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


def counted(facts: dict[str, int]) -> list[str]:
    """Counters that a cycle adds one to."""
    if not facts["running"]:
        return []
    if facts["beat"]:
        use = f"{ReadKind(facts['beat_kind']).name}_BEATS"
    else:
        use = next((name for fact, name in STALLS if facts[fact]), "STALL_COMMAND")
    return ["CYCLES", use, *(name for fact, name in EVENTS.items() if facts[fact])]


def run(cycles: list[dict[str, int]]) -> list[list[int]]:
    """Values in each cycle and in the two that follow."""
    dut = Counters()
    values = []

    async def testbench(ctx):
        for facts in [*cycles, {}, {}]:
            for name in FACTS:
                ctx.set(getattr(dut, name), ReadKind(facts.get(name, 0)) if name == "beat_kind" else facts.get(name, 0))
            values.append([ctx.get(dut.values[n]) for n in range(len(COUNTERS))])
            await ctx.tick()
        values.append([ctx.get(dut.values[n]) for n in range(len(COUNTERS))])

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return values


def random_facts(chance: random.Random) -> dict[str, int]:
    facts = {name: chance.randrange(2) for name in FACTS}
    return facts | {"beat_kind": chance.randrange(3), "running": chance.random() < 0.9, "clear": chance.random() < 0.02}


def test_every_cycle_is_counted_once(seed: int):
    chance = random.Random(seed)
    cycles = [random_facts(chance) for _ in range(1500)]
    values = run(cycles)
    sums = dict.fromkeys(NAMES, 0)
    expected = [list(sums.values())] * 2
    for now, facts in enumerate(cycles):
        if facts["clear"]:
            sums = dict.fromkeys(NAMES, 0)
            # What the cycle before counted is gone too.
            expected[-1] = list(sums.values())
        else:
            for name in counted(facts):
                sums[name] += 1
        expected.append(list(sums.values()))
        assert values[now] == expected[now], f"cycle {now}"
    stalls = NAMES[NAMES.index("COMMAND_BEATS") : NAMES.index("STALL_DRAIN") + 1]
    for row in values:
        named = dict(zip(NAMES, row, strict=True))
        assert named["CYCLES"] == sum(named[name] for name in stalls)


def test_order_of_causes():
    """All combinations of facts of a cycle."""
    names = ("beat", "waiting", "blocked", "fence", "drain")
    for bits in range(1 << len(names)):
        facts = dict.fromkeys(FACTS, 0) | {"running": 1} | {name: bits >> n & 1 for n, name in enumerate(names)}
        named = dict(zip(NAMES, run([facts])[-1], strict=True))
        assert {name for name, value in named.items() if value} == set(counted(facts)), facts


def test_kinds_of_beats():
    for kind in ReadKind:
        facts = dict.fromkeys(FACTS, 0) | {"running": 1, "beat": 1, "beat_kind": kind.value}
        named = dict(zip(NAMES, run([facts] * 3)[-1], strict=True))
        assert named == dict.fromkeys(NAMES, 0) | {"CYCLES": 3, f"{kind.name}_BEATS": 3}


def test_wide():
    """A counter that has reached 2**32 - 1 goes on."""
    dut = Counters()

    async def testbench(ctx):
        ctx.set(dut.values[0], 0xFFFF_FFFF)
        ctx.set(dut.running, 1)
        await ctx.tick().repeat(3)
        assert ctx.get(dut.values[0]) == 0x1_0000_0001

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
