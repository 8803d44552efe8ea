import random
from dataclasses import replace

import pytest

from tailrace.hdl.control.registers import ControlRegisters
from tailrace.spec.config import CONFIGS, Config, parse_config
from tailrace.spec.formats import FORMATS
from tailrace.spec.isa import ISA_MAJOR, ISA_MINOR, MAX_COMMANDS
from tailrace.spec.registers import (
    ADDRESS_BITS,
    AP_DONE,
    AP_IDLE,
    AP_READY,
    AP_START,
    COUNTERS,
    ERROR,
    IDENTIFICATION,
    REGISTERS,
    base_registers,
    offset,
    registers_of,
)

from ..simulate import simulate
from .bench import STALLS, Clock
from .lite_master import LiteMaster

PROGRAM_ARGUMENTS = tuple(f"ARGUMENT_{i}" for i in range(8))
#: Registers of a build of one channel.
PRESENT = registers_of(1)
MEMORY = ("BASE_LO", "BASE_HI", "LIMIT_LO", "LIMIT_HI")
ARGUMENTS = ("QUEUE_ADDRESS_LO", "QUEUE_ADDRESS_HI", "QUEUE_LENGTH", "WATCHDOG_CYCLES", *MEMORY, *PROGRAM_ARGUMENTS)
FINISHED = AP_DONE | AP_READY | AP_IDLE


#: Cycles after a reset in which no access acts.
FILLED = 32


class Bench:
    """The registers, a host that pauses, the run that they start, and counters that are found after some cycles."""

    def __init__(self, config: Config = CONFIGS["base"], seed: int = 0, stall: float = 0.0) -> None:
        self.config, self.dut = config, ControlRegisters(config)
        self.host = LiteMaster(self.dut.axi, seed, stall)
        self.clock = Clock()
        self.counts = [0] * (2 * len(COUNTERS))
        self.chance = random.Random(seed + 1)
        self.starts: list[int] = []
        self.interrupts: list[int] = []

    async def watch(self, ctx):
        while True:
            _, _, start, interrupt = await ctx.tick().sample(self.dut.start, self.dut.interrupt)
            if start:
                self.starts.append(self.clock.now - 1)
            self.interrupts.append(interrupt)

    async def count(self, ctx):
        """Find the words of the counters, each in its own time; in other cycles there is something else."""
        counter = self.dut.counter
        while True:
            ctx.set(counter.value, self.chance.getrandbits(32))
            ctx.set(counter.found, 0)
            await ctx.tick()
            if ctx.get(counter.valid):
                place = ctx.get(counter.place)
                for _ in range(self.chance.randrange(8)):
                    await ctx.tick()
                    assert (ctx.get(counter.valid), ctx.get(counter.place)) == (1, place)
                ctx.set(counter.value, self.counts[place])
                ctx.set(counter.found, 1)
                await ctx.tick()
                assert not ctx.get(counter.valid)

    async def get(self, ctx, name: str) -> int:
        return await self.host.read(ctx, offset(name))

    async def set(self, ctx, name: str, value: int, strobe: int = 0b1111) -> None:
        await self.host.write(ctx, offset(name), value, strobe)

    async def finish(self, ctx) -> None:
        """End the run."""
        ctx.set(self.dut.done, 1)
        await ctx.tick()
        ctx.set(self.dut.done, 0)

    def run(self, *testbenches) -> None:
        simulate(self.dut, *testbenches, background=(self.clock.run, self.watch, self.count))


@pytest.mark.parametrize(
    "config", [*CONFIGS.values(), *map(parse_config, ("base,channels=2", "base,channels=32"))], ids=lambda c: c.name
)
def test_after_reset(config: Config):
    bench = Bench(config)
    identification = {
        "MAGIC": int.from_bytes(b"TLRC", "little"),
        "ISA_VERSION": ISA_MAJOR << 16 | ISA_MINOR,
        "BUS_WIDTH": config.bus_width,
        "LANES": config.lanes,
        "RIGHT_HAND_SIDES": config.right_hand_sides,
        "CHANNELS": config.channels,
        "FORMATS": sum(1 << f.number for f in FORMATS),
        "MAX_BLOCKS": config.vector_blocks,
        "BUFFER_ENTRIES": config.buffer_entries,
        "MAX_COMMANDS": MAX_COMMANDS,
        "ADDRESS_WIDTH": config.address_width,
        "READ_FIFO_BEATS": config.read_fifo_beats,
        "BURST_BEATS": config.burst_beats,
        "VECTOR_WIDTH": config.word_elements,
    }
    assert set(identification) == {r.name for r in IDENTIFICATION}

    async def testbench(ctx):
        for register in registers_of(config.channels):
            expected = identification.get(register.name, AP_IDLE if register.name == "AP_CTRL" else register.reset)
            assert await bench.get(ctx, register.name) == expected, register.name

    bench.run(testbench)
    assert not bench.starts
    assert not any(bench.interrupts)


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("channels", [1, 4, 32])
def test_arguments(channels: int, stall: float, seed: int):
    """Random writes with random strobes, read back and handed to the run."""
    bench, chance = Bench(replace(CONFIGS["base"], channels=channels), seed, stall), random.Random(seed)
    bases = base_registers(channels)
    names = (*ARGUMENTS, *(f"{base}_{half}" for base in bases[1:] for half in ("LO", "HI")))
    values = {r.name: r.reset for r in REGISTERS if r.name in names}
    masks = dict.fromkeys(names, 0xFFFF_FFFF) | {"GIE": 1, "IER": 3}
    values |= {"GIE": 0, "IER": 0}

    async def testbench(ctx):
        for _ in range(150):
            name = chance.choice(list(values))
            if chance.random() < 0.6:
                value, strobe = chance.getrandbits(32), chance.choice((15, chance.getrandbits(4)))
                written = sum(0xFF << 8 * byte for byte in range(4) if strobe >> byte & 1)
                await bench.set(ctx, name, value, strobe)
                values[name] = (values[name] & ~written | value & written) & masks[name]
            else:
                assert await bench.get(ctx, name) == values[name], name
            dut = bench.dut
            assert ctx.get(dut.queue_address) == values["QUEUE_ADDRESS_HI"] << 32 | values["QUEUE_ADDRESS_LO"]
            assert ctx.get(dut.queue_length) == values["QUEUE_LENGTH"]
            assert ctx.get(dut.watchdog_cycles) == values["WATCHDOG_CYCLES"]
            for name, found in (("LIMIT", dut.limit), *zip(bases, dut.base, strict=True)):
                assert ctx.get(found) == values[f"{name}_HI"] << 32 | values[f"{name}_LO"], name

    bench.run(testbench)
    assert not bench.starts


def test_read_only():
    """What is only read does not change when it is written; nor does anything else."""
    bench = Bench()

    async def testbench(ctx):
        before = {r.name: await bench.get(ctx, r.name) for r in PRESENT}
        for register in (r for r in PRESENT if r.access == "ro"):
            await bench.set(ctx, register.name, 0xFFFF_FFFF)
        assert {r.name: await bench.get(ctx, r.name) for r in PRESENT} == before

    bench.run(testbench)
    assert not bench.starts


def test_unknown_offsets(seed: int):
    """Between and beyond the registers everything reads 0, and writing does nothing."""
    bench = Bench()
    known = {r.offset for r in PRESENT}
    offsets = [n for n in range(0, 0x180, 4) if n not in known]
    offsets += [n + 2 for n in sorted(known)[:12]]
    offsets += random.Random(seed).sample(range(0x180, 1 << ADDRESS_BITS, 4), 40) + [(1 << ADDRESS_BITS) - 4]

    async def testbench(ctx):
        before = {r.name: await bench.get(ctx, r.name) for r in PRESENT}
        for place in offsets:
            await bench.host.write(ctx, place, 0xFFFF_FFFF)
            assert await bench.host.read(ctx, place) == 0, f"{place:#x}"
        assert {r.name: await bench.get(ctx, r.name) for r in PRESENT} == before

    bench.run(testbench)
    assert not bench.starts


@pytest.mark.parametrize("stall", STALLS)
def test_a_run(stall: float, seed: int):
    bench = Bench(seed=seed, stall=stall)

    async def testbench(ctx):
        for run in range(3):
            await bench.set(ctx, "AP_CTRL", AP_START)
            assert len(bench.starts) == run + 1
            assert await bench.get(ctx, "AP_CTRL") == AP_START
            assert await bench.get(ctx, "AP_CTRL") == AP_START
            await bench.finish(ctx)
            # Only reading AP_CTRL itself clears done.
            assert await bench.get(ctx, "ERROR_CODE") == 0
            await bench.set(ctx, "QUEUE_LENGTH", 1)
            assert await bench.get(ctx, "AP_CTRL") == FINISHED
            assert await bench.get(ctx, "AP_CTRL") == AP_IDLE

    bench.run(testbench)
    assert len(bench.starts) == 3


def test_doorbell():
    """It rings with bit 0 of a written byte, and only while nothing runs."""
    bench = Bench()

    async def testbench(ctx):
        await bench.set(ctx, "AP_CTRL", 0xFFFF_FFFE)
        await bench.set(ctx, "AP_CTRL", AP_START, strobe=0b1110)
        assert await bench.get(ctx, "AP_CTRL") == AP_IDLE
        await bench.set(ctx, "AP_CTRL", AP_START, strobe=0b0001)
        await bench.set(ctx, "AP_CTRL", AP_START)
        assert len(bench.starts) == 1
        # Writing 0 does not stop a run.
        await bench.set(ctx, "AP_CTRL", 0)
        assert await bench.get(ctx, "AP_CTRL") == AP_START
        await bench.finish(ctx)
        # A start without a look at the end of the run before: done is that of the new run.
        await bench.set(ctx, "AP_CTRL", AP_START)
        assert await bench.get(ctx, "AP_CTRL") == AP_START

    bench.run(testbench)
    assert len(bench.starts) == 2


@pytest.mark.parametrize("lead", range(-4, 5))
def test_done_meets_a_read(lead: int):
    """Whenever a run ends around a read of AP_CTRL, exactly one read sees it."""
    bench = Bench()
    seen = []

    async def host(ctx):
        await bench.set(ctx, "AP_CTRL", AP_START)
        while bench.clock.now < FILLED + 20:
            await ctx.tick()
        for _ in range(8):
            seen.append(await bench.get(ctx, "AP_CTRL"))

    async def run(ctx):
        while bench.clock.now < FILLED + 24 + lead:
            await ctx.tick()
        await bench.finish(ctx)

    bench.run(host, run)
    assert seen.count(FINISHED) == 1
    end = seen.index(FINISHED)
    assert seen == [AP_START] * end + [FINISHED] + [AP_IDLE] * (7 - end)


@pytest.mark.parametrize("enable", range(4))
@pytest.mark.parametrize("stall", STALLS)
def test_interrupt(enable: int, stall: float, seed: int):
    bench = Bench(seed=seed, stall=stall)

    async def testbench(ctx):
        dut = bench.dut
        await bench.set(ctx, "IER", enable)
        await bench.set(ctx, "AP_CTRL", AP_START)
        assert await bench.get(ctx, "ISR") == 0
        await bench.finish(ctx)
        assert await bench.get(ctx, "ISR") == enable
        assert not any(bench.interrupts)
        await bench.set(ctx, "GIE", 1)
        assert ctx.get(dut.interrupt) == (enable != 0)
        # Reading does not clear it, and IER only lets new ones in.
        await bench.set(ctx, "IER", 0)
        assert await bench.get(ctx, "ISR") == enable
        assert ctx.get(dut.interrupt) == (enable != 0)
        await bench.set(ctx, "ISR", enable, strobe=0b1110)
        assert await bench.get(ctx, "ISR") == enable
        await bench.set(ctx, "ISR", enable)
        assert await bench.get(ctx, "ISR") == 0
        assert ctx.get(dut.interrupt) == 0
        # Writing toggles: a 1 that is written to a 0 raises it.
        await bench.set(ctx, "ISR", 0b10)
        assert await bench.get(ctx, "ISR") == 0b10
        assert ctx.get(dut.interrupt) == 1
        await bench.set(ctx, "ISR", 0b11)
        assert await bench.get(ctx, "ISR") == 0b01
        await bench.set(ctx, "GIE", 0)
        assert ctx.get(dut.interrupt) == 0

    bench.run(testbench)


def test_interrupt_only_when_enabled():
    bench = Bench()

    async def testbench(ctx):
        await bench.set(ctx, "GIE", 1)
        await bench.set(ctx, "AP_CTRL", AP_START)
        await bench.finish(ctx)
        await bench.set(ctx, "IER", 0b11)
        assert await bench.get(ctx, "ISR") == 0

    bench.run(testbench)
    assert not any(bench.interrupts)


@pytest.mark.parametrize("lead", range(-3, 4))
def test_done_meets_an_acknowledgement(lead: int):
    """A run that ends while the interrupt of the one before is taken back is not lost."""
    bench = Bench()

    async def host(ctx):
        for name in ("GIE", "IER"):
            await bench.set(ctx, name, 1)
        await bench.finish(ctx)
        while bench.clock.now < FILLED + 30:
            await ctx.tick()
        await bench.set(ctx, "ISR", 1)
        while bench.clock.now < FILLED + 40:
            await ctx.tick()
        # Taken back before the end: pending again. At the end: pending. After it: both are taken back.
        written_after = bench.finished < bench.acknowledged
        assert await bench.get(ctx, "ISR") == (0 if written_after else 1)

    async def run(ctx):
        while bench.clock.now < FILLED + 31 + lead:
            await ctx.tick()
        bench.finished = bench.clock.now
        await bench.finish(ctx)

    async def watch_write(ctx):
        # The write acts two cycles after its address and data were taken.
        while bench.clock.now < FILLED + 30:
            await ctx.tick()
        await ctx.tick().until(bench.dut.axi.aw.valid & bench.dut.axi.aw.ready)
        bench.acknowledged = bench.clock.now + 1

    bench.run(host, run, watch_write)


def test_outcome(seed: int):
    """Error and counters, bit for bit."""
    config = Config("test", 128, address_width=64)
    bench, chance = Bench(config), random.Random(seed)

    async def testbench(ctx):
        for _ in range(4):
            error = {"code": chance.getrandbits(8), "command": chance.getrandbits(16), "address": chance.getrandbits(64)}
            ctx.set(bench.dut.error, error)
            counts = [chance.getrandbits(64) for _ in COUNTERS]
            bench.counts[:] = [value >> 32 * half & 0xFFFF_FFFF for value in counts for half in range(2)]
            found = [await bench.get(ctx, r.name) for r in ERROR]
            assert found == [error["code"], error["command"], error["address"] & 0xFFFF_FFFF, error["address"] >> 32]
            for (name, _), value in zip(COUNTERS, counts, strict=True):
                assert await bench.get(ctx, f"{name}_LO") == value & 0xFFFF_FFFF
                assert await bench.get(ctx, f"{name}_HI") == value >> 32

    bench.run(testbench)


def test_program_arguments(seed: int):
    """A run's registers are set from what the host has written, byte by byte, while accesses wait; it stays for the next run."""
    bench, chance = Bench(seed=seed), random.Random(seed)
    values = [0] * len(PROGRAM_ARGUMENTS)
    # What the registers are set to, until they are.
    wanted: list[int] | None = None

    async def host(ctx):
        nonlocal wanted
        for _ in range(6):
            for n in chance.sample(range(len(values)), chance.randrange(len(values) + 1)):
                value, strobe = chance.getrandbits(32), chance.choice((15, chance.getrandbits(4)))
                written = sum(0xFF << 8 * byte for byte in range(4) if strobe >> byte & 1)
                await bench.set(ctx, PROGRAM_ARGUMENTS[n], value, strobe)
                values[n] = values[n] & ~written | value & written
            # Offered while the registers are set, to act after that.
            n, wanted = chance.randrange(len(values)), [*values]
            assert await bench.get(ctx, PROGRAM_ARGUMENTS[n]) == values[n]
            assert wanted is None
            n, wanted = chance.randrange(len(values)), [*values]
            values[n] = chance.getrandbits(32)
            await bench.set(ctx, PROGRAM_ARGUMENTS[n], values[n])
            assert wanted is None

    async def load(ctx):
        nonlocal wanted
        while True:
            if wanted is not None:
                ctx.set(bench.dut.loading, 1)
                for n in chance.sample(range(len(values)), len(values)):
                    ctx.set(bench.dut.argument_place, n)
                    assert ctx.get(bench.dut.argument) == wanted[n]
                    await ctx.tick()
                ctx.set(bench.dut.loading, 0)
                wanted = None
            await ctx.tick()

    simulate(bench.dut, host, background=(bench.clock.run, bench.count, load))
