"""The gateware and the golden model: the same programs, the same bytes of memory."""

import numpy as np
import pytest

from tailrace.golden.device import GoldenDevice
from tailrace.sim.devices import open_device
from tailrace.spec.config import parse_config
from tailrace.spec.errors import ErrorCode
from tailrace.spec.registers import AP_START, COUNTERS, offset
from tailrace.spec.transport import Transport
from verification.programs import MEMORY_BYTES, Program, random_program

PROGRAMS = 40
#: What golden, which has no clock and fetches nothing ahead of a loop, does not count.
CLOCKED = {
    name for name, _ in COUNTERS if name in ("CYCLES", "COMMAND_BEATS") or name.startswith("STALL_") or name.endswith("_BUSY")
}


def run(device: Transport, program: Program) -> tuple[int, dict[str, int]]:
    """Run a program as a driver without a library would, and return its error code and counters."""
    device.write(0, program.memory.tobytes())
    for name, value in (
        *((f"ARGUMENT_{i}", value) for i, value in enumerate(program.arguments)),
        ("QUEUE_ADDRESS_LO", program.queue),
        ("QUEUE_ADDRESS_HI", 0),
        ("QUEUE_LENGTH", len(program.commands)),
        ("GIE", 1),
        ("IER", 1),
        ("AP_CTRL", AP_START),
    ):
        device.write_register(offset(name), value)
    device.wait(60)
    device.read_register(offset("AP_CTRL"))
    device.write_register(offset("ISR"), device.read_register(offset("ISR")))
    counters = {name: device.read_register(offset(f"{name}_LO")) for name, _ in COUNTERS}
    return device.read_register(offset("ERROR_CODE")), counters


@pytest.mark.parametrize(
    "config",
    [
        "base",
        pytest.param("base,bus_width=256", marks=pytest.mark.slow),
        pytest.param("base,bus_width=512", marks=pytest.mark.slow),
        pytest.param("wide", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("stalls", [False, True], ids=["no stalls", "stalls"])
def test_same_bytes(config: str, stalls: bool, rng: np.random.Generator, seed: int) -> None:
    """Random programs leave the same memory behind, byte for byte, however the memory stalls."""
    parsed = parse_config(config)
    options = {"stall_seed": seed, "stall_probability": 0.3} if stalls else {}
    gateware = open_device("verilator", parsed, MEMORY_BYTES, **options)
    golden = GoldenDevice(parsed, MEMORY_BYTES)
    try:
        for number in range(PROGRAMS):
            program = random_program(rng, parsed, 12)
            expected, counted = run(golden, program)
            code, counters = run(gateware, program)
            assert (code, expected) == (ErrorCode.NONE, ErrorCode.NONE), f"program {number}\n{program}"
            same = np.array_equal(
                np.frombuffer(gateware.read(0, MEMORY_BYTES), dtype=np.uint8),
                np.frombuffer(golden.read(0, MEMORY_BYTES), dtype=np.uint8),
            )
            assert same, f"program {number}: memory differs\n{program}"
            for name in counted.keys() - CLOCKED:
                assert counters[name] == counted[name], f"program {number}: {name}\n{program}"
    finally:
        gateware.close()
        golden.close()
