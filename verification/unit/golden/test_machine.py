"""Commands do what `tailrace.spec.isa` says, through the registers, on memory."""

import numpy as np
import pytest

from tailrace.golden.machine import Machine
from tailrace.spec.config import CONFIGS, Config
from tailrace.spec.errors import ErrorCode
from tailrace.spec.formats import FORMATS, Format
from tailrace.spec.isa import MAX_COMMANDS, Opcode, encode
from tailrace.spec.numerics import quantise
from tailrace.spec.vector import pack_vector, vector_bytes
from verification.programs import random_program
from verification.unit.golden.image import FIRST_OPERAND, Image
from verification.unit.golden.packing import random_weights
from verification.unit.golden.reference import dot

BUS_WIDTHS = (128, 256, 512)
FENCE = encode(Opcode.FENCE)
BAD = bytes(64)


def config(bus_width: int = 128, right_hand_sides: int = 1) -> Config:
    return Config("test", bus_width, right_hand_sides, vector_blocks=64, result_entries=1024)


def floats(rng: np.random.Generator, count: int) -> np.ndarray:
    return (rng.standard_normal(count) * 2.0 ** rng.integers(-4, 5, count)).astype(np.float32)


@pytest.mark.parametrize("weight_format", FORMATS, ids=lambda f: f.name)
@pytest.mark.parametrize(("rows", "blocks"), [(1, 1), (1, 9), (3, 5), (17, 2)])
def test_gemv_is_the_same_for_every_build(rng: np.random.Generator, weight_format: Format, rows: int, blocks: int) -> None:
    """Whatever the width of the bus, whichever slots take part."""
    weights = random_weights(rng, weight_format, rows, blocks, (4, 12))
    x = [floats(rng, 32 * blocks) for _ in range(4)]
    expected = np.array([dot(weights, *quantise(one)) for one in x], dtype=np.uint32).T
    for bus_width in BUS_WIDTHS:
        for right_hand_sides in (1, 2, 4):
            for slots in range(1, right_hand_sides + 1):
                image = Image(config(bus_width, right_hand_sides))
                destination = image.reserve(4 * rows * slots)
                loads = [image.load(slot, x[slot]) for slot in range(slots)]
                assert image.run(*loads, image.gemv(weights, slots, destination=destination))[0] == ErrorCode.NONE
                results = image.floats(destination, rows * slots).reshape(rows, slots)
                assert np.array_equal(results, expected[:, :slots]), (bus_width, right_hand_sides, slots)


@pytest.mark.parametrize("rows", [1, 7, 16, 33])
def test_exactly_the_bytes_of_the_results_are_written(rng: np.random.Generator, rows: int) -> None:
    image = Image(config(256, 2))
    size = image.device.memory_size
    image.device.write(0, rng.integers(0, 256, size, dtype=np.uint8).tobytes())
    destination = image.reserve(4 * rows * 2)
    queue = [
        *(image.load(slot, floats(rng, 64)) for slot in range(2)),
        image.gemv(random_weights(rng, FORMATS[0], rows, 2, (5, 9)), 2, destination=destination),
    ]
    image.device.write(0, b"".join(queue))
    before = image.device.read(0, size)
    image.run(*queue)
    after = image.device.read(0, size)
    assert after[:destination] == before[:destination]
    assert after[destination : destination + 8 * rows] != before[destination : destination + 8 * rows]
    assert after[destination + 8 * rows :] == before[destination + 8 * rows :]


def test_kept_results_are_stored_and_quantised(rng: np.random.Generator) -> None:
    """GEMV keep, STORE of a part, QUANTISE with every stride, and a product with what was quantised."""
    image = Image(config(128, 2))
    rows, at = 100, 300
    weights = random_weights(rng, FORMATS[2], rows, 3, (4, 9))
    x = [floats(rng, 96) for _ in range(2)]
    stored, product = image.reserve(4 * 64), image.reserve(4 * 5)
    loads = [image.load(slot, x[slot]) for slot in range(2)]
    kept = np.array([dot(weights, *quantise(one)) for one in x], dtype=np.uint32).T.reshape(-1)
    assert image.run(
        *loads,
        image.gemv(weights, 2, keep=1, offset=at),
        encode(Opcode.STORE, offset=at + 10, rows=64, destination=stored),
    ) == (ErrorCode.NONE, 0, 0)
    assert np.array_equal(image.floats(stored, 64), kept[10:74])
    for stride in (1, 2, 3, 4):
        second = random_weights(rng, FORMATS[3], 5, 1, (4, 9))
        # Vector slots and the result buffer keep what they hold from run to run.
        queue = [
            encode(Opcode.QUANTISE, slot=0, offset=at + 1, blocks=1, stride=stride),
            image.gemv(second, 1, destination=product),
        ]
        assert image.run(*queue)[0] == ErrorCode.NONE
        values = kept[1 : 1 + 32 * stride : stride].view(np.float32)
        assert image.floats(product, 5).tolist() == dot(second, *quantise(values)), stride


def test_a_shorter_vector_leaves_later_blocks_as_they_were(rng: np.random.Generator) -> None:
    image = Image(config())
    long, short = floats(rng, 96), floats(rng, 32)
    weights = random_weights(rng, FORMATS[0], 4, 3, (4, 9))
    destination = image.reserve(16)
    assert image.run(image.load(0, long), image.load(0, short), image.gemv(weights, 1, destination=destination))[0] == 0
    _, exponents, mantissas = quantise(long)
    base, exponents[:1], mantissas[:1] = quantise(short)
    assert image.floats(destination, 4).tolist() == dot(weights, base, exponents, mantissas)


def test_results_are_read_back_after_a_fence(rng: np.random.Generator) -> None:
    """A product writes the bytes of a vector, which then is loaded: memory is seen as the program left it."""
    image = Image(config())
    weights = random_weights(rng, FORMATS[1], vector_bytes(2) // 4, 1, (4, 9))
    written, destination = image.reserve(vector_bytes(2)), image.reserve(12)
    second = random_weights(rng, FORMATS[2], 3, 2, (4, 9))
    x = floats(rng, 32)
    load = encode(Opcode.LOAD_VECTOR, source=written, blocks=2)
    queue = [
        image.load(0, x),
        image.gemv(weights, 1, destination=written),
        FENCE,
        load,
        image.gemv(second, 1, destination=destination),
    ]
    assert image.run(*queue)[0] == ErrorCode.NONE
    raw = np.array(dot(weights, *quantise(x)), dtype="<u4").view(np.uint8)
    base, exponents, mantissas = int(raw[:2].view("<i2")[0]), raw[64:66] & 31, raw[128:].view("<i2").reshape(2, 32)
    assert image.floats(destination, 3).tolist() == dot(second, base, exponents, mantissas)


def test_a_matrix_that_changed_is_read_anew(rng: np.random.Generator) -> None:
    """By the host, or by the program itself; whatever was kept of the old one."""
    image = Image(config())
    x = floats(rng, 32)
    load = image.load(0, x)
    destination = image.reserve(4 * 8)
    old, new = (random_weights(rng, FORMATS[0], 8, 1, (4, 9)) for _ in range(2))
    command = image.gemv(old, 1, destination=destination)
    fresh = image.gemv(new, 1, destination=destination)
    old_at, new_at = (int.from_bytes(c[8:16], "little") for c in (command, fresh))
    size = FORMATS[0].matrix_bytes(8, 1, 1)
    image.run(load, command)
    assert image.floats(destination, 8).tolist() == dot(old, *quantise(x))
    image.device.write(old_at + size - 16, image.device.read(new_at + size - 16, 16))
    image.run(load, command)
    assert image.floats(destination, 8).tolist() != dot(old, *quantise(x))
    image.device.write(old_at, image.device.read(new_at, size))
    image.run(load, command)
    assert image.floats(destination, 8).tolist() == dot(new, *quantise(x))
    overwrite = encode(Opcode.STORE, offset=1000, rows=16, destination=old_at)
    image.run(load, command, overwrite, FENCE, command)
    assert image.floats(destination, 8).tolist() != dot(new, *quantise(x))


def test_same_shape_other_format(rng: np.random.Generator) -> None:
    """The same bytes, read as another format."""
    image = Image(config())
    weights = random_weights(rng, FORMATS[0], 8, 2, (4, 9))
    destination = image.reserve(32)
    first = image.gemv(weights, 1, destination=destination)
    second = encode(
        Opcode.GEMV, format=1, slots=1, rows=8, blocks=2, source=int.from_bytes(first[8:16], "little"), destination=destination
    )
    load = image.load(0, floats(rng, 64))
    image.run(load, second)
    alone = image.floats(destination, 8).tolist()
    image.run(load, first)
    assert image.floats(destination, 8).tolist() != alone
    image.run(load, first, second)
    assert image.floats(destination, 8).tolist() == alone


@pytest.mark.parametrize("bus_width", BUS_WIDTHS)
def test_counters_count_beats(rng: np.random.Generator, bus_width: int) -> None:
    image = Image(config(bus_width, 2))
    weights = random_weights(rng, FORMATS[3], 9, 7, (4, 9))
    destination = image.reserve(4 * 18)
    loads = [image.load(slot, floats(rng, 32 * 7)) for slot in range(2)]
    image.run(*loads, image.gemv(weights, 2, destination=destination), FENCE)
    bus_bytes = bus_width // 8
    lanes = bus_width // 128
    assert image.counters() == {
        "COMMAND_BEATS": 4 * 64 // bus_bytes,
        "VECTOR_BEATS": 2 * (64 + 64 + 7 * 64) // bus_bytes,
        "WEIGHT_BEATS": FORMATS[3].matrix_beats(9, 7, lanes),
        "COMMANDS": 4,
        "WRITE_BEATS": -(-4 * 18 // bus_bytes),
    }
    image.run()
    assert image.counters() == {}


class TestErrors:
    """A command that fails stops the run; what came before it is done, what comes after it is not, and the next run works."""

    @pytest.fixture
    def image(self) -> Image:
        return Image(config(), memory_size=1 << 16)

    @pytest.fixture
    def good(self, image: Image, rng: np.random.Generator) -> list[bytes]:
        """A vector, and a product that is to be found at `FIRST_OPERAND`."""
        destination = image.reserve(4 * 4)
        weights = random_weights(rng, FORMATS[0], 4, 1, (4, 9))
        return [image.load(0, floats(rng, 32)), image.gemv(weights, 1, destination=destination)]

    @pytest.mark.parametrize(
        ("command", "code"),
        [
            (BAD, ErrorCode.BAD_OPCODE),
            (encode(Opcode.FENCE)[:63] + b"\x80", ErrorCode.BAD_FIELD),
            (encode(Opcode.LOAD_VECTOR, slot=1, blocks=1), ErrorCode.BAD_FIELD),
            (encode(Opcode.GEMV, format=4, slots=1, rows=1, blocks=1), ErrorCode.BAD_FIELD),
            (encode(Opcode.GEMV, slots=2, rows=1, blocks=1), ErrorCode.BAD_FIELD),
            (encode(Opcode.LOAD_VECTOR, blocks=65), ErrorCode.OUT_OF_RANGE),
            (encode(Opcode.QUANTISE, offset=993, blocks=1, stride=1), ErrorCode.OUT_OF_RANGE),
            (encode(Opcode.STORE, rows=1025), ErrorCode.OUT_OF_RANGE),
            (encode(Opcode.LOAD_VECTOR, source=32, blocks=1), ErrorCode.MISALIGNED),
        ],
        ids=lambda v: v.name if isinstance(v, ErrorCode) else "",
    )
    def test_bad_commands(self, image: Image, good: list[bytes], command: bytes, code: ErrorCode) -> None:
        overwrite = encode(Opcode.STORE, offset=1000, rows=4, destination=FIRST_OPERAND)
        assert image.run(*good, command, overwrite) == (code, 2, 0)
        results = image.floats(FIRST_OPERAND, 4)
        assert results.any()
        assert image.counters()["COMMANDS"] == 2
        assert image.run(overwrite) == (ErrorCode.NONE, 0, 0)
        assert not image.floats(FIRST_OPERAND, 4).any()

    @pytest.mark.parametrize("bus_width", BUS_WIDTHS)
    @pytest.mark.parametrize("short", [64, 128, 4096])
    def test_reads_beyond_memory(self, bus_width: int, short: int) -> None:
        """The address is that of the first beat that is not there, or of the first one if none is."""
        image = Image(config(bus_width), memory_size=1 << 16)
        end = image.device.memory_size
        for command in (
            encode(Opcode.LOAD_VECTOR, source=end - short, blocks=63),
            encode(Opcode.GEMV, slots=1, rows=64, blocks=4, source=end - short, destination=0),
        ):
            assert image.run(FENCE, command) == (ErrorCode.READ_ERROR, 1, end)
        command = encode(Opcode.LOAD_VECTOR, source=end + short, blocks=1)
        assert image.run(FENCE, FENCE, command) == (ErrorCode.READ_ERROR, 2, end + short)
        command = encode(Opcode.LOAD_VECTOR, source=end - vector_bytes(1), blocks=1)
        assert image.run(command) == (ErrorCode.NONE, 0, 0)

    def test_writes_beyond_memory(self, image: Image, good: list[bytes], rng: np.random.Generator) -> None:
        end = image.device.memory_size
        last = image.device.read(end - 64, 64)
        store = encode(Opcode.STORE, rows=17, destination=end - 64)
        assert image.run(*good, store) == (ErrorCode.WRITE_ERROR, 2, end)
        product = image.gemv(random_weights(rng, FORMATS[0], 20, 1, (4, 9)), 1, destination=end + 128)
        assert image.run(good[0], product) == (ErrorCode.WRITE_ERROR, 1, end + 128)
        assert image.device.read(end - 64, 64) == last
        assert image.run(encode(Opcode.STORE, rows=16, destination=end - 64)) == (ErrorCode.NONE, 0, 0)

    def test_a_queue_that_leaves_memory(self, image: Image) -> None:
        """The commands that are there are executed first."""
        end = image.device.memory_size
        store = encode(Opcode.STORE, rows=1, destination=FIRST_OPERAND)
        image.device.write(FIRST_OPERAND, b"\xff" * 64)
        assert image.run(FENCE, store, queue=end - 128, length=5) == (ErrorCode.READ_ERROR, 2, end)
        assert image.device.read(FIRST_OPERAND, 5) == b"\0\0\0\0\xff"
        assert image.run(queue=end + 64, length=1) == (ErrorCode.READ_ERROR, 0, end + 64)

    def test_bad_queues(self, image: Image) -> None:
        assert image.run(length=MAX_COMMANDS + 1) == (ErrorCode.OUT_OF_RANGE, 0, 0)
        assert image.run(queue=1 << image.config.address_width, length=1) == (ErrorCode.OUT_OF_RANGE, 0, 0)
        assert image.run(queue=32, length=1) == (ErrorCode.MISALIGNED, 0, 0)
        assert image.run(length=0) == (ErrorCode.NONE, 0, 0)


@pytest.mark.parametrize("name", CONFIGS)
def test_random_programs_do_not_depend_on_what_is_kept(rng: np.random.Generator, name: str) -> None:
    """With and without room for unpacked matrices the memory ends up the same, twice."""
    program = random_program(rng, CONFIGS[name], 40)
    images = []
    for cache_bytes in (0, 1 << 30):
        machine = Machine(CONFIGS[name], program.memory.copy(), cache_bytes)
        for _ in range(2):
            outcome = machine.run(program.queue, len(program.commands))
            assert outcome.code == ErrorCode.NONE, f"{outcome}\n{program}"
            images.append(machine.memory.copy())
    assert np.array_equal(images[0], images[2]), str(program)
    assert np.array_equal(images[1], images[3]), str(program)
    assert not np.array_equal(images[0], program.memory)


def test_a_vector_of_any_bytes(rng: np.random.Generator) -> None:
    """The device reads five bits of an exponent byte, and mantissas down to -32768."""
    image = Image(config())
    raw = rng.integers(0, 256, vector_bytes(2), dtype=np.uint8)
    raw[128:130] = 0, 0x80
    weights = random_weights(rng, FORMATS[0], 3, 2, (0, 31))
    destination = image.reserve(12)
    load = encode(Opcode.LOAD_VECTOR, source=image.place(raw.tobytes()), blocks=2)
    assert image.run(load, image.gemv(weights, 1, destination=destination))[0] == ErrorCode.NONE
    base, exponents, mantissas = int(raw[:2].view("<i2")[0]), raw[64:66] & 31, raw[128:].view("<i2").reshape(2, 32)
    assert image.floats(destination, 3).tolist() == dot(weights, base, exponents, mantissas)
    assert raw.tobytes() != pack_vector(base, exponents, mantissas)
