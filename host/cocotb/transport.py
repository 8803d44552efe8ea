"""A core in a cocotb bench as a device that the driver can open: whole models in a simulation of your own."""

from cocotb.task import resume
from cocotb.triggers import SimTimeoutError

from tailrace.spec.errors import DeviceTimeout
from tailrace.spec.transport import RegisterByRegister

from ..transports.device_files import check_span
from .bench import Bench


class CocotbTransport(RegisterByRegister):
    """A `tailrace.spec.transport.Transport` over a bench. Memory is read and written behind the core's back, in no time.

    The driver blocks, and the simulation must go on meanwhile: call it in a function that ``await bridge(function)()``, with
    `cocotb.task.bridge`, runs in a thread.

    Parameters
    ----------
    bench : Bench
        Started.
    """

    name, simulated, striped = "cocotb", True, True

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.memory_size = bench.memory.bytes.size
        self.config = bench.config

    def read(self, address: int, size: int) -> bytes:
        """Read `size` bytes of device memory."""
        check_span("read", address, size, self.memory_size)
        return self._bench.memory.bytes[address : address + size].tobytes()

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Write device memory."""
        view = memoryview(data).cast("B")
        check_span("write", address, len(view), self.memory_size)
        self._bench.memory.bytes[address : address + len(view)] = view

    def read_register(self, offset: int) -> int:
        """Read the 32-bit register at a byte offset."""
        return int(resume(self._bench.host.read_dword)(offset))

    def write_register(self, offset: int, value: int) -> None:
        """Write the 32-bit register at a byte offset."""
        resume(self._bench.host.write_dword)(offset, value)

    def wait(self, timeout: float) -> None:
        """Return when the interrupt is raised; the bench's patience in cycles counts, not `timeout`.

        Raises
        ------
        DeviceTimeout
            If it is not.
        """
        try:
            resume(self._bench.interrupt)()
        except SimTimeoutError:
            raise DeviceTimeout("no interrupt within the bench's patience: give Bench more, or look at its waves") from None

    def close(self) -> None:
        """Nothing has to be released."""
