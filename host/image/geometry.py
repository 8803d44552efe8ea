"""What a build of the device can do, as its registers or its configuration state it."""

from dataclasses import dataclass

from tailrace.spec.config import Config
from tailrace.spec.errors import TailraceError
from tailrace.spec.formats import FORMAT_MASK, WEIGHT_FORMATS, Format
from tailrace.spec.isa import ISA_MAJOR, ISA_VERSION, MAX_COMMANDS
from tailrace.spec.registers import MAGIC, offset
from tailrace.spec.transport import Transport
from tailrace.spec.vector import ALIGNMENT


@dataclass(frozen=True)
class Geometry:
    """The numbers that layouts and command lists depend on; each attribute is the register of the same name.

    `version` is the ISA version, major number in the upper half.
    """

    version: int
    bus_width: int
    lanes: int
    right_hand_sides: int
    channels: int
    formats: int
    max_blocks: int
    buffer_entries: int
    max_commands: int
    address_width: int

    @property
    def beat_bytes(self) -> int:
        """Bytes of a beat: what the core reads or writes in a cycle."""
        return self.bus_width * self.channels // 8

    @property
    def alignment(self) -> int:
        """What addresses of matrices and of the KV cache are multiples of: 64 bytes, or a beat that has more."""
        return max(self.beat_bytes, ALIGNMENT)

    def reads(self, number: int) -> bool:
        """Whether the build reads the weight format with this number."""
        return bool(self.formats >> number & 1)

    @property
    def readable(self) -> tuple[Format, ...]:
        """The weight formats that the build reads and this package knows."""
        return tuple(f for f in WEIGHT_FORMATS if self.reads(f.number))

    @classmethod
    def of_config(cls, config: Config) -> "Geometry":
        """Geometry of a build with this configuration."""
        return cls(
            version=ISA_VERSION,
            bus_width=config.bus_width,
            lanes=config.lanes,
            right_hand_sides=config.right_hand_sides,
            channels=config.channels,
            formats=FORMAT_MASK,
            max_blocks=config.vector_blocks,
            buffer_entries=config.buffer_entries,
            max_commands=MAX_COMMANDS,
            address_width=config.address_width,
        )

    @classmethod
    def of_device(cls, transport: Transport) -> "Geometry":
        """Geometry that a device states.

        Raises
        ------
        TailraceError
            If what answers is not a Tailrace device, or its instruction set has another major version.
        """
        magic = transport.read_register(offset("MAGIC"))
        if magic != MAGIC:
            raise TailraceError(
                f"{transport.name} is not a Tailrace device: its MAGIC register reads {magic:#010x}, not {MAGIC:#010x}."
                " Check the base address of its registers, its clock and its reset."
            )
        version = transport.read_register(offset("ISA_VERSION"))
        if version >> 16 != ISA_MAJOR:
            raise TailraceError(
                f"{transport.name} has instruction set {version >> 16}.{version & 0xFFFF}, and this driver speaks"
                f" {ISA_MAJOR}.x: rebuild the device, or install the release of tailrace that matches it."
            )
        names = ("bus_width", "lanes", "right_hand_sides", "channels", "formats", "max_blocks", "buffer_entries",
                 "max_commands", "address_width")  # fmt: skip
        return cls(version=version, **{n: transport.read_register(offset(n.upper())) for n in names})
