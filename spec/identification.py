"""What the identification registers say of a build."""

from .config import Config
from .formats import FORMAT_MASK
from .isa import ISA_VERSION, MAX_COMMANDS
from .registers import MAGIC


def identification(config: Config) -> dict[str, int]:
    """Values of the registers from ``MAGIC`` to ``VECTOR_WIDTH``, by name."""
    return {
        "MAGIC": MAGIC,
        "ISA_VERSION": ISA_VERSION,
        "BUS_WIDTH": config.bus_width,
        "LANES": config.lanes,
        "RIGHT_HAND_SIDES": config.right_hand_sides,
        "CHANNELS": config.channels,
        "FORMATS": FORMAT_MASK,
        "MAX_BLOCKS": config.vector_blocks,
        "BUFFER_ENTRIES": config.buffer_entries,
        "MAX_COMMANDS": MAX_COMMANDS,
        "ADDRESS_WIDTH": config.address_width,
        "READ_FIFO_BEATS": config.read_fifo_beats,
        "BURST_BEATS": config.burst_beats,
        "VECTOR_WIDTH": config.word_elements,
    }
