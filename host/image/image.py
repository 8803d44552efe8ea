"""The memory image of a model: where everything that a decode program uses lies, and what goes there."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from tailrace.firmware.decode import MAX_ROWS, TOKEN_ROWS
from tailrace.firmware.description import Attention, Experts, layer_role
from tailrace.firmware.placement import Build, CachePlace, Placement, StatePlace
from tailrace.spec.formats import BY_NUMBER, Format

from ..gguf.describe import DescribedModel, Source


@dataclass(frozen=True)
class MatrixPiece:
    """A stream to be written: rows of one matrix, or of one expert's."""

    role: str
    address: int
    size: int
    source: Source
    format: Format
    exponent: int
    start: int
    stop: int
    expert: int = 0


@dataclass(frozen=True)
class TablePiece:
    """Rows of float32 to be written; `role` is that of a tensor, or the name of a table with a row for each position."""

    role: str
    address: int
    size: int
    rows: int
    columns: int


@dataclass(frozen=True)
class ImageRequest:
    """What an image is to be made for.

    Attributes
    ----------
    batch : int
        Sequences.
    whole_embedding : bool
        Whether all embeddings lie in the device's memory, so that it can go on from a token that it chose. Else there is one
        row for each token of a pass, which the driver writes before it.
    quantise : str or None
        Format that matrices of plain numbers become, routers of experts excepted; None: they are taken apart into planes.
    """

    batch: int = 1
    whole_embedding: bool = True
    quantise: str | None = None

    @property
    def most_rows(self) -> int:
        """Rows that a pass can have: as many as arguments hold tokens for, or more if the driver writes their embeddings."""
        return TOKEN_ROWS if self.whole_embedding else MAX_ROWS


@dataclass(frozen=True)
class Image:
    """A model laid out for a device.

    Attributes
    ----------
    imported : DescribedModel
    build : Build
    request : ImageRequest
    capacity : int
        Positions of each sequence for which there is room: the model's context, rounded up to a multiple of 64.
    placement : Placement
    pieces : tuple of MatrixPiece or TablePiece
        All that is written, in the order of addresses.
    base, end : int
        First address, and the first one after it; caches, logits and tokens lie below it.
    """

    imported: DescribedModel
    build: Build
    request: ImageRequest
    capacity: int
    placement: Placement
    pieces: tuple[MatrixPiece | TablePiece, ...] = field(repr=False)
    base: int
    end: int

    @property
    def stream_bytes(self) -> int:
        """Bytes of all weight streams."""
        return sum(p.size for p in self.pieces if isinstance(p, MatrixPiece))

    @property
    def table_bytes(self) -> int:
        """Bytes of all tables."""
        return sum(p.size for p in self.pieces if isinstance(p, TablePiece))

    def format_of(self, role: str) -> Format:
        """The format that a matrix has on the device."""
        return BY_NUMBER[self.placement.matrices[role].format]

    @property
    def token_bytes(self) -> int:
        """Bytes that the file has of the weights that a token uses: of experts, those that are chosen."""
        drafts = layer_role(len(self.imported.description.layers), "")
        return self._bytes_of(role for role in self.imported.matrices if not role.startswith(drafts)) + self.filling_bytes

    @property
    def filling_bytes(self) -> int:
        """Those of them that fill the cache of a layer that drafts."""
        if self.imported.description.draft_layer is None:
            return 0
        n = len(self.imported.description.layers)
        return self._bytes_of(layer_role(n, tensor) for tensor in ("merge", "k", "v"))

    @property
    def draft_bytes(self) -> int:
        """The same of a token that the draft layer drafts."""
        description = self.imported.description
        assert description.draft_layer is not None
        drafts = layer_role(len(description.layers), "")
        head = self.format_of("head").row_bytes(description.hidden)
        own = (role for role in self.imported.matrices if role.startswith(drafts))
        return self._bytes_of(own) + description.draft_layer.vocabulary * head

    def _bytes_of(self, roles: Iterable[str]) -> int:
        return sum(
            experts_used(self.imported, role) * source.rows * self.format_of(role).row_bytes(source.columns)
            for role, source in ((role, self.imported.matrices[role]) for role in roles)
        )

    @property
    def cache_bytes(self) -> int:
        """Bytes of the KV caches of all sequences."""
        total = 0
        description = self.imported.description
        for caches in self.placement.caches:
            for n in description.owners:
                mixer, place = description.mixers[n][1], caches[n]
                if isinstance(mixer, Attention) and isinstance(place, CachePlace):
                    total += mixer.kv_heads * (place.key_stride + place.value_stride + place.scale_stride)
        return total

    @property
    def state_bytes(self) -> int:
        """Bytes of the states, lists and recent rows of all sequences."""
        places = (place for caches in self.placement.caches for place in caches)
        return sum(place.layout.size for place in places if isinstance(place, StatePlace))


def experts_used(imported: DescribedModel, role: str) -> int:
    """How many of a matrix a token uses: 1, or for those of experts as many as are chosen."""
    if not imported.matrices[role].experts:
        return 1
    experts = imported.description.whole.layers[int(role.split(".")[1])].feed_forward
    assert isinstance(experts, Experts)
    return experts.used
