"""The memory image of a model: where everything that a decode program uses lies, planned before anything is written."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from tailrace.firmware.description import Attention, Experts
from tailrace.firmware.parts import feed_forward_part_rows, head_part_rows
from tailrace.firmware.placement import Build, CachePlace, MatrixPart, MatrixPlace, Placement, TablePlace
from tailrace.spec.errors import LimitError, ModelError
from tailrace.spec.formats import BLOCK, BY_NAME, BY_NUMBER, Q8_0, Format
from tailrace.spec.isa import ADDRESS_UNIT
from tailrace.spec.kv_cache import CAPACITY_UNIT, key_bytes, value_bytes, value_row_bytes

from ..device.geometry import Geometry
from ..device.products import refusal
from ..gguf.describe import ImportedModel, Source
from ..gguf.file import FLOATS
from ..huggingface.placement import QUANTISERS
from .allocator import align
from .router import EXPONENT, PLANES, planes_of
from .weight_stream import matrix_exponent, stream_of_blocks

#: Called with what is being written, and how much of all of it is done (0 to 1).
Progress = Callable[[str, float], None]
#: Bytes that are written at once: on a serial port that takes a quarter of a second.
_WRITE_BYTES = 1 << 16
#: Rows of a table that are written at a time.
_TABLE_ROWS = 1024


@dataclass(frozen=True)
class MatrixPiece:
    """A stream to be written: rows of one matrix, or of one expert's, or a plane of one that has been taken apart."""

    role: str
    address: int
    size: int
    source: Source
    format: Format
    exponent: int
    start: int
    stop: int
    expert: int = 0
    plane: int | None = None


@dataclass(frozen=True)
class TablePiece:
    """Rows of float32 to be written; `role` is that of a tensor, or the name of a table of angles."""

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
        row for each sequence, which the driver writes before each token.
    quantise : str or None
        Format that matrices of plain numbers become; None refuses them.
    """

    batch: int = 1
    whole_embedding: bool = True
    quantise: str | None = None


@dataclass(frozen=True)
class Image:
    """A model laid out for a device.

    Attributes
    ----------
    imported : ImportedModel
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

    imported: ImportedModel
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
        matrices = self.imported.matrices
        return sum(
            experts_used(self.imported, role)
            * source.rows
            * self.format_of(role).row_bytes(source.columns)
            * (PLANES if is_exact(role, source) else 1)
            for role, source in matrices.items()
        )

    @property
    def cache_bytes(self) -> int:
        """Bytes of the KV caches of all sequences."""
        layers = self.imported.description.layers
        per_layer = (
            layer.attention.kv_heads * (place.key_stride + place.value_stride + place.scale_stride)
            for caches in self.placement.caches
            for layer, place in zip(layers, caches, strict=True)
        )
        return sum(per_layer)


def experts_used(imported: ImportedModel, role: str) -> int:
    """How many of a matrix a token uses: 1, or for those of experts as many as are chosen."""
    if not imported.matrices[role].experts:
        return 1
    experts = imported.description.layers[int(role.split(".")[1])].feed_forward
    assert isinstance(experts, Experts)
    return experts.used


def plan_image(imported: ImportedModel, geometry: Geometry, request: ImageRequest, base: int = 0) -> Image:
    """Decide where everything lies. Reads no weights, but for the exponents of MXFP4.

    Layers that are made alike follow each other at one distance, and so do their caches.

    Parameters
    ----------
    imported : ImportedModel
    geometry : Geometry
    request : ImageRequest
    base : int
        First address, a multiple of 64.

    Raises
    ------
    ModelError
        If the device can't read a matrix.
    LimitError
        If a row, a matrix or the context is too long for the device.
    """
    return _Planner(imported, geometry, request).run(base)


def refusals(imported: ImportedModel, geometry: Geometry, quantise: str | None) -> dict[str, str]:
    """Matrices that a device can't read, by the names of their tensors, with the reason and what to do.

    Raises
    ------
    ModelError
        If `quantise` is no format to quantise to.
    """
    if quantise is not None and quantise not in QUANTISERS:
        raise ModelError(f"can't quantise to {quantise!r}: choose one of {', '.join(QUANTISERS)}")
    reasons = {s.tensor.name: _refusal(s, geometry, quantise) for role, s in imported.matrices.items() if not is_exact(role, s)}
    return {name: reason for name, reason in reasons.items() if reason}


def is_exact(role: str, source: Source) -> bool:
    """Whether a matrix of plain numbers is carried as it is, taken apart into planes: routers of experts are."""
    return role.endswith(".router") and source.tensor.type_name in FLOATS and source.columns % BLOCK == 0


def _refusal(source: Source, geometry: Geometry, quantise: str | None) -> str | None:
    tensor, readable = source.tensor, ", ".join(f.name for f in geometry.readable)
    fmt = tensor.format
    if fmt is None and tensor.type_name in FLOATS:
        if quantise is None:
            return (
                f"{tensor.type_name} is not quantised, and this device reads {readable}: ask for a format with --quantise Q8_0"
            )
        fmt = BY_NAME[quantise]
    if fmt is None:
        return (
            f"this device does not read {tensor.type_name}: it reads {readable}. Get the model in one of these, for example"
            " with `llama-quantize --pure` from its 16-bit file"
        )
    if source.columns % fmt.file_elements:
        return f"its rows have {source.columns} elements, which is not a multiple of {fmt.file_elements}"
    return refusal(geometry, fmt, source.rows, source.columns)


class _Planner:
    def __init__(self, imported: ImportedModel, geometry: Geometry, request: ImageRequest) -> None:
        self.imported, self.geometry, self.request = imported, geometry, request
        self.build = Build(geometry.lanes, geometry.right_hand_sides, geometry.buffer_entries, geometry.max_blocks)
        self.capacity = -(-imported.context // CAPACITY_UNIT) * CAPACITY_UNIT
        self.description = imported.description
        self.layers = self.description.layers
        self.formats: dict[str, tuple[Format, int]] = {}

    def run(self, base: int) -> Image:
        self._check_formats()
        self._check()
        self.formats = {role: self._format(role) for role in self.imported.matrices}
        start = _Region(base)
        self._tables_of_model(start)
        layers = self._alike(start, self._layer_region)
        end = _Region(start.top)
        self._vector(end, "final_norm")
        self._vector(end, "final_norm_bias")
        self._matrix(end, "head", head_part_rows(self.description, self.build, self.request.batch))
        self._vector(end, "head_bias")
        caches = self._alike(end, self._cache_region)
        logits = tuple(end.take(4 * self.description.vocabulary) for _ in range(self.request.batch))
        tokens = tuple(end.take(ADDRESS_UNIT * self.capacity) for _ in range(self.request.batch))
        regions = [start, *layers, end]
        placement = Placement(
            matrices={role: place for region in regions for role, place in region.matrices.items()},
            tables={role: place for region in regions for role, place in region.tables.items()},
            caches=tuple(tuple(region.caches[sequence] for region in caches) for sequence in range(self.request.batch)),
            logits=logits,
            tokens=tokens,
        )
        pieces = sorted((p for region in regions for p in region.pieces), key=lambda p: p.address)
        return Image(self.imported, self.build, self.request, self.capacity, placement, tuple(pieces), base, end.top)

    def _alike(self, where: "_Region", make: "Callable[[int, int], _Region]") -> "list[_Region]":
        """A region for each layer; those with the same content follow each other, in the order of the first of each kind."""
        kinds: dict[object, list[int]] = {}
        for n in range(len(self.layers)):
            kinds.setdefault((self.layers[n], make(n, 0).content(n)), []).append(n)
        regions: dict[int, _Region] = {}
        for members in kinds.values():
            for n in members:
                regions[n] = make(n, where.top)
                where.top = regions[n].top
        return [regions[n] for n in range(len(self.layers))]

    def _check(self) -> None:
        batch = self.request.batch
        if not 1 <= batch <= self.geometry.right_hand_sides:
            raise LimitError(
                f"a batch of {batch} needs a device with as many right-hand sides, and this one has"
                f" {self.geometry.right_hand_sides}: use another configuration"
            )

    def _check_formats(self) -> None:
        refused = refusals(self.imported, self.geometry, self.request.quantise)
        if not refused:
            return
        lines = [f"  {name}: {reason}" for name, reason in list(refused.items())[:5]]
        if len(refused) > 5:
            lines.append(f"  and {len(refused) - 5} more; `tailrace inspect` lists them all")
        raise ModelError(
            f"{self.imported.model.path} can't run on this device: {len(refused)} of its matrices are refused.\n"
            + "\n".join(lines)
            + "\n--allow-host runs these on the host instead, and the linear layers that are left one by one."
        )  # fmt: skip

    def _format(self, role: str) -> tuple[Format, int]:
        """The format that a matrix has on the device, and its exponent."""
        source = self.imported.matrices[role]
        tensor = source.tensor
        if is_exact(role, source):
            return Q8_0, EXPONENT
        if tensor.format is None:
            return BY_NAME[str(self.request.quantise)], 0
        try:
            return tensor.format, matrix_exponent(tensor.format, tensor.data)
        except ModelError as error:
            raise ModelError(f"{tensor.name}: {error}") from None

    # What a region holds.

    def _tables_of_model(self, region: "_Region") -> None:
        whole = self.request.whole_embedding
        rows = self.description.vocabulary if whole else self.request.batch
        self._table(region, "embedding", rows, self.description.hidden, True)
        if self.description.learned_positions:
            self._table(region, "position_embedding", self._positions(), self.description.hidden, True)
        for name, rope in self.imported.ropes.items():
            self._table(region, name, self._positions(), rope.size, True)

    def _positions(self) -> int:
        source = self.imported.tables.get("position_embedding")
        return self.capacity if source is None else min(self.capacity, source.rows)

    def _layer_region(self, n: int, address: int) -> "_Region":
        region, layer = _Region(address), f"layers.{n}."
        for tensor in ("attention_norm", "attention_norm_bias"):
            self._vector(region, layer + tensor)
        for tensor in ("q", "k", "v"):
            self._with_bias(region, layer + tensor)
        for tensor in ("q_norm", "k_norm"):
            self._vector(region, layer + tensor)
        self._with_bias(region, layer + "o")
        for tensor in ("attention_post_norm", "feed_forward_norm", "feed_forward_norm_bias"):
            self._vector(region, layer + tensor)
        self._feed_forward(region, n)
        self._vector(region, layer + "feed_forward_post_norm")
        return region

    def _feed_forward(self, region: "_Region", n: int) -> None:
        layer, place = f"layers.{n}.", self.layers[n].feed_forward
        rows = feed_forward_part_rows(self.description, self.layers[n], self.build, self.request.batch)
        if f"{layer}router" in self.imported.matrices:
            self._router(region, layer + "router")
            self._experts(region, layer, rows)
            return
        assert not hasattr(place, "count")
        names = [layer + t for t in ("gate", "up") if layer + t in self.imported.matrices]
        self._interleaved(region, names, rows)
        for name in names:
            self._vector(region, f"{name}_bias")
        self._with_bias(region, layer + "down")

    def _router(self, region: "_Region", role: str) -> None:
        source = self.imported.matrices[role]
        if is_exact(role, source):
            planes = [self._part(region, role, 0, source.rows, 0, plane) for plane in range(PLANES)]
            self._note(region, role, planes)
        else:
            self._matrix(region, role, source.rows)
        self._vector(region, f"{role}_bias")

    def _experts(self, region: "_Region", layer: str, rows: int) -> None:
        """All of an expert's matrices together, expert after expert."""
        outer, down = [f"{layer}experts_{t}" for t in ("gate", "up")], f"{layer}experts_down"
        count = self.imported.matrices[down].experts
        first = region.top
        stride = 0
        for expert in range(count):
            self._interleaved(region, outer, rows, expert)
            self._matrix(region, down, self.imported.matrices[down].rows, expert)
            stride = stride or region.top - first
        for role in (*outer, down):
            region.matrices[role] = replace(region.matrices[role], expert_stride=stride)

    def _interleaved(self, region: "_Region", roles: list[str], part_rows: int, expert: int = 0) -> None:
        """Matrices that are used part by part: the first part of each, then the second part of each."""
        parts: dict[str, list[MatrixPart]] = {role: [] for role in roles}
        for start in range(0, self.imported.matrices[roles[0]].rows, part_rows):
            for role in roles:
                parts[role].append(self._part(region, role, start, part_rows, expert))
        if expert == 0:
            for role in roles:
                self._note(region, role, parts[role])

    def _matrix(self, region: "_Region", role: str, part_rows: int, expert: int = 0) -> None:
        self._interleaved(region, [role], part_rows, expert)

    def _with_bias(self, region: "_Region", role: str) -> None:
        self._matrix(region, role, self.imported.matrices[role].rows)
        self._vector(region, f"{role}_bias")

    def _part(
        self, region: "_Region", role: str, start: int, part_rows: int, expert: int, plane: int | None = None
    ) -> MatrixPart:
        source, (fmt, exponent) = self.imported.matrices[role], self.formats[role]
        stop = min(start + part_rows, source.rows)
        if stop - start > self.geometry.buffer_entries:
            raise LimitError(
                f"{source.tensor.name}: it has {source.rows} rows, and this device takes at most"
                f" {self.geometry.buffer_entries}: use a configuration with more buffer_entries"
            )
        size = fmt.matrix_bytes(stop - start, source.columns // BLOCK, self.build.lanes)
        address = region.take(size)
        region.pieces.append(MatrixPiece(role, address, size, source, fmt, exponent, start, stop, expert, plane))
        return MatrixPart(address, start, stop - start)

    def _note(self, region: "_Region", role: str, parts: list[MatrixPart]) -> None:
        source, (fmt, exponent) = self.imported.matrices[role], self.formats[role]
        region.matrices[role] = MatrixPlace(fmt.number, exponent, source.rows, source.columns // BLOCK, tuple(parts))

    def _vector(self, region: "_Region", role: str) -> None:
        source = self.imported.tables.get(role)
        if source is not None:
            self._table(region, role, source.repeats, source.rows, False)

    def _table(self, region: "_Region", role: str, rows: int, columns: int, by_row: bool) -> None:
        pitch = align(4 * columns)
        address = region.take(rows * pitch)
        region.pieces.append(TablePiece(role, address, rows * pitch, rows, columns))
        region.tables[role] = TablePlace(address, columns, pitch if by_row else 0)

    def _cache_region(self, n: int, address: int) -> "_Region":
        region = _Region(address)
        for _ in range(self.request.batch):
            region.caches.append(self._cache(region, self.layers[n].attention))
        return region

    def _cache(self, region: "_Region", attention: Attention) -> CachePlace:
        capacity = self.capacity
        if attention.window is not None:
            capacity = min(capacity, -(-attention.window // CAPACITY_UNIT) * CAPACITY_UNIT)
        size, lanes, heads = attention.head_size, self.build.lanes, attention.kv_heads
        strides = key_bytes(size, capacity, lanes), align(value_bytes(size, capacity, lanes)), 4 * capacity
        keys, values, scales = (region.take(heads * stride) for stride in strides)
        return CachePlace(keys, values, scales, *strides, row_stride=value_row_bytes(capacity, lanes), capacity=capacity)


class _Region:
    """Consecutive addresses that are being given out, and what lies there."""

    def __init__(self, address: int) -> None:
        self.top = address
        self.matrices: dict[str, MatrixPlace] = {}
        self.tables: dict[str, TablePlace] = {}
        self.caches: list[CachePlace] = []
        self.pieces: list[MatrixPiece | TablePiece] = []

    def take(self, size: int) -> int:
        address, self.top = self.top, self.top + align(size)
        return address

    def content(self, n: int) -> tuple[object, ...]:
        """All that lies here, without the number of the layer."""
        prefix = f"layers.{n}."
        places = [*self.matrices.items(), *self.tables.items()]
        return (*((role.removeprefix(prefix), place) for role, place in places), *self.caches, self.top)


class Memory(Protocol):
    """What an image is written to."""

    def write(self, address: int, data: memoryview, /) -> None:
        """Write bytes from an address on."""
        ...


def write_image(image: Image, memory: Memory, on_progress: Progress | None = None) -> None:
    """Write all weights and tables to a device, piece by piece, so that no second copy of the model is made.

    Raises
    ------
    ModelError
        If a tensor is damaged.
    """
    report = on_progress or (lambda what, done: None)
    checked: set[str] = set()
    total, done = sum(p.size for p in image.pieces), 0
    for piece in image.pieces:
        written = 0
        for address, data in _content(image, piece, checked):
            octets = data.cast("B")
            for first in range(0, len(octets), _WRITE_BYTES):
                memory.write(address + first, octets[first : first + _WRITE_BYTES])
                written += len(octets[first : first + _WRITE_BYTES])
                report(piece.role, min(done + written, done + piece.size) / total)
        done += piece.size
        report(piece.role, done / total)


def _content(image: Image, piece: MatrixPiece | TablePiece, checked: set[str]) -> Iterator[tuple[int, memoryview]]:
    """A piece's data, with addresses."""
    if isinstance(piece, MatrixPiece):
        tensor = piece.source.tensor
        if tensor.name not in checked:
            tensor.check_finite()
            checked.add(tensor.name)
        if piece.plane is None:
            blocks = piece.source.blocks(piece.start, piece.stop, piece.format, piece.expert)
        else:
            blocks = planes_of(piece.source.numbers())[piece.plane]
        yield piece.address, stream_of_blocks(piece.format, blocks, image.build.lanes, piece.exponent).data
        return
    source, rope = image.imported.tables.get(piece.role), image.imported.ropes.get(piece.role)
    if piece.role == "embedding" and not image.request.whole_embedding:
        return
    pitch = align(4 * piece.columns)
    for first in range(0, piece.rows, _TABLE_ROWS):
        count = min(_TABLE_ROWS, piece.rows - first)
        rows = np.zeros((count, pitch // 4), dtype="<f4")
        if rope is not None:
            rows[:, : piece.columns] = rope.table(first, count)
        else:
            assert source is not None
            rows[:, : piece.columns] = source.numbers(first, first + count) if source.columns > 1 else source.numbers()
        yield piece.address + first * pitch, rows.reshape(-1).view(np.uint8).data
