"""The emulator and the golden model, which share nothing but the contract: the same programs, the same bytes, the same errors."""

import platform
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from tailrace.golden.device import GoldenDevice
from tailrace.sim.emulator.build import build_emulator
from tailrace.sim.emulator.device import EmulatedDevice
from tailrace.spec.commands import encode, float_bits
from tailrace.spec.config import parse_config
from tailrace.spec.errors import ErrorCode
from tailrace.spec.floats import Function
from tailrace.spec.formats import FORMATS, LANE_BYTES, Q8_0, BeatKind, Format
from tailrace.spec.isa import ADDRESS_UNIT, Opcode, Reduce, Target
from tailrace.spec.registers import PAGE_BYTES
from tailrace.spec.vector import pack_vector
from verification.bad_commands import bad_commands, bad_queues, replaced
from verification.emulator_twins import Twins, twins_of
from verification.programs import MEMORY_BYTES, ProgramMaker, random_program
from verification.register_driver import set_memory

BUILDS = ("tiny", "base", "base,bus_width=256,right_hand_sides=2", "base,bus_width=512", "wide", "base,right_hand_sides=16")


@pytest.fixture(params=BUILDS)
def twins(request: pytest.FixtureRequest) -> Iterator[Twins]:
    yield from twins_of(parse_config(request.param))


@pytest.fixture
def base() -> Iterator[Twins]:
    yield from twins_of(parse_config("base"))


def test_same_bytes(twins: Twins, rng: np.random.Generator) -> None:
    """Random programs leave the same memory and the same activations behind."""
    for number in range(40):
        assert twins.check(random_program(rng, twins.config, 30), f"program {number}").code is ErrorCode.NONE


def test_bad_commands(twins: Twins, rng: np.random.Generator) -> None:
    for command, code in bad_commands(twins.config):
        program = random_program(rng, twins.config, 5)
        index = int(rng.integers(len(program.commands)))
        outcome = twins.check(replaced(program, index, command), f"{code.name} at command {index}")
        assert (outcome.code, outcome.command) == (code, index)
        assert twins.check(program, f"after {code.name}").code is ErrorCode.NONE


def test_any_bits_are_refused_or_do_the_same(twins: Twins, rng: np.random.Generator) -> None:
    """Commands with a few bits flipped."""
    for number in range(100):
        program = random_program(rng, twins.config, 2)
        index = int(rng.integers(len(program.commands)))
        flipped = np.frombuffer(program.commands[index], dtype=np.uint8).copy()
        flipped[rng.integers(64, size=2)] ^= np.uint8(1) << rng.integers(8, size=2).astype(np.uint8)
        if flipped[0] == Opcode.LOOP:
            continue  # It may go on for ever.
        changed = replaced(program, index, flipped.tobytes())
        # A segment of millions of elements takes golden minutes.
        if int.from_bytes(flipped[16:20].tobytes(), "little") * int.from_bytes(flipped[20:22].tobytes(), "little") < 1 << 22:
            twins.check(changed, f"program {number}, command {index}")


def test_bad_queues(twins: Twins, rng: np.random.Generator) -> None:
    program = random_program(rng, twins.config, 2)
    for queue, length, expected in bad_queues():
        changed = replace(program, queue=queue, commands=program.commands[:length])
        assert twins.check(changed, f"{length} commands at {queue:#x}") == expected


@pytest.mark.parametrize("pages", [0, 3])
def test_base_and_limit(rng: np.random.Generator, pages: int) -> None:
    config, first = parse_config("base"), pages * PAGE_BYTES
    for twins in twins_of(config, 2 * MEMORY_BYTES):
        for device in (twins.golden, twins.emulator):
            set_memory(device, first, MEMORY_BYTES)
        for command, code in [(encode(Opcode.FENCE), ErrorCode.NONE), *bad_commands(config)]:
            program = random_program(rng, config, 4)
            outcome = twins.check(replaced(program, len(program.commands) - 1, command), code.name, first)
            assert outcome.code is code
        for base, limit in ((64, 0), (0, 64), (1 << 40, 0), (0, (1 << 40) + PAGE_BYTES), (PAGE_BYTES, 1 << 40), (0, 1 << 40)):
            for device in (twins.golden, twins.emulator):
                set_memory(device, base, limit)
            twins.check(program, f"BASE {base:#x}, LIMIT {limit:#x}")


@pytest.mark.parametrize("late", [0, 1])
def test_the_end_of_memory(twins: Twins, rng: np.random.Generator, late: int) -> None:
    """What each command reads or writes ends where memory does, or a unit later."""
    lanes, blocks = twins.config.lanes, 2
    # As many rows as fill whole units.
    rows = 15 * lanes
    weights = Q8_0.matrix_bytes(rows, blocks, lanes)
    commands: list[tuple[int, ErrorCode, Opcode, dict[str, int]]] = [
        (ADDRESS_UNIT * (2 + blocks), ErrorCode.READ_ERROR, Opcode.LOAD_VECTOR, {"blocks": blocks}),
        (weights, ErrorCode.READ_ERROR, Opcode.GEMV, {"format": Q8_0.number, "slots": 1, "rows": rows, "blocks": blocks}),
        (ADDRESS_UNIT * 6, ErrorCode.READ_ERROR, Opcode.ELEMENTWISE, {"a_stream": 1, "count": 32, "segments": 3, "target": 1}),
        (ADDRESS_UNIT * 3, ErrorCode.WRITE_ERROR, Opcode.STORE, {"count": 48}),
    ]
    for size, code, opcode, fields in commands:
        assert size % ADDRESS_UNIT == 0
        maker = ProgramMaker(rng, twins.config)
        maker.load(0, blocks)
        place = "destination" if opcode is Opcode.STORE else "source"
        maker.add(opcode, **fields, **{place: (MEMORY_BYTES - size) // ADDRESS_UNIT + late})
        assert twins.check(maker.program(), opcode.name).code is (code if late else ErrorCode.NONE)


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_products(rng: np.random.Generator, fmt: Format, threads: int) -> None:
    """Any bytes as weights, in rows that begin anywhere in what shares a side beat, on any number of threads."""
    config = parse_config("base,bus_width=256,right_hand_sides=4")
    for twins in twins_of(config, threads=threads):
        for rows, blocks in ((1, 1), (7, 3), (33, 8), (130, 65), (600 // fmt.planes, 40)):
            maker = ProgramMaker(rng, config)
            for slot in range(4):
                maker.load(slot, blocks)
            maker.add(
                Opcode.GEMV,
                slots=4,
                format=fmt.number,
                source=3,
                rows=rows,
                blocks=blocks,
                slot_stride=1024,
                exponent=int(rng.integers(-128, 128)),
            )
            assert twins.check(maker.program(), f"{rows} x {blocks}").code is ErrorCode.NONE


@pytest.mark.parametrize("rest", [False, True])
def test_ties(base: Twins, rng: np.random.Generator, rest: bool) -> None:
    """Sums a bit or two longer than a float32's significand: many lie in the middle between two numbers, or just beside it.

    Beside it, by the last bit of a sum of more than 64 bits.
    """
    maker = ProgramMaker(rng, base.config)
    rows, mantissas = 2000, rng.integers(-32767, 32768, (1 + rest, 32)).astype(np.int16)
    exponents, scales = np.array([7], dtype=np.uint8), np.array([1], dtype="<f2")
    if rest:
        mantissas[1], mantissas[1, 0] = 0, 1
        exponents, scales = np.array([31, 0], dtype=np.uint8), np.array([1.0, 2.0**-24], dtype="<f2")
    blocks = len(exponents)
    vector = pack_vector(0, exponents, mantissas)
    maker.add(Opcode.LOAD_VECTOR, slot=0, source=maker.place(vector), blocks=blocks)
    beats = rng.integers(0, 256, (Q8_0.matrix_beats(rows, blocks, base.config.lanes), LANE_BYTES), dtype=np.uint8)
    for beat, (kind, _) in enumerate(Q8_0.schedule(rows * blocks)):
        if kind is BeatKind.SCALE:
            beats[beat] = np.resize(scales, LANE_BYTES // 2).view(np.uint8)
    maker.add(Opcode.GEMV, format=Q8_0.number, slots=1, source=maker.place(beats.reshape(-1)), rows=rows, blocks=blocks)
    assert base.check(maker.program(), "ties").code is ErrorCode.NONE


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)
def test_the_largest_sums(rng: np.random.Generator, fmt: Format) -> None:
    """Long rows of the same extreme bytes times the largest mantissas, and of the same with a few others in between."""
    config, rows, blocks = parse_config("wide"), 3, 600
    for twins in twins_of(config, threads=1):
        for byte in (0x00, 0x0F, 0x7F, 0x80, 0xFB, 0xFF):
            for others in (0, 40):
                maker = ProgramMaker(rng, config)
                exponents = np.full(blocks, 31, dtype=np.uint8)
                exponents[rng.integers(blocks, size=others)] = 0
                mantissas = np.full((blocks, 32), rng.choice([-32767, 32767]), dtype=np.int16)
                maker.add(Opcode.LOAD_VECTOR, slot=0, source=maker.place(pack_vector(0, exponents, mantissas)), blocks=blocks)
                stream = np.full(fmt.matrix_bytes(rows, blocks, config.lanes), byte, dtype=np.uint8)
                stream[rng.integers(stream.size, size=others)] = 0x33
                place = maker.place(stream)
                maker.add(Opcode.GEMV, format=fmt.number, slots=1, source=place, rows=rows, blocks=blocks)
                assert twins.check(maker.program(), f"{byte:#x}, {others} others").code is ErrorCode.NONE


@pytest.mark.parametrize("function", list(Function))
def test_functions_of_any_bits(base: Twins, rng: np.random.Generator, function: Function) -> None:
    """Each exponent and sign many times, with infinities, NaNs, subnormals and both zeros."""
    for reduce in (Reduce.SUM, Reduce.SUM_OF_SQUARES, Reduce.MAXIMUM, Reduce.ABSOLUTE_MAXIMUM, Reduce.ARGMAX):
        maker = ProgramMaker(rng, base.config)
        bits = rng.integers(0, 1 << 32, 4096, dtype=np.uint32)
        bits[::17] &= 0xFF80_0000
        fields = {"p": float_bits(1), "m": float_bits(1), "function": function, "reduce": reduce, "r": 8192, "reduce_u": 0}
        maker.add(
            Opcode.ELEMENTWISE, source=maker.place(bits), a_stream=1, count=4096, segments=1, target=Target.BUFFER, **fields
        )
        assert base.check(maker.program(), f"{function.name}, {reduce.name}").code is ErrorCode.NONE


def test_sums_and_products_of_any_bits(base: Twins, rng: np.random.Generator) -> None:
    """Operands near each other, near the ends of the range, and anywhere."""
    for combine in range(3):
        for multiplier in range(4):
            maker = ProgramMaker(rng, base.config)
            entries = rng.integers(0, 1 << 32, 4096, dtype=np.uint32)
            # Products around the smallest and the largest number.
            entries[:1024] = entries[:1024] & 0x807F_FFFF | rng.integers(50, 80, 1024).astype(np.uint32) << 23
            entries[1024:2048] = entries[1024:2048] & 0x807F_FFFF | rng.integers(180, 200, 1024).astype(np.uint32) << 23
            one = float_bits(1)
            copy = {"p": one, "m": one, "a_stream": 1, "segments": 1, "count": 4096, "target": Target.BUFFER}
            maker.add(Opcode.ELEMENTWISE, source=maker.place(entries), **copy)
            scalars = {name: int(rng.integers(0, 1 << 32)) for name in "pqmn"}
            maker.add(
                Opcode.ELEMENTWISE,
                combine=combine,
                multiplier=multiplier,
                a=0,
                b=512,
                d=8192,
                count=512,
                segments=3,
                a_stride=1024,
                b_stride=1024,
                d_stride=512,
                source=maker.place(rng.permutation(entries[:1536])),
                n_stream=int(rng.integers(2)),
                target=Target.BUFFER,
                **scalars,
            )
            assert base.check(maker.program(), f"combine {combine}, multiplier {multiplier}").code is ErrorCode.NONE


def test_products_just_below_the_smallest_number(base: Twins, rng: np.random.Generator) -> None:
    """They are flushed as they are, and not as the smallest number, to which they would be rounded."""
    significands = rng.integers(0x7F_FF00, 0x80_0000, 2048).astype(np.uint32)
    below = significands | np.uint32(126 << 23)
    below[:4] = np.uint32(0x3F7F_FFFF)
    below[1::2] |= np.uint32(1 << 31)
    maker = ProgramMaker(rng, base.config)
    fields = {"p": float_bits(2.0**-126), "q": float_bits(0), "m": float_bits(1), "n": float_bits(0)}
    maker.add(Opcode.ELEMENTWISE, source=maker.place(below), a_stream=1, count=2048, segments=1, target=Target.BUFFER, **fields)
    assert base.check(maker.program(), "products").code is ErrorCode.NONE


def test_numbers_just_below_a_power_of_two(base: Twins, rng: np.random.Generator) -> None:
    """Their mantissas would be rounded to one more than the largest."""
    numbers = rng.integers(0x7F_0000, 0x80_0000, 2048).astype(np.uint32) | np.uint32(127 << 23)
    numbers[::3] |= np.uint32(0x7F_FFFF)
    numbers[1::2] |= np.uint32(1 << 31)
    maker = ProgramMaker(rng, base.config)
    fields = {"p": float_bits(1), "q": float_bits(0), "m": float_bits(1), "n": float_bits(0), "segments": 1}
    maker.add(Opcode.ELEMENTWISE, source=maker.place(numbers), a_stream=1, count=2048, target=Target.SLOT, **fields)
    stream = rng.integers(0, 256, Q8_0.matrix_bytes(64, 64, base.config.lanes), dtype=np.uint8)
    maker.add(Opcode.GEMV, format=Q8_0.number, slots=1, source=maker.place(stream), rows=64, blocks=64)
    assert base.check(maker.program(), "mantissas").code is ErrorCode.NONE


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the architecture is one of x86")
def test_the_plainest_processor(rng: np.random.Generator) -> None:
    """What the compiler makes without AVX, and our own code for processors that lack a shuffle of bytes."""
    config = parse_config("wide")
    with EmulatedDevice(config, MEMORY_BYTES, library=build_emulator("x86-64")) as emulator:
        twins = Twins(config, GoldenDevice(config, MEMORY_BYTES), emulator)
        for number in range(60):
            assert twins.check(random_program(rng, config, 30), f"program {number}").code is ErrorCode.NONE
