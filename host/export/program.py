"""What the testbench runs: decode steps of a small model, and what the golden model makes of them."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tailrace.golden.device import GoldenDevice
from tailrace.spec.config import Config
from tailrace.spec.registers import AP_START, IDENTIFICATION, offset

from ..device.decoder import Decoder
from ..device.driver import Device
from ..gguf.describe import import_model
from ..gguf.file import open_model
from ..image.allocator import align
from ..models.random_model import CONTEXT, VOCABULARY, write_random_model

_MEMORY = 1 << 20
#: Tokens that the device chooses on its own with the first doorbell.
_CHOSEN = 2
_DOORBELL = (offset("AP_CTRL"), AP_START)


@dataclass(frozen=True)
class BenchProgram:
    """A run to be repeated by any simulator.

    Attributes
    ----------
    before, after : bytes
        Device memory before the first doorbell and after the last run; a multiple of 64 bytes.
    writes : tuple of (int, int)
        Offset and value of all that the driver wrote to registers, in order; writing start to ``AP_CTRL`` is a doorbell.
    identification : tuple of (int, int)
        Offset and value of the registers that tell the build.
    """

    before: bytes
    after: bytes
    writes: tuple[tuple[int, int], ...]
    identification: tuple[tuple[int, int], ...]

    @property
    def doorbells(self) -> int:
        """Runs."""
        return self.writes.count(_DOORBELL)


class _Recorder(GoldenDevice):
    """A golden device that remembers what a driver did to it."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, _MEMORY)
        self.writes: list[tuple[int, int]] = []
        self.before = b""

    def write(self, address: int, data: bytes | memoryview) -> None:
        assert not self.before, "memory must stay as it was at the first doorbell"
        super().write(address, data)

    def write_register(self, offset: int, value: int) -> None:
        if (offset, value) == _DOORBELL and not self.before:
            self.before = self.read(0, self.memory_size)
        self.writes.append((offset, value))
        super().write_register(offset, value)


def record_program(config: Config) -> BenchProgram:
    """Decode with the small model on a golden device of this build.

    The first doorbell lets the device choose two tokens, the second only takes a token, the third computes logits; each reads
    the keys and values of those before it.

    Parameters
    ----------
    config : Config

    Returns
    -------
    BenchProgram
    """
    with TemporaryDirectory(prefix="tailrace-") as folder:
        path = Path(folder, "random.gguf")
        write_random_model(path)
        imported = import_model(open_model(path), CONTEXT)
        device = _Recorder(config)
        decoder = Decoder(Device(device), imported, tokens_per_doorbell=_CHOSEN)
        token = decoder.run(1, _CHOSEN)[-1]
        assert isinstance(token, int)
        decoder.prefill([token])
        decoder.step((token + 1) % VOCABULARY)
    end = align(decoder.programs.end)
    after = device.read(0, device.memory_size)
    assert not any(after[end:]), "results must lie below the programs"
    identification = tuple((r.offset, device.read_register(r.offset)) for r in IDENTIFICATION)
    return BenchProgram(device.before[:end], after[:end], tuple(device.writes), identification)
