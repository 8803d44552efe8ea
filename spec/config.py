"""Configurations: what a build of the co-processor is made of."""

from dataclasses import dataclass, fields, replace

from .errors import ConfigError
from .formats import LANE_BYTES
from .numerics import ACCUMULATOR_BLOCKS
from .vector import ALIGNMENT

BUS_WIDTHS = (128, 256, 512)
RIGHT_HAND_SIDES = (1, 2, 4, 8, 16)
#: Elements of a word of the vector unit; 0: as many as there are lanes, if there is such a width.
VECTOR_WIDTHS = (0, 1, 2, 4)
CHANNELS = (1, 2, 4, 8, 16, 32)
#: Widest beat of all channels together.
MAX_BEAT_WIDTH = 8192


@dataclass(frozen=True)
class Config:
    """Parameters of a build.

    Parameters
    ----------
    name : str
        Name for reports; not part of the hardware.
    bus_width : int
        Bits of a memory port: 128, 256 or 512. There is one lane per 128 bits of all ports together.
    right_hand_sides : int
        Vectors that share one pass over the weights: 1, 2, 4, 8 or 16.
    vector_blocks : int
        Blocks of 32 elements that a vector slot holds; the longest matrix row, and a sixteenth of the longest context. A
        power of two, 64 to 4096.
    buffer_entries : int
        Entries of the activation buffer, float32 each: activations, attention scores and results on the device. A power of two,
        1024 to 65536.
    read_fifo_beats : int
        Beats that may be on their way from memory. A power of two, at least twice `burst_beats`. Latencies below
        ``read_fifo_beats - burst_beats`` cycles are covered.
    burst_beats : int
        Longest read burst in beats: a power of two, 16 to 64, so that a burst never exceeds 4 KiB.
    address_width : int
        Bits of an address that the device drives; 32 to 64.
    vector_width : int
        Elements that the vector unit takes in a cycle: 1, 2 or 4; 0: as many as there are lanes, 4 at most (`word_elements`).
        No bit of a result depends on the width.
    channels : int
        Memory ports: 1 to 32, a power of two. Memory is striped over them, so that they work as one port of `beat_width` bits,
        at most 8192.
        No image, command or result depends on how many ports these bits come from.
    """

    name: str
    bus_width: int
    right_hand_sides: int = 1
    vector_blocks: int = 512
    buffer_entries: int = 16384
    read_fifo_beats: int = 512
    burst_beats: int = 64
    address_width: int = 40
    vector_width: int = 0
    channels: int = 1

    def __post_init__(self) -> None:
        if self.bus_width not in BUS_WIDTHS:
            raise ConfigError(f"bus_width must be one of {BUS_WIDTHS}, not {self.bus_width}")
        if self.right_hand_sides not in RIGHT_HAND_SIDES:
            raise ConfigError(f"right_hand_sides must be one of {RIGHT_HAND_SIDES}, not {self.right_hand_sides}")
        _check_power(self, "vector_blocks", 64, ACCUMULATOR_BLOCKS)
        _check_power(self, "buffer_entries", 1024, 65536)
        _check_power(self, "burst_beats", 16, 64)
        _check_power(self, "read_fifo_beats", 2 * self.burst_beats, 4096)
        if not 32 <= self.address_width <= 64:
            raise ConfigError(f"address_width must be between 32 and 64, not {self.address_width}")
        if self.vector_width not in VECTOR_WIDTHS:
            raise ConfigError(f"vector_width must be one of {VECTOR_WIDTHS}, not {self.vector_width}")
        if self.channels not in CHANNELS:
            raise ConfigError(f"channels must be one of {CHANNELS}, not {self.channels}")
        if self.beat_width > MAX_BEAT_WIDTH:
            raise ConfigError(
                f"{self.channels} channels of {self.bus_width} bits make beats of {self.beat_width}, and {MAX_BEAT_WIDTH} are"
                " possible: choose fewer channels, or a smaller bus_width"
            )

    def check_memory_size(self, size: int) -> None:
        """Check that a device of this build can have so many bytes of memory.

        Raises
        ------
        ConfigError
            If they are no positive multiple of `alignment`, or more than it has addresses.
        """
        if size <= 0 or size % self.alignment:
            raise ConfigError(f"memory_size must be a positive multiple of {self.alignment}, not {size}")
        if size > 1 << self.address_width:
            raise ConfigError(f"{size} bytes of memory need more than this build's {self.address_width} address bits")

    @property
    def lanes(self) -> int:
        """Lanes: one per 128 bits of a beat."""
        return self.beat_width // (8 * LANE_BYTES)

    @property
    def word_elements(self) -> int:
        """Elements of a word of the vector unit, which takes a word in a cycle."""
        return self.vector_width or min(self.lanes, max(VECTOR_WIDTHS))

    @property
    def beat_width(self) -> int:
        """Bits of a beat: what the core reads or writes in a cycle, all channels together."""
        return self.bus_width * self.channels

    @property
    def beat_bytes(self) -> int:
        """Bytes of a beat."""
        return self.beat_width // 8

    @property
    def unit_bytes(self) -> int:
        """Bytes of a beat of commands and vectors: a beat, or of a wider one the 64 bytes that addresses count."""
        return min(self.beat_bytes, ALIGNMENT)

    @property
    def unit_width(self) -> int:
        """Bits of a beat of commands and vectors."""
        return 8 * self.unit_bytes

    @property
    def beat_units(self) -> int:
        """Beats of commands and vectors in a beat: 1, or more if a beat has more than 64 bytes."""
        return self.beat_bytes // self.unit_bytes

    @property
    def alignment(self) -> int:
        """What addresses of matrices and of the KV cache are multiples of: 64 bytes, or a beat that has more."""
        return max(self.beat_bytes, ALIGNMENT)

    @property
    def bus_bytes(self) -> int:
        """Bytes of what one memory port transfers in a cycle: a channel's part of a beat."""
        return self.bus_width // 8


def memory_port_names(config: Config) -> list[str]:
    """Names of a build's memory ports, one for each channel."""
    return [f"m{n:02}_axi" for n in range(config.channels)]


def _check_power(config: Config, field: str, low: int, high: int) -> None:
    value = getattr(config, field)
    if not low <= value <= high or value & (value - 1):
        raise ConfigError(f"{field} must be a power of two from {low} to {high}, not {value}")


CONFIGS: dict[str, Config] = {
    c.name: c
    for c in (
        Config("tiny", 128, vector_blocks=128, buffer_entries=4096),
        Config("base", 128),
        Config("large", 128, vector_blocks=1024, buffer_entries=32768),
        Config("wide", 512, right_hand_sides=4, vector_blocks=1024, buffer_entries=65536),
        # What an XC7A100T has multipliers and block RAM for, behind 16 pins of DDR3.
        Config("arty", 128, right_hand_sides=4, buffer_entries=32768, vector_width=2),
        # As `wide`, of four 128-bit ports.
        Config("kv260", 128, right_hand_sides=4, vector_blocks=1024, buffer_entries=65536, channels=4),
        # Eight of an HBM2 card's 32 pseudo-channels, and bursts as AXI3 has them.
        Config("u280-hbm", 256, right_hand_sides=4, vector_blocks=1024, buffer_entries=65536, channels=8, burst_beats=16),
    )
}


def parse_config(text: str) -> Config:
    """Read a configuration as the command line takes it: a name, then changes, as in ``base,bus_width=256``.

    Raises
    ------
    ConfigError
        If the name or a field is unknown, a value is out of range, or a field is given twice.
    TypeError
        If it is no text.
    """
    if not isinstance(text, str):
        raise TypeError(f"a configuration is a text here, as in 'base,bus_width=256', not {text!r}")
    name, *changes = text.split(",")
    if name not in CONFIGS:
        raise ConfigError(f"unknown configuration {name!r}: choose one of {', '.join(CONFIGS)}")
    known = {f.name for f in fields(Config)} - {"name"}
    values: dict[str, int] = {}
    for change in changes:
        field, _, value = change.partition("=")
        if field not in known:
            raise ConfigError(f"unknown field {field!r} of a configuration: choose from {', '.join(sorted(known))}")
        if field in values:
            raise ConfigError(f"{field} is given twice in configuration {text!r}")
        try:
            values[field] = int(value)
        except ValueError:
            raise ConfigError(f"{field} must be a whole number, not {value!r}") from None
    return replace(CONFIGS[name], name=text, **values) if values else CONFIGS[name]
