"""Loads the Hugging Face model of a GGUF file, and proves that it has the weights of the file."""

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from functools import cache
from io import StringIO
from typing import Any

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from tailrace.spec.errors import ModelError

from ..architectures import EMBEDDING, HEAD
from ..model import Model, Tensor
from ..plan import Plan

#: Factors on RoPE's frequencies (Llama 3.1 and later), which transformers does not read from GGUF files.
ROPE_FACTORS = "rope_freqs.weight"


@dataclass(frozen=True)
class HostModel:
    """The model on the host.

    Attributes
    ----------
    model : PreTrainedModel
        In float32, on cuda if there is one.
    source : dict of str to Tensor
        For each parameter and each tied use of it the tensor of the file that it comes from.
    row_order : dict of str to ndarray of int, shape (rows,)
        For parameters whose rows are in another order than the file's: the row of the file for each of theirs.
    """

    model: PreTrainedModel
    source: dict[str, Tensor]
    row_order: dict[str, NDArray[np.int64]]


def load_tokenizer(model: Model) -> PreTrainedTokenizerBase:
    """The tokenizer of a GGUF file.

    Raises
    ------
    ModelError
        If the file has none that transformers reads.
    """
    try:
        with _parsed_once(model):
            return AutoTokenizer.from_pretrained(str(model.path.parent), gguf_file=model.path.name)
    except Exception as error:
        raise ModelError(f"transformers can't read the tokenizer of {model.path}: {error}. Convert the model again.") from error


def load_model(plan: Plan, device: str | None = None) -> HostModel:
    """Load a model in float32 and check every weight against the file.

    Parameters
    ----------
    plan : Plan
        Says which matrices are quantised on the user's wish; the host gets those weights, too.
    device : str or None
        Torch device; None takes cuda if there is one.

    Raises
    ------
    ModelError
        If transformers can't load the file, or a weight is not the file's.
    """
    model = plan.model
    folder, name = str(model.path.parent), model.path.name
    try:
        with _parsed_once(model), redirect_stderr(StringIO()):  # its progress bars
            config = AutoConfig.from_pretrained(folder, gguf_file=name)
            if head_size := model.metadata.get(f"{model.architecture.name}.attention.key_length"):
                config.head_dim = head_size
            host = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, config=config, dtype=torch.float32)
    except Exception as error:
        raise ModelError(f"transformers can't load {model.path}: {error}") from error
    host.eval().requires_grad_(False)
    source = _sources(host, model)
    row_order = _row_orders(host, model, source)
    _scale_rope(host, model)
    quantised = {p.tensor.name: p for p in plan.placements if p.quantise}
    for parameter, tensor in source.items():
        weight = host.state_dict()[parameter]
        order = row_order.get(parameter)
        if tensor.name in quantised:
            fmt = quantised[tensor.name].format
            assert fmt is not None
            _copy_rows(weight, tensor.quantised(fmt).dequantised(), order)
        else:
            _check_equal(weight, parameter, tensor, order)
    host.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return HostModel(host, source, row_order)


@contextmanager
def _parsed_once(model: Model) -> Iterator[None]:
    """While this is open, transformers gets the file parsed already.

    It would parse it four times over, and build the table of names once for every module: half of the time to load.
    """
    originals = gguf.GGUFReader, gguf.get_tensor_name_map
    gguf.GGUFReader, gguf.get_tensor_name_map = (lambda path: model.reader), cache(gguf.get_tensor_name_map)
    try:
        yield
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map = originals


def _sources(host: nn.Module, model: Model) -> dict[str, Tensor]:
    """The tensor of the file for every parameter of the model; none of either may be left over."""
    (arch,) = (kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == model.architecture.name)
    names = gguf.get_tensor_name_map(arch, model.layers)
    source: dict[str, Tensor] = {}
    for parameter in host.state_dict():
        module, _, kind = parameter.rpartition(".")
        name = f"{names.get_name(module)}.{kind}"
        if name == HEAD and HEAD not in model.tensors:
            name = EMBEDDING
        if name not in model.tensors:
            raise ModelError(
                f"{model.path} is not a complete {model.architecture.name} model: it lacks {name}. Convert it again."
            )
        source[parameter] = model.tensors[name]
    unused = set(model.tensors) - {t.name for t in source.values()} - {ROPE_FACTORS}
    if unused:
        raise ModelError(
            f"{model.path} has tensors that transformers' {model.architecture.name} does not use, such as {min(unused)}:"
            " its results would be wrong. This variant of the architecture is not supported."
        )
    return source


def _row_orders(host: PreTrainedModel, model: Model, source: dict[str, Tensor]) -> dict[str, NDArray[np.int64]]:
    heads = {"attn_q": host.config.num_attention_heads, "attn_k": host.config.num_key_value_heads}
    orders = {}
    for parameter, tensor in source.items():
        for matrix in model.architecture.permuted:
            if f".{matrix}." in tensor.name:
                # The file interleaves the two halves of each head's rows.
                order = np.arange(tensor.rows).reshape(heads[matrix], tensor.rows // heads[matrix] // 2, 2)
                orders[parameter] = order.swapaxes(1, 2).reshape(-1)
    return orders


def _scale_rope(host: Any, model: Model) -> None:
    arch = model.architecture.name
    kind = model.metadata.get(f"{arch}.rope.scaling.type", "none")
    if kind not in ("none", "linear"):
        raise ModelError(f"{model.path} scales RoPE with {kind!r}, which is not supported yet: choose a model without it")
    divisor: Any = float(model.metadata.get(f"{arch}.rope.scaling.factor", 1.0)) if kind == "linear" else 1.0
    if ROPE_FACTORS in model.tensors:
        divisor = divisor * torch.from_numpy(model.tensors[ROPE_FACTORS].dequantised().reshape(-1).copy())
    for buffer in (host.model.rotary_emb.inv_freq, host.model.rotary_emb.original_inv_freq):
        buffer.div_(divisor)


def _check_equal(weight: torch.Tensor, parameter: str, tensor: Tensor, order: NDArray[np.int64] | None) -> None:
    expected = tensor.dequantised()
    if order is not None:
        expected = expected[order]
    if not np.array_equal(weight.numpy().reshape(expected.shape), expected):
        raise ModelError(
            f"transformers loaded {parameter} with other values than {tensor.name} of the file: this version of transformers"
            " is not supported for this architecture"
        )


def _copy_rows(weight: torch.Tensor, values: NDArray[np.float32], order: NDArray[np.int64] | None) -> None:
    weight.copy_(torch.from_numpy(values if order is None else values[order]).reshape(weight.shape))
