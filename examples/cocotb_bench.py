"""A cocotb bench with the core in it: commands of one's own against golden, and a model that the driver runs.

The top level has the ports of an export (`tailrace export`). ``TAILRACE_CONFIG`` says what it is built with, and
``TAILRACE_SEED`` with what the bus stalls.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.task import bridge

from tailrace.cocotb import Bench, CocotbTransport, Scoreboard
from tailrace.device.decoder import Decoder
from tailrace.device.driver import Device
from tailrace.gguf.describe import import_model
from tailrace.gguf.file import open_model
from tailrace.models.random_model import write_random_model
from tailrace.sim.devices import open_device
from tailrace.spec.commands import encode, float_bits
from tailrace.spec.config import parse_config
from tailrace.spec.errors import ErrorCode
from tailrace.spec.isa import ADDRESS_UNIT, Opcode, Target

CONFIG = parse_config(os.environ.get("TAILRACE_CONFIG", "tiny"))
SEED = int(os.environ.get("TAILRACE_SEED", "1"))
MEMORY, COUNT = 1 << 20, 64
#: Byte addresses of the operands and of the results.
OPERANDS, RESULTS = 0x1000, 0x2000


@cocotb.test()
async def commands_of_ones_own(dut: Any) -> None:
    """Load 64 floats, double them, store them: every byte of memory and every counter must be golden's."""
    bench = Bench(dut, CONFIG, MEMORY, seed=SEED)
    bench.back_pressure(0.3)
    await bench.start()
    double = encode(
        Opcode.ELEMENTWISE, a_stream=1, source=OPERANDS // ADDRESS_UNIT, p=float_bits(2), m=float_bits(1), target=Target.BUFFER,
        count=COUNT, segments=1,
    )  # fmt: skip
    store = encode(Opcode.STORE, count=COUNT, destination=RESULTS // ADDRESS_UNIT)
    operands = np.random.default_rng(SEED).standard_normal(COUNT).astype(np.float32)
    image = np.zeros(MEMORY, np.uint8)
    queue = np.frombuffer(double + store, np.uint8)
    image[: queue.size] = queue
    image[OPERANDS : OPERANDS + operands.nbytes] = operands.view(np.uint8)
    scoreboard = Scoreboard(bench)
    scoreboard.place(image)
    outcome = await scoreboard.check(queue=0, length=2)
    assert outcome.code is ErrorCode.NONE
    assert np.array_equal(bench.memory.bytes[RESULTS : RESULTS + operands.nbytes].view(np.float32), 2 * operands)


@cocotb.test()
async def a_model(dut: Any) -> None:
    """The driver as it is everywhere, in a thread: a small random model decodes golden's logits."""
    bench = Bench(dut, CONFIG, MEMORY, seed=SEED)
    await bench.start()

    def decode() -> list[bytes]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "random.gguf")
            write_random_model(path)
            model = import_model(open_model(path), 16)
            devices = Device(CocotbTransport(bench)), Device(open_device("golden", CONFIG, MEMORY))
            return [Decoder(device, model).step(1).tobytes() for device in devices]

    ours, golden = await bridge(decode)()
    assert ours == golden
