"""Errors: the codes that the device reports, and the exceptions that reach a user."""

from enum import IntEnum


class ErrorCode(IntEnum):
    """Value of the ``ERROR_CODE`` register after a run."""

    NONE = 0
    #: The opcode is not one of this instruction set.
    BAD_OPCODE = 1
    #: A reserved bit is set, the format is not one of this build, or a slot does not exist.
    BAD_FIELD = 2
    #: A length, an offset or an address exceeds the limits of this build, or is zero where it must not be.
    OUT_OF_RANGE = 3
    #: The address of the queue is not a multiple of 64, or ``BASE`` or ``LIMIT`` not one of 4096.
    MISALIGNED = 4
    #: The memory answered a read with an error response, or it was to be at or behind ``LIMIT``.
    READ_ERROR = 5
    #: The memory answered a write with an error response, or it was to be at or behind ``LIMIT``.
    WRITE_ERROR = 6
    #: No progress on any bus for as long as ``WATCHDOG_CYCLES`` says.
    WATCHDOG = 7


#: What a user can do about each code.
ADVICE: dict[ErrorCode, str] = {
    ErrorCode.NONE: "nothing is wrong",
    ErrorCode.BAD_OPCODE: "the command queue is damaged or was made for another instruction set: import the model again",
    ErrorCode.BAD_FIELD: "the command was made for another build: import the model again for this device",
    ErrorCode.OUT_OF_RANGE: "the command exceeds this build's limits: use a larger configuration",
    ErrorCode.MISALIGNED: "the queue's address must be a multiple of 64, BASE and LIMIT multiples of 4096",
    ErrorCode.READ_ERROR: "the memory, or LIMIT, refused a read: check that the address lies within the device's memory",
    ErrorCode.WRITE_ERROR: "the memory, or LIMIT, refused a write: check that the address lies within the device's memory",
    ErrorCode.WATCHDOG: "the memory stopped answering: check its clock and reset, then start again",
}


class TailraceError(Exception):
    """Base of all errors that a user can cause or meet. ``str()`` is one message that says what to do."""

    #: Exit code of the command line.
    exit_code = 1


class ConfigError(TailraceError, ValueError):
    """A configuration is not one that can be built."""


class HostMemoryError(ConfigError):
    """The host has no room for the memory of a device without hardware.

    Parameters
    ----------
    size : int
        Bytes of the device's memory.
    """

    def __init__(self, size: int) -> None:
        super().__init__(f"this machine has no room for {size:,} bytes of device memory: choose less, or leave it to auto")


class ModelError(TailraceError):
    """A model file is missing, damaged, or of a kind that can't run here."""


class LimitError(ModelError):
    """A model, a prompt or a context does not fit the device."""


class ToolError(TailraceError):
    """A tool or package that is needed is missing, too old, or failed."""


class MissingPackage(ToolError):
    """A Python package of an extra is not installed.

    Parameters
    ----------
    package : str
        Its name, or several.
    purpose : str
        What it is needed for, after "is needed".
    extra : str
        The extra of Tailrace that has it.
    """

    def __init__(self, package: str, purpose: str, extra: str) -> None:
        super().__init__(
            f"the Python package {package} is needed {purpose}: run make setup in Tailrace's folder, or there:"
            f" .venv/bin/pip install -e '.[{extra}]'"
        )


class DeviceError(TailraceError):
    """The device stopped a program.

    Parameters
    ----------
    code : ErrorCode
    command : int
        Index in the queue of the command that failed.
    address : int
        Address of the failing transfer, from ``BASE`` on, for reads and writes that failed; 0 otherwise.
    """

    def __init__(self, code: ErrorCode, command: int, address: int) -> None:
        self.code, self.command, self.address = ErrorCode(code), command, address
        place = f" at address {address:#x}" if self.code in (ErrorCode.READ_ERROR, ErrorCode.WRITE_ERROR) else ""
        super().__init__(f"the device stopped at command {command} with {self.code.name}{place}: {ADVICE[self.code]}")


class DeviceTimeout(TailraceError):
    """The device did not finish in time."""


class DeviceClosed(TailraceError):
    """The device was closed, or somebody else has opened it since."""

    def __init__(self) -> None:
        super().__init__("the device is closed: open it again")


class LinkError(TailraceError):
    """The link to a board failed, or the board refused what it was asked for."""
