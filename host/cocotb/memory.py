"""Device memory behind the AXI slaves of cocotbext-axi."""

import numpy as np
from cocotbext.axi.address_space import Region
from numpy.typing import NDArray

from tailrace.spec.config import Config


class DeviceMemory:
    """Memory that answers with errors behind its end, and where it is told to.

    Parameters
    ----------
    config : Config
        Of the core in front of it.
    size : int
        Bytes.

    Attributes
    ----------
    bytes : ndarray of uint8, shape (size,)
        What is in it; may be read and written at any time.
    refused_reads, refused_writes : set of int
        Addresses of beats that are answered with an error.
    ports : tuple of Region
        What lies behind each memory port of the core: the target of an `AxiSlave`.
    """

    def __init__(self, config: Config, size: int) -> None:
        config.check_memory_size(size)
        self.bytes: NDArray[np.uint8] = np.zeros(size, dtype=np.uint8)
        self.refused_reads: set[int] = set()
        self.refused_writes: set[int] = set()
        self.ports: tuple[Region, ...] = tuple(_Port(self, config, number) for number in range(config.channels))


class _Port(Region):
    """The part of a memory that is behind one port: of the memory's beats, which are as wide as all ports, one stripe."""

    def __init__(self, memory: DeviceMemory, config: Config, number: int) -> None:
        super().__init__(1 << config.address_width)
        self._memory, self._number = memory, number
        self._bus_bytes, self._beat_bytes = config.bus_bytes, config.beat_bytes

    def _places(self, address: int, length: int, refused: set[int]) -> NDArray[np.int64]:
        """Where bytes of this port lie in the memory."""
        own = np.arange(address, address + length)
        beats = own // self._bus_bytes * self._beat_bytes
        places = beats + self._number * self._bus_bytes + own % self._bus_bytes
        if places[-1] >= self._memory.bytes.size or int(beats[0]) in refused:
            raise ValueError("refused")
        return places

    async def _read(self, address: int, length: int, **_: object) -> bytes:
        return self._memory.bytes[self._places(address, length, self._memory.refused_reads)].tobytes()

    async def _write(self, address: int, data: bytes, **_: object) -> None:
        places = self._places(address, len(data), self._memory.refused_writes)
        self._memory.bytes[places] = np.frombuffer(data, dtype=np.uint8)
