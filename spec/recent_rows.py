"""Rows of a sequence's recent inputs: what a causal convolution sees of the tokens before.

For each layer and sequence there is a ring of `ROWS` rows of float32, each padded to 64 bytes. The row of position ``p`` is
``p % ROWS``; ``STORE`` writes it, later tokens read it as a streamed operand. Before the first token the rows that stand for
positions before it are zero. A sequence can be cut to any length whose last ``kernel - 1`` rows are still there.
"""

from dataclasses import dataclass

#: Rows of a ring: more than a linear attention's list and a kernel together, and a power of two.
ROWS = 128
ROWS_SHIFT = 7
#: Bytes that places in memory are multiples of.
UNIT = 64


def padded(size: int) -> int:
    """Bytes, rounded up to a multiple of 64."""
    return -(-size // UNIT) * UNIT


@dataclass(frozen=True)
class RecentRows:
    """A ring of rows.

    Attributes
    ----------
    channels : int
        Elements of a row.
    kernel : int
        Taps of the convolution: a token's own input, and ``kernel - 1`` rows.
    """

    channels: int
    kernel: int

    @property
    def pitch(self) -> int:
        """Bytes from one row to the next."""
        return padded(4 * self.channels)

    @property
    def size(self) -> int:
        """Bytes of the ring."""
        return ROWS * self.pitch

    @property
    def cleared(self) -> range:
        """Bytes that are zero before a sequence's first token."""
        return range((ROWS - self.kernel + 1) * self.pitch, self.size)

    def earliest(self, length: int) -> int:
        """Fewest tokens but 0 that a sequence of `length` tokens can be cut to."""
        return max(length - ROWS + self.kernel - 1, 0)
