import itertools
import random

import pytest
from amaranth.sim import Simulator

from tailrace.hdl.control.checker import CommandChecker
from tailrace.spec.config import CONFIGS, Config
from tailrace.spec.errors import ErrorCode
from tailrace.spec.formats import FORMATS
from tailrace.spec.isa import (
    COMMAND_BYTES,
    FIELDS,
    MAX_ROWS,
    MAX_STREAM_BLOCKS,
    MAX_STRIDE,
    Opcode,
    check,
    decode,
    encode,
    format_command,
)

from .commands import expected_beats, valid_command, valid_fields

BUILDS = [
    *CONFIGS.values(),
    Config("largest", 256, right_hand_sides=2, vector_blocks=4096, result_entries=65536, address_width=64),
    Config("smallest", 512, vector_blocks=64, result_entries=64, address_width=32),
]


def compare(commands: list[bytes], config: Config) -> list[ErrorCode]:
    """Check commands with the gateware and with the contract; returns the codes."""
    dut = CommandChecker(config)
    codes = [check(command, config) for command in commands]

    async def testbench(ctx):
        for command, code in zip(commands, codes, strict=True):
            ctx.set(dut.command, int.from_bytes(command, "little"))
            await ctx.tick().repeat(CommandChecker.LATENCY)
            found = ErrorCode(ctx.get(dut.code))
            assert found is code, f"{format_command(command)}: {found.name}, not {code.name} ({command.hex()})"
            if code is ErrorCode.NONE and (beats := expected_beats(command, config)) is not None:
                assert ctx.get(dut.beats) == beats, f"{format_command(command)}: wrong number of beats"

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return codes


def corners(name: str, fields: dict[str, int], opcode: Opcode, config: Config) -> list[int]:
    """Values of a field at and around its limits, whatever else the command says."""
    slots = fields.get("slots", 1)
    blocks = max(fields.get("blocks", 1), 1)
    values = {
        "slot": [config.right_hand_sides - 1, config.right_hand_sides, 4, 255],
        "slots": [0, 1, config.right_hand_sides, config.right_hand_sides + 1, 8, 9, 255],
        "keep": [0, 1],
        "format": [*range(len(FORMATS) + 1), 4 + len(FORMATS), 128, 255],
        "blocks": [0, 1, config.vector_blocks, config.vector_blocks + 1, 1 << 13, (1 << 13) + 1, 1 << 31, (1 << 32) - 1],
        "stride": [0, 1, MAX_STRIDE, MAX_STRIDE + 1, 8, 9, 1 << 31, (1 << 32) - 1],
        "rows": [0, 1, MAX_ROWS, MAX_ROWS + 1, MAX_ROWS + 2, 1 << 31, (1 << 32) - 1],
        "offset": [0, config.result_entries - 1, config.result_entries, 1 << 16, 1 << 17, (1 << 32) - 1],
    }.get(name)
    if values is None:
        top = (1 << config.address_width) - 64
        values = [0, 64, top, top + 1, 32, 63, 1 << 63, (1 << 64) - 64, (1 << 64) - 1]
        return values + ([1 << config.address_width] if config.address_width < 64 else [])
    if name == "rows" and opcode is Opcode.GEMV:
        # The last number of rows whose stream is short enough, and whose results fit the buffer; and one more.
        for most in (MAX_STREAM_BLOCKS // blocks * config.lanes, (config.result_entries - fields["offset"]) // max(slots, 1)):
            values += [max(most, 0), max(most, 0) + 1]
    if name == "rows" and opcode is Opcode.STORE:
        values += [config.result_entries - fields["offset"], config.result_entries - fields["offset"] + 1]
    if name == "offset" and opcode in (Opcode.QUANTISE, Opcode.STORE, Opcode.GEMV):
        used = {
            Opcode.QUANTISE: 32 * fields.get("blocks", 0) * fields.get("stride", 0),
            Opcode.STORE: fields.get("rows", 0),
            Opcode.GEMV: fields.get("rows", 0) * slots,
        }[opcode]
        last = config.result_entries - used
        values += [v for v in (last - 1, last, last + 1) if 0 <= v]
    return [v for v in values if v < 1 << next(f.width for f in FIELDS[opcode] if f.name == name)]


@pytest.mark.parametrize("config", BUILDS, ids=lambda c: c.name)
def test_valid(config: Config, seed: int):
    chance = random.Random(seed)
    commands = [valid_command(opcode, config, chance) for opcode in Opcode for _ in range(80)]
    assert set(compare(commands, config)) == {ErrorCode.NONE}


@pytest.mark.parametrize("config", BUILDS, ids=lambda c: c.name)
def test_limits(config: Config, seed: int):
    chance = random.Random(seed)
    commands = []
    for opcode in Opcode:
        for _ in range(6):
            fields = valid_fields(opcode, config, chance)
            for name in fields:
                commands += [encode(opcode, **{**fields, name: v}) for v in corners(name, fields, opcode, config)]
    # Both sides of every limit were there.
    assert set(compare(commands, config)) == {
        ErrorCode.NONE,
        ErrorCode.BAD_FIELD,
        ErrorCode.OUT_OF_RANGE,
        ErrorCode.MISALIGNED,
    }


@pytest.mark.parametrize("config", [c for c in BUILDS if c.vector_blocks > 64], ids=lambda c: c.name)
def test_longest_streams(config: Config):
    """Matrices with as many blocks in a lane's stream as there may be, and with one row more."""
    commands = []
    for blocks in {1 << n for n in range(7, 13)} | {65, 67}:
        most = MAX_STREAM_BLOCKS // blocks * config.lanes
        for rows in (most - 1, most, most + 1):
            commands += [encode(Opcode.GEMV, slots=1, rows=rows, blocks=blocks, format=f.number) for f in FORMATS]
    within = [c for c in commands if decode(c)[1]["blocks"] <= config.vector_blocks and decode(c)[1]["rows"] <= MAX_ROWS]
    assert set(compare(within, config)) == {ErrorCode.NONE, ErrorCode.OUT_OF_RANGE}


@pytest.mark.parametrize("config", [CONFIGS["tiny"], CONFIGS["wide"]], ids=lambda c: c.name)
def test_every_bit(config: Config, seed: int):
    """Each bit of each command inverted: all reserved bits, and all bits of all fields."""
    chance = random.Random(seed)
    commands = []
    for opcode in Opcode:
        command = valid_command(opcode, config, chance)
        word = int.from_bytes(command, "little")
        commands += [(word ^ 1 << bit).to_bytes(COMMAND_BYTES, "little") for bit in range(8 * COMMAND_BYTES)]
    compare(commands, config)


def test_every_opcode():
    commands = [bytes([opcode]) + bytes(COMMAND_BYTES - 1) for opcode in range(256)]
    codes = compare(commands, CONFIGS["base"])
    assert codes.count(ErrorCode.BAD_OPCODE) == 256 - len(Opcode)


@pytest.mark.parametrize("config", BUILDS, ids=lambda c: c.name)
def test_several_faults(config: Config, seed: int):
    """What is reported when several things are wrong at once, in all combinations."""
    chance = random.Random(seed)
    commands = []
    for opcode in Opcode:
        for reserved, field, length, long, address, unknown in itertools.product((False, True), repeat=6):
            fields = valid_fields(opcode, config, chance)
            if field and "slot" in fields:
                fields["slot"] = config.right_hand_sides
            if field and "slots" in fields:
                fields["slots"] = 0
            if length and "blocks" in fields:
                fields["blocks"] = 0
            if long and opcode is Opcode.GEMV:
                fields |= {"keep": 0, "blocks": config.vector_blocks, "rows": MAX_ROWS}
            if address:
                fields |= {name: fields[name] | 1 for name in ("source", "destination") if name in fields}
            word = int.from_bytes(encode(opcode, **fields), "little")
            if reserved:
                word |= 1 << 8 * COMMAND_BYTES - 1
            if unknown:
                word |= 0x80
            commands.append(word.to_bytes(COMMAND_BYTES, "little"))
    codes = compare(commands, config)
    assert set(codes) == set(ErrorCode) - {ErrorCode.READ_ERROR, ErrorCode.WRITE_ERROR, ErrorCode.WATCHDOG}


@pytest.mark.parametrize("config", BUILDS, ids=lambda c: c.name)
def test_random(config: Config, seed: int):
    """Any mixture of corner values."""
    chance = random.Random(seed)
    commands = []
    for _ in range(400):
        opcode = chance.choice(list(Opcode)[1:])
        fields = valid_fields(opcode, config, chance)
        for name in list(fields):
            if chance.random() < 0.25:
                fields[name] = chance.choice(corners(name, fields, opcode, config))
        commands.append(encode(opcode, **fields))
    compare(commands, config)


def test_latency():
    """Code and beats of a command are there after `LATENCY` cycles, and not before."""
    config = CONFIGS["base"]
    dut = CommandChecker(config)
    good = encode(Opcode.LOAD_VECTOR, source=64, blocks=7)
    bad = encode(Opcode.LOAD_VECTOR, source=64, blocks=0)
    found = []

    async def testbench(ctx):
        ctx.set(dut.command, int.from_bytes(bad, "little"))
        await ctx.tick().repeat(10)
        ctx.set(dut.command, int.from_bytes(good, "little"))
        for _ in range(CommandChecker.LATENCY + 1):
            found.append(ErrorCode(ctx.get(dut.code)))
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    assert found == [ErrorCode.OUT_OF_RANGE] * CommandChecker.LATENCY + [ErrorCode.NONE]
