"""From a GGUF file to the description of a decoder, and to the tensor rows behind each of its roles.

Sources: the names and keys of the `gguf` package, and llama.cpp's model graphs for what they mean.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import isclose, sqrt
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from tailrace.firmware.description import (
    SCORE_SCALES,
    Attention,
    Description,
    DraftLayer,
    Experts,
    FeedForward,
    HeadNorm,
    Latent,
    Layer,
    LayerEmbedding,
    LinearAttention,
    Mixer,
    Norm,
    NormKind,
    Rule,
    ShortConvolution,
    layer_role,
)
from tailrace.firmware.state_places import MAX_KEY_SIZE
from tailrace.spec.errors import LimitError, ModelError
from tailrace.spec.formats import BLOCK, Format
from tailrace.spec.isa import MAX_HEAD

from .architectures import EMBEDDING, Architecture
from .experts_reader import read_experts
from .file import Model, Tensor, check_open
from .growth import Growth
from .keys import check_keys
from .latent_reader import read_latent
from .missing import MISSING
from .printable import printable
from .quantisation import as_blocks, dequantise
from .rope import Rope
from .rope_reader import read_growth, read_local_rope, read_rope, read_score_growth, rope_tensors
from .whole_number import whole_number

#: Names of the tables of angles.
ROPE, LOCAL_ROPE = "rope", "rope_local"
#: Tensors that converters have left in old files, and that nobody reads.
_LEFT_OVER = "attn_rot_embd.weight"
#: Key of how many pairs of angles go by each part of a position in an image.
_SECTIONS = "rope.dimension_sections"
#: How tensors begin that make keys and values, which some files have for layers that share those of others.
_OF_CACHES = ("attn_k", "attn_v")
#: Every n-th layer of models with linear attention has attention, if the header does not say.
_ATTENTION_EVERY = 4
#: Experts of Llama 4 Maverick.
_WITHOUT_HEAD_NORMS = 128
#: Tokens that are drafted: the first so many, which a vocabulary made by merging has sorted by how often they come. The head's
#: rows for these are read for each draft.
_DRAFTED = 1 << 15
#: Taps of a convolution at most.
_MAX_KERNEL = 16
#: The largest sizes that are read. Those of tensors are compared with the tensors before anything is made of them.
_MAX_SIZE, _MAX_HEADS, _MAX_WINDOW = 1 << 24, 1 << 16, (1 << 31) - 1
_Found = TypeVar("_Found")


class NoDescriptionError(ModelError):
    """A model that no description fits, so that no decode program can be built."""


class UnknownArchitectureError(NoDescriptionError):
    """A model of an architecture that is not known."""


@dataclass(frozen=True)
class Source:
    """Rows of a tensor that play a role; of a vector, its elements.

    Attributes
    ----------
    tensor : Tensor
    first, rows : int
        The rows; for experts those of one expert.
    columns : int
        Elements of a row; 1 for a vector.
    order : ndarray of int or None
        If they are taken in another order: the number, within them, of each.
    experts : int
        Experts, whose rows follow each other; 0: the role is not one of experts.
    expert_rows : int
        Rows from one expert's to the next one's, if the tensor has others between them; 0: `rows`.
    repeats : int
        Times that a vector is repeated.
    transposed : bool
        Whether the role's rows are the tensor's columns; it is these that are taken in another order then.
    scale : int or None
        Entry of the layer's table ``scales`` with what the results of a matrix are multiplied with; for experts that of the
        first one.
    """

    tensor: Tensor
    first: int
    rows: int
    columns: int
    order: NDArray[np.int64] | None = field(default=None, compare=False)
    experts: int = 0
    expert_rows: int = 0
    repeats: int = 1
    transposed: bool = False
    scale: int | None = None

    def blocks(self, start: int, stop: int, fmt: Format, expert: int = 0) -> NDArray[np.uint8]:
        """Rows of a matrix as blocks of a format, converted only if the file has plain numbers.

        Parameters
        ----------
        start, stop : int
            Rows, in the role's order.
        fmt : Format
        expert : int

        Returns
        -------
        ndarray of uint8, shape (stop - start, bytes of a row)
        """
        data = self.tensor.data.reshape(self.tensor.rows, -1)
        rows = data[self._index(start, stop, expert)]
        return rows if self.tensor.format is fmt else as_blocks(rows, self.tensor.ggml_type, fmt)

    def numbers(self, start: int = 0, stop: int | None = None, expert: int = 0) -> NDArray[np.float32]:
        """Rows as float32, shape (rows, columns); a vector as (repeats, elements)."""
        if self.transposed:
            columns = self.tensor.dequantised().reshape(self.columns, self.rows)
            return np.ascontiguousarray((columns if self.order is None else columns[self.order]).T[start:stop])
        index = self._index(start, self.rows if stop is None else stop, expert)
        if self.columns == 1:
            vector = self.tensor.dequantised().reshape(-1)[index]
            return np.tile(vector, (self.repeats, 1))
        data = self.tensor.data.reshape(self.tensor.rows, -1)
        return dequantise(data[index], self.tensor.ggml_type).reshape(-1, self.columns)

    def _index(self, start: int, stop: int, expert: int) -> Any:
        first = self.first + expert * (self.expert_rows or self.rows)
        return slice(first + start, first + stop) if self.order is None else first + self.order[start:stop]


@dataclass(frozen=True)
class DescribedModel:
    """A model as the decode path has it, wherever it comes from.

    Attributes
    ----------
    name : str
        What messages call it: the file's path.
    context : int
        Positions that will be used. Angles, caches, programs and the model on the host all go by it.
    trained : int
        Positions that it was trained for.
    description : Description
    matrices, tables : dict from role to Source
    ropes : dict from name to Rope
        Those for this context.
    growth : Growth or None
        Of scores, if some grow with the position.
    hollow : bool
        Whether its weights are holes, in which there is nothing to be looked for: it can only be planned.
    """

    name: str
    context: int
    trained: int
    description: Description
    matrices: dict[str, Source]
    tables: dict[str, Source]
    ropes: dict[str, Rope]
    growth: Growth | None = field(default=None, kw_only=True)
    hollow: bool = field(default=False, kw_only=True)

    def without_drafts(self) -> Self:
        """The same model without a layer that drafts."""
        if self.description.draft_layer is None:
            return self
        own = layer_role(len(self.description.layers), "")
        matrices, tables = (
            {role: source for role, source in sources.items() if not role.startswith(own)}
            for sources in (self.matrices, self.tables)
        )
        return replace(self, description=replace(self.description, draft_layer=None), matrices=matrices, tables=tables)

    @property
    def position_tables(self) -> dict[str, Rope | Growth]:
        """By name, what has a row for each position."""
        return {**self.ropes, **({} if self.growth is None else {SCORE_SCALES: self.growth})}


@dataclass(frozen=True)
class ImportedModel(DescribedModel):
    """A model from a GGUF file."""

    model: Model

    def at(self, context: int) -> "ImportedModel":
        """The same model for another context (`import_model`)."""
        return import_model(self.model, context, drafts=self.description.draft_layer is not None)


def with_or_without_drafts(imported: DescribedModel, use: Callable[[DescribedModel], _Found]) -> tuple[DescribedModel, _Found]:
    """Use a model; or, if there is no room for it with a layer that drafts, the same without: returns which, and what it gives.

    Raises
    ------
    LimitError
        If there is no room for it at all.
    """
    try:
        return imported, use(imported)
    except LimitError:
        if imported.description.draft_layer is None:
            raise
        less = imported.without_drafts()
        return less, use(less)


def import_model(model: Model, context: int | None = None, *, drafts: bool = False) -> ImportedModel:
    """Describe a model, and find the tensor behind each role.

    Parameters
    ----------
    model : Model
    context : int or None
        Positions that will be used. LongRoPE has other angles for a context longer than the one before it was extended. None:
        as many as the model was trained for.
    drafts : bool
        Whether a layer that drafts is described, too, if the file has one.

    Raises
    ------
    TypeError
        If it is no open model, but its path.
    LimitError
        If the model was not trained for that many.
    UnknownArchitectureError
        If its architecture is not known.
    NoDescriptionError
        If the model computes something that a description can't say.
    ModelError
        If a value of the header is not what it should be, tensors are missing or do not have the shapes that the header
        speaks of, or there are values or tensors that nobody here understands.
    """
    check_open(model)
    if not model.architecture.known:
        raise _unknown_architecture(model)
    return _Importer(model, check_context(model, context), drafts and model.has_draft_layer).run()


def check_operations(model: Model) -> None:
    """Check that the operations of a model can run one by one, with what lies between them in PyTorch.

    Raises
    ------
    UnknownArchitectureError
        If nothing here runs its architecture.
    """
    if not model.architecture.known:
        raise _unknown_architecture(model)


def _unknown_architecture(model: Model) -> UnknownArchitectureError:
    name = printable(model.architecture.name)
    if feature := MISSING.get(model.architecture.name):
        return UnknownArchitectureError(
            f"{model.path} can't be run: its architecture '{name}' needs {feature}, which is not there: `tailrace models` lists"
            " those that run"
        )
    return UnknownArchitectureError(
        f"{model.path} can't be run: its architecture '{name}' is not known here: `tailrace models` lists those that are"
    )


def check_context(model: Model, context: int | None) -> int:
    """The context in use: what was asked for, or what the model was trained for.

    Raises
    ------
    LimitError
        If more was asked for than the model was trained for.
    ConfigError
        If it is no whole number.
    """
    trained = model.context_length
    if context is None:
        return trained
    context = whole_number("context", context)
    if not 1 <= context <= trained:
        raise LimitError(f"{model.path} was made for a context of {trained} tokens: ask for 1 to {trained}, not {context}")
    return context


class _Importer:
    def __init__(self, model: Model, context: int, drafts: bool = False) -> None:
        self.model, self.context, self.drafts = model, context, drafts
        self.arch: Architecture = model.architecture
        self.matrices: dict[str, Source] = {}
        self.tables: dict[str, Source] = {}
        self.used: set[str] = set()
        self._scales: dict[str, list[NDArray[np.float32]]] = {}

    def run(self) -> ImportedModel:
        model, arch = self.model, self.arch
        layers = self._joined_layers() if arch.apart else tuple(self._layer(n) for n in range(model.layers))
        draft_layer = self._draft_layer() if self.drafts else None
        self._tables_of_scales()
        self._model_tensors()
        scaled = sqrt(self.hidden) if arch.scaled_embedding else 1.0
        description = Description(
            architecture=arch.name,
            hidden=self.hidden,
            vocabulary=model.head.rows,
            layers=layers,
            norm=self.norm,
            embedding_scale=self._scalar("embedding_scale", scaled),
            learned_positions=arch.learned_positions,
            residual_scale=self._scalar("residual_scale", 1.0),
            logit_scale=self._logit_scale() * self._head_scale(),
            logit_cap=self._logit_cap(),
            draft_layer=draft_layer,
        )
        self._check_shared_caches(description)
        rotated = bool(description.attentions) and self.is_rotated and not arch.learned_positions
        ropes = {ROPE: self.rope} if rotated else {}
        if any(attention.rope == LOCAL_ROPE for attention in description.attentions):
            ropes[LOCAL_ROPE] = read_local_rope(model, self.local_rotary_size)
        # Positions of images have sections of angles; in a text all sections count alike.
        if self.arch.sectioned_rope and (key := model.key(_SECTIONS)) in model.header:
            model.header.integers(key, 0, _MAX_SIZE, count=4)
        check_keys(model, self._twins(ropes), rotated)
        unused = sorted(n for n in set(model.tensors) - self.used - rope_tensors(model) if not self._is_left_out(n))
        if unused:
            raise ModelError(
                f"{model.path} can't be run: it has tensors that no other {arch.name} model has that is known here, such as"
                f" {printable(unused[0])}, so its results would be wrong"
            )
        return ImportedModel(
            name=str(model.path),
            context=self.context,
            trained=model.context_length,
            description=description,
            matrices=self.matrices,
            tables=self.tables,
            ropes=ropes,
            growth=self.growth,
            model=model,
        )

    def _check_shared_caches(self, description: Description) -> None:
        for n in range(self.model.first_shared, self.model.layers):
            try:
                description.cache_layer(n)
            except ValueError:
                raise self._unfit(
                    f"its layer {n} has the keys and values of an earlier layer of its kind, and there is no such layer"
                ) from None

    def _is_left_out(self, name: str) -> bool:
        """Whether a tensor has no part in decoding token by token."""
        behind = range(self._described, self.model.blocks)
        shared = range(self.model.first_shared, self.model.layers)
        if any(name.startswith(tuple(f"blk.{n}.{part}" for part in _OF_CACHES)) for n in shared):
            return True
        return name.endswith(_LEFT_OVER) or any(name.startswith(f"blk.{n}.") for n in behind)

    # The header.

    @property
    def _described(self) -> int:
        """Layers that are described, with one that drafts."""
        return self.model.layers + self.drafts

    def _twins(self, ropes: dict[str, Rope]) -> dict[str, float]:
        """Values of parts that may differ from the rest, with which they don't."""
        twins: dict[str, float] = {"embedding_length_out": self.hidden, "decoder_block_count": self.model.blocks}
        if self.arch.state_space and all(self.recurrent):
            # Files without attention give the heads of their state spaces, or none.
            twins["attention.head_count"] = self.linear.value_heads
        else:
            twins |= dict.fromkeys(("attention.key_length_swa", "attention.value_length_swa"), self.local_head_size)
        if ROPE in ropes:
            twins |= {"rope.dimension_count_swa": self.local_rotary_size, "rope.freq_base_swa": ropes[ROPE].base}
        return twins

    def _real(self, key: str, low: float, high: float) -> float | None:
        """A number that may be missing, or 0, which means the same."""
        key = self.model.key(key)
        return self.model.header.real(key, low, high) if self.model.header.real(key, 0.0, high, 0.0) else None

    def _scalar(self, key: str, default: float) -> float:
        """A scalar of the header, in an architecture that obeys it."""
        return (self._real(key, 1e-6, 1e6) if self.arch.scalars else None) or default

    def _logit_scale(self) -> float:
        stated = self._real("logit_scale", 1e-6, 1e6) if self.arch.scalars or self.arch.scaled_logits else None
        if stated is None:
            return 1.0
        return 1.0 / stated if self.arch.scalars else stated

    def _head_scale(self) -> float:
        """What the results of the head are multiplied with, in a file that has a number for that."""
        head = self.model.head.name.removesuffix(".weight")
        if f"{head}.scale" not in self.model.tensors:
            return 1.0
        if f"{head}.bias" in self.model.tensors:
            raise self._unfit(f"its {head} has a scale and a bias, and the program scales both")
        tensor = self._readable(self._tensor(f"{head}.scale", (1,)))
        tensor.check_finite()
        return float(tensor.dequantised().item())

    def _logit_cap(self) -> float | None:
        if not self.arch.capped_logits:
            return None
        return self._real("final_logit_softcapping", 1e-3, 1e6) or self.arch.default_logit_cap or None

    def _per_layer(self, key: str, low: int, high: int, default: int | None = None) -> tuple[int, ...]:
        header, key = self.model.header, self.model.key(key)
        return header.per_layer(key, low, high, self.model.blocks, default)[: self._described]

    def _unfit(self, reason: str) -> NoDescriptionError:
        return NoDescriptionError(f"{self.model.path} can't be decoded as a whole: {reason}")

    @cached_property
    def hidden(self) -> int:
        return self.model.integer("embedding_length", 1, _MAX_SIZE)

    @cached_property
    def heads(self) -> tuple[int, ...]:
        """Heads of each layer."""
        heads = self._per_layer("attention.head_count", 0, _MAX_HEADS)
        if 0 in heads:
            raise self._unfit(f"its layer {heads.index(0)} has no heads")
        return heads

    @cached_property
    def kv_heads(self) -> tuple[int, ...]:
        """KV heads of each layer."""
        key = "attention.head_count_kv"
        found = self._per_layer(key, 0, _MAX_HEADS) if self.model.key(key) in self.model.header else self.heads
        for heads, kv_heads in zip(self.heads, found, strict=True):
            if kv_heads == 0 and (self.arch.short_convolutions or self.arch.state_space):
                continue
            if not 0 < kv_heads <= heads or heads % kv_heads:
                raise self._unfit(f"it has {heads} heads and {kv_heads} KV heads, which is not a multiple")
        return found

    @cached_property
    def feed_forward(self) -> tuple[int, ...]:
        """Size of each layer's feed-forward."""
        sizes = self._per_layer("feed_forward_length", 0, _MAX_SIZE)
        if 0 in sizes and not self.arch.apart:
            raise self._unfit(f"its layer {sizes.index(0)} has no feed-forward")
        return sizes

    @cached_property
    def head_size(self) -> int:
        """Elements of a head, in windowed layers unless these have others."""
        if self.latent is not None:
            return self._fitting_head_size(self.latent.size + self.model.integer("rope.dimension_count", 1, _MAX_SIZE))
        return self._head_size("", max(self.hidden // self.heads[0], 1))

    @cached_property
    def local_head_size(self) -> int:
        """Elements of a head in windowed layers."""
        return self._head_size("_swa", self.head_size) if self.arch.local_sizes else self.head_size

    def _head_size(self, where: str, default: int) -> int:
        size = self.model.integer(f"attention.key_length{where}", 1, _MAX_SIZE, default)
        values = self.model.integer(f"attention.value_length{where}", 1, _MAX_SIZE, size)
        if values != size:
            raise self._unfit(f"its keys have {size} elements and its values {values}")
        return self._fitting_head_size(size)

    def _fitting_head_size(self, size: int) -> int:
        if size % 8:
            raise self._unfit(f"its heads have {size} elements, which is not a multiple of 8")
        if size > MAX_HEAD:
            raise self._unfit(f"its heads have {size} elements, and the device takes up to {MAX_HEAD}")
        return size

    @cached_property
    def latent(self) -> Latent | None:
        """What keys and values are made of, if not of the activations themselves."""
        if not self.arch.latent_attention:
            return None
        latent = read_latent(self.model, self.model.integer("rope.dimension_count", 1, _MAX_SIZE))
        for size in (latent.size, latent.key_size, latent.query_rank):
            if size % BLOCK:
                raise self._unfit(f"its latent attention has a vector of {size} elements, which is not a multiple of {BLOCK}")
        return latent

    @cached_property
    def rotary_size(self) -> int:
        return 0 if self.arch.learned_positions else self._rotary_size("", self.head_size)

    @cached_property
    def local_rotary_size(self) -> int:
        """Elements of a head that are rotated in windowed layers."""
        return self._rotary_size("_swa", self.local_head_size) if self.arch.local_sizes else self.rotary_size

    def _rotary_size(self, where: str, head_size: int) -> int:
        size = self.model.integer(f"rope.dimension_count{where}", 0, _MAX_SIZE, head_size)
        if size % 8 or not 0 < size <= head_size:
            raise self._unfit(f"it rotates {size} of {head_size} elements of a head, which is not a multiple of 8")
        return size

    @cached_property
    def norm(self) -> Norm:
        kind = self.arch.norm
        key = "attention.layer_norm_rms_epsilon" if kind is NormKind.RMS else "attention.layer_norm_epsilon"
        return Norm(kind, self.model.header.real(self.model.key(key), 1e-15, 1.0))

    @cached_property
    def rope(self) -> Rope:
        """The angles of all layers that have no others."""
        return read_rope(self.model, self.rotary_size, self.context)

    @cached_property
    def growth(self) -> Growth | None:
        """How scores grow with the positions, if any do."""
        return read_growth(self.model, lambda: self.scale)

    @cached_property
    def scale(self) -> float:
        if self.arch.score_scale:
            return self.arch.score_scale
        by_width = self.model.layers == self.arch.layers_scaled_by_width
        size = self.head_size if self.latent is None else self.latent.key_size + self.rotary_size
        scale = read_score_growth(self.model) / sqrt(self.hidden / self.heads[0] if by_width else size)
        stated = self._real("attention.scale", 1e-6, 1e6)
        if self.arch.scalars:
            return stated or scale
        if stated is not None and not isclose(stated, scale, rel_tol=1e-3):
            # llama.cpp does not obey it in these architectures, and other models than theirs would have it.
            raise self.model.header.unexpected(self.model.key("attention.scale"), f"{scale:.4g}")
        return scale

    @cached_property
    def windowed(self) -> tuple[bool, ...]:
        """Whether each layer is one of those with a window."""
        header, key, layers = self.model.header, self.model.key("attention.sliding_window_pattern"), self._described
        if not self.arch.windowed or not (self.stated_window or self.arch.local_rope_base):
            return (False,) * layers
        if header.is_array(key):
            return tuple(map(bool, header.booleans(key, count=self.model.blocks)))[:layers]
        every = header.integer(key, 0, _MAX_HEADS, self.arch.global_every)
        return tuple(not (every and n % every == every - 1) for n in range(layers))

    @cached_property
    def stated_window(self) -> int:
        """Tokens of the windows; 0: there are none."""
        if not self.arch.windowed:
            return 0
        default = self.arch.default_window
        if not self.arch.chunked:
            return self.model.integer("attention.sliding_window", 0, _MAX_WINDOW, default)
        chunk = self.model.integer("attention.chunk_size", 1, _MAX_WINDOW, default)
        # llama.cpp reads 0 here as RoPE in all layers but the last, and anything else as the chunks that it always has.
        if self.model.integer("attention.sliding_window", 0, _MAX_WINDOW, chunk) != chunk:
            raise self.model.header.unexpected(self.model.key("attention.sliding_window"), str(chunk))
        return chunk

    @property
    def window(self) -> int | None:
        """Tokens of the windows; one that nothing can leave is none."""
        return self.stated_window if 0 < self.stated_window < self.model.context_length else None

    @cached_property
    def is_rotated(self) -> bool:
        """Whether anything is rotated."""
        key = self.model.key("rope.scaling.finetuned")
        return self.model.header.boolean(key, True) if self.arch.stated_rope else self.arch.rotated

    @property
    def pairs_neighbours(self) -> bool:
        """Whether rows of q and k lie in pairs that are rotated together."""
        return self.arch.paired_rope and self.model.key(_SECTIONS) not in self.model.header

    def _is_rotated(self, layer: int) -> bool:
        if not self.is_rotated:
            return False
        every = self.arch.unrotated_every
        if every and layer % every == every - 1:
            return False
        return self.arch.global_rotated or not any(self.windowed) or self.windowed[layer]

    @cached_property
    def linear(self) -> LinearAttention:
        """Linear attention of all layers that have it."""
        model = self.model
        key_heads, value_heads = (
            model.integer(key, 1, _MAX_HEADS) for key in ("ssm.group_count", "ssm.time_step_rank")
        )  # fmt: skip
        key_size, inner = model.integer("ssm.state_size", 1, _MAX_SIZE), model.integer("ssm.inner_size", 1, _MAX_SIZE)
        if value_heads % key_heads or inner % value_heads:
            raise self._unfit(
                f"its linear attention has {key_heads} key heads, {value_heads} value heads and {inner} values, which are no"
                " multiples"
            )
        value_size, space = inner // value_heads, self.arch.state_space or self.arch.state_space_beside
        norm_size = inner // key_heads if space else value_size
        if self.arch.state_space_beside and "blk.0.ssm_norm.weight" not in model.tensors:
            norm_size = 0
        found = LinearAttention(
            key_heads, value_heads, key_size, value_size, self._kernel("ssm.conv_kernel"), self.arch.tiled_heads,
            Rule.STATE_SPACE if space else Rule.DELTA, norm_size,
        )  # fmt: skip
        if found.key_size % BLOCK or found.value_size % BLOCK or found.key_size > MAX_KEY_SIZE:
            raise self._unfit(
                f"its linear attention has keys of {found.key_size} and values of {found.value_size} elements, and the program"
                f" takes multiples of {BLOCK}, keys up to {MAX_KEY_SIZE}"
            )
        return found

    def _kernel(self, key: str) -> int:
        kernel = self.model.integer(key, 1, 1 << 16)
        if not 2 <= kernel <= _MAX_KERNEL:
            raise self._unfit(f"its convolutions have {kernel} taps, and the program takes 2 to {_MAX_KERNEL}")
        return kernel

    @cached_property
    def recurrent(self) -> tuple[bool, ...]:
        """Whether each layer has something in place of attention."""
        layers = self.model.layers
        if self.arch.state_space:
            return tuple(f"blk.{n}.ssm_in.weight" in self.model.tensors for n in range(layers))
        if self.arch.short_convolutions:
            return tuple(heads == 0 for heads in self.kv_heads)
        if not self.arch.linear_attention:
            return (False,) * layers
        every = self.model.integer("full_attention_interval", 1, _MAX_HEADS, _ATTENTION_EVERY)
        return tuple(n % every != every - 1 and n < layers for n in range(self._described))

    def _mixer(self, n: int) -> Mixer:
        """Attention of a layer, or what it has in its place, with its tensors."""
        if not self.recurrent[n]:
            attention = self._attention(n)
            self._attention_matrices(n, attention)
            return attention
        if self.arch.state_space:
            self._state_space_tensors(n, self.linear)
            return self.linear
        if self.arch.linear_attention:
            self._linear_tensors(n, self.linear)
            return self.linear
        kernel = self._kernel("shortconv.l_cache")
        self._matrix(layer_role(n, "convolution_in"), f"blk.{n}.shortconv.in_proj", 3 * self.hidden, self.hidden)
        self._convolution(n, f"blk.{n}.shortconv.conv.weight", self.hidden, kernel)
        self._matrix(layer_role(n, "o"), f"blk.{n}.shortconv.out_proj", self.hidden, self.hidden)
        return ShortConvolution(kernel)

    def _linear_tensors(self, n: int, a: LinearAttention) -> None:
        for role, (name, rows, place) in self._linear_rows(a).items():
            self._check_no_bias(f"blk.{n}.{name}")
            self._matrix(layer_role(n, role), f"blk.{n}.{name}", rows, self.hidden, **place)
        self._vector(layer_role(n, "alpha_bias"), f"blk.{n}.ssm_dt.bias", a.value_heads)
        self._vector(layer_role(n, "decay"), f"blk.{n}.ssm_a", a.value_heads)
        self._convolution(n, f"blk.{n}.ssm_conv1d.weight", a.channels, a.kernel)
        self._vector(layer_role(n, "output_norm"), f"blk.{n}.ssm_norm.weight", a.value_size)
        self._matrix(layer_role(n, "o"), f"blk.{n}.ssm_out", self.hidden, a.values)

    def _linear_rows(self, a: LinearAttention) -> dict[str, tuple[str, int, dict[str, Any]]]:
        """For each role of linear attention its tensor, its rows, and which rows of the tensor they are."""
        found: dict[str, tuple[str, int, dict[str, Any]]] = {
            "alpha": ("ssm_alpha", a.value_heads, {}), "beta": ("ssm_beta", a.value_heads, {}),
            "qkv": ("attn_qkv", a.channels, {}), "output_gate": ("attn_gate", a.values, {}),
        }  # fmt: skip
        ratio = a.value_heads // a.key_heads
        if self.arch.fused_rates:
            beta, alpha = in_turn(a.key_heads, ratio, ratio)
            whole = {"of": 2 * a.value_heads}
            found |= {
                "alpha": ("ssm_ba", a.value_heads, {**whole, "order": alpha}),
                "beta": ("ssm_ba", a.value_heads, {**whole, "order": beta}),
            }
        if self.arch.fused_gate:
            *parts, gate = in_turn(a.key_heads, a.key_size, a.key_size, ratio * a.value_size, ratio * a.value_size)
            whole = {"of": a.channels + a.values}
            found |= {
                "qkv": ("ssm_in", a.channels, {**whole, "order": np.concatenate(parts)}),
                "output_gate": ("ssm_in", a.values, {**whole, "order": gate}),
            }
        return found

    def _state_space_tensors(self, n: int, a: LinearAttention, prefix: str = "") -> None:
        """Of the file's rows gates come first, then values, keys, queries, and what decays come from."""
        layer, total = f"blk.{n}.", a.values + a.channels + a.value_heads
        order = np.concatenate(
            [np.arange(a.values + a.keys, a.channels), np.arange(a.values, a.values + a.keys), np.arange(a.values)]
        )
        rows: dict[str, Any] = {
            "output_gate": {"rows": a.values, "first": 0}, "qkv": {"rows": a.channels, "first": a.values, "order": order},
            "alpha": {"rows": a.value_heads, "first": a.values + a.channels},
        }  # fmt: skip
        self._check_no_bias(f"{layer}ssm_in")
        for role, place in rows.items():
            self._matrix(layer_role(n, prefix + role), f"{layer}ssm_in", columns=self.hidden, of=total, **place)
        self._vector(layer_role(n, f"{prefix}alpha_bias"), f"{layer}ssm_dt.bias", a.value_heads)
        for role, name in (("decay", "ssm_a"), ("skip", "ssm_d")):
            tensor = self._readable(self._tensor(f"{layer}{name}", (a.value_heads, 1)))
            self.tables[layer_role(n, prefix + role)] = Source(tensor, 0, a.value_heads, 1)
        self._convolution(n, f"{layer}ssm_conv1d.weight", a.channels, a.kernel, order, prefix)
        if f"{layer}ssm_conv1d.bias" in self.model.tensors:
            bias = self._readable(self._tensor(f"{layer}ssm_conv1d.bias", (a.channels,)))
            self.tables[layer_role(n, f"{prefix}convolution_bias")] = Source(bias, 0, a.channels, 1, order)
        if a.norm_size:
            norm = self._readable(self._tensor(f"{layer}ssm_norm.weight", (a.key_heads, a.values // a.key_heads)))
            self.tables[layer_role(n, f"{prefix}output_norm")] = Source(norm, 0, a.values, 1)
        self._matrix(layer_role(n, f"{prefix}o"), f"{layer}ssm_out", self.hidden, a.values)

    def _check_no_bias(self, matrix: str) -> None:
        if f"{matrix}.bias" in self.model.tensors:
            raise self._unfit(f"its {matrix} has a bias, and the program adds none to what linear attention starts from")

    def _convolution(
        self, n: int, name: str, channels: int, kernel: int, order: NDArray[np.int64] | None = None, prefix: str = ""
    ) -> None:  # fmt: skip
        tensor = self._readable(self._tensor(name, (channels, kernel)))
        self.tables[layer_role(n, f"{prefix}convolution")] = Source(tensor, 0, kernel, channels, order, transposed=True)

    def _attention(self, layer: int) -> Attention:
        windowed, rotated = self.windowed[layer], self._is_rotated(layer)
        shared = self.model.first_shared <= layer < self.model.layers
        return Attention(
            heads=self.heads[layer],
            kv_heads=self.kv_heads[layer],
            head_size=self.local_head_size if windowed else self.head_size,
            scale=self.scale,
            rotary_size=(self.local_rotary_size if windowed else self.rotary_size) if rotated else 0,
            rope=LOCAL_ROPE if windowed and self.arch.local_rope_base is not None else ROPE,
            growing=self.growth is not None and not (rotated and self.arch.unrotated_growth),
            window=self.window if windowed else None,
            chunked=self.arch.chunked and windowed and self.window is not None,
            head_norm=self._head_norm(rotated),
            score_cap=self.score_cap,
            sinks=self.arch.sinks,
            keys_as_values=self.arch.optional_values and not shared and f"blk.{layer}.attn_v.weight" not in self.model.tensors,
            value_norm=self.arch.value_norm and not shared,
            gated=self.arch.gated_attention,
            latent=self.latent,
            shared_cache=shared,
        )

    def _head_norm(self, rotated: bool) -> HeadNorm | None:
        """What of q and k of a layer is normalised."""
        norm = self.arch.head_norm
        if norm is not HeadNorm.PLAIN_ROTATED_HEAD:
            return norm
        # Files of llama.cpp's converter leave unsaid that there is none in the one model with so many experts.
        there = self.model.header.boolean(self.model.key("use_qk_norm"), self.model.experts != _WITHOUT_HEAD_NORMS)
        return norm if there and rotated else None

    @cached_property
    def score_cap(self) -> float | None:
        """What attention's scores are capped at."""
        return (self._real("attn_logit_softcapping", 1e-3, 1e6) or self.arch.score_cap) if self.arch.score_cap else None

    # The tensors.

    def _layer(self, n: int) -> Layer:
        arch = self.arch
        parallel = arch.parallel and f"blk.{n}.{arch.feed_forward_norm}.weight" not in self.model.tensors
        if arch.pre_norms:
            self._norm(n, "attention_norm", "attn_norm")
        mixer = self._mixer(n)
        if arch.state_space_beside:
            self._state_space_tensors(n, self.linear, "beside_")
        if arch.post_norms:
            self._norm(n, "attention_post_norm", "post_attention_norm")
        if arch.pre_norms and not parallel:
            self._norm(n, "feed_forward_norm", arch.feed_forward_norm)
        feed_forward = self._experts(n) if self._has_experts(n) else self._feed_forward(n)
        if arch.post_norms:
            self._norm(n, "feed_forward_post_norm", "post_ffw_norm")
        scaled = f"blk.{n}.layer_output_scale.weight" in self.model.tensors
        if scaled:
            self._vector(layer_role(n, "output_scale"), f"blk.{n}.layer_output_scale.weight", 1)
        beside = self.linear if arch.state_space_beside else None
        return Layer(mixer, feed_forward, arch.post_norms, arch.pre_norms, parallel, scaled, beside, self._layer_embedding(n))

    def _draft_layer(self) -> DraftLayer:
        """The layer that drafts, behind the others."""
        n = self.model.layers
        for role, name in (("embedding_norm", "nextn.enorm"), ("hidden_norm", "nextn.hnorm")):
            self._norm(n, role, name)
        self._matrix(layer_role(n, "merge"), f"blk.{n}.nextn.eh_proj", self.hidden, 2 * self.hidden)
        # Without a norm of its own it takes the model's.
        own = f"blk.{n}.nextn.shared_head_norm.weight"
        norm = own if own in self.model.tensors else f"{self.arch.final_norm}.weight"
        self._vector(layer_role(n, "head_norm"), norm, self.hidden)
        return DraftLayer(self._layer(n), min(self.model.head.rows, _DRAFTED))

    @cached_property
    def layer_embedding_size(self) -> int:
        """Elements of the embedding that each layer has; 0: there are none."""
        key = "embedding_length_per_layer_input"
        size = self.model.integer(key, 0, _MAX_SIZE, 0) if self.arch.layer_embeddings else 0
        if size % BLOCK:
            raise self._unfit(f"its layers' embeddings have {size} elements, which is not a multiple of {BLOCK}")
        return size

    def _layer_embedding(self, n: int) -> LayerEmbedding | None:
        size, layer = self.layer_embedding_size, f"blk.{n}."
        if not size:
            return None
        # One matrix has the rows of all layers.
        of = self.model.layers * size
        self._matrix(layer_role(n, "embedding_projection"), "per_layer_model_proj", size, self.hidden, first=n * size, of=of)
        self._matrix(layer_role(n, "embedding_gate"), f"{layer}inp_gate", size, self.hidden)
        self._matrix(layer_role(n, "embedding_output"), f"{layer}proj", self.hidden, size)
        self._vector(layer_role(n, "embedding_post_norm"), f"{layer}post_norm.weight", self.hidden)
        return LayerEmbedding(size, self.arch.activation)

    def _joined_layers(self) -> tuple[Layer, ...]:
        """Layers of attention, and those of a feed-forward joined to the ones before them."""
        layers: list[Layer] = []
        for n in range(self.model.layers):
            tensors, layer = self.model.tensors, f"blk.{n}."
            mixture = f"{layer}ffn_gate_inp.weight" in tensors
            if not mixture and f"{layer}ffn_up.weight" not in tensors:
                self._norm(n, "attention_norm", "attn_norm")
                layers.append(Layer(self._mixer(n), None))
            elif not layers or layers[-1].feed_forward:
                raise self._unfit(f"no attention comes before the feed-forward of its layer {n}")
            else:
                self._norm(n, "feed_forward_norm", self.arch.feed_forward_norm)
                inner = self._experts(n) if mixture else self._feed_forward(n)
                layers[-1] = replace(layers[-1], feed_forward=inner)
            self._move(f"layers.{n}", f"layers.{len(layers) - 1}")
        return tuple(layers)

    def _move(self, block: str, layer: str) -> None:
        """Give what a block of the file has to a layer, whose number is not above the block's, in addition."""
        scales, before = self._scales.pop(block, []), self._scales.get(layer, [])
        first = sum(map(len, before))
        if scales or before:
            self._scales[layer] = before + scales
        for sources in (self.matrices, self.tables):
            for role in [role for role in sources if role.startswith(f"{block}.")]:
                source = sources.pop(role)
                moved = source if source.scale is None else replace(source, scale=source.scale + first)
                sources[layer + role.removeprefix(block)] = moved

    def _norm(self, n: int, role: str, name: str) -> None:
        # Converters write one of Falcon-H1's by its bare name.
        bare = f"blk.{n}.{name}"
        self._vector(layer_role(n, role), bare if bare in self.model.tensors else f"{bare}.weight", self.hidden)
        if self.arch.norm is NormKind.LAYER and self.arch.norm_biases:
            self._vector(layer_role(n, f"{role}_bias"), f"blk.{n}.{name}.bias", self.hidden)

    def _attention_matrices(self, n: int, a: Attention) -> None:
        if a.latent is not None:
            self._latent_tensors(n, a, a.latent)
            return
        query, key = a.heads * a.head_size, a.kv_heads * a.head_size
        sizes = {"q": (query, a.heads), "k": (key, a.kv_heads), "v": (key, 0)}
        rows = {name: sizes[name] for name in a.projections}
        first, total = 0, query + 2 * key
        for name, (size, heads) in rows.items():
            ordered = heads if self.pairs_neighbours else 0
            fused = self.arch.fused_qkv
            place: dict[str, Any] = {"first": first, "of": total} if fused else {}
            if a.gated and name == "q":
                # The rows of each head are followed by those of its gate.
                pairs = np.arange(2 * query).reshape(a.heads, 2, a.head_size).swapaxes(0, 1).reshape(2, query)
                place = {"of": 2 * query, "order": pairs[0]}
                self._matrix(layer_role(n, "output_gate"), f"blk.{n}.attn_q", query, self.hidden, of=2 * query, order=pairs[1])
            self._matrix(
                layer_role(n, name), f"blk.{n}.attn_{'qkv' if fused else name}", size, self.hidden, ordered=ordered, **place
            )
            first += size
            if a.head_norm and a.head_norm.has_weights and heads:
                # The norm of all heads has a weight for each of their elements.
                apart = heads if a.head_norm is HeadNorm.ALL_HEADS else 1
                self._vector(
                    layer_role(n, f"{name}_norm"),
                    f"blk.{n}.attn_{name}_norm.weight",
                    apart * a.head_size,
                    repeats=heads // apart,
                    ordered=apart * self.pairs_neighbours,
                )
        if a.sinks:
            self._vector(layer_role(n, "sinks"), f"blk.{n}.attn_sinks.weight", a.heads)
        self._matrix(layer_role(n, "o"), f"blk.{n}.attn_output", self.hidden, query)

    def _latent_tensors(self, n: int, a: Attention, latent: Latent) -> None:
        """What makes queries and the latent, rows of rotated elements first."""
        layer, rotated, heads = f"blk.{n}.attn_", a.rotary_size, a.heads
        pairs = np.arange(rotated).reshape(-1, 2).T.reshape(-1)

        def rotated_first(others: int, count: int) -> NDArray[np.int64]:
            one = np.concatenate([others + pairs, np.arange(others)])
            return (np.arange(count)[:, None] * (rotated + others) + one).reshape(-1)

        rank, name = latent.query_rank, f"{layer}q"
        if rank:
            self._unbiased(n, "q_a", f"{layer}q_a", (rank, self.hidden))
            self._vector(layer_role(n, "q_a_norm"), f"{layer}q_a_norm.weight", rank)
            name = f"{layer}q_b"
        rows = heads * (rotated + latent.key_size)
        self._unbiased(n, "q", name, (rows, rank or self.hidden), rotated_first(latent.key_size, heads))
        self._unbiased(n, "kv_a", f"{layer}kv_a_mqa", (a.head_size, self.hidden), rotated_first(latent.size, 1))
        self._vector(layer_role(n, "kv_a_norm"), f"{layer}kv_a_norm.weight", latent.size)
        self._unbiased(n, "k_b", f"{layer}k_b", (heads, latent.size, latent.key_size))
        self._unbiased(n, "v_b", f"{layer}v_b", (heads, latent.value_size, latent.size))
        self._matrix(layer_role(n, "o"), f"{layer}output", self.hidden, heads * latent.value_size)

    def _unbiased(self, n: int, role: str, name: str, shape: tuple[int, ...], order: NDArray[np.int64] | None = None) -> None:
        """Note the tensor of a matrix that has no bias: one in the file would be left over."""
        full, tensor = layer_role(n, role), self._tensor(f"{name}.weight", shape)
        self.matrices[full] = Source(tensor, 0, tensor.rows, shape[-1], order, scale=self._scale(full, name, 0))

    def _row_order(self, heads: int) -> NDArray[np.int64]:
        """The file's rows of each head, first elements of all pairs first."""
        one = np.arange(self.head_size)
        one[: self.rotary_size] = one[: self.rotary_size].reshape(-1, 2).T.reshape(-1)
        return (np.arange(heads)[:, None] * self.head_size + one).reshape(-1)

    def _feed_forward(self, n: int, prefix: str = "") -> FeedForward:
        arch, size = self.arch, self.feed_forward[n]
        if arch.gated:
            place: dict[str, Any] = {"first": 0, "of": 2 * size} if arch.fused_gate_up else {}
            self._matrix(
                layer_role(n, f"{prefix}gate"),
                f"blk.{n}.ffn_{'up' if arch.fused_gate_up else 'gate'}",
                size,
                self.hidden,
                **place,
            )
        place = {"first": size, "of": 2 * size} if arch.fused_gate_up else {}
        self._matrix(layer_role(n, f"{prefix}up"), f"blk.{n}.ffn_up", size, self.hidden, **place)
        self._matrix(layer_role(n, f"{prefix}down"), f"blk.{n}.ffn_down", self.hidden, size)
        return self._block(size)

    def _block(self, size: int) -> FeedForward:
        arch = self.arch
        return FeedForward(size, arch.activation, arch.gated, limit=arch.limit or None, up_offset=arch.up_offset)

    def _inner(self, size: int) -> list[tuple[str, int, int]]:
        """Names, rows and columns of a feed-forward's matrices."""
        gate = [("gate", size, self.hidden)] if self.arch.gated else []
        return [*gate, ("up", size, self.hidden), ("down", self.hidden, size)]

    def _has_experts(self, n: int) -> bool:
        """Whether a layer's feed-forward is a mixture: layers before, or between, may have a single one."""
        if self.model.experts and self.arch.experts_apart:
            return f"blk.{n}.ffn_gate_inp.weight" in self.model.tensors
        if not self.model.experts or f"blk.{n}.ffn_gate.weight" not in self.model.tensors:
            return bool(self.model.experts)
        # Which layers these are, the header says as well.
        for key in ("leading_dense_block_count", "interleave_moe_layer_step"):
            self.model.integer(key, 0, self.model.blocks, 0)
        return False

    def _experts(self, n: int) -> Experts:
        model, count, layer = self.model, self.model.experts, f"blk.{n}."
        size = self._per_layer("expert_feed_forward_length", 0, _MAX_SIZE, 0)[n] or self.feed_forward[n]
        self._matrix(layer_role(n, "router"), f"{layer}ffn_gate_inp", count, self.hidden, scaled=not self.arch.experts_apart)
        if self.arch.experts_apart:
            return self._experts_apart(n, size)
        if f"{layer}exp_probs_b.bias" in model.tensors:
            bias = self._readable(self._row(f"{layer}exp_probs_b.bias", count))
            self.tables[layer_role(n, "selection_bias")] = Source(bias, 0, count, 1)
        self._expert_matrices(n, size)
        shared, gated = self._shared_expert(n)
        experts = read_experts(model, self._block(size), shared, gated)
        if experts.groups > 1 and count // experts.groups % 4:
            raise self._unfit(f"its experts are in groups of {count // experts.groups}, which is not a multiple of 4")
        return experts

    def _expert_matrices(self, n: int, size: int) -> None:
        """The matrices of all experts; gate and up may be one tensor, in which each expert's gate comes first."""
        start = f"blk.{n}.ffn_"
        fused = f"{start}gate_up_exps.weight" in self.model.tensors
        for i, (role, rows, columns) in enumerate(self._inner(size)):
            apart = not fused or role == "down"
            place: dict[str, Any] = {} if apart else {"first": i * size, "of": 2 * size}
            name = f"{start}{role}_exps" if apart else f"{start}gate_up_exps"
            self._matrix(layer_role(n, f"experts_{role}"), name, rows, columns, experts=self.model.experts, **place)

    def _experts_apart(self, n: int, size: int) -> Experts:
        """Experts, and what would be the layer's feed-forward without them, each between norms of its own."""
        layer = f"blk.{n}."
        for role, name in (
            ("router_norm", "ffn_gate_inp.scale"), ("experts_norm", "pre_ffw_norm_2.weight"),
            ("experts_post_norm", "post_ffw_norm_2.weight"), ("shared_post_norm", "post_ffw_norm_1.weight"),
        ):  # fmt: skip
            self._vector(layer_role(n, role), layer + name, self.hidden)
        self._expert_matrices(n, size)
        shared = self._feed_forward(n, "shared_")
        found = read_experts(self.model, self._block(size), shared, False)
        return replace(found, apart=True, router_scale=1.0 / sqrt(self.hidden))

    def _shared_expert(self, n: int) -> tuple[FeedForward | None, bool]:
        """The expert that every token goes through, as large as its matrices are, and whether it has a gate of its own."""
        tensors, layer = self.model.tensors, f"blk.{n}."
        if f"{layer}ffn_up_shexp.weight" not in tensors:
            return None, False
        # What the header says of them, their matrices say as well.
        self.model.integer("expert_shared_count", 0, _MAX_HEADS, 0)
        size = tensors[f"{layer}ffn_up_shexp.weight"].rows
        for role, rows, columns in self._inner(size):
            self._matrix(layer_role(n, f"shared_{role}"), f"{layer}ffn_{role}_shexp", rows, columns)
        gate = f"{layer}ffn_gate_inp_shexp.weight"
        if gate in tensors:
            self.matrices[layer_role(n, "shared_router")] = Source(self._row(gate, self.hidden), 0, 1, self.hidden)
        return self._block(size), gate in tensors

    def _model_tensors(self) -> None:
        vocabulary = self.model.head.rows
        self._table("embedding", EMBEDDING, vocabulary, self.hidden)
        if size := self.layer_embedding_size:
            self._table("layer_embeddings", "per_layer_token_embd.weight", vocabulary, self.model.layers * size)
            self._vector("layer_embedding_norm", "per_layer_proj_norm.weight", size)
        if self.arch.learned_positions:
            self._table("position_embedding", "position_embd.weight", self.model.context_length, self.hidden)
        self._vector("final_norm", f"{self.arch.final_norm}.weight", self.hidden)
        if self.arch.norm is NormKind.LAYER and self.arch.norm_biases:
            self._vector("final_norm_bias", "output_norm.bias", self.hidden)
        self._matrix("head", self.model.head.name.removesuffix(".weight"), vocabulary, self.hidden)

    def _matrix(
        self,
        role: str,
        name: str,
        rows: int,
        columns: int,
        *,
        first: int = 0,
        of: int = 0,
        ordered: int = 0,
        order: NDArray[np.int64] | None = None,
        experts: int = 0,
        scaled: bool = True,
    ) -> None:
        """Note the tensor of a matrix, its bias if it has one, and what its results are multiplied with.

        `of`: rows of the whole tensor, if this is a part of it; `ordered`: heads whose rows are put in order; `order`: which
        rows are taken; `scaled`: whether a scale of this name is one of the results.
        """
        tensor = self._tensor(f"{name}.weight", ((experts,) if experts else ()) + ((of or rows), columns))
        order = self._row_order(ordered) if ordered else order
        scale = self._scale(role, name, experts) if scaled else None
        self.matrices[role] = Source(tensor, first, rows, columns, order, experts, of if experts else 0, scale=scale)
        if f"{name}.bias" in self.model.tensors and experts:
            self._table(f"{role}_bias", f"{name}.bias", experts, rows)
        elif f"{name}.bias" in self.model.tensors:
            bias = self._readable(self._tensor(f"{name}.bias", (of or rows,)))
            self.tables[f"{role}_bias"] = Source(bias, first, rows, 1, order)

    def _scale(self, role: str, name: str, experts: int) -> int | None:
        """Where in its layer's table of scales those of a matrix are, if it has any."""
        # With this others scale activations before they round them.
        self.used.add(f"{name}.input_scale")
        layer, _, _ = role.rpartition(".")
        if not layer or f"{name}.scale" not in self.model.tensors:
            return None
        tensor = self._readable(self._tensor(f"{name}.scale", (experts or 1,)))
        tensor.check_finite()
        scales = self._scales.setdefault(layer, [])
        scales.append(tensor.dequantised()[0])
        return sum(map(len, scales[:-1]))

    def _tables_of_scales(self) -> None:
        for layer, scales in self._scales.items():
            numbers = np.concatenate(scales)
            tensor = Tensor(f"{layer}.scales", "F32", 0, numbers.shape, numbers)
            self.tables[f"{layer}.scales"] = Source(tensor, 0, numbers.size, 1)

    def _vector(self, role: str, name: str, size: int, *, repeats: int = 1, ordered: int = 0) -> None:
        tensor = self._readable(self._tensor(name, (size,)))
        self.tables[role] = Source(tensor, 0, size, 1, self._row_order(ordered) if ordered else None, repeats=repeats)

    def _table(self, role: str, name: str, rows: int, columns: int) -> None:
        self.tables[role] = Source(self._readable(self._tensor(name, (rows, columns))), 0, rows, columns)

    def _row(self, name: str, size: int) -> Tensor:
        """A vector, which some converters write as a matrix of one row."""
        return self._tensor(name, (size,) if len(self.model.tensors[name].shape) == 1 else (1, size))

    def _tensor(self, name: str, shape: tuple[int, ...]) -> Tensor:
        tensor = self.model.tensor(name, shape)
        self.used.add(name)
        return tensor

    def _readable(self, tensor: Tensor) -> Tensor:
        """A tensor whose numbers are needed."""
        tensor.check_readable()
        return tensor


def in_turn(groups: int, *sizes: int) -> list[NDArray[np.int64]]:
    """Of rows of which each group has some of each part, the numbers of each part's rows."""
    rows = np.arange(groups * sum(sizes)).reshape(groups, sum(sizes))
    ends = np.cumsum(sizes)
    return [rows[:, end - size : end].reshape(-1) for size, end in zip(sizes, ends, strict=True)]
