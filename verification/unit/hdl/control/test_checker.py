import itertools
import random

import pytest
from amaranth.sim import Simulator

from tailrace.hdl.control.checker import CommandChecker
from tailrace.spec.commands import check, encode, format_command
from tailrace.spec.config import CONFIGS, Config
from tailrace.spec.errors import ErrorCode
from tailrace.spec.formats import FORMATS, I8
from tailrace.spec.isa import COMMAND_BYTES, FIELDS, Opcode

from .commands import bounds, expected_reads, multiple_of, valid_command, valid_fields

BUILDS = [
    *CONFIGS.values(),
    Config("largest", 256, right_hand_sides=2, vector_blocks=4096, buffer_entries=65536, address_width=64),
    Config("smallest", 512, vector_blocks=64, buffer_entries=1024, address_width=32),
    Config("wide beats", 256, vector_blocks=64, buffer_entries=1024, channels=16),
]


def compare(commands: list[bytes], config: Config) -> list[ErrorCode]:
    """Check commands with the gateware and with the contract; returns the codes."""
    dut = CommandChecker(config)
    codes = [check(command, config) for command in commands]

    async def testbench(ctx):
        for command, code in zip(commands, codes, strict=True):
            ctx.set(dut.command, int.from_bytes(command, "little"))
            await ctx.tick().repeat(CommandChecker.latency)
            found = ErrorCode(ctx.get(dut.code))
            assert found is code, f"{format_command(command)}: {found.name}, not {code.name} ({command.hex()})"
            if code is ErrorCode.NONE:
                reads = expected_reads(command, config)
                beats = ctx.get(dut.beats)
                assert beats == (reads[0][1] if reads else 0), f"{format_command(command)}: {beats} beats, not {reads[:1]}"
                if reads:
                    assert ctx.get(dut.reads) == len(reads), format_command(command)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return codes


@pytest.mark.parametrize("config", BUILDS, ids=lambda c: c.name)
def test_valid(config: Config, seed: int):
    chance = random.Random(seed)
    commands = [valid_command(opcode, config, chance) for opcode in Opcode for _ in range(60)]
    assert set(compare(commands, config)) == {ErrorCode.NONE}


@pytest.mark.parametrize("config", BUILDS, ids=lambda c: c.name)
def test_limits(config: Config, seed: int):
    """Each field at its bounds and beyond them, whatever else the command says."""
    chance = random.Random(seed)
    commands = []
    for opcode, _ in itertools.product(Opcode, range(2)):
        fields = valid_fields(opcode, config, chance)
        for field in FIELDS[opcode]:
            if field.name not in fields or field.signed:
                continue
            low, high = bounds(field, config)
            step = multiple_of(field, config)
            values = {0, low - 1, low, low + 1, low + step, high - 1, high, high + 1, high + step}
            if field.name == "format":
                values |= {f.number + 1 for f in FORMATS}
            fitting = (v for v in sorted(values) if 0 <= v < 1 << field.width)
            commands += [encode(opcode, **{**fields, field.name: v}) for v in fitting]
    # Both sides of every limit were there.
    assert set(compare(commands, config)) == {ErrorCode.NONE, ErrorCode.BAD_FIELD, ErrorCode.OUT_OF_RANGE}


@pytest.mark.parametrize("config", [CONFIGS["tiny"], CONFIGS["wide"]], ids=lambda c: c.name)
def test_every_bit(config: Config, seed: int):
    """Each bit of each command inverted: all reserved bits, and all bits of all fields."""
    chance = random.Random(seed)
    commands = []
    for opcode in Opcode:
        word = int.from_bytes(valid_command(opcode, config, chance), "little")
        commands += [(word ^ 1 << bit).to_bytes(COMMAND_BYTES, "little") for bit in range(8 * COMMAND_BYTES)]
    compare(commands, config)


def test_every_opcode():
    commands = [bytes([opcode]) + bytes(COMMAND_BYTES - 1) for opcode in range(256)]
    codes = compare(commands, CONFIGS["base"])
    assert {n for n, code in enumerate(codes) if code is ErrorCode.BAD_OPCODE} == set(range(256)) - {int(o) for o in Opcode}


def test_strides(seed: int):
    """Only the format without side beats can have one, and it is read group by group."""
    chance, config = random.Random(seed), CONFIGS["wide"]
    fields = valid_fields(Opcode.GEMV, config, chance) | {"source": 0}
    commands = [encode(Opcode.GEMV, **fields | {"format": f.number, "stride": 5}) for f in FORMATS]
    codes = dict(zip(FORMATS, compare(commands, config), strict=True))
    assert {f for f, code in codes.items() if code is ErrorCode.NONE} == {I8}


def test_keeps_what_it_found():
    """While it is not enabled, its results stay."""
    config = CONFIGS["tiny"]
    dut = CommandChecker(config)

    async def testbench(ctx):
        ctx.set(dut.command, int.from_bytes(encode(Opcode.LOAD_VECTOR, blocks=3), "little"))
        await ctx.tick().repeat(CommandChecker.latency)
        ctx.set(dut.enable, 0)
        ctx.set(dut.command, 0)
        await ctx.tick().repeat(10)
        assert (ctx.get(dut.code), ctx.get(dut.beats)) == (ErrorCode.NONE, 5 * 64 // config.beat_bytes)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
