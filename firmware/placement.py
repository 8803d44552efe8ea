"""Where everything that a decode program uses lies in device memory.

Addresses, strides and sizes are in bytes, and multiples of 64. The host fills this in as it lays out a model; the program is
built from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tailrace.spec.linear_attention import StateLayout
from tailrace.spec.recent_rows import RecentRows


@dataclass(frozen=True)
class MatrixPart:
    """Consecutive rows of a matrix, in a stream of their own."""

    address: int
    first_row: int
    rows: int


@dataclass(frozen=True)
class MatrixPlace:
    """A matrix, in parts of so many rows that their results fit the activation buffer.

    Attributes
    ----------
    format : int
        Number of the format.
    exponent : int
        Power of two that the results are multiplied with (MXFP4, planes), else 0.
    rows, blocks : int
        Rows, and blocks of 32 elements in a row.
    parts : tuple of MatrixPart
        In the order of their rows.
    expert_stride : int
        For the matrices of experts, which all have the same form: distance from one expert's to the next one's.
    scale : int or None
        Entry of the layer's table ``scales`` with what the results are multiplied with; for experts that of the first one.
    """

    format: int
    exponent: int
    rows: int
    blocks: int
    parts: tuple[MatrixPart, ...]
    expert_stride: int = 0
    scale: int | None = None


@dataclass(frozen=True)
class TablePlace:
    """Rows of float32, each padded to 64 bytes: norm weights and biases (one row), embeddings, angles.

    A row of angles is the cosines of all pairs, then their sines; row ``p`` belongs to position ``p``. A table of embeddings
    with `stride` 0 has one row, which the driver writes before each token. The weights of a head norm are repeated for each
    head, each copy padded to 64 bytes.
    """

    address: int
    columns: int
    stride: int = 0


@dataclass(frozen=True)
class CachePlace:
    """The KV cache of one layer and one sequence (`tailrace.spec.kv_cache`).

    Attributes
    ----------
    keys, values, scales : int
        Addresses of those of KV head 0; scales are those of the values, float32.
    key_stride, value_stride, scale_stride : int
        From one KV head to the next.
    row_stride : int
        From one group of rows of values to the next.
    capacity : int
        Tokens for which there is room; with a window that many tokens at least.
    """

    keys: int
    values: int
    scales: int
    key_stride: int
    value_stride: int
    scale_stride: int
    row_stride: int
    capacity: int

    @property
    def addresses(self) -> tuple[int, ...]:
        """Where it lies."""
        return self.keys, self.values, self.scales

    @property
    def form(self) -> tuple[int, ...]:
        """What caches that lie elsewhere have in common."""
        return self.key_stride, self.value_stride, self.scale_stride, self.row_stride, self.capacity

    def moved(self, distance: int) -> "CachePlace":
        """The same, so many bytes further on."""
        keys, values, scales = (a + distance for a in self.addresses)
        return replace(self, keys=keys, values=values, scales=scales)


@dataclass(frozen=True)
class StatePlace:
    """What one layer and one sequence keep of their past that is no KV cache: a state with its list, or recent rows alone.

    Attributes
    ----------
    address : int
    layout : StateLayout or RecentRows
    """

    address: int
    layout: StateLayout | RecentRows

    @property
    def addresses(self) -> tuple[int, ...]:
        """Where it lies."""
        return (self.address,)

    @property
    def form(self) -> StateLayout | RecentRows:
        """What those that lie elsewhere have in common."""
        return self.layout

    @property
    def cleared(self) -> range:
        """Addresses of the bytes that are zero before a sequence's first token."""
        cleared = self.layout.cleared
        return range(self.address + cleared.start, self.address + cleared.stop)

    def moved(self, distance: int) -> "StatePlace":
        """The same, so many bytes further on."""
        return replace(self, address=self.address + distance)


@dataclass(frozen=True)
class Placement:
    """Everything in device memory.

    Attributes
    ----------
    matrices : mapping from role to MatrixPlace
    tables : mapping from role, or name of a table of angles, to TablePlace
    caches : tuple over sequences of tuples over layers of CachePlace or StatePlace
    logits : tuple of int
        For each sequence where its logits go (float32).
    tokens : tuple of int
        For each sequence where the tokens go that the device chose: one in every 64 bytes, as a 32-bit integer.
    """

    matrices: Mapping[str, MatrixPlace]
    tables: Mapping[str, TablePlace]
    caches: tuple[tuple[CachePlace | StatePlace, ...], ...]
    logits: tuple[int, ...] = ()
    tokens: tuple[int, ...] = ()


@dataclass(frozen=True)
class Build:
    """What a program must know of the device: the numbers of its registers."""

    lanes: int
    right_hand_sides: int
    buffer_entries: int
    vector_blocks: int
