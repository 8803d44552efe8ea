"""Finds out whether the device runs commands, reports a bad one, raises its interrupt, and goes on afterwards."""

from collections.abc import Sequence

from tailrace.spec.commands import encode
from tailrace.spec.errors import DeviceError, DeviceTimeout, ErrorCode
from tailrace.spec.isa import COMMAND_BYTES, Opcode
from tailrace.spec.registers import AP_DONE, AP_IDLE, offset

from ..device.driver import Device
from ..transports.facts import statistics_of
from .examination import Examination, Fault

#: No opcode of any version.
_BAD = b"\xff" * COMMAND_BYTES
_PATH = (
    "the host's writes do not reach what the core reads: check that both see the same memory, at the same addresses"
    " (an offset or an address translation between them?)"
)


def check_runs(examination: Examination) -> str:
    """Run a good queue, one that must fail, and a good one again."""
    device = examination.driver
    fence = encode(Opcode.FENCE)
    queue = device.free_address
    _run(examination, device, [fence], queue)
    for bad in (0, 3):
        error = _run(examination, device, [fence] * bad + [_BAD], queue)
        if error is None:
            raise Fault("a command with an unknown opcode was not refused", f"the core does not run what was written: {_PATH}")
        if (error.code, error.command) != (ErrorCode.BAD_OPCODE, bad):
            raise Fault(f"a bad opcode in command {bad} was reported as {error.code.name} in command {error.command}", _PATH)
    _run(examination, device, [fence] * 5, queue)
    _check_interrupts(examination)
    counted = device.counters["COMMANDS"]
    return f"4 runs, 2 of them with the error that they should have; {counted} commands counted, interrupt raised"


def _run(examination: Examination, device: Device, commands: Sequence[bytes], queue: int) -> DeviceError | None:
    try:
        device.run(commands, queue)
    except DeviceError as error:
        if error.code is ErrorCode.BAD_OPCODE and commands[-1] == _BAD:
            return error
        if error.code is ErrorCode.READ_ERROR or error.code is ErrorCode.WRITE_ERROR:
            raise Fault(
                str(error), "the memory answers the core with an error: check the range that the interconnect maps"
            ) from None
        if commands[-1] == _BAD:
            return error
        raise Fault(f"a queue of FENCE commands was refused: {error}", _PATH) from None
    except DeviceTimeout:
        raise _explain_silence(examination) from None
    return None


def _explain_silence(examination: Examination) -> Fault:
    link = examination.link
    control, pending = (link.read_register(offset(name)) for name in ("AP_CTRL", "ISR"))
    cycles, beats, commands = (link.read_register(offset(f"{name}_LO")) for name in ("CYCLES", "COMMAND_BEATS", "COMMANDS"))
    seconds = f"within {examination.timeout:g} s"
    if control & (AP_DONE | AP_IDLE):
        return Fault(
            f"the run has finished, but its interrupt did not arrive {seconds} (ISR {pending:#x})",
            "check the wire from the core's interrupt to the host, and that it is level-sensitive; where there is none, open"
            " the device with wait=poll",
        )
    if beats:
        return Fault(
            f"the run has not finished {seconds}: {beats} beats of commands were read and {commands} commands started",
            "the memory answered and then stopped: check that it answers every read and every write, and the design's timing",
        )
    if cycles:
        return Fault(
            f"the run has not finished {seconds}: no command has come from memory in {cycles} cycles",
            "the memory does not answer the core: check m00_axi, the memory's clock and reset, and that it is calibrated",
        )
    return Fault(
        f"the run has not finished {seconds}: the core has not counted a cycle",
        "the core's clock stands still or its reset is active: check ap_clk and ap_rst_n",
    )


def _check_interrupts(examination: Examination) -> None:
    statistics = statistics_of(examination.link)
    if statistics.get("missed interrupts") and not statistics.get("interrupts"):
        raise Fault(
            f"runs finish, but their interrupt never arrives: {statistics['missed interrupts']} of them had to be looked for",
            "check the wire from the core's interrupt to the host; without one, open the device with wait=poll",
        )
