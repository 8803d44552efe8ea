"""What linear attention is made of, on golden: decays without a logarithm, planes of 8 bits, and what is kept where."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tailrace.firmware.command_list import Address, CommandList
from tailrace.firmware.decays import softplus
from tailrace.firmware.description import LinearAttention, Rule
from tailrace.firmware.placement import Build
from tailrace.firmware.planes import scale_down, take_apart
from tailrace.firmware.state_places import layout_of
from tailrace.golden.device import GoldenDevice
from tailrace.spec.config import parse_config
from tailrace.spec.errors import ErrorCode
from tailrace.spec.linear_attention import ENTRIES, FOLD, LOWER, StateLayout
from tailrace.spec.recent_rows import ROWS, RecentRows
from tailrace.spec.registers import offset

CONFIG = parse_config("base")
BUILD = Build(CONFIG.lanes, CONFIG.right_hand_sides, CONFIG.buffer_entries, CONFIG.vector_blocks)
QUEUE, OPERAND, RESULT = 0, 1 << 17, 1 << 18


def run(commands: CommandList, operand: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Run commands with an operand in memory; returns what they stored."""
    device, queue = GoldenDevice(CONFIG, 1 << 20), b"".join(commands.finish().commands)
    device.write(OPERAND, operand.astype("<f4").tobytes())
    device.write(QUEUE, queue)
    for register, value in (("QUEUE_ADDRESS_LO", QUEUE), ("QUEUE_ADDRESS_HI", 0), ("QUEUE_LENGTH", len(queue) // 64)):
        device.write_register(offset(register), value)
    device.write_register(offset("AP_CTRL"), 1)
    assert ErrorCode(device.read_register(offset("ERROR_CODE"))) is ErrorCode.NONE
    return np.frombuffer(device.read(RESULT, 4 * count), "<f4")


def test_softplus_has_the_precision_of_float32(rng: np.random.Generator) -> None:
    """From where it is 0 to where it is its argument; the error is that of the numbers that it comes from."""
    count = 2048
    x = np.concatenate([np.linspace(-110, 110, count - 8), [0, -0.0, 1e-30, -1e-30, 88.7, -88.7, 1e4, -1e4]]).astype(np.float32)
    x[1::2] = rng.normal(0, 3, count // 2).astype(np.float32)
    commands = CommandList(BUILD)
    commands.elementwise(Address(OPERAND), count, to=0)
    softplus(commands, 0, count, 2 * count, count)
    commands.store(count, Address(RESULT), count)
    found, exact = run(commands, x, count), np.logaddexp(0, x.astype(np.float64))
    assert (np.abs(found - exact) <= 3e-7 * np.maximum(1, exact)).all(), np.abs(found - exact).max()


@pytest.mark.parametrize("spread", [1e-20, 1.0, 1e20])
def test_planes_hold_16_bits(rng: np.random.Generator, spread: float) -> None:
    segments, count = 5, 64
    x = (rng.standard_normal((segments, count)) * spread).astype(np.float32)
    x[3] = 0
    size = segments * count
    commands = CommandList(BUILD)
    commands.elementwise(Address(OPERAND), size, to=0)
    scale_down(commands, 0, segments, count, 1024, 1040)
    take_apart(commands, 0, 2048, 0, segments, count, count)
    for n, (entry, length) in enumerate(((2048, size), (0, size), (1040, 8))):
        commands.store(entry, Address(RESULT + 4096 * n), length)
    stored = run(commands, x, 3 * 1024)
    upper, lower = (stored[1024 * n :][:size].reshape(segments, count).astype(np.float64) for n in range(2))
    scales = stored[2048:][:segments, None].astype(np.float64)
    assert (upper == np.rint(upper)).all()
    assert np.abs(upper).max() <= 127
    assert np.abs(lower).max() <= 128
    codes = upper + np.clip(np.rint(lower), -127, 127) * LOWER
    apart = np.abs(codes * scales - x) / np.maximum(scales, 1e-38)
    assert apart.max() <= 1.01 / 256, apart.max()


def test_what_is_cleared_makes_a_list_empty() -> None:
    """The rows before the first token, row 0 of the sums, all scales and logarithms; no codes."""
    layout = StateLayout(2, 6, 64, 32, RecentRows(448, 4), 4)
    offsets, cleared = layout.offsets, layout.cleared
    assert cleared.start == (ROWS - 3) * layout.rows.pitch
    assert cleared.stop == offsets["keys"]
    assert all(cleared.start <= offsets[name] < cleared.stop for name in ("sums", "scales", "logs", "state_scales"))
    assert all(place % 64 == 0 for place in offsets.values())


def test_a_ring_has_all_that_a_list_may_be_cut_to() -> None:
    for kernel in range(2, 17):
        rows = RecentRows(64, kernel)
        assert all(rows.earliest(length) <= (length - 1) // FOLD * FOLD for length in range(1, 4 * FOLD))


def test_key_heads_go_with_value_heads() -> None:
    tiled, grouped = (LinearAttention(2, 6, 32, 32, 4, tiled, Rule.DELTA, 32) for tiled in (True, False))
    assert [tiled.key_head(h) for h in range(6)] == [0, 1, 0, 1, 0, 1]
    assert [grouped.key_head(h) for h in range(6)] == [0, 0, 0, 1, 1, 1]
    assert layout_of(tiled, 4).rows.channels == 2 * 64 + 192
    assert ENTRIES == FOLD + 1
