"""What a run leaves in the registers: its counters, and why it stopped."""

from tailrace.spec.errors import DeviceError, ErrorCode
from tailrace.spec.registers import COUNTER_REGISTERS, ERROR
from tailrace.spec.transport import REGISTER_BYTES, Transport

from .counters import NAMES, Counters

#: From the first error register to the last counter. At 3 Mbaud the zeros between them take 0.4 ms, and a second round trip
#: through a USB adapter would take more than 1 ms.
_PLACES = range(ERROR[0].offset, COUNTER_REGISTERS[-1].offset + REGISTER_BYTES, REGISTER_BYTES)


def read_outcome(transport: Transport, weight_bytes: int = 0) -> tuple[Counters, DeviceError | None]:
    """Read what the last run has left, in one go where that is cheaper. It must be over: until then the counters move.

    Parameters
    ----------
    transport : Transport
    weight_bytes : int
        Bytes of the model that the run has used, for the counters.

    Returns
    -------
    counters : Counters
    error : DeviceError or None
        Why the run was stopped; None: it was not.
    """
    words = dict(zip(_PLACES, transport.read_registers(_PLACES.start, len(_PLACES)), strict=True))
    registers = {r.name: words[r.offset] for r in ERROR + COUNTER_REGISTERS}

    def wide(name: str) -> int:
        return registers[f"{name}_HI"] << 32 | registers[f"{name}_LO"]

    counters = Counters({name: wide(name) for name in NAMES}, runs=1, weight_bytes=weight_bytes)
    code = registers["ERROR_CODE"]
    if not code:
        return counters, None
    return counters, DeviceError(ErrorCode(code), registers["ERROR_COMMAND"], wide("ERROR_ADDRESS"))
