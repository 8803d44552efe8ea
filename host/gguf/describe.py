"""From a GGUF file to the description of a decoder, and to the tensor rows behind each of its roles.

Sources: the names and keys of the `gguf` package, and llama.cpp's model graphs for what they mean.
"""

from dataclasses import dataclass, field
from functools import cached_property
from math import log, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailrace.firmware.description import Attention, Description, Experts, FeedForward, Layer, Norm, NormKind, layer_role
from tailrace.spec.errors import LimitError, ModelError
from tailrace.spec.formats import Format

from .architectures import ARCHITECTURES, EMBEDDING, Architecture
from .file import Model, Tensor
from .quantisation import dequantise, quantise
from .rope import Rope, Yarn

#: Names of the tables of angles.
ROPE, LOCAL_ROPE = "rope", "rope_local"
#: Tensors that go into the tables of angles.
_ROPE_TENSORS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
#: Header values that change what a model computes, with the value that changes nothing.
_UNSUPPORTED = {
    "attention.max_alibi_bias": 0.0,
    "attention.clamp_kqv": 0.0,
    "attn_logit_softcapping": 0.0,
    "attention.temperature_length": 0,
    "attention.temperature_scale": 0.0,
    "attention.shared_kv_layers": 0,
    "attention.causal": True,
    "expert_shared_count": 0,
    "expert_group_count": 0,
    "expert_weights_scale": 1.0,
    "router_logit_softcapping": 0.0,
    "logit_scale": 1.0,
    "residual_scale": 1.0,
    "embedding_scale": 1.0,
    "rope.scaling.yarn_log_multiplier": 0.0,
}
#: llama.cpp's number for a router that is a softmax.
_SOFTMAX_GATING = 1


class NoDescriptionError(ModelError):
    """A model that no description fits, so that no decode program can be built."""


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
    repeats : int
        Times that a vector is repeated.
    """

    tensor: Tensor
    first: int
    rows: int
    columns: int
    order: NDArray[np.int64] | None = field(default=None, compare=False)
    experts: int = 0
    repeats: int = 1

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
        return rows if self.tensor.format is fmt else quantise(dequantise(rows, self.tensor.ggml_type), fmt.ggml_type)

    def numbers(self, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """Rows as float32, shape (rows, columns); a vector as (repeats, elements)."""
        index = self._index(start, self.rows if stop is None else stop, 0)
        if self.columns == 1:
            vector = self.tensor.dequantised().reshape(-1)[index]
            return np.tile(vector, (self.repeats, 1))
        data = self.tensor.data.reshape(self.tensor.rows, -1)
        return dequantise(data[index], self.tensor.ggml_type).reshape(-1, self.columns)

    def _index(self, start: int, stop: int, expert: int) -> Any:
        first = self.first + expert * self.rows
        return slice(first + start, first + stop) if self.order is None else first + self.order[start:stop]


@dataclass(frozen=True)
class ImportedModel:
    """A model as the decode path has it.

    Attributes
    ----------
    model : Model
    context : int
        Positions that will be used. Angles, caches, programs and the model on the host all go by it.
    description : Description
    matrices, tables : dict from role to Source
    ropes : dict from name to Rope
        Those for this context.
    """

    model: Model
    context: int
    description: Description
    matrices: dict[str, Source]
    tables: dict[str, Source]
    ropes: dict[str, Rope]

    def at(self, context: int) -> "ImportedModel":
        """The same model for another context (`import_model`)."""
        return import_model(self.model, context)


def import_model(model: Model, context: int | None = None) -> ImportedModel:
    """Describe a model, and find the tensor behind each role.

    Parameters
    ----------
    model : Model
    context : int or None
        Positions that will be used. LongRoPE has other angles for a context longer than the one before it was extended. None:
        as many as the model was trained for.

    Raises
    ------
    LimitError
        If the model was not trained for that many.
    NoDescriptionError
        If the model computes something that a description can't say.
    ModelError
        If tensors are missing or do not have the shapes that the header speaks of.
    """
    return _Importer(model, check_context(model, context)).run()


def check_context(model: Model, context: int | None) -> int:
    """The context in use: what was asked for, or what the model was trained for.

    Raises
    ------
    LimitError
        If more was asked for than the model was trained for.
    """
    trained = model.context_length
    if context is None:
        return trained
    if not 1 <= context <= trained:
        raise LimitError(f"{model.path} was made for a context of {trained} tokens: ask for 1 to {trained}, not {context}")
    return context


class _Importer:
    def __init__(self, model: Model, context: int) -> None:
        self.model, self.context = model, context
        self.arch: Architecture = model.architecture
        self.matrices: dict[str, Source] = {}
        self.tables: dict[str, Source] = {}
        self.used: set[str] = set()

    def run(self) -> ImportedModel:
        model, arch = self.model, self.arch
        if not arch.known:
            raise self._unfit(f"its architecture {arch.name!r} is none of {', '.join(ARCHITECTURES)}")
        for key, neutral in _UNSUPPORTED.items():
            value = self._value(key, neutral)
            if value != neutral:
                raise self._unfit(f"its header has {arch.name}.{key} = {value}")
        if model.experts and self._value("expert_gating_func", _SOFTMAX_GATING) != _SOFTMAX_GATING:
            raise self._unfit("its router is not a softmax")
        layers = tuple(self._layer(n) for n in range(model.layers))
        self._model_tensors()
        description = Description(
            architecture=arch.name,
            hidden=self.hidden,
            vocabulary=model.head.rows,
            layers=layers,
            norm=self.norm,
            embedding_scale=sqrt(self.hidden) if arch.scaled_embedding else 1.0,
            learned_positions=arch.learned_positions,
            logit_cap=self._value("final_logit_softcapping", 0.0) or None,
        )
        ropes = {} if arch.learned_positions else {ROPE: self._rope()}
        if any(layer.attention.rope == LOCAL_ROPE for layer in layers):
            base = self._value("rope.freq_base_swa", arch.local_rope_base)
            ropes[LOCAL_ROPE] = Rope(self.rotary_size, float(base))
        unused = sorted(set(model.tensors) - self.used - set(_ROPE_TENSORS))
        if unused:
            raise self._unfit(f"it has tensors that no other {arch.name} model has, such as {unused[0]}")
        return ImportedModel(model, self.context, description, self.matrices, self.tables, ropes)

    # The header.

    def _value(self, key: str, default: Any) -> Any:
        return self.model.metadata.get(f"{self.arch.name}.{key}", default)

    def _unfit(self, reason: str) -> NoDescriptionError:
        return NoDescriptionError(f"{self.model.path} can't be decoded as a whole: {reason}")

    @cached_property
    def hidden(self) -> int:
        return self.model.integer("embedding_length", 1, 1 << 24)

    @cached_property
    def heads(self) -> int:
        return self.model.integer("attention.head_count", 1, 1 << 16)

    @cached_property
    def kv_heads(self) -> int:
        heads = self._value("attention.head_count_kv", self.heads)
        if not 0 < heads <= self.heads or self.heads % heads:
            raise self._unfit(f"it has {self.heads} heads and {heads} KV heads, which is not a multiple")
        return int(heads)

    @cached_property
    def head_size(self) -> int:
        size = self._value("attention.key_length", self.hidden // self.heads)
        values = self._value("attention.value_length", size)
        if values != size:
            raise self._unfit(f"its keys have {size} elements and its values {values}")
        if size % 8:
            raise self._unfit(f"its heads have {size} elements, which is not a multiple of 8")
        if size > 256:
            raise self._unfit(f"its heads have {size} elements, and the device takes up to 256")
        return int(size)

    @cached_property
    def rotary_size(self) -> int:
        if self.arch.learned_positions:
            return 0
        size = self._value("rope.dimension_count", self.head_size)
        if size % 8 or not 0 < size <= self.head_size:
            raise self._unfit(f"it rotates {size} of {self.head_size} elements of a head, which is not a multiple of 8")
        return int(size)

    @cached_property
    def norm(self) -> Norm:
        kind = self.arch.norm
        key = "attention.layer_norm_rms_epsilon" if kind is NormKind.RMS else "attention.layer_norm_epsilon"
        epsilon = self._value(key, None)
        if epsilon is None:
            raise ModelError(
                f"{self.model.path} is not a complete model: its header lacks {self.arch.name}.{key}. Convert it again."
            )
        return Norm(kind, float(epsilon))

    @cached_property
    def scale(self) -> float:
        # Gemma 3's largest model, which has 62 layers, is the one that does not go by the size of its heads.
        if self.arch.name == "gemma3" and self.model.layers == 62:
            return 1.0 / sqrt(self.hidden / self.heads)
        return float(self._value("attention.scale", 0.0)) or 1.0 / sqrt(self.head_size)

    def _attention(self, layer: int) -> Attention:
        window, every = None, self._value("attention.sliding_window_pattern", self.arch.global_every)
        if self.arch.windowed and not (every and layer % every == every - 1):
            window = int(self._value("attention.sliding_window", 0)) or None
            # A window that nothing can leave is none.
            window = None if window is not None and window >= self.model.context_length else window
        local = self.arch.local_rope_base is not None and bool(every) and layer % every != every - 1
        return Attention(
            heads=self.heads,
            kv_heads=self.kv_heads,
            head_size=self.head_size,
            scale=self.scale,
            rotary_size=self.rotary_size,
            rope=LOCAL_ROPE if local else ROPE,
            window=window,
            head_norm=self.arch.head_norm,
        )

    def _rope(self) -> Rope:
        kind = self._value("rope.scaling.type", "none")
        base = float(self._value("rope.freq_base", 10_000.0))
        factor = float(self._value("rope.scaling.factor", 0.0) or self._value("rope.scale_linear", 0.0) or 1.0)
        magnitude = float(self._value("rope.scaling.attn_factor", 1.0))
        original = int(self._value("rope.scaling.original_context_length", self.model.context_length))
        pairs, size = self.rotary_size // 2, self.rotary_size
        if "rope_factors_long.weight" in self.model.tensors:
            name = f"rope_factors_{'long' if self.context > original else 'short'}.weight"
            return Rope(size, base, self._factors(name), magnitude)
        if kind == "longrope":
            raise ModelError(f"{self.model.path} is not a complete model: it lacks rope_factors_long.weight. Convert it again.")
        if "rope_freqs.weight" in self.model.tensors:
            return Rope(size, base, self._factors("rope_freqs.weight"))
        if kind == "yarn":
            betas = (
                float(self._value(f"rope.scaling.yarn_{n}", default)) for n, default in (("beta_fast", 32), ("beta_slow", 1))
            )
            magnitude *= float(self._value("rope.scaling.yarn_attn_factor", 1.0)) * (0.1 * log(factor) + 1.0)
            return Rope(size, base, magnitude=magnitude, yarn=Yarn(factor, original, *betas))
        if kind not in ("none", "linear"):
            raise self._unfit(f"it scales RoPE with {kind!r}")
        return Rope(size, base, (factor,) * pairs if factor != 1.0 else ())

    def _factors(self, name: str) -> tuple[float, ...]:
        values = self.model.tensors[name].dequantised().reshape(-1)
        if len(values) != self.rotary_size // 2:
            raise self._misshapen(name, (self.rotary_size // 2,))
        return tuple(map(float, values))

    # The tensors.

    def _layer(self, n: int) -> Layer:
        arch = self.arch
        attention = self._attention(n)
        self._norm(n, "attention_norm", "attn_norm")
        self._attention_matrices(n, attention)
        if arch.post_norms:
            self._norm(n, "attention_post_norm", "post_attention_norm")
        self._norm(n, "feed_forward_norm", "ffn_norm")
        feed_forward = self._experts(n) if self.model.experts else self._feed_forward(n)
        if arch.post_norms:
            self._norm(n, "feed_forward_post_norm", "post_ffw_norm")
        return Layer(attention, feed_forward, arch.post_norms)

    def _norm(self, n: int, role: str, name: str) -> None:
        self._vector(layer_role(n, role), f"blk.{n}.{name}.weight", self.hidden)
        if self.arch.norm is NormKind.LAYER:
            self._vector(layer_role(n, f"{role}_bias"), f"blk.{n}.{name}.bias", self.hidden)

    def _attention_matrices(self, n: int, a: Attention) -> None:
        query, key = a.heads * a.head_size, a.kv_heads * a.head_size
        rows = {"q": (query, a.heads), "k": (key, a.kv_heads), "v": (key, 0)}
        first, total = 0, query + 2 * key
        for name, (size, heads) in rows.items():
            order = self._row_order(heads) if self.arch.paired_rope and heads else None
            fused = self.arch.fused_qkv
            place: dict[str, Any] = {"first": first, "of": total} if fused else {}
            self._matrix(
                layer_role(n, name), f"blk.{n}.attn_{'qkv' if fused else name}", size, self.hidden, order=order, **place
            )
            first += size
            if a.head_norm and heads:
                norm_order = self._row_order(1) if self.arch.paired_rope else None
                self._vector(
                    layer_role(n, f"{name}_norm"),
                    f"blk.{n}.attn_{name}_norm.weight",
                    a.head_size,
                    repeats=heads,
                    order=norm_order,
                )
        self._matrix(layer_role(n, "o"), f"blk.{n}.attn_output", self.hidden, query)

    def _row_order(self, heads: int) -> NDArray[np.int64]:
        """The file's rows of each head, first elements of all pairs first."""
        one = np.arange(self.head_size)
        one[: self.rotary_size] = one[: self.rotary_size].reshape(-1, 2).T.reshape(-1)
        return (np.arange(heads)[:, None] * self.head_size + one).reshape(-1)

    def _feed_forward(self, n: int) -> FeedForward:
        arch, size = self.arch, self.model.integer("feed_forward_length", 1, 1 << 24)
        if arch.gated:
            place: dict[str, Any] = {"first": 0, "of": 2 * size} if arch.fused_gate_up else {}
            self._matrix(
                layer_role(n, "gate"), f"blk.{n}.ffn_{'up' if arch.fused_gate_up else 'gate'}", size, self.hidden, **place
            )
        place = {"first": size, "of": 2 * size} if arch.fused_gate_up else {}
        self._matrix(layer_role(n, "up"), f"blk.{n}.ffn_up", size, self.hidden, **place)
        self._matrix(layer_role(n, "down"), f"blk.{n}.ffn_down", self.hidden, size)
        return FeedForward(size, arch.activation, arch.gated)

    def _experts(self, n: int) -> Experts:
        count, used = self.model.experts, self.model.integer("expert_used_count", 1, 1 << 16)
        size = int(self._value("expert_feed_forward_length", 0)) or self.model.integer("feed_forward_length", 1, 1 << 24)
        if not 0 < used <= count:
            raise self._unfit(f"it uses {used} of {count} experts")
        if not self.arch.gated:
            raise self._unfit("its experts are not gated")
        self._matrix(layer_role(n, "router"), f"blk.{n}.ffn_gate_inp", count, self.hidden)
        for role, rows, columns in (("gate", size, self.hidden), ("up", size, self.hidden), ("down", self.hidden, size)):
            self._matrix(layer_role(n, f"experts_{role}"), f"blk.{n}.ffn_{role}_exps", rows, columns, experts=count)
        return Experts(count, used, FeedForward(size, self.arch.activation), self.arch.normalised_experts)

    def _model_tensors(self) -> None:
        vocabulary = self.model.head.rows
        self._table("embedding", EMBEDDING, vocabulary, self.hidden)
        if self.arch.learned_positions:
            self._table("position_embedding", "position_embd.weight", self.model.context_length, self.hidden)
        self._vector("final_norm", "output_norm.weight", self.hidden)
        if self.arch.norm is NormKind.LAYER:
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
        order: NDArray[np.int64] | None = None,
        experts: int = 0,
    ) -> None:
        """Note the tensor of a matrix, and its bias if it has one; `of`: rows of the whole tensor, if this is a part of it."""
        tensor = self._tensor(f"{name}.weight", ((experts,) if experts else ()) + ((of or rows), columns))
        self.matrices[role] = Source(tensor, first, rows, columns, order, experts)
        if f"{name}.bias" in self.model.tensors and not experts:
            bias = self._tensor(f"{name}.bias", (of or rows,))
            self.tables[f"{role}_bias"] = Source(bias, first, rows, 1, order)

    def _vector(self, role: str, name: str, size: int, *, repeats: int = 1, order: NDArray[np.int64] | None = None) -> None:
        self.tables[role] = Source(self._tensor(name, (size,)), 0, size, 1, order, repeats=repeats)

    def _table(self, role: str, name: str, rows: int, columns: int) -> None:
        self.tables[role] = Source(self._tensor(name, (rows, columns)), 0, rows, columns)

    def _tensor(self, name: str, shape: tuple[int, ...]) -> Tensor:
        tensor = self.model.tensors.get(name)
        if tensor is None:
            raise ModelError(f"{self.model.path} is not a complete {self.arch.name} model: it lacks {name}. Convert it again.")
        if tensor.shape != shape:
            raise self._misshapen(name, shape)
        self.used.add(name)
        return tensor

    def _misshapen(self, name: str, shape: tuple[int, ...]) -> ModelError:
        found = " x ".join(map(str, self.model.tensors[name].shape))
        return ModelError(
            f"{self.model.path} is not a complete {self.arch.name} model: {name} is {found}, and its header speaks of"
            f" {' x '.join(map(str, shape))}. Convert it again."
        )
