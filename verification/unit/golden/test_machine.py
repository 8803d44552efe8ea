"""Commands do what `tailrace.spec.isa` says, through the registers, on memory."""

import struct

import numpy as np
import pytest

from tailrace.golden.machine import Machine, Outcome
from tailrace.spec.commands import encode, float_bits
from tailrace.spec.config import CONFIGS, Config
from tailrace.spec.errors import ErrorCode
from tailrace.spec.formats import BY_NAME, FORMATS, I8, Format
from tailrace.spec.isa import ADDRESS_UNIT, MAX_COMMANDS, Cache, Opcode, Reduce, SetMode, Target
from tailrace.spec.numerics import quantise
from tailrace.spec.registers import offset
from tailrace.spec.vector import pack_vector, vector_bytes
from verification.programs import random_program
from verification.unit.golden.image import FIRST_OPERAND, Image
from verification.unit.golden.packing import pack, random_weights
from verification.unit.golden.reference import dot

BUS_WIDTHS = (128, 256, 512)
FENCE = encode(Opcode.FENCE)
BAD = bytes(64)
Q8_0, Q4_0 = BY_NAME["Q8_0"], BY_NAME["Q4_0"]
ONE = float_bits(1)
NEUTRAL = {"p": ONE, "m": ONE, "segments": 1}
ENTRIES = 1024


def config(bus_width: int = 128, right_hand_sides: int = 1) -> Config:
    return Config("test", bus_width, right_hand_sides, vector_blocks=64, buffer_entries=ENTRIES)


def floats(rng: np.random.Generator, count: int) -> np.ndarray:
    return (rng.standard_normal(count) * 2.0 ** rng.integers(-4, 5, count)).astype(np.float32)


def fill(image: Image, d: int, values: np.ndarray) -> bytes:
    """A command that puts values in the buffer."""
    padded = np.zeros(-(-values.size // 16) * 16, dtype=np.float32)
    padded[: values.size] = values
    source = image.place(padded.tobytes()) // ADDRESS_UNIT
    fields = {"a_stream": 1, "source": source, "target": Target.BUFFER, "d": d, "count": values.size}
    return encode(Opcode.ELEMENTWISE, **NEUTRAL, **fields)


def store(a: int, count: int, address: int, **fields: int) -> bytes:
    return encode(Opcode.STORE, a=a, count=count, destination=address // ADDRESS_UNIT, **fields)


@pytest.mark.parametrize("weight_format", FORMATS, ids=lambda f: f.name)
@pytest.mark.parametrize(("rows", "blocks"), [(1, 1), (1, 9), (3, 5), (17, 2)])
def test_gemv_is_the_same_for_every_build(rng: np.random.Generator, weight_format: Format, rows: int, blocks: int) -> None:
    """Whatever the width of the bus, whichever slots take part."""
    blocks = -(-blocks // weight_format.row_blocks) * weight_format.row_blocks
    weights = random_weights(rng, weight_format, rows, blocks, (4, 12))
    x = [floats(rng, 32 * blocks) for _ in range(4)]
    expected = [dot(weights, *quantise(one)) for one in x]
    for bus_width in BUS_WIDTHS:
        for right_hand_sides in (1, 2, 4):
            for slots in range(1, right_hand_sides + 1):
                image = Image(config(bus_width, right_hand_sides))
                loads = [image.load(slot, x[slot]) for slot in range(slots)]
                gemv = image.gemv(weights, slots, offset=100, slot_stride=20)
                assert image.run(*loads, gemv)[0] == ErrorCode.NONE
                for slot in range(slots):
                    assert image.entries(100 + 20 * slot, rows) == expected[slot], (bus_width, right_hand_sides, slots)


def test_gemv_fields(rng: np.random.Generator) -> None:
    """The exponent, the set, the first block, and places that wrap around."""
    image = Image(config(128, 2))
    weights = random_weights(rng, Q4_0, 6, 2, (4, 9))
    x = [floats(rng, 64) for _ in range(2)]
    loads = [image.load(slot, x[slot], set=2, first_block=63) for slot in range(2)]
    gemv = image.gemv(weights, 2, offset=1020, slot_stride=8, set=2, first_block=63, exponent=-3)
    assert image.run(*loads, gemv)[0] == ErrorCode.NONE
    buffer = image.entries(0, ENTRIES) * 2
    for slot in range(2):
        base, exponents, mantissas = quantise(x[slot])
        assert buffer[1020 + 8 * slot :][:6] == dot(weights, base - 3, exponents, mantissas)


@pytest.mark.parametrize("bus_width", BUS_WIDTHS)
@pytest.mark.parametrize(("rows", "masked"), [(1, 3), (2, 3), (9, 0), (9, 1), (9, 2), (9, 3)])
def test_masked_results(rng: np.random.Generator, bus_width: int, rows: int, masked: int) -> None:
    """The last ones of each slot, as `spec.isa` says, and what is left for the maximum; matrices may be shorter."""
    image = Image(config(bus_width, 4))
    weights = random_weights(rng, Q4_0, rows, 2, (4, 9))
    x = [floats(rng, 64) for _ in range(4)]
    loads = [image.load(slot, x[slot]) for slot in range(4)]
    gemv = image.gemv(weights, 4, offset=100, slot_stride=20, keep_maxima=1, maxima=200, masked=masked)
    assert image.run(*loads, gemv)[0] == ErrorCode.NONE
    for slot, hidden in enumerate([0, 0, 0, 0, 1, 0, 1, 0, 2, 1, 0, 2, 3, 2, 1, 0][4 * masked :][:4]):
        seen = max(rows - hidden, 0)
        found = image.entries(100 + 20 * slot, rows)
        assert found[:seen] == dot(weights, *quantise(x[slot]))[:seen], slot
        assert found[seen:] == [0xFF800000] * (rows - seen), slot
        values = np.array(found, dtype=np.uint32).view(np.float32)
        assert image.entries(200 + 4 * slot, 1) == [int(values.max().view(np.uint32))], slot


@pytest.mark.parametrize("bus_width", BUS_WIDTHS)
def test_strided_groups_of_values(rng: np.random.Generator, bus_width: int) -> None:
    image, lanes = Image(config(bus_width)), bus_width // 128
    weights = random_weights(rng, I8, 7, 3, (0, 0))
    stream = np.frombuffer(pack(weights, lanes), dtype=np.uint8).reshape(-(-7 // lanes), -1)
    spread = np.full((len(stream), 320), 0xAA, dtype=np.uint8)
    spread[:, : stream.shape[1]] = stream
    source = image.place(spread.tobytes()) // ADDRESS_UNIT
    x = floats(rng, 96)
    gemv = encode(Opcode.GEMV, format=I8.number, slots=1, rows=7, blocks=3, source=source, stride=5)
    assert image.run(image.load(0, x), gemv)[0] == ErrorCode.NONE
    assert image.entries(0, 7) == dot(weights, *quantise(x))
    assert image.counters()["WEIGHT_BEATS"] == I8.matrix_beats(7, 3, lanes)


@pytest.mark.parametrize("count", [1, 7, 16, 33])
def test_exactly_the_bytes_of_the_entries_are_written(rng: np.random.Generator, count: int) -> None:
    image = Image(config(256))
    size = image.device.memory_size
    image.device.write(0, rng.integers(0, 256, size, dtype=np.uint8).tobytes())
    values = floats(rng, 60)
    destination = image.reserve(4 * count)
    image.run(fill(image, 1000, values))
    image.device.write(0, store(1004, count, destination))
    before = image.device.read(0, size)
    image.run(length=1)
    after = image.device.read(0, size)
    assert after[:destination] == before[:destination]
    assert image.floats(destination, count).view(np.float32).tolist() == values[4 : 4 + count].tolist()
    assert after[destination + 4 * count :] == before[destination + 4 * count :]


def test_a_chain_stays_on_the_device(rng: np.random.Generator) -> None:
    """A product, quantised to a slot, multiplied again; slots and buffer keep what they hold from run to run."""
    image = Image(config())
    first, second = random_weights(rng, Q8_0, 64, 3, (4, 9)), random_weights(rng, Q4_0, 5, 2, (4, 9))
    x = floats(rng, 96)
    assert image.run(image.load(0, x), image.gemv(first, offset=8))[0] == 0
    assert image.run(encode(Opcode.ELEMENTWISE, **NEUTRAL, a=8, count=64, target=Target.SLOT, set=1))[0] == 0
    assert image.run(image.gemv(second, offset=200, set=1))[0] == 0
    middle = np.array(dot(first, *quantise(x)), dtype=np.uint32).view(np.float32)
    assert image.entries(200, 5) == dot(second, *quantise(middle))


def test_appended_keys_are_multiplied(rng: np.random.Generator) -> None:
    """Token after token: a product sees what was appended last, whatever was kept of it."""
    image = Image(config())
    keys = rng.integers(-127, 128, (5, 32))
    destination = image.reserve(4096)
    image.device.write(destination, bytes(4096))
    image.run(image.load(0, np.ones(32, dtype=np.float32)))
    for token in range(5):
        fields = {"a": 0, "b": 64, "count": 32, "segments": 1, "token": token, "destination": destination // ADDRESS_UNIT}
        append = encode(Opcode.APPEND, cache=Cache.KEYS, **fields)
        gemv = encode(Opcode.GEMV, slots=1, rows=5, blocks=1, source=destination // ADDRESS_UNIT, offset=128)
        assert (
            image.run(fill(image, 0, keys[token].astype(np.float32)), fill(image, 64, np.ones(1)), append, FENCE, gemv)[0] == 0
        )
        scores = image.device.activations[128:133].tolist()
        assert scores == [*keys[: token + 1].sum(axis=1).tolist(), *[0] * (4 - token)]


class TestRegisters:
    """Loops, modifiers, arguments, and what is read from the buffer."""

    def test_a_loop_with_modifiers(self, rng: np.random.Generator) -> None:
        image = Image(config())
        values = floats(rng, 64)
        destination = image.reserve(4 * 64)
        program = [
            fill(image, 0, values),
            encode(Opcode.SET, register=1, addend=4),
            encode(Opcode.SET, register=2),
            encode(Opcode.SET, register=3),
            store(0, 16, destination, modifier_word_0=2, modifier_register_0=2, modifier_word_2=1, modifier_register_2=3),
            encode(Opcode.SET, register=2, x=2, factor=1, addend=1),
            encode(Opcode.SET, register=3, x=3, factor=1, addend=16),
            encode(Opcode.LOOP, register=1, target=4),
        ]
        seen: list[int] = []
        image.device.trace = lambda index, opcode, command: seen.append(index)
        assert image.run(*program) == (ErrorCode.NONE, 0, 0)
        assert np.array_equal(image.floats(destination, 64), values.view(np.uint32))
        assert seen == [0, 1, 2, 3, *[4, 5, 6, 7] * 4]
        assert image.counters()["COMMANDS"] == 20

    def test_arguments_and_limits(self, rng: np.random.Generator) -> None:
        image = Image(config())
        values = floats(rng, 64)
        destination = image.reserve(64)
        program = [
            fill(image, 0, values),
            encode(Opcode.SET, register=5, x=17, factor=4, mode=SetMode.MINIMUM, limit=20),
            store(0, 1, destination, modifier_word_1=1, modifier_register_1=5),
        ]
        for argument, entry in ((3, 12), (9, 20), (0, 0)):
            image.device.write_register(offset("ARGUMENT_1"), argument)
            assert image.run(*program)[0] == ErrorCode.NONE
            assert image.floats(destination, 1)[0] == values[entry : entry + 1].view(np.uint32)[0]

    def test_read(self) -> None:
        """The position of the largest value chooses what is stored."""
        image = Image(config())
        destination = image.reserve(4 * 64)
        program = [
            fill(image, 0, np.array([1, 5, 3, 2], dtype=np.float32)),
            encode(Opcode.ELEMENTWISE, **NEUTRAL, a=0, count=4, reduce=Reduce.ARGMAX, r=10),
            encode(Opcode.READ, register=30, a=11),
            store(0, 4, destination, modifier_word_0=2, modifier_register_0=30),
        ]
        image.device.write(destination, bytes(256))
        assert image.run(*program)[0] == ErrorCode.NONE
        assert image.floats(destination + 64, 4).view(np.float32).tolist() == [1, 5, 3, 2]
        assert not image.floats(destination, 16).any()

    def test_registers_start_anew(self) -> None:
        image = Image(config())
        image.run(encode(Opcode.SET, register=4, addend=1))
        destination = image.reserve(64)
        command = store(0, 16, destination, modifier_word_0=2, modifier_register_0=4)
        seen = []
        image.device.trace = lambda index, opcode, resolved: seen.append(resolved)
        image.run(command)
        assert seen == [store(0, 16, destination)]

    def test_a_modified_command_is_checked_as_it_is_then(self) -> None:
        image = Image(config())
        modified = encode(Opcode.STORE, a=1020, count=4, modifier_word_0=4, modifier_register_0=16)
        for argument, code in (
            (1020, 0),
            (1021, ErrorCode.OUT_OF_RANGE),
            (0xFFFF_FFFF, 0),
            (0xFFFF_FFFC, ErrorCode.OUT_OF_RANGE),
        ):
            image.device.write_register(offset("ARGUMENT_0"), argument)
            assert image.run(FENCE, modified) == (code, bool(code), 0), argument
        image.device.write_register(offset("ARGUMENT_0"), 2)
        wrong = encode(Opcode.STORE, a=0, count=4, modifier_word_0=1, modifier_register_0=16)
        assert image.run(wrong) == (ErrorCode.OUT_OF_RANGE, 0, 0)

    @pytest.mark.parametrize(("target", "code"), [(0, 0), (1, 0), (2, ErrorCode.BAD_FIELD), (65535, ErrorCode.BAD_FIELD)])
    def test_loops_go_back(self, target: int, code: ErrorCode) -> None:
        image = Image(config())
        assert image.run(FENCE, encode(Opcode.LOOP, target=target)) == (code, bool(code), 0)


def test_a_matrix_that_changed_is_read_anew(rng: np.random.Generator) -> None:
    """By the host, or by the program itself; whatever was kept of the old one."""
    image = Image(config())
    x = floats(rng, 32)
    load = image.load(0, x)
    old, new = (random_weights(rng, Q8_0, 8, 1, (4, 9)) for _ in range(2))
    command, fresh = image.gemv(old), image.gemv(new)
    old_at, new_at = (struct.unpack_from("<I", c, 8)[0] * ADDRESS_UNIT for c in (command, fresh))
    size = Q8_0.matrix_bytes(8, 1, 1)
    image.run(load, command)
    assert image.entries(0, 8) == dot(old, *quantise(x))
    image.device.write(old_at + size - 16, image.device.read(new_at + size - 16, 16))
    image.run(load, command)
    assert image.entries(0, 8) != dot(old, *quantise(x))
    image.device.write(old_at, image.device.read(new_at, size))
    image.run(load, command)
    assert image.entries(0, 8) == dot(new, *quantise(x))
    image.run(load, command, store(500, 16, old_at), FENCE, command)
    assert image.entries(0, 8) != dot(new, *quantise(x))


def test_same_shape_other_format(rng: np.random.Generator) -> None:
    """The same bytes, read as another format."""
    image = Image(config())
    first = image.gemv(random_weights(rng, Q8_0, 8, 2, (4, 9)))
    fields = {"slots": 1, "rows": 8, "blocks": 2, "source": struct.unpack_from("<I", first, 8)[0]}
    second = encode(Opcode.GEMV, format=Q4_0.number, **fields)
    image.run(image.load(0, floats(rng, 64)), second)
    alone = image.entries(0, 8)
    image.run(first)
    assert image.entries(0, 8) != alone
    image.run(first, second)
    assert image.entries(0, 8) == alone


@pytest.mark.parametrize("bus_width", BUS_WIDTHS)
def test_counters_count_beats(rng: np.random.Generator, bus_width: int) -> None:
    image = Image(config(bus_width, 2))
    weights = random_weights(rng, BY_NAME["Q5_0"], 9, 7, (4, 9))
    loads = [image.load(slot, floats(rng, 32 * 7)) for slot in range(2)]
    stream = fill(image, 0, floats(rng, 40))
    append = encode(Opcode.APPEND, cache=Cache.KEYS, count=64, segments=2, destination=1 << 9)
    image.run(*loads, image.gemv(weights, 2), stream, store(0, 18, FIRST_OPERAND), append, FENCE)
    bus_bytes = bus_width // 8
    assert image.counters() == {
        "COMMAND_BEATS": 7 * 64 // bus_bytes,
        "VECTOR_BEATS": (2 * (64 + 64 + 7 * 64) + 3 * 64) // bus_bytes,
        "WEIGHT_BEATS": weights.format.matrix_beats(9, 7, bus_width // 128),
        "COMMANDS": 7,
        "WRITE_BEATS": -(-4 * 18 // bus_bytes) + 2 * 2 * 3,
    }
    image.run()
    assert image.counters() == {}


class TestErrors:
    """A command that fails stops the run; what came before it is done, what comes after it is not, and the next run works."""

    @pytest.fixture
    def image(self) -> Image:
        return Image(config(), memory_size=1 << 16)

    @pytest.mark.parametrize(
        ("command", "code"),
        [
            (BAD, ErrorCode.BAD_OPCODE),
            (FENCE[:63] + b"\x80", ErrorCode.BAD_FIELD),
            (encode(Opcode.LOAD_VECTOR, slot=1, blocks=1), ErrorCode.BAD_FIELD),
            (encode(Opcode.GEMV, format=200, slots=1, rows=1, blocks=1), ErrorCode.BAD_FIELD),
            (encode(Opcode.GEMV, slots=2, rows=1, blocks=1), ErrorCode.BAD_FIELD),
            (encode(Opcode.GEMV, slots=1, rows=1, blocks=1, stride=1), ErrorCode.BAD_FIELD),
            (encode(Opcode.SET, mode=3), ErrorCode.BAD_FIELD),
            (encode(Opcode.LOAD_VECTOR, blocks=65), ErrorCode.OUT_OF_RANGE),
            (encode(Opcode.ELEMENTWISE, count=0, segments=1), ErrorCode.OUT_OF_RANGE),
            (encode(Opcode.STORE, count=1025), ErrorCode.OUT_OF_RANGE),
            (encode(Opcode.READ, a=1024), ErrorCode.OUT_OF_RANGE),
        ],
        ids=lambda v: v.name if isinstance(v, ErrorCode) else "",
    )
    def test_bad_commands(self, image: Image, command: bytes, code: ErrorCode) -> None:
        before = fill(image, 0, np.ones(4, dtype=np.float32))
        destination = image.reserve(64)
        after = store(0, 4, destination)
        assert image.run(before, FENCE, command, after) == (code, 2, 0)
        assert image.counters()["COMMANDS"] == 2
        assert not image.floats(destination, 4).any()
        assert image.run(after) == (ErrorCode.NONE, 0, 0)
        assert image.floats(destination, 4).view(np.float32).tolist() == [1, 1, 1, 1]

    @pytest.mark.parametrize("bus_width", BUS_WIDTHS)
    @pytest.mark.parametrize("short", [64, 128, 4096])
    def test_reads_beyond_memory(self, bus_width: int, short: int) -> None:
        """The address is that of the first beat that is not there, or of the first one if none is."""
        image = Image(config(bus_width), memory_size=1 << 16)
        end = image.device.memory_size
        source = (end - short) // ADDRESS_UNIT
        for command in (
            encode(Opcode.LOAD_VECTOR, source=source, blocks=63),
            encode(Opcode.GEMV, slots=1, rows=64, blocks=4, source=source),
            encode(Opcode.GEMV, slots=1, rows=128, blocks=4, source=source, format=I8.number, stride=bus_width // 128),
            encode(Opcode.ELEMENTWISE, n_stream=1, count=1024, segments=2, source=source),
        ):
            assert image.run(FENCE, command) == (ErrorCode.READ_ERROR, 1, end)
        command = encode(Opcode.LOAD_VECTOR, source=(end + short) // ADDRESS_UNIT, blocks=1)
        assert image.run(FENCE, FENCE, command) == (ErrorCode.READ_ERROR, 2, end + short)
        command = encode(Opcode.LOAD_VECTOR, source=(end - vector_bytes(1)) // ADDRESS_UNIT, blocks=1)
        assert image.run(command) == (ErrorCode.NONE, 0, 0)

    def test_writes_beyond_memory(self, image: Image) -> None:
        end = image.device.memory_size
        ones = fill(image, 0, np.ones(64, dtype=np.float32))
        last = image.device.read(end - 64, 64)
        assert image.run(ones, store(0, 17, end - 64)) == (ErrorCode.WRITE_ERROR, 1, end)
        append = {"count": 32, "segments": 2, "destination": end // ADDRESS_UNIT - 1, "token": 0}
        # The scale and half of the codes' upper nibbles find room for the first key, and nothing of the second head's.
        keys = encode(Opcode.APPEND, cache=Cache.KEYS, head_stride=1, **append)
        assert image.run(FENCE, ones, keys) == (ErrorCode.WRITE_ERROR, 2, end)
        values = encode(Opcode.APPEND, cache=Cache.VALUES, row_stride=2, **append)
        assert image.run(values) == (ErrorCode.WRITE_ERROR, 0, end + 64)
        assert image.device.read(end - 64, 64) == last
        assert image.run(store(0, 16, end - 64)) == (ErrorCode.NONE, 0, 0)

    def test_a_queue_that_leaves_memory(self, image: Image) -> None:
        """The commands that are there are executed first."""
        end = image.device.memory_size
        image.device.write(FIRST_OPERAND, b"\xff" * 64)
        command = store(0, 1, FIRST_OPERAND)
        assert image.run(FENCE, command, queue=end - 128, length=5) == (ErrorCode.READ_ERROR, 2, end)
        assert image.device.read(FIRST_OPERAND, 5) == b"\0\0\0\0\xff"
        assert image.run(queue=end + 64, length=1) == (ErrorCode.READ_ERROR, 0, end + 64)

    def test_what_lies_behind_the_limit(self, image: Image) -> None:
        """It is there, and is neither read nor written."""
        base, limit = 8192, 4096
        end = base + limit
        image.device.write(0, b"\xaa" * image.device.memory_size)
        before = fill(image, 0, np.ones(64, dtype=np.float32))
        assert image.run(before, queue=base) == (ErrorCode.NONE, 0, 0)
        image.use(base, limit)
        kept = image.device.read(end, 4096)

        def run(*commands: bytes) -> tuple[ErrorCode, int, int]:
            image.device.write(base, b"".join(commands))
            return image.run(queue=0, length=len(commands))

        assert run(FENCE, store(0, 17, limit - 64)) == (ErrorCode.WRITE_ERROR, 1, limit)
        assert run(store(0, 1, limit)) == (ErrorCode.WRITE_ERROR, 0, limit)
        assert run(store(0, 1, 1 << 37)) == (ErrorCode.WRITE_ERROR, 0, 1 << 37)
        append = {"count": 32, "segments": 1, "destination": limit // ADDRESS_UNIT, "token": 0, "row_stride": 2}
        assert run(encode(Opcode.APPEND, cache=Cache.KEYS, **append)) == (ErrorCode.WRITE_ERROR, 0, limit)
        assert run(encode(Opcode.APPEND, cache=Cache.VALUES, **append)) == (ErrorCode.WRITE_ERROR, 0, limit)
        source = limit // ADDRESS_UNIT - 1
        for command in (
            encode(Opcode.LOAD_VECTOR, source=source, blocks=63),
            encode(Opcode.GEMV, slots=1, rows=64, blocks=4, source=source),
            encode(Opcode.ELEMENTWISE, n_stream=1, count=1024, segments=2, source=source),
        ):
            assert run(FENCE, command) == (ErrorCode.READ_ERROR, 1, limit)
        assert image.run(queue=limit - 64, length=3)[:2] != (ErrorCode.READ_ERROR, 0)
        assert image.run(queue=limit, length=1) == (ErrorCode.READ_ERROR, 0, limit)
        assert image.device.read(end, 4096) == kept
        assert run(store(0, 16, limit - 64)) == (ErrorCode.NONE, 0, 0)
        assert image.floats(end - 64, 16).view(np.float32).tolist() == [1] * 16
        assert image.device.read(end, 4096) == kept

    def test_a_limit_that_reaches_further_than_memory(self, image: Image) -> None:
        size = image.device.memory_size
        for base, limit in ((size - 4096, 8192), (size - 4096, 0), (size, 4096)):
            image.use(base, limit)
            there = max(size - base, 0)
            image.device.write(min(base, size - 64), store(0, 1, there))
            expected = (ErrorCode.WRITE_ERROR, 0, there) if there else (ErrorCode.READ_ERROR, 0, 0)
            assert image.run(queue=0, length=1) == expected

    @pytest.mark.parametrize(("base", "limit"), [(64, 0), (0, 64), (4095, 0), (0, (1 << 32) + 1)])
    def test_base_and_limit_are_whole_pages(self, image: Image, base: int, limit: int) -> None:
        image.use(base, limit)
        assert image.run(FENCE) == (ErrorCode.MISALIGNED, 0, 0)

    @pytest.mark.parametrize(("base", "limit"), [(1 << 40, 0), (0, (1 << 40) + 4096), (4096, 1 << 40)])
    def test_base_and_limit_reach_as_far_as_addresses(self, image: Image, base: int, limit: int) -> None:
        image.use(base, limit)
        assert image.run(FENCE) == (ErrorCode.OUT_OF_RANGE, 0, 0)

    def test_bad_queues(self, image: Image) -> None:
        assert image.run(length=MAX_COMMANDS + 1) == (ErrorCode.OUT_OF_RANGE, 0, 0)
        assert image.run(queue=1 << image.config.address_width, length=1) == (ErrorCode.OUT_OF_RANGE, 0, 0)
        assert image.run(queue=32, length=1) == (ErrorCode.MISALIGNED, 0, 0)
        assert image.run(length=0) == (ErrorCode.NONE, 0, 0)


@pytest.mark.parametrize("base", [4096, 1 << 20, (1 << 21) - 4096])
def test_a_program_runs_wherever_its_memory_is(rng: np.random.Generator, base: int) -> None:
    config = CONFIGS["tiny"]
    program = random_program(rng, config, 12)
    here, there = program.memory.copy(), np.zeros(4 << 20, dtype=np.uint8)
    there[base : base + here.size] = here
    queue, length = program.queue, len(program.commands)
    machines = Machine(config, here), Machine(config, there)
    for _ in range(2):
        assert machines[0].run(queue, length, program.arguments) == Outcome()
        assert machines[1].run(queue, length, program.arguments, base=base, limit=here.size) == Outcome()
        assert np.array_equal(there[base : base + here.size], here)
        assert not there[:base].any()
        assert not there[base + here.size :].any()
        assert machines[0].counters == machines[1].counters


@pytest.mark.parametrize("name", CONFIGS)
def test_random_programs_do_not_depend_on_what_is_kept(rng: np.random.Generator, name: str) -> None:
    """With and without room for unpacked matrices the memory ends up the same, twice."""
    program = random_program(rng, CONFIGS[name], 40)
    images = []
    for cache_bytes in (0, 1 << 30):
        machine = Machine(CONFIGS[name], program.memory.copy(), cache_bytes)
        for _ in range(2):
            outcome = machine.run(program.queue, len(program.commands), program.arguments)
            assert outcome.code == ErrorCode.NONE, f"{outcome}\n{program}"
            images.append(machine.memory.copy())
    assert np.array_equal(images[0], images[2]), str(program)
    assert np.array_equal(images[1], images[3]), str(program)
    assert not np.array_equal(images[0], program.memory)


def test_a_vector_of_any_bytes(rng: np.random.Generator) -> None:
    """The device reads five bits of an exponent byte, and mantissas down to -32768."""
    image = Image(config())
    raw = rng.integers(0, 256, vector_bytes(2), dtype=np.uint8)
    raw[:2] = 20, 0
    raw[128:130] = 0, 0x80
    weights = random_weights(rng, Q8_0, 3, 2, (0, 31))
    load = encode(Opcode.LOAD_VECTOR, source=image.place(raw.tobytes()) // ADDRESS_UNIT, blocks=2)
    assert image.run(load, image.gemv(weights))[0] == ErrorCode.NONE
    base, exponents, mantissas = int(raw[:2].view("<i2")[0]), raw[64:66] & 31, raw[128:].view("<i2").reshape(2, 32)
    assert image.entries(0, 3) == dot(weights, base, exponents, mantissas)
    assert raw.tobytes() != pack_vector(base, exponents, mantissas)
