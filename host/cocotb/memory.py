"""Device memory behind an AXI slave of cocotbext-axi."""

import numpy as np
from cocotbext.axi.address_space import Region
from numpy.typing import NDArray

from tailrace.spec.config import Config


class DeviceMemory(Region):
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
    """

    def __init__(self, config: Config, size: int) -> None:
        super().__init__(1 << config.address_width)
        self.bytes: NDArray[np.uint8] = np.zeros(size, dtype=np.uint8)
        self.refused_reads: set[int] = set()
        self.refused_writes: set[int] = set()
        self._bus_bytes = config.bus_bytes

    def _range(self, address: int, length: int, refused: set[int]) -> slice:
        beat = address // self._bus_bytes * self._bus_bytes
        if address + length > self.bytes.size or beat in refused:
            raise ValueError("refused")
        return slice(address, address + length)

    async def _read(self, address: int, length: int, **_: object) -> bytes:
        return self.bytes[self._range(address, length, self.refused_reads)].tobytes()

    async def _write(self, address: int, data: bytes, **_: object) -> None:
        self.bytes[self._range(address, len(data), self.refused_writes)] = np.frombuffer(data, dtype=np.uint8)
