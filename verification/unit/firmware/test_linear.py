"""Command lists: what they say, and that a device which executes them computes products."""

import numpy as np
import pytest

from tailrace.driver import Device
from tailrace.firmware.linear import MatrixOperand, chain, load_vectors, products
from tailrace.golden.device import GoldenDevice
from tailrace.spec.config import CONFIGS, parse_config
from tailrace.spec.errors import ErrorCode
from tailrace.spec.formats import BLOCK, BY_NAME
from tailrace.spec.isa import Opcode, check, decode
from tailrace.spec.numerics import quantise
from tailrace.spec.vector import pack_vector, vector_bytes

SEED = 31
A = MatrixOperand(address=0x1000, format=0, rows=96, blocks=2)
B = MatrixOperand(address=0x8000, format=2, rows=10, blocks=3)


def test_products_load_once_and_multiply_each() -> None:
    other = MatrixOperand(address=0x4000, format=1, rows=7, blocks=2)
    commands = [decode(c) for c in products([0, 0x100], [A, other], [0x10000, 0x20000])]
    assert commands == [
        (Opcode.LOAD_VECTOR, {"slot": 0, "source": 0, "blocks": 2}),
        (Opcode.LOAD_VECTOR, {"slot": 1, "source": 0x100, "blocks": 2}),
        (Opcode.GEMV, dict(keep=0, format=0, slots=2, offset=0, source=0x1000, destination=0x10000, rows=96, blocks=2)),
        (Opcode.GEMV, dict(keep=0, format=1, slots=2, offset=0, source=0x4000, destination=0x20000, rows=7, blocks=2)),
    ]


def test_chain_keeps_results_on_the_device() -> None:
    commands = [decode(c) for c in chain([0, 0x100], [A, B], 0x20000, offset=64)]
    assert commands[2:] == [
        (Opcode.GEMV, dict(keep=1, format=0, slots=2, offset=64, source=0x1000, destination=0, rows=96, blocks=2)),
        (Opcode.QUANTISE, {"slot": 0, "offset": 64, "blocks": 3, "stride": 2}),
        (Opcode.QUANTISE, {"slot": 1, "offset": 65, "blocks": 3, "stride": 2}),
        (Opcode.GEMV, dict(keep=0, format=2, slots=2, offset=0, source=0x8000, destination=0x20000, rows=10, blocks=3)),
    ]


def test_every_command_is_accepted_by_a_build() -> None:
    config = CONFIGS["wide"]
    for command in load_vectors([0, 64], 2) + products([0], [A], [0]) + chain([0], [A, B], 64):
        assert check(command, config) is ErrorCode.NONE


def test_errors() -> None:
    with pytest.raises(ValueError, match="^a product needs at least one vector and one matrix$"):
        products([], [A], [0])
    with pytest.raises(ValueError, match="^a product needs at least one vector and one matrix$"):
        chain([0], [], 0)
    with pytest.raises(ValueError, match=r"^matrices that share a vector must have rows of one length, not \[2, 3\] blocks$"):
        products([0], [A, B], [0, 0])
    with pytest.raises(ValueError, match="^matrix 0 has 10 rows, but matrix 1 has 64 columns$"):
        chain([0], [B, A], 0)


@pytest.mark.parametrize("vectors", [1, 2])
def test_chain_equals_two_products_with_the_same_rounding(vectors: int) -> None:
    """Kept results are quantised as the host would have quantised them, so both ways give the same bits."""
    random = np.random.default_rng(SEED)
    fmt = BY_NAME["Q5_0"]
    with Device(GoldenDevice(parse_config("tiny,right_hand_sides=2"), 1 << 20)) as device:
        blocks = []
        for rows, per_row in ((96, 2), (10, 3)):
            raw = random.integers(0, 256, (rows, per_row, fmt.block_bytes), dtype=np.uint8)
            raw[..., 1] = 0x2C  # finite scales of a sensible size
            blocks.append(raw.reshape(rows, -1))
        first, second = (device.upload(n, fmt, b) for n, b in zip("ab", blocks, strict=True))
        x = random.standard_normal((vectors, 64)).astype(np.float32)
        expected = device.multiply(second, device.multiply(first, x))

        place, size = 1 << 19, vector_bytes(64 // BLOCK)
        for v, row in enumerate(x):
            device.transport.write(place + v * size, pack_vector(*quantise(row)))
        destination = place + (1 << 16)
        device.run(
            chain([place + v * size for v in range(vectors)], [first.operand, second.operand], destination), place + (1 << 17)
        )
        got = np.frombuffer(device.transport.read(destination, 4 * 10 * vectors), dtype="<f4").reshape(10, vectors).T
    assert np.array_equal(got, expected), f"seed {SEED}"
