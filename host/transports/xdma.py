"""A PCIe card behind Xilinx' DMA subsystem (XDMA) as a device that a driver can open.

How the character devices behave is that of the kernel driver in Xilinx' ``dma_ip_drivers``, directory
``XDMA/linux-kernel/xdma``: ``cdev_sgdma.c``, ``cdev_ctrl.c``, ``cdev_events.c``.
"""

import os
import select
from pathlib import Path

from tailrace.spec.errors import ConfigError, LinkError
from tailrace.spec.vector import ALIGNMENT

from .device_files import check_span, open_device_file
from .interrupt import InterruptWait
from .mapped_device import MappedDevice
from .mapped_registers import MappedRegisters

#: Bytes of a transfer: the kernel driver gives one up after ten seconds, and keeps all of its pages in memory.
_TRANSFER = 8 << 20
_LOAD = (
    "load the xdma driver of Xilinx' dma_ip_drivers (modprobe xdma), and check with lspci -d 10ee: that the card is there,"
    " which it is only after a bitstream was loaded and the bus was scanned again"
)


class XdmaTransport(MappedDevice):
    """A `tailrace.spec.transport.Transport` over the XDMA driver's character devices.

    Memory is written through ``PREFIX_h2c_0`` and read through ``PREFIX_c2h_0``, registers are mapped from ``PREFIX_user``,
    and the interrupt arrives at ``PREFIX_events_0``.

    Parameters
    ----------
    prefix : Path or str
        What the names of the device files begin with, such as ``/dev/xdma0``.
    memory_size : int
        Bytes of device memory, a positive multiple of 64.
    control_offset : int
        Byte of the AXI4-Lite space (``PREFIX_user``) at which ``s_axi_control`` is mapped, a multiple of 4.
    memory_offset : int
        Address of the AXI space of the DMA at which the device's address 0 is mapped, a multiple of 64.
    events : bool
        Whether the core's interrupt is wired to ``usr_irq_req[0]``; if not, its registers are read again and again.

    Raises
    ------
    ConfigError
        If a parameter is out of range.
    LinkError
        If a device file is missing or can't be opened. Every other method raises it when a transfer fails.
    """

    def __init__(
        self,
        prefix: Path | str,
        memory_size: int,
        *,
        control_offset: int = 0,
        memory_offset: int = 0,
        events: bool = True,
    ) -> None:
        if memory_size <= 0 or memory_size % ALIGNMENT:
            raise ConfigError(f"memory_size must be a positive multiple of {ALIGNMENT}, not {memory_size}")
        if memory_offset < 0 or memory_offset % ALIGNMENT:
            raise ConfigError(f"memory_offset must be a multiple of {ALIGNMENT}, not {memory_offset:#x}")
        super().__init__()
        self.name, self.simulated, self.memory_size = f"xdma:{prefix}", False, memory_size
        self._base = memory_offset
        self._paths = {part: Path(f"{prefix}_{part}") for part in ("user", "h2c_0", "c2h_0", "events_0")}
        self._files: dict[str, int] = {}
        try:
            for part, flags in {"user": os.O_RDWR | os.O_SYNC, "h2c_0": os.O_WRONLY, "c2h_0": os.O_RDONLY}.items():
                self._files[part] = open_device_file(self._paths[part], flags, _LOAD, alone=part == "user")
            if events:
                self._files["events_0"] = open_device_file(
                    self._paths["events_0"], os.O_RDONLY, "enable user interrupts in the XDMA core, or add wait=poll"
                )
            self._registers = MappedRegisters(self._files["user"], self._paths["user"], offset=control_offset)
        except BaseException:
            self.close()
            raise
        self._wait = InterruptWait(self.read_register, self._next_event if events else None)

    def read(self, address: int, size: int) -> bytes:
        """Read `size` bytes of device memory."""
        check_span("read", address, size, self.memory_size)
        data = bytearray(size)
        view, done = memoryview(data), 0
        while done < size:
            part = view[done : done + _TRANSFER]
            done += self._transfer("c2h_0", address + done, part)
        return bytes(data)

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Write device memory. The data has reached the memory when this returns."""
        view = memoryview(data).cast("B")
        check_span("write", address, len(view), self.memory_size)
        done = 0
        while done < len(view):
            done += self._transfer("h2c_0", address + done, view[done : done + _TRANSFER])

    def _release(self) -> None:
        files, self._files = self._files, {}
        for file in files.values():
            os.close(file)

    def _transfer(self, part: str, address: int, view: memoryview) -> int:
        """Move some bytes; returns how many, at least 1: what is missing is asked for again."""
        writes = part.startswith("h2c")
        place = self._base + address
        try:
            with self._opened():
                moved = os.pwrite(self._files[part], view, place) if writes else os.preadv(self._files[part], [view], place)
            reason = "nothing was transferred"
        except OSError as error:
            moved, reason = 0, error.strerror or str(error)
        if moved <= 0:
            raise LinkError(
                f"{self._paths[part]}: {'writing' if writes else 'reading'} {len(view)} bytes at {place:#x} failed: {reason}."
                " Check that the design maps memory there and that it answers; dmesg shows what the DMA engine reported"
            )
        return moved

    def _next_event(self, seconds: float) -> bool:
        with self._opened():
            poll = select.poll()
            poll.register(self._files["events_0"], select.POLLIN)
            if not poll.poll(1000 * seconds):
                return False
            # The driver forgets its count of interrupts when all four bytes are read, and refuses any other length.
            return bool(os.read(self._files["events_0"], 4))
