"""Decides where everything of a model lies in a device's memory, before anything is written."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tailrace.firmware.description import (
    Attention,
    Experts,
    Keeper,
    LastHidden,
    Latent,
    Layer,
    LinearAttention,
    Mixer,
    Rule,
    ShortConvolution,
    layer_role,
)
from tailrace.firmware.embedding import WINDOW_POSITIONS
from tailrace.firmware.fold import UNIT_VECTORS, unit_columns
from tailrace.firmware.parts import (
    RESIDUAL_PART,
    convolved_part_rows,
    feed_forward_part_rows,
    head_part_rows,
    query_part_rows,
)
from tailrace.firmware.placement import Build, CachePlace, MatrixPart, MatrixPlace, Placement, StatePlace, TablePlace
from tailrace.firmware.state_places import layout_of
from tailrace.spec.errors import LimitError, ModelError
from tailrace.spec.formats import BLOCK, Format
from tailrace.spec.isa import ADDRESS_UNIT
from tailrace.spec.kv_cache import CAPACITY_UNIT, key_bytes, value_bytes, value_row_bytes
from tailrace.spec.recent_rows import RecentRows

from ..gguf.describe import DescribedModel
from .allocator import align
from .exponents import tensor_exponent
from .fits import device_format, refusals
from .geometry import Geometry
from .image import Image, ImageRequest, MatrixPiece, TablePiece
from .kinds import kinds_of_layers


def plan_image(imported: DescribedModel, geometry: Geometry, request: ImageRequest, base: int = 0) -> Image:
    """Decide where everything lies. Reads no weights, but for the exponents of MXFP4.

    Layers that are made alike follow each other at one distance, and so do their caches.

    Parameters
    ----------
    imported : DescribedModel
    geometry : Geometry
    request : ImageRequest
    base : int
        First address, a multiple of `Geometry.alignment`.

    Raises
    ------
    ModelError
        If the device can't read a matrix.
    LimitError
        If a row, a matrix or the context is too long for the device.
    """
    return _Planner(imported, geometry, request).run(base)


class _Planner:
    def __init__(self, imported: DescribedModel, geometry: Geometry, request: ImageRequest) -> None:
        self.imported, self.geometry, self.request = imported, geometry, request
        self.build = Build(geometry.lanes, geometry.right_hand_sides, geometry.buffer_entries, geometry.max_blocks)
        self.capacity = -(-imported.context // CAPACITY_UNIT) * CAPACITY_UNIT
        self.description = imported.description
        #: With the layer that drafts.
        self.layers = self.description.whole.layers
        self.formats: dict[str, tuple[Format, int]] = {}

    def run(self, base: int) -> Image:
        self._check_formats()
        self._check()
        self.formats = {role: self._format(role) for role in self.imported.matrices}
        start = self._region(base)
        self._tables_of_model(start)
        of_layers = self._alike(start, kinds_of_layers(self.imported, self.formats), self._layer_region)
        layers = [of_layers[n] for n in range(len(self.layers))]
        end = self._region(start.top)
        self._vector(end, "final_norm")
        self._vector(end, "final_norm_bias")
        self._matrix(end, "head", head_part_rows(self.description, self.build, self.request.batch))
        self._vector(end, "head_bias")
        kept = self._alike(end, self._kinds_of_caches(), self._cache_region)
        caches = [kept[self.description.whole.cache_layer(n)] for n in range(len(self.layers))]
        hidden = [(self._kept(end, LastHidden()),) if self.description.draft_layer else () for _ in range(self.request.batch)]
        logits = tuple(end.take(4 * self.description.vocabulary) for _ in range(self.request.batch))
        tokens = tuple(end.take(ADDRESS_UNIT * self.capacity) for _ in range(self.request.batch))
        logits += tuple(end.take(4 * self.description.vocabulary) for _ in range(self._rows() - self.request.batch))
        regions = [start, *layers, end]
        placement = Placement(
            matrices={role: place for region in regions for role, place in region.matrices.items()},
            tables={role: place for region in regions for role, place in region.tables.items()},
            caches=tuple(
                tuple(region.caches[sequence] for region in caches)
                + tuple(region.beside[sequence] for region in caches if region.beside)
                + hidden[sequence]
                for sequence in range(self.request.batch)
            ),
            logits=logits,
            tokens=tokens,
        )
        pieces = sorted((p for region in regions for p in region.pieces), key=lambda p: p.address)
        return Image(self.imported, self.build, self.request, self.capacity, placement, tuple(pieces), base, end.top)

    def _alike(self, where: "_Region", kinds: list[list[int]], make: "Callable[[int], _Region]") -> "dict[int, _Region]":
        """A region for each of these layers; those of one kind follow each other, in the order of the first of each kind."""
        regions: dict[int, _Region] = {}
        for layers in kinds:
            pattern = make(layers[0])
            for n in layers:
                regions[n] = pattern.moved(where.top, layers[0], n, self.imported)
                where.top = regions[n].top
        return regions

    def _kinds_of_caches(self) -> list[list[int]]:
        kinds: dict[Layer, list[int]] = {}
        for n, layer in enumerate(self.layers):
            if self.description.whole.cache_layer(n) == n:
                kinds.setdefault(layer, []).append(n)
        return list(kinds.values())

    def _check(self) -> None:
        batch = self.request.batch
        if not 1 <= batch <= self.geometry.right_hand_sides:
            raise LimitError(
                f"a batch of {batch} needs a device with as many right-hand sides, and this one has"
                f" {self.geometry.right_hand_sides}: use another configuration"
            )
        if batch > self.request.most_rows:
            raise LimitError(
                f"a batch of {batch} takes more rows than the {self.request.most_rows} that a pass has where the device goes on"
                " by itself: leave tokens_per_doorbell out, or use a smaller batch"
            )
        # The remainder of a division by a power of two is exact at any position.
        windows = [attention.window for attention in self.description.attentions if attention.window is not None]
        if self.capacity > WINDOW_POSITIONS and any(window & window - 1 for window in windows):
            raise LimitError(
                f"programs with sliding windows reach {WINDOW_POSITIONS} tokens, and {self.capacity} were asked for"
            )

    def _check_formats(self) -> None:
        refused = refusals(self.imported, self.geometry, self.request.quantise)
        if not refused:
            return
        lines = [f"  {name}: {reason}" for name, reason in list(refused.items())[:5]]
        if len(refused) > 5:
            lines.append(f"  and {len(refused) - 5} more; `tailrace inspect` lists them all")
        raise ModelError(
            f"{self.imported.name} can't run on this device: {len(refused)} of its matrices are refused.\n"
            + "\n".join(lines)
            + "\n--allow-host runs these on the host instead, and the linear layers that are left one by one."
        )  # fmt: skip

    def _format(self, role: str) -> tuple[Format, int]:
        """The format that a matrix has on the device, and its exponent."""
        source = self.imported.matrices[role]
        tensor = source.tensor
        fmt, _ = device_format(tensor, source.columns, self.geometry, self.request.quantise, role)
        assert fmt is not None, "refusals were raised before"
        if self.imported.hollow and fmt is tensor.format:
            return fmt, 0
        try:
            return fmt, tensor_exponent(tensor, fmt)
        except ModelError as error:
            raise ModelError(f"{tensor.name}: {error}") from None

    def _rows(self) -> int:
        """Rows that a pass can have."""
        return max(min(self.build.right_hand_sides, self.request.most_rows), self.request.batch)

    # What a region holds.

    def _region(self, address: int = 0) -> "_Region":
        return _Region(self.geometry.alignment, address)

    def _tables_of_model(self, region: "_Region") -> None:
        whole = self.request.whole_embedding
        rows = self.description.vocabulary if whole else self._rows()
        self._table(region, "embedding", rows, self.description.hidden, True)
        if "layer_embeddings" in self.imported.tables:
            self._table(region, "layer_embeddings", rows, self.imported.tables["layer_embeddings"].columns, True)
            self._vector(region, "layer_embedding_norm")
        if self.description.learned_positions:
            self._table(region, "position_embedding", self._positions(), self.description.hidden, True)
        for name, by_position in self.imported.position_tables.items():
            self._table(region, name, self._positions(), by_position.size, True)
        if columns := unit_columns(self.description):
            self._table(region, UNIT_VECTORS, columns // 2, columns, True)

    def _positions(self) -> int:
        source = self.imported.tables.get("position_embedding")
        return self.capacity if source is None else min(self.capacity, source.rows)

    def _layer_region(self, n: int) -> "_Region":
        region, layer = self._region(), f"layers.{n}."
        self._vector(region, layer + "scales")
        for tensor in ("attention_norm", "attention_norm_bias"):
            self._vector(region, layer + tensor)
        self._mixer(region, layer, self.layers[n].attention)
        self._with_bias(region, layer + "o", RESIDUAL_PART)
        if beside := self.layers[n].beside:
            self._mixer(region, f"{layer}beside_", beside)
            self._with_bias(region, f"{layer}beside_o")
        for tensor in ("attention_post_norm", "feed_forward_norm", "feed_forward_norm_bias"):
            self._vector(region, layer + tensor)
        self._feed_forward(region, n)
        self._vector(region, layer + "feed_forward_post_norm")
        if self.layers[n].embedding:
            for tensor in ("projection", "gate", "output"):
                self._with_bias(region, f"{layer}embedding_{tensor}")
            self._vector(region, layer + "embedding_post_norm")
        self._vector(region, layer + "output_scale")
        for tensor in ("embedding_norm", "hidden_norm", "head_norm"):
            self._vector(region, layer + tensor)
        if f"{layer}merge" in self.imported.matrices:
            self._with_bias(region, f"{layer}merge")
        return region

    def _mixer(self, region: "_Region", layer: str, mixer: Mixer) -> None:
        """What comes before the output matrix, in the order of its use."""
        match mixer:
            case Attention(latent=Latent()):
                self._latent(region, layer, mixer)
            case Attention():
                for tensor in (*mixer.projections, *(("output_gate",) if mixer.gated else ())):
                    self._with_bias(region, layer + tensor, query_part_rows(mixer) if tensor == "q" else None)
                for tensor in ("q_norm", "k_norm", "sinks"):
                    self._vector(region, layer + tensor)
            case LinearAttention():
                for tensor in ("alpha", "beta") if mixer.rule is Rule.DELTA else ("alpha",):
                    self._with_bias(region, layer + tensor)
                for tensor in ("decay", "skip"):
                    self._vector(region, layer + tensor)
                self._matrix(region, layer + "qkv", convolved_part_rows(mixer.channels))
                self._table(region, layer + "convolution", mixer.kernel, mixer.channels, True)
                self._vector(region, layer + "convolution_bias")
                self._matrix(region, layer + "output_gate", convolved_part_rows(mixer.values))
                self._vector(region, layer + "output_norm")
            case ShortConvolution():
                self._with_bias(region, layer + "convolution_in")
                self._table(region, layer + "convolution", mixer.kernel, self.description.hidden, True)

    def _latent(self, region: "_Region", layer: str, attention: Attention) -> None:
        """What latent attention needs before the output matrix; k_b and v_b have a part for each head."""
        for tensor in ("kv_a", "q_a", "q") if layer + "q_a" in self.imported.matrices else ("kv_a", "q"):
            self._matrix(region, layer + tensor, self.imported.matrices[layer + tensor].rows)
        for tensor in ("kv_a_norm", "q_a_norm"):
            self._vector(region, layer + tensor)
        for tensor in ("k_b", "v_b"):
            role = layer + tensor
            self._matrix(region, role, self.imported.matrices[role].rows // attention.heads)

    def _feed_forward(self, region: "_Region", n: int) -> None:
        layer, place = f"layers.{n}.", self.layers[n].feed_forward
        if place is None:
            return
        rows = feed_forward_part_rows(self.description, self.layers[n], self.build, self.request.batch)
        if not isinstance(place, Experts):
            self._dense(region, layer, rows)
            return
        self._vector(region, layer + "router_norm")
        self._with_bias(region, layer + "router")
        for tensor in ("selection_bias", "experts_norm"):
            self._vector(region, layer + tensor)
        if place.shared_gated:
            self._with_bias(region, layer + "shared_router")
        if place.shared:
            self._dense(region, layer + "shared_", rows)
            self._vector(region, layer + "shared_post_norm")
        self._experts(region, layer, rows)
        self._vector(region, layer + "experts_post_norm")

    def _dense(self, region: "_Region", prefix: str, rows: int) -> None:
        """A feed-forward, with its biases."""
        names = [prefix + t for t in ("gate", "up") if prefix + t in self.imported.matrices]
        self._interleaved(region, names, rows)
        for name in names:
            self._vector(region, f"{name}_bias")
        self._with_bias(region, prefix + "down", RESIDUAL_PART)

    def _experts(self, region: "_Region", layer: str, rows: int) -> None:
        """All of an expert's matrices together, expert after expert."""
        outer = [role for t in ("gate", "up") if (role := f"{layer}experts_{t}") in self.imported.matrices]
        down = f"{layer}experts_down"
        count = self.imported.matrices[down].experts
        first = region.top
        stride = 0
        for expert in range(count):
            self._interleaved(region, outer, rows, expert)
            self._matrix(region, down, self.imported.matrices[down].rows, expert)
            stride = stride or region.top - first
        for role in (*outer, down):
            region.matrices[role] = replace(region.matrices[role], expert_stride=stride)
            bias = self.imported.tables.get(f"{role}_bias")
            if bias is not None:
                self._table(region, f"{role}_bias", bias.rows, bias.columns, True)

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

    def _with_bias(self, region: "_Region", role: str, part_rows: int | None = None) -> None:
        self._matrix(region, role, part_rows or self.imported.matrices[role].rows)
        self._vector(region, f"{role}_bias")

    def _part(self, region: "_Region", role: str, start: int, part_rows: int, expert: int) -> MatrixPart:
        source, (fmt, exponent) = self.imported.matrices[role], self.formats[role]
        stop = min(start + part_rows, source.rows)
        if stop - start > self.geometry.buffer_entries:
            raise LimitError(
                f"{source.tensor.name}: it has {source.rows} rows, and this device takes at most"
                f" {self.geometry.buffer_entries}: use a configuration with more buffer_entries"
            )
        size = fmt.matrix_bytes(stop - start, source.columns // BLOCK, self.build.lanes)
        address = region.take(size)
        region.pieces.append(MatrixPiece(role, address, size, source, fmt, exponent, start, stop, expert))
        return MatrixPart(address, start, stop - start)

    def _note(self, region: "_Region", role: str, parts: list[MatrixPart]) -> None:
        source, (fmt, exponent) = self.imported.matrices[role], self.formats[role]
        blocks = source.columns // BLOCK
        region.matrices[role] = MatrixPlace(fmt.number, exponent, source.rows, blocks, tuple(parts), 0, source.scale)

    def _vector(self, region: "_Region", role: str) -> None:
        source = self.imported.tables.get(role)
        if source is not None:
            self._table(region, role, source.repeats, source.rows, False)

    def _table(self, region: "_Region", role: str, rows: int, columns: int, by_row: bool) -> None:
        pitch = align(4 * columns)
        address = region.take(rows * pitch)
        region.pieces.append(TablePiece(role, address, rows * pitch, rows, columns))
        region.tables[role] = TablePlace(address, columns, pitch if by_row else 0)

    def _cache_region(self, n: int) -> "_Region":
        region = self._region()
        for _ in range(self.request.batch):
            region.caches.append(self._kept(region, self.layers[n].attention))
            if beside := self.layers[n].beside:
                region.beside.append(self._kept(region, beside))
        return region

    def _kept(self, region: "_Region", mixer: Keeper) -> CachePlace | StatePlace:
        """What a sequence keeps of its past for a layer."""
        if isinstance(mixer, Attention):
            return self._cache(region, mixer)
        rows = RecentRows(self.description.hidden, mixer.kernel)
        layout = layout_of(mixer, self.build.lanes) if isinstance(mixer, LinearAttention) else rows
        return StatePlace(region.take(layout.size), layout)

    def _cache(self, region: "_Region", attention: Attention) -> CachePlace:
        capacity = self.capacity
        if attention.window is not None:
            capacity = min(capacity, -(-attention.window // CAPACITY_UNIT) * CAPACITY_UNIT)
        lanes, heads = self.build.lanes, attention.kv_heads
        values = align(value_bytes(attention.value_size, capacity, lanes), self.geometry.alignment)
        strides = key_bytes(attention.head_size, capacity, lanes), values, 4 * capacity
        keys, values, scales = (region.take(heads * stride) for stride in strides)
        return CachePlace(keys, values, scales, *strides, row_stride=value_row_bytes(capacity, lanes), capacity=capacity)


class _Region:
    """Consecutive addresses that are being given out, and what lies there."""

    def __init__(self, unit: int, address: int = 0) -> None:
        self.top, self._unit = address, unit
        self.matrices: dict[str, MatrixPlace] = {}
        self.tables: dict[str, TablePlace] = {}
        self.caches: list[CachePlace | StatePlace] = []
        self.beside: list[CachePlace | StatePlace] = []
        self.pieces: list[MatrixPiece | TablePiece] = []

    def take(self, size: int) -> int:
        address, self.top = self.top, self.top + align(size, self._unit)
        return address

    def moved(self, address: int, first: int, n: int, imported: DescribedModel) -> "_Region":
        """The same for layer `n` in place of layer `first`, from another address on."""
        region, prefix, own = _Region(self._unit, address + self.top), layer_role(first, ""), layer_role(n, "")

        def role(other: str) -> str:
            return own + other.removeprefix(prefix)

        for name, matrix in self.matrices.items():
            parts = tuple(replace(part, address=address + part.address) for part in matrix.parts)
            region.matrices[role(name)] = replace(matrix, parts=parts)
        for name, table in self.tables.items():
            region.tables[role(name)] = replace(table, address=address + table.address)
        region.caches, region.beside = ([c.moved(address) for c in places] for places in (self.caches, self.beside))
        for piece in self.pieces:
            place: dict[str, Any] = {"role": role(piece.role), "address": address + piece.address}
            if isinstance(piece, MatrixPiece):
                place["source"] = imported.matrices[place["role"]]
            region.pieces.append(replace(piece, **place))
        return region
