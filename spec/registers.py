"""The register map of ``s_axi_control``.

32-bit registers at byte offsets, with the ap_ctrl conventions that XRT, PYNQ and bare MMIO drivers know (UG1393, "Control
requirements for XRT-managed kernels").
"""

from dataclasses import dataclass

from .isa import ARGUMENTS, FIRST_ARGUMENT

#: Value of the ``MAGIC`` register: "TLRC" in ASCII, little endian.
MAGIC = int.from_bytes(b"TLRC", "little")
#: Bits of a byte offset that ``s_axi_control`` decodes.
ADDRESS_BITS = 12


@dataclass(frozen=True)
class Register:
    """A register. `access` is ``rw``, ``ro``, or ``special`` where the text says what reading and writing do.

    `reset` is the value of a writable register after reset.
    """

    name: str
    offset: int
    access: str
    doc: str
    reset: int = 0


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
    Register("QUEUE_LENGTH", 0x1C, "rw", "number of commands to run, 0 to MAX_COMMANDS"),
    Register(
        "WATCHDOG_CYCLES",
        0x24,
        "rw",
        "cycles without a transfer on the memory bus after which a run is stopped; 0: never. The vector unit works for up to"
        " 4095 * BUFFER_ENTRIES cycles without one, if a command has that many segments.",
        reset=1 << 20,
    ),
    *(
        Register(f"ARGUMENT_{i}", 0x1A0 + 4 * i, "rw", f"register r{FIRST_ARGUMENT + i} of the program when a run starts")
        for i in range(ARGUMENTS)
    ),
)

IDENTIFICATION: tuple[Register, ...] = (
    Register("MAGIC", 0x40, "ro", "0x43524C54, 'TLRC'"),
    Register("ISA_VERSION", 0x44, "ro", "major number in the upper half, minor in the lower"),
    Register("BUS_WIDTH", 0x48, "ro", "bits of the memory bus"),
    Register("LANES", 0x4C, "ro", "lanes: rows that are multiplied at once"),
    Register("RIGHT_HAND_SIDES", 0x50, "ro", "vector slots"),
    Register("CHANNELS", 0x54, "ro", "AXI masters"),
    Register("FORMATS", 0x58, "ro", "bit n: weight format number n"),
    Register("MAX_BLOCKS", 0x5C, "ro", "blocks of 32 elements in a vector slot: the longest row"),
    Register("BUFFER_ENTRIES", 0x60, "ro", "float32 entries of the activation buffer; the rows of a matrix"),
    Register("MAX_COMMANDS", 0x68, "ro", "commands in a queue"),
    Register("ADDRESS_WIDTH", 0x6C, "ro", "bits of an address"),
    Register("READ_FIFO_BEATS", 0x70, "ro", "beats that may be on their way from memory"),
    Register("BURST_BEATS", 0x74, "ro", "longest read burst in beats"),
)

ERROR: tuple[Register, ...] = (
    Register("ERROR_CODE", 0x80, "ro", "why the last run stopped, 0 if it finished"),
    Register("ERROR_COMMAND", 0x84, "ro", "index of the command that failed"),
    Register("ERROR_ADDRESS_LO", 0x88, "ro", "address of the failing bus transfer, lower half"),
    Register("ERROR_ADDRESS_HI", 0x8C, "ro", "upper half"),
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

REGISTERS: tuple[Register, ...] = CONTROL + IDENTIFICATION + ERROR + COUNTER_REGISTERS
BY_NAME: dict[str, Register] = {r.name: r for r in REGISTERS}


def offset(name: str) -> int:
    """Byte offset of the register called `name`."""
    return BY_NAME[name].offset
