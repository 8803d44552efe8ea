"""The configuration that a device states in its registers."""

from tailrace.spec.config import Config
from tailrace.spec.registers import offset
from tailrace.spec.transport import Transport

from ..image.geometry import Geometry


def stated_config(transport: Transport, geometry: Geometry) -> Config:
    """The configuration of a device, hardware included.

    Raises
    ------
    ConfigError
        If no device can be built so.
    """
    names = ("READ_FIFO_BEATS", "BURST_BEATS", "VECTOR_WIDTH")
    fifo, burst, vector_width = (transport.read_register(offset(name)) for name in names)
    return Config(
        "device",
        geometry.bus_width,
        right_hand_sides=geometry.right_hand_sides,
        vector_blocks=geometry.max_blocks,
        buffer_entries=geometry.buffer_entries,
        read_fifo_beats=fifo,
        burst_beats=burst,
        address_width=geometry.address_width,
        vector_width=vector_width,
        channels=geometry.channels,
    )
