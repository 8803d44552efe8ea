"""The gateware and the golden model: the same programs, the same bytes of memory, the same errors."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest

from tailrace.golden.device import GoldenDevice
from tailrace.golden.machine import Outcome
from tailrace.sim.verilated import VerilatedDevice
from tailrace.spec.commands import float_bits
from tailrace.spec.config import Config, parse_config
from tailrace.spec.errors import ErrorCode
from tailrace.spec.floats import flush
from tailrace.spec.formats import I8
from tailrace.spec.isa import ADDRESS_UNIT, ANY_PENDING, COMMAND_BYTES, Opcode, Target
from tailrace.spec.registers import AP_IDLE, BY_NAME, COUNTERS, PAGE_BYTES, base_registers, offset
from verification.bad_commands import bad_commands, bad_queues, replaced
from verification.programs import MEMORY_BYTES, Program, ProgramMaker, random_program
from verification.register_driver import finish, memory, ring, set_memory, start
from verification.touched import Touched, touched

#: The default run builds one core; the others take minutes each.
CONFIGS = [
    "base",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in (
            "tiny",
            "base,bus_width=256,right_hand_sides=2",
            "base,bus_width=512",
            "wide",
            "base,bus_width=256,right_hand_sides=8",
            "base,vector_width=4",
            "base,bus_width=512,vector_width=2",
            "wide,vector_width=1",
            "base,channels=2",
            "base,bus_width=256,channels=2,right_hand_sides=2",
            "kv260",
            "u280-hbm",
            "tiny,channels=8,right_hand_sides=2",
            "tiny,bus_width=256,channels=8,burst_beats=16",
        )
    ),
]
#: How the memory behaves: at once, slow and with stalls on every channel, or as DDR4 does.
MEMORIES: dict[str, dict[str, object]] = {
    "prompt": {"latency": 1},
    "stalls": {"stall_seed": 1, "stall_probability": 0.3},
    "ddr4": {"memory": "ddr4"},
}
#: What golden, which has no clock and fetches nothing ahead of a loop, does not count.
CLOCKED = {
    name for name, _ in COUNTERS if name in ("CYCLES", "COMMAND_BEATS") or name.startswith("STALL_") or name.endswith("_BUSY")
}
#: Longer than a command of a random program works without the bus.
WATCHDOG_CYCLES = 3000


@dataclass
class Pair:
    """A core and the golden model of one build."""

    config: Config
    gateware: VerilatedDevice
    golden: GoldenDevice

    def check(self, program: Program, what: str, counters: bool = True) -> Outcome:
        """Run a program on both; all that can be seen must be the same. Returns how it ended."""
        outcomes = []
        for device in (self.golden, self.gateware):
            start(device, program)
            outcomes.append(finish(device))
        expected, outcome = outcomes
        assert outcome == expected, f"{what}\n{program}"
        wrong = np.flatnonzero(memory(self.gateware) != memory(self.golden))
        assert not wrong.size, f"{what}: {wrong.size} bytes of memory differ, from {wrong[0]:#x} on\n{program}"
        if counters and not expected.code:
            for name in {name for name, _ in COUNTERS} - CLOCKED:
                counted = [device.read_register(offset(f"{name}_LO")) for device in (self.golden, self.gateware)]
                assert counted[0] == counted[1], f"{what}: {name}\n{program}"
        return outcome

    def check_stopped(self, program: Program, expected: Outcome, uses: Touched, what: str) -> None:
        """A run on the core that fails half way: its error, and no byte changed that the program does not write."""
        start(self.gateware, program)
        assert finish(self.gateware) == expected, f"{what}\n{program}"
        self.check_untouched(program, uses, what)

    def check_untouched(self, program: Program, uses: Touched, what: str) -> None:
        wrong = np.flatnonzero((memory(self.gateware) != program.memory) & ~uses.written)
        assert not wrong.size, f"{what}: byte {wrong[:1]} is not the program's to write\n{program}"


@pytest.fixture(scope="module", params=CONFIGS)
def config(request: pytest.FixtureRequest) -> Config:
    return parse_config(request.param)


@pytest.fixture(params=MEMORIES)
def pair(config: Config, request: pytest.FixtureRequest) -> Iterator[Pair]:
    with VerilatedDevice(config, MEMORY_BYTES, **MEMORIES[request.param]) as gateware:
        yield Pair(config, gateware, GoldenDevice(config, MEMORY_BYTES))


def test_same_bytes(pair: Pair, rng: np.random.Generator) -> None:
    """Random programs leave the same memory behind, byte for byte, however the memory behaves."""
    for number in range(40):
        program = random_program(rng, pair.config, 12)
        assert pair.check(program, f"program {number}").code is ErrorCode.NONE


def test_a_fence_is_needed(pair: Pair, rng: np.random.Generator) -> None:
    """Reads run ahead of writes: what was stored is read back after a fence, and not without one."""
    for fence in (True, False):
        maker = ProgramMaker(rng, pair.config)
        maker.fill(0, 64)
        address = maker.store(0, 64) // ADDRESS_UNIT
        if fence:
            maker.fence()
        one = float_bits(1)
        fields = {"a_stream": 1, "source": address, "p": one, "m": one, "target": Target.BUFFER, "d": 128}
        maker.add(Opcode.ELEMENTWISE, count=64, segments=1, **fields)
        read = maker.store(128, 64)
        program = maker.program()
        if fence:
            assert pair.check(program, "with a fence").code is ErrorCode.NONE
        else:
            start(pair.gateware, program)
            assert finish(pair.gateware) == Outcome()
            was = program.memory[address * ADDRESS_UNIT :][:256].view("<f4")
            assert np.array_equal(np.frombuffer(pair.gateware.read(read, 256), dtype="<f4"), flush(was))


@pytest.mark.parametrize("count", [1, 70, 200, 300, 600])
def test_one_unit_far_ahead_of_the_other(pair: Pair, rng: np.random.Generator, count: int) -> None:
    """However many products are done while the vector unit works, what it has to do next is done after that."""
    maker = ProgramMaker(rng, pair.config)
    one = float_bits(1)
    maker.load(0, 1)
    maker.fill(0, 512)
    matrix = maker.stream(I8, 1, 1)
    # The products wait for nothing, so their vector has to be there.
    maker.add(Opcode.READ, register=2)
    maker.add(Opcode.SET, register=1, addend=count)
    # Long, and without the bus.
    fields = {"a": 0, "d": 1024, "target": Target.BUFFER, "p": float_bits(1.5), "m": one}
    maker.add(Opcode.ELEMENTWISE, count=512, segments=10 * pair.config.lanes, **fields)
    # No product is before it: it could start at once.
    maker.store(1024, 512)
    product = maker.add(
        Opcode.GEMV, pending=ANY_PENDING, slots=1, format=I8.number, offset=768, source=matrix, rows=1, blocks=1
    )
    maker.add(Opcode.LOOP, register=1, target=product)
    maker.store(768, 4)
    assert pair.check(maker.program(), f"{count} products ahead").code is ErrorCode.NONE


@pytest.mark.parametrize("latency", [1, 20, 100, 300])
def test_the_bus_is_quiet_at_the_end(config: Config, rng: np.random.Generator, latency: int) -> None:
    """No read that was asked for is answered after the end of a run, also if it was asked for in vain, past a loop."""
    maker = ProgramMaker(rng, config)
    maker.add(Opcode.SET, register=1, addend=1)
    maker.fence()
    maker.add(Opcode.LOOP, register=1, target=1)
    program = maker.program()
    with VerilatedDevice(config, MEMORY_BYTES, latency=latency) as device:
        for turn in range(2):
            start(device, program)
            device.wait(60)
            traffic = device.traffic
            assert device.read_register(offset("AP_CTRL")) & AP_IDLE, f"run {turn}"
            counted = [device.read_register(offset(f"{name}_LO")) for name in ("CYCLES", "COMMAND_BEATS")]
            device.run(2 * latency)
            assert device.traffic == traffic, f"run {turn}"
            assert finish(device) == Outcome()
            # Every beat of a run is counted in it.
            assert {counted[1] * (turn + 1)} == {port.read_beats for port in device.port_traffic}
            assert counted[1] > len(program.commands) * COMMAND_BYTES // config.unit_bytes
            assert device.read_register(offset("CYCLES_LO")) == counted[0]


@pytest.mark.parametrize("pages", [1, 100, 255])
def test_a_program_runs_wherever_its_memory_is(config: Config, rng: np.random.Generator, pages: int) -> None:
    """With ``BASE`` before it and ``LIMIT`` behind it; nothing outside is changed."""
    base, size = pages * PAGE_BYTES * config.channels, (2 + config.channels) * MEMORY_BYTES
    with VerilatedDevice(config, size, latency=20) as gateware:
        golden = GoldenDevice(config, size)
        for number in range(5):
            program = random_program(rng, config, 12)
            outcomes = []
            for device in (golden, gateware):
                device.write(0, bytes(size))
                set_memory(device, base, MEMORY_BYTES)
                start(device, program, base)
                outcomes.append(finish(device))
            assert outcomes == [Outcome(), Outcome()]
            assert gateware.read(0, size) == golden.read(0, size), f"program {number}\n{program}"
            assert not any(gateware.read(0, base))
            assert not any(gateware.read(base + MEMORY_BYTES, size - MEMORY_BYTES - base))


def test_what_lies_behind_the_limit(config: Config, rng: np.random.Generator) -> None:
    """It is there, and no program reads or writes it: that is an error at its address, and the next run works."""
    base, behind = 2 * PAGE_BYTES * config.channels, MEMORY_BYTES
    with VerilatedDevice(config, 3 * MEMORY_BYTES, latency=20) as gateware:
        golden = GoldenDevice(config, 3 * MEMORY_BYTES)
        for command, code in bad_commands(config):
            if code not in (ErrorCode.READ_ERROR, ErrorCode.WRITE_ERROR):
                continue
            program = random_program(rng, config, 5)
            index = int(rng.integers(len(program.commands)))
            broken = replaced(program, index, command)
            outcomes = []
            for device in (golden, gateware):
                device.write(0, b"\xa5" * (3 * MEMORY_BYTES))
                set_memory(device, base, MEMORY_BYTES)
                start(device, broken, base)
                outcomes.append(finish(device))
            assert outcomes[0] == outcomes[1], f"{code.name}\n{broken}"
            assert (outcomes[0].code, outcomes[0].command) == (code, index)
            traffic = gateware.traffic
            assert set(gateware.read(base + behind, 3 * MEMORY_BYTES - base - behind)) == {0xA5}
            assert set(gateware.read(0, base)) == {0xA5}
            start(gateware, program, base)
            assert finish(gateware) == Outcome()
            assert gateware.traffic.read_beats > traffic.read_beats
        for base, limit, code in ((64, 0, ErrorCode.MISALIGNED), (0, 1 << 41, ErrorCode.OUT_OF_RANGE)):
            for device in (golden, gateware):
                set_memory(device, base, limit)
                start(device, program, 0)
                assert finish(device) == Outcome(code)


def test_bad_commands(pair: Pair, rng: np.random.Generator) -> None:
    """What can't be executed stops the run at its index, after all that comes before it; the next run works."""
    for command, code in bad_commands(pair.config):
        program = random_program(rng, pair.config, 5)
        index = int(rng.integers(len(program.commands)))
        broken = replaced(program, index, command)
        if code in (ErrorCode.READ_ERROR, ErrorCode.WRITE_ERROR):
            # Commands around it may be at work: only the error is certain.
            start(pair.golden, broken)
            expected = finish(pair.golden)
            pair.check_stopped(broken, expected, touched(program, pair.config), f"{code.name} at command {index}")
        else:
            expected = pair.check(broken, f"{code.name} at command {index}")
        assert (expected.code, expected.command) == (code, index)
        assert pair.check(program, f"after {code.name}").code is ErrorCode.NONE


def test_bad_queues(pair: Pair, rng: np.random.Generator) -> None:
    program = random_program(rng, pair.config, 2)
    for queue, length, expected in bad_queues():
        changed = replace(program, queue=queue, commands=program.commands[:length])
        assert pair.check(changed, f"{length} commands at {queue:#x}") == expected
    assert pair.check(program, "after bad queues").code is ErrorCode.NONE


@pytest.mark.parametrize("kind", ["reads", "writes"])
def test_bus_errors(pair: Pair, rng: np.random.Generator, kind: str) -> None:
    """An error response on any beat names its command and its address; the next run works."""
    for number in range(10):
        program = random_program(rng, pair.config, 6)
        uses = touched(program, pair.config)
        beats = uses.reads if kind == "reads" else uses.writes
        address = int(rng.choice(sorted(beats)))
        # Of what is read, in one channel; of what is written, in those that are written to.
        size = pair.config.bus_bytes
        part, size = (int(rng.integers(pair.config.channels)), size) if kind == "reads" else (0, pair.config.beat_bytes)
        pair.gateware.inject_fault(address + part * size, size, **{kind: True})
        code = ErrorCode.READ_ERROR if kind == "reads" else ErrorCode.WRITE_ERROR
        what = f"program {number}, {code.name} at {address:#x}"
        pair.check_stopped(program, Outcome(code, beats[address], address), uses, what)
        pair.gateware.clear_faults()
        assert pair.check(program, f"after {what}").code is ErrorCode.NONE


def test_a_memory_that_goes_and_comes_back(pair: Pair, rng: np.random.Generator) -> None:
    """The watchdog stops a run at any time, and again while the memory is away; when it is back, runs are right."""
    watchdog = offset("WATCHDOG_CYCLES")
    pair.gateware.write_register(watchdog, WATCHDOG_CYCLES)
    for number in range(8):
        program = random_program(rng, pair.config, 6)
        uses = touched(program, pair.config)
        start(pair.gateware, program)
        pair.gateware.run(int(rng.integers(1, 3000)))
        pair.gateware.freeze()
        stopped = finish(pair.gateware)
        if stopped.code:
            assert stopped.code is ErrorCode.WATCHDOG
            assert stopped.command < len(program.commands)
            pair.check_untouched(program, uses, f"program {number}")
        start(pair.gateware, program)
        assert finish(pair.gateware) == Outcome(ErrorCode.WATCHDOG), f"program {number}"
        pair.gateware.freeze(False)
        # The beats that the memory still owed are counted as well.
        assert pair.check(program, f"program {number}, after the memory was away", counters=False).code is ErrorCode.NONE
    pair.gateware.write_register(watchdog, BY_NAME["WATCHDOG_CYCLES"].reset)


def test_a_port_that_is_away_for_long(pair: Pair, rng: np.random.Generator) -> None:
    """The others wait for it, and all goes on when it is back, with the same bytes."""
    for number in range(6):
        program = random_program(rng, pair.config, 8)
        port = int(rng.integers(pair.config.channels))
        start(pair.golden, program)
        start(pair.gateware, program)
        pair.gateware.run(int(rng.integers(1, 2000)))
        pair.gateware.freeze(port=port)
        pair.gateware.run(5000)
        pair.gateware.freeze(False, port=port)
        assert finish(pair.gateware) == finish(pair.golden) == Outcome(), f"program {number}, port {port}"
        assert np.array_equal(memory(pair.gateware), memory(pair.golden)), f"program {number}, port {port}\n{program}"


def test_each_port_has_what_the_stripes_say(config: Config, rng: np.random.Generator) -> None:
    """Counted at the ports: every channel reads every beat, and is written to where bytes of its own are."""
    with VerilatedDevice(config, MEMORY_BYTES, latency=5) as device:
        maker = ProgramMaker(rng, config)
        maker.fill(0, 64)
        first, second = maker.store(0, 4), maker.store(0, 64)
        start(device, maker.program())
        assert finish(device) == Outcome()
        reads = device.read_register(offset("COMMAND_BEATS_LO")) + device.read_register(offset("VECTOR_BEATS_LO"))
        assert [port.read_beats for port in device.port_traffic] == [reads] * config.channels
        # 16 bytes, and 256, in units of at most 64.
        writes = [0] * config.channels
        for address, count in ((first, 16), *((second + n, config.unit_bytes) for n in range(0, 256, config.unit_bytes))):
            parts = {(address + byte) // config.bus_bytes % config.channels for byte in range(count)}
            writes = [found + (n in parts) for n, found in enumerate(writes)]
        assert [port.write_beats for port in device.port_traffic] == writes


def test_bases_of_their_own(config: Config, rng: np.random.Generator) -> None:
    """Every port's memory lies where its own base says: bytes that are put there are those that the program finds."""
    pages = [int(rng.integers(0, 200)) for _ in range(config.channels)]
    size, channels = config.bus_bytes, config.channels
    with VerilatedDevice(config, 2 * channels * MEMORY_BYTES, latency=20) as gateware:
        golden = GoldenDevice(config, MEMORY_BYTES)
        for number in range(3):
            program = random_program(rng, config, 10)
            start(golden, program)
            assert finish(golden) == Outcome()
            # The device's memory as each channel sees its own, in stripes.
            stripes = gateware.memory.reshape(-1, channels, size)
            stripes[:] = 0
            places = [slice(p * PAGE_BYTES // size, p * PAGE_BYTES // size + MEMORY_BYTES // channels // size) for p in pages]
            whole = program.memory.reshape(-1, channels, size)
            for n, place in enumerate(places):
                stripes[place, n] = whole[:, n]
            for n, name in enumerate(base_registers(channels)):
                gateware.write_register(offset(f"{name}_LO"), pages[n] * PAGE_BYTES)
            gateware.write_register(offset("LIMIT_LO"), MEMORY_BYTES)
            ring(gateware, program)
            assert finish(gateware) == Outcome()
            found = np.stack([stripes[place, n] for n, place in enumerate(places)], axis=1).reshape(-1)
            assert np.array_equal(found, memory(golden)), f"program {number}, pages {pages}\n{program}"


def test_a_reset_at_any_time(pair: Pair, rng: np.random.Generator) -> None:
    for number in range(8):
        program = random_program(rng, pair.config, 6)
        start(pair.gateware, program)
        pair.gateware.run(int(rng.integers(1, 3000)))
        pair.gateware.reset()
        assert pair.check(program, f"program {number}, after a reset").code is ErrorCode.NONE
