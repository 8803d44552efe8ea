"""How memory is striped over channels, byte by byte as the decision states it."""


def channel_of(address: int, bus_bytes: int, channels: int) -> tuple[int, int]:
    """Channel of a byte of the device's memory, and its address there."""
    beat_bytes = bus_bytes * channels
    return address // bus_bytes % channels, address // beat_bytes * bus_bytes + address % bus_bytes


def place_of(channel: int, address: int, bus_bytes: int, channels: int) -> int:
    """The byte of the device's memory that lies at an address of a channel: what `channel_of` turns round."""
    stripe, rest = divmod(address, bus_bytes)
    return (stripe * channels + channel) * bus_bytes + rest
