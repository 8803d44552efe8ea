"""A program for a Python with PYNQ: a device of PYNQ's own kind, behind which the emulator is, and the driver on it.

Run by `test_pynq.py`. Prints the tokens of PYNQ's device and those of golden, and what was flushed, as JSON.
"""

import ctypes
import json
import sys
from typing import Any

import numpy as np
from pynq import Device
from pynq.buffer import PynqBuffer
from pynq.overlay import _ip_drivers

import tailrace
import tailrace.pynq
from tailrace.sim.devices import open_device
from tailrace.spec.config import CONFIGS
from tailrace.spec.registers import ADDRESS_BITS

CONTROL, MEMORY, FIRST = 0xA000_0000, 1 << 26, 0x10_0000


class Board(Device):
    """Registers and memory of an emulated core; what the processor writes is there after a flush."""

    def __init__(self, kind: str) -> None:
        super().__init__("tailrace-board")
        self.capabilities = {"REGISTER_RW": True}
        self.core = open_device(kind, CONFIGS["base"], MEMORY)
        self.place, self.flushed, self.arrays = FIRST, 0, []

    def get_bitfile_metadata(self, *_: Any, **__: Any) -> None: ...

    def read_registers(self, address: int, length: int) -> bytes:
        return b"".join(self.core.read_register(address - CONTROL + n).to_bytes(4, "little") for n in range(0, length, 4))

    def write_registers(self, address: int, data: Any) -> None:
        for n, value in enumerate(np.frombuffer(bytes(data), "<u4")):
            self.core.write_register(address - CONTROL + 4 * n, int(value))

    def allocate(self, shape: Any, dtype: Any, **_: Any) -> PynqBuffer:
        array = np.zeros(shape, dtype)
        self.arrays.append(array)
        place, self.place = self.place, self.place + -(-array.nbytes // 4096) * 4096
        return PynqBuffer(shape, dtype, buffer=array, device=self, device_address=place, bo=place, coherent=False)

    def flush(self, bo: int, offset: int, address: int, size: int) -> None:
        self.flushed += size
        self.core.write(bo + offset, ctypes.string_at(address, size))

    def invalidate(self, bo: int, offset: int, address: int, size: int) -> None:
        ctypes.memmove(address, self.core.read(bo + offset, size), size)


def main(kind: str) -> None:
    """Load the model that comes along through the driver that PYNQ finds by the core's name."""
    board = Board(kind)
    name = "tailrace:cores:tailrace_base:0.0"
    # An overlay looks by the name with its version, then without.
    driver = _ip_drivers.get(name) or _ip_drivers[name.rpartition(":")[0]]
    core = driver(
        {
            "phys_addr": CONTROL, "addr_range": 1 << ADDRESS_BITS, "device": board, "fullpath": "tailrace_0",
            "registers": {}, "interrupts": {}, "gpio": {},
        }
    )  # fmt: skip
    # The class imported `allocate` by name, and asks this board by way of `target`.
    with core.load("shakespeare", target=board, context=64) as ours:
        found = ours.generate("ROMEO:", max_tokens=8)
        where = ours.device.transport.name
    with tailrace.load("shakespeare", "golden", context=64) as golden:
        wanted = golden.generate("ROMEO:", max_tokens=8)
    print(json.dumps({"where": where, "flushed": board.flushed, "ours": list(found.tokens), "golden": list(wanted.tokens)}))


if __name__ == "__main__":
    main(sys.argv[1])
