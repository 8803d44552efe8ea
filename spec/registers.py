"""The register map of ``s_axi_control``.

32-bit registers at byte offsets, with the ap_ctrl conventions that XRT, PYNQ and bare MMIO drivers know (UG1393, "Control
requirements for XRT-managed kernels").
"""

from dataclasses import dataclass

from .config import CHANNELS
from .isa import ARGUMENTS, FIRST_ARGUMENT

#: Value of the ``MAGIC`` register: "TLRC" in ASCII, little endian.
MAGIC = int.from_bytes(b"TLRC", "little")
#: Bits of a byte offset that ``s_axi_control`` decodes.
ADDRESS_BITS = 12
#: What ``BASE`` and ``LIMIT`` are multiples of. No burst crosses a multiple of it, so a burst lies in memory that a program may
#: use, or outside, as a whole; and adding ``BASE`` changes no burst.
PAGE_BYTES = 4096
#: ``WATCHDOG_CYCLES`` that is left 0, as XRT leaves arguments that a host does not set.
DEFAULT_WATCHDOG_CYCLES = 1 << 20
#: ``WATCHDOG_CYCLES`` of a device that waits for ever.
NO_WATCHDOG = (1 << 32) - 1


@dataclass(frozen=True)
class Register:
    """A register. `access` is ``rw``, ``ro``, or ``special`` where the text says what reading and writing do.

    `reset` is the value of a writable register after reset. Builds of fewer memory ports than `channels` do not have it.
    """

    name: str
    offset: int
    access: str
    doc: str
    reset: int = 0
    channels: int = 1


#: Bits of ``AP_CTRL``.
AP_START, AP_DONE, AP_IDLE, AP_READY = 1 << 0, 1 << 1, 1 << 2, 1 << 3

CONTROL: tuple[Register, ...] = (
    Register(
        "AP_CTRL",
        0x00,
        "special",
        "bit 0 start: write 1 to run the queue (the doorbell), reads 1 until the run has finished; bit 1 done: a run has"
        " finished, cleared by reading; bit 2 idle: 1 while nothing runs; bit 3 ready: as done",
    ),
    Register("GIE", 0x04, "rw", "bit 0: the interrupt output is enabled"),
    Register("IER", 0x08, "rw", "bit 0: done raises the interrupt; bit 1: ready does"),
    Register(
        "ISR",
        0x0C,
        "special",
        "pending interrupts, bits as in IER, set only while enabled there; writing 1 to a bit toggles it",
    ),
    Register("QUEUE_ADDRESS_LO", 0x10, "rw", "address of the first command, a multiple of 64, lower half"),
    Register("QUEUE_ADDRESS_HI", 0x14, "rw", "upper half"),
    Register("QUEUE_LENGTH", 0x18, "rw", "number of commands to run, 0 to MAX_COMMANDS"),
    Register(
        "WATCHDOG_CYCLES",
        0x1C,
        "rw",
        "cycles without a transfer on the memory bus after which a run is stopped;"
        f" 0: {DEFAULT_WATCHDOG_CYCLES}; 0xFFFFFFFF: never. The vector unit works for up to 4095 * BUFFER_ENTRIES cycles"
        " without one, if a command has that many segments.",
        reset=DEFAULT_WATCHDOG_CYCLES,
    ),
    *(
        Register(f"ARGUMENT_{i}", 0x20 + 4 * i, "rw", f"register r{FIRST_ARGUMENT + i} of the program when a run starts")
        for i in range(ARGUMENTS)
    ),
    Register(
        "BASE_LO",
        0x40,
        "rw",
        f"what is added to every address, that of the queue and those in commands, on the way to the memory bus; a multiple of"
        f" {PAGE_BYTES}; of several channels this is the first one's; lower half",
    ),
    Register("BASE_HI", 0x44, "rw", "upper half"),
    Register(
        "LIMIT_LO",
        0x48,
        "rw",
        "bytes of memory from BASE on that a program may use, of all channels together: an address from LIMIT on is not sent to"
        f" the bus and ends the run with READ_ERROR or WRITE_ERROR; a multiple of {PAGE_BYTES} times CHANNELS; 0: all that"
        " ADDRESS_WIDTH reaches; lower half",
    ),
    Register("LIMIT_HI", 0x4C, "rw", "upper half"),
)

IDENTIFICATION: tuple[Register, ...] = (
    Register("MAGIC", 0x50, "ro", "0x43524C54, 'TLRC'"),
    Register("ISA_VERSION", 0x54, "ro", "major number in the upper half, minor in the lower"),
    Register("BUS_WIDTH", 0x58, "ro", "bits of a memory port"),
    Register("LANES", 0x5C, "ro", "lanes: rows that are multiplied at once"),
    Register("RIGHT_HAND_SIDES", 0x60, "ro", "vector slots"),
    Register("CHANNELS", 0x64, "ro", "memory ports, over which memory is striped by BUS_WIDTH"),
    Register("FORMATS", 0x68, "ro", "bit n: weight format number n"),
    Register("MAX_BLOCKS", 0x6C, "ro", "blocks of 32 elements in a vector slot: the longest row"),
    Register("BUFFER_ENTRIES", 0x70, "ro", "float32 entries of the activation buffer; the rows of a matrix"),
    Register("MAX_COMMANDS", 0x74, "ro", "commands in a queue"),
    Register("ADDRESS_WIDTH", 0x78, "ro", "bits of an address"),
    Register("READ_FIFO_BEATS", 0x7C, "ro", "beats that may be on their way from memory"),
    Register("BURST_BEATS", 0x80, "ro", "longest read burst in beats"),
    Register("VECTOR_WIDTH", 0x84, "ro", "elements that the vector unit takes in a cycle"),
)

ERROR: tuple[Register, ...] = (
    Register("ERROR_CODE", 0x90, "ro", "why the last run stopped, 0 if it finished"),
    Register("ERROR_COMMAND", 0x94, "ro", "index of the command that failed"),
    Register("ERROR_ADDRESS_LO", 0x98, "ro", "address of the failing transfer, from BASE on, lower half"),
    Register("ERROR_ADDRESS_HI", 0x9C, "ro", "upper half"),
)

#: Channels whose ``BASE_n`` lies in front of the counters; those of the others lie behind them.
_FIRST_CHANNELS = 4


def _base_offset(channel: int) -> int:
    return 0xA0 + 8 * (channel - 1) if channel < _FIRST_CHANNELS else 0x180 + 8 * (channel - _FIRST_CHANNELS)


#: ``BASE`` of the channels after the first one.
CHANNEL_BASES: tuple[Register, ...] = tuple(
    Register(
        f"BASE_{channel}_{half}",
        _base_offset(channel) + 4 * (half == "HI"),
        "rw",
        f"as BASE, for channel {channel}; lower half" if half == "LO" else "upper half",
        channels=channel + 1,
    )
    for channel in range(1, max(CHANNELS))
    for half in ("LO", "HI")
)

#: The performance counters, in the order of their registers. Each is 64 bits wide, starts at 0 with a run and stops with
#: it. Every cycle of a run is counted once in ``CYCLES`` and once in one of the others down to ``STALL_DRAIN``:
#: ``CYCLES`` is the sum of the beats and stalls.
COUNTERS: tuple[tuple[str, str], ...] = (
    ("CYCLES", "cycles from the doorbell to the end of the run"),
    ("COMMAND_BEATS", "read beats that carried commands"),
    ("VECTOR_BEATS", "read beats that carried vectors"),
    ("WEIGHT_BEATS", "read beats that carried weights"),
    ("STALL_MEMORY", "cycles without a read beat: reads were asked for and the memory had not answered yet"),
    ("STALL_BUFFER", "cycles without a read beat: nothing asked for, because the datapath had not made room for a burst"),
    (
        "STALL_FENCE",
        "cycles without a read beat: a FENCE, a READ, or a command that failed, waited for what came before it",
    ),
    ("STALL_COMMAND", "cycles without a read beat: the next read was not known yet"),
    ("STALL_DRAIN", "cycles without a read beat: all was read, and results were on their way to memory"),
    ("COMMANDS", "commands started"),
    ("WRITE_BEATS", "beats written to memory"),
    ("MATRIX_BUSY", "cycles in which the matrix unit had a command at work"),
    ("VECTOR_BUSY", "cycles in which the vector unit had a command at work"),
)
COUNTER_BASE = 0x100

COUNTER_REGISTERS: tuple[Register, ...] = tuple(
    Register(f"{name}_{half}", COUNTER_BASE + 8 * i + 4 * (half == "HI"), "ro", doc if half == "LO" else "upper half")
    for i, (name, doc) in enumerate(COUNTERS)
    for half in ("LO", "HI")
)

REGISTERS: tuple[Register, ...] = CONTROL + IDENTIFICATION + ERROR + CHANNEL_BASES + COUNTER_REGISTERS
BY_NAME: dict[str, Register] = {r.name: r for r in REGISTERS}


def registers_of(channels: int) -> tuple[Register, ...]:
    """The registers of a build of so many channels."""
    return tuple(register for register in REGISTERS if register.channels <= channels)


def base_registers(channels: int) -> tuple[str, ...]:
    """Names of the bases of a build of so many channels, without ``_LO`` and ``_HI``."""
    return ("BASE", *(f"BASE_{channel}" for channel in range(1, channels)))


def offset(name: str) -> int:
    """Byte offset of the register called `name`."""
    return BY_NAME[name].offset
