"""How the bytes of device memory are dealt out to several channels (docs/adr/0017)."""


def bytes_before(address: int, channel: int, channels: int, port_bytes: int) -> int:
    """Bytes of a channel that lie before an address of device memory.

    Device memory is striped: of each ``channels * port_bytes`` bytes in a row the first `port_bytes` are channel 0's, the next
    ones channel 1's, and so on. A channel's own addresses count its bytes. So of the bytes from `first` on and before `end` a
    channel has those from ``bytes_before(first, ...)`` on and before ``bytes_before(end, ...)``.

    Parameters
    ----------
    address : int
        Of device memory, in bytes.
    channel : int
        Number of the channel, from 0 on.
    channels : int
        How many there are.
    port_bytes : int
        Bytes that a channel's port transfers in a cycle.

    Returns
    -------
    int
        The channel's own address of the first of its bytes that is not before `address`.
    """
    rows, rest = divmod(address, channels * port_bytes)
    return rows * port_bytes + min(max(rest - channel * port_bytes, 0), port_bytes)
