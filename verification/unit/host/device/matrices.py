"""Matrices and devices to multiply them on."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailrace.device.driver import Device
from tailrace.device.products import Matrix, upload
from tailrace.gguf.blocks import BlockFields
from tailrace.gguf.file import Tensor
from tailrace.golden.device import GoldenDevice
from tailrace.spec.config import CONFIGS, Config, parse_config
from tailrace.spec.formats import BY_NAME, Format, ScaleKind
from tailrace.spec.registers import AP_START, offset
from tailrace.spec.vector import ALIGNMENT

SEED = 40
MIB = 1 << 20
Q8_0 = BY_NAME["Q8_0"]
_AP_CTRL = offset("AP_CTRL")


def tensor(fmt: Format, rows: int, per_row: int) -> Tensor:
    """A matrix with `per_row` blocks of the file in a row: any codes, scales of a sensible size."""
    random = np.random.default_rng((SEED, fmt.number, rows, per_row))
    raw = random.integers(0, 256, (rows, per_row, fmt.file_bytes), dtype=np.uint8)
    scales = raw[..., BlockFields.of(fmt).scale]
    if fmt.scale_kind is ScaleKind.EXPONENT:
        scales[...] = random.integers(100, 120, scales.shape)
    elif fmt.scale_kind is ScaleKind.FLOAT8:
        scales[...] = random.integers(0, 0x30, scales.shape)
    else:
        for byte in range(1, 2 + 2 * fmt.has_minimum, 2):
            scales[..., byte] = random.integers(0x20, 0x30, (rows, per_row))
    return Tensor("m", fmt.name, fmt.ggml_type, (rows, per_row * fmt.file_elements), raw.reshape(rows, -1))


class Faulty(GoldenDevice):
    """A golden device whose registers and waiting can be made to misbehave."""

    def __init__(self, config: Config = CONFIGS["tiny"], memory_size: int = MIB) -> None:
        super().__init__(config, memory_size)
        self.replaced: dict[int, int] = {}
        self.wait_error: BaseException | None = None

    def read_register(self, offset: int) -> int:
        return self.replaced.get(offset, super().read_register(offset))

    def wait(self, timeout: float) -> None:
        if self.wait_error is not None:
            error, self.wait_error = self.wait_error, None
            raise error
        super().wait(timeout)


class Late(Faulty):
    """A golden device that writes the results of a run while it is waited for: until then it is busy."""

    def __init__(self, config: Config = CONFIGS["tiny"], memory_size: int = MIB) -> None:
        super().__init__(config, memory_size)
        self.busy = False
        self._results: list[tuple[int, bytes]] = []

    def read_register(self, offset: int) -> int:
        if self.busy and offset == _AP_CTRL:
            return 0
        return super().read_register(offset)

    def write_register(self, offset: int, value: int) -> None:
        before = self._lines()
        super().write_register(offset, value)
        if offset == _AP_CTRL and value & AP_START:
            self.busy = True
            after = self._lines()
            changed = np.flatnonzero((before != after).any(axis=1))
            self._results = [(ALIGNMENT * int(n), after[n].tobytes()) for n in changed]
            for n in changed:
                self.write(ALIGNMENT * int(n), before[n].tobytes())

    def _lines(self) -> NDArray[np.uint8]:
        return np.frombuffer(self.read(0, self.memory_size), dtype=np.uint8).reshape(-1, ALIGNMENT)

    def wait(self, timeout: float) -> None:
        if self.busy and self.wait_error is None:
            for address, line in self._results:
                self.write(address, line)
            self.busy = False
        super().wait(timeout)


def open_golden(config: str = "tiny", memory: int = MIB, **options: Any) -> Device:
    return Device(GoldenDevice(parse_config(config), memory), **options)


def matrix_on(device: Device, fmt: Format = Q8_0, rows: int = 9, per_row: int = 3) -> Matrix:
    return upload(device, "m", fmt, tensor(fmt, rows, per_row).data)
