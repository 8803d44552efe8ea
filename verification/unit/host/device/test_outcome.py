"""What a run leaves in the registers, as the driver reads it: each counter and each error in its place, in one go."""

import pytest

from tailrace.device.counters import NAMES
from tailrace.device.outcome import read_outcome
from tailrace.golden.device import GoldenDevice
from tailrace.spec.config import CONFIGS
from tailrace.spec.errors import ErrorCode
from tailrace.spec.registers import BY_NAME, COUNTER_REGISTERS, ERROR


class Readable(GoldenDevice):
    """A device with values of its own in its error registers and counters; `asked` is what is read together."""

    def __init__(self, code: int) -> None:
        super().__init__(CONFIGS["tiny"], 4096)
        #: Each register holds its own offset, in both halves of it.
        self.values = {r.offset: r.offset << 16 | r.offset for r in ERROR + COUNTER_REGISTERS}
        self.values[BY_NAME["ERROR_CODE"].offset] = code
        self.asked: list[range] = []

    def read_register(self, offset: int) -> int:
        return self.values.get(offset, super().read_register(offset))

    def read_registers(self, offset: int, count: int) -> list[int]:
        self.asked.append(range(offset, offset + 4 * count, 4))
        return super().read_registers(offset, count)

    def wide(self, name: str) -> int:
        low, high = (self.values[BY_NAME[f"{name}_{half}"].offset] for half in ("LO", "HI"))
        return high << 32 | low


@pytest.mark.parametrize("code", [0, ErrorCode.READ_ERROR])
def test_outcome(code: int) -> None:
    device = Readable(code)
    counters, error = read_outcome(device, 77)
    assert counters.values == {name: device.wide(name) for name in NAMES}
    assert (counters.runs, counters.weight_bytes) == (1, 77)
    assert (error is not None) == (code != 0)
    if error is not None:
        assert (error.code, error.command) == (code, device.values[BY_NAME["ERROR_COMMAND"].offset])
        assert error.address == device.wide("ERROR_ADDRESS")


def test_reading_changes_nothing() -> None:
    """All at once, and no register that reading changes: a link may read them again."""
    device = Readable(0)
    read_outcome(device)
    (places,) = device.asked
    assert {r.offset for r in ERROR + COUNTER_REGISTERS} <= set(places)
    assert all(r.access != "special" for r in BY_NAME.values() if r.offset in places)
