"""A device with an image that grows: places operands, runs commands."""

import numpy as np
from numpy.typing import NDArray

from tailrace.golden.device import GoldenDevice
from tailrace.spec import registers
from tailrace.spec.commands import encode
from tailrace.spec.config import Config
from tailrace.spec.errors import ErrorCode
from tailrace.spec.isa import ADDRESS_UNIT, Opcode
from tailrace.spec.numerics import quantise
from tailrace.spec.registers import AP_START, offset
from tailrace.spec.vector import pack_vector
from verification.unit.golden.packing import Weights, pack

QUEUE = 0
#: Address of the first operand, in bytes.
FIRST_OPERAND = 1 << 14


class Image:
    """A golden device, a queue at address 0, and operands from `FIRST_OPERAND` on. Addresses are in bytes."""

    def __init__(self, config: Config, memory_size: int = 1 << 18) -> None:
        self.config = config
        self.device = GoldenDevice(config, memory_size)
        self._next = FIRST_OPERAND

    def place(self, data: bytes) -> int:
        """Put bytes at the next free address."""
        address = self.reserve(len(data))
        self.device.write(address, data)
        return address

    def reserve(self, size: int) -> int:
        """Keep bytes free, and 64 more behind them."""
        address, self._next = self._next, self._next + -(-size // ADDRESS_UNIT) * ADDRESS_UNIT + ADDRESS_UNIT
        return address

    def load(self, slot: int, x: NDArray[np.float32], **fields: int) -> bytes:
        """A command that loads values into a slot."""
        source = self.place(pack_vector(*quantise(x))) // ADDRESS_UNIT
        return encode(Opcode.LOAD_VECTOR, slot=slot, source=source, blocks=x.size // 32, **fields)

    def gemv(self, weights: Weights, slots: int = 1, **fields: int) -> bytes:
        """A command that multiplies a matrix."""
        source = self.place(pack(weights, self.config.lanes)) // ADDRESS_UNIT
        shape = {"slots": slots, "rows": weights.rows, "blocks": weights.blocks}
        return encode(Opcode.GEMV, format=weights.format.number, source=source, **shape, **fields)

    def run(self, *commands: bytes, length: int | None = None, queue: int = QUEUE) -> tuple[ErrorCode, int, int]:
        """Run commands; returns the error's code, command and address."""
        if commands:
            self.device.write(queue, b"".join(commands))
        self.device.write_register(offset("QUEUE_ADDRESS_LO"), queue & 0xFFFF_FFFF)
        self.device.write_register(offset("QUEUE_ADDRESS_HI"), queue >> 32)
        self.device.write_register(offset("QUEUE_LENGTH"), len(commands) if length is None else length)
        self.device.write_register(offset("AP_CTRL"), AP_START)
        self.device.wait(0)
        return ErrorCode(self.register("ERROR_CODE")), self.register("ERROR_COMMAND"), self.wide("ERROR_ADDRESS")

    def use(self, base: int, limit: int) -> None:
        """Let programs use `limit` bytes of memory from `base` on."""
        for name, value in (("BASE", base), ("LIMIT", limit)):
            self.device.write_register(offset(f"{name}_LO"), value & 0xFFFF_FFFF)
            self.device.write_register(offset(f"{name}_HI"), value >> 32)

    def floats(self, address: int, count: int) -> NDArray[np.uint32]:
        """Bits of float32 values in memory."""
        return np.frombuffer(self.device.read(address, 4 * count), dtype="<u4")

    def entries(self, first: int, count: int) -> list[int]:
        """Bits of entries of the activation buffer."""
        return self.device.activations[first : first + count].view(np.uint32).tolist()

    def register(self, name: str) -> int:
        """Value of a register."""
        return self.device.read_register(offset(name))

    def wide(self, name: str) -> int:
        """Value of a pair of registers."""
        return self.register(f"{name}_HI") << 32 | self.register(f"{name}_LO")

    def counters(self) -> dict[str, int]:
        """All counters that are not zero."""
        return {name: value for name, _ in registers.COUNTERS if (value := self.wide(name))}
