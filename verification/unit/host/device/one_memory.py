"""Golden as a board with one memory has it: every memory port reaches all of it, and finds its channel's bytes by its BASE."""

import numpy as np
from numpy.typing import NDArray

from tailrace.golden.device import GoldenDevice
from tailrace.spec.config import Config
from tailrace.spec.registers import AP_START, base_registers, offset
from tailrace.spec.transport import RegisterByRegister
from verification.unit.hdl.axi.stripes import place_of

_PAGE = 4096


class OneMemoryDevice(RegisterByRegister):
    """A device that is played over an array of bytes.

    Parameters
    ----------
    config : Config
    memory_size : int
        Bytes of the memory that all ports reach.
    start : int
        Address on the ports at which the memory begins.

    Attributes
    ----------
    memory : ndarray of uint8, shape (memory_size,)
        What the ports see; may be read and written while nothing runs.
    """

    name, simulated = "one memory", False

    def __init__(self, config: Config, memory_size: int, start: int = 0) -> None:
        self.memory: NDArray[np.uint8] = np.zeros(memory_size, np.uint8)
        self.config, self.memory_size = config, memory_size
        self._start, self._own = start, memory_size // config.channels // _PAGE * _PAGE
        self._golden = GoldenDevice(config, config.channels * self._own)
        names = base_registers(config.channels)
        self._bases = {offset(f"{name}_{half}"): 0 for name in names for half in ("LO", "HI")}
        own = np.arange(self._own)
        #: Where each channel's bytes lie in golden's memory.
        self._places = [
            np.array([place_of(channel, int(first), config.bus_bytes, config.channels) for first in own[:: config.bus_bytes]])
            for channel in range(config.channels)
        ]
        self._within = np.arange(config.bus_bytes)

    @property
    def channel_bases(self) -> list[int]:
        """What the registers BASE hold."""
        values = list(self._bases.values())
        return [low | high << 32 for low, high in zip(values[::2], values[1::2], strict=True)]

    def read(self, address: int, size: int) -> bytes:
        return self.memory[address : address + size].tobytes()

    def write(self, address: int, data: bytes | memoryview) -> None:
        self.memory[address : address + len(data)] = np.frombuffer(data, np.uint8)

    def read_register(self, offset: int) -> int:
        return self._bases[offset] if offset in self._bases else self._golden.read_register(offset)

    def write_register(self, place: int, value: int) -> None:
        if place in self._bases:
            self._bases[place] = value
        elif place == offset("AP_CTRL") and value & AP_START:
            self._run(value)
        else:
            self._golden.write_register(place, value)

    def wait(self, timeout: float) -> None:
        self._golden.wait(timeout)

    def close(self) -> None:
        self._golden.close()

    def _run(self, value: int) -> None:
        seen = np.zeros(self._golden.memory_size, np.uint8)
        parts = [self.memory[base - self._start :][: self._own] for base in self.channel_bases]
        where = [(places[:, None] + self._within).reshape(-1) for places in self._places]
        for part, places in zip(parts, where, strict=True):
            seen[places[: part.size]] = part
        self._golden.write(0, seen.tobytes())
        self._golden.write_register(offset("AP_CTRL"), value)
        found = np.frombuffer(self._golden.read(0, seen.size), np.uint8)
        for part, places in zip(parts, where, strict=True):
            part[:] = found[places[: part.size]]
