"""The Hugging Face model of a GGUF file, with the weights of the file."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from tailrace.firmware.description import LinearAttention
from tailrace.spec.errors import ConfigError, ModelError

from ..gguf.describe import ImportedModel, NoDescriptionError, import_model
from ..gguf.file import Model, Tensor
from . import internals
from .configuration import configuration_from_header, configuration_of, set_frequencies
from .describe import describe_model
from .match import shape_differences
from .placement import Plan
from .weights import ROPE_TENSORS, arranged, row_orders, sources

#: Types that a model can have on the host, by their names.
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_AUTO = "auto"


@dataclass(frozen=True)
class HostModel:
    """The model on the host.

    Attributes
    ----------
    model : PreTrainedModel
    source : dict of str to Tensor
        For each parameter and each tied use of it the tensor of the file that it comes from. Those made of several are
        left out.
    row_order : dict of str to ndarray of int, shape (rows,)
        For parameters whose rows are in another order than the file's: the row of the file for each of theirs.
    """

    model: PreTrainedModel
    source: dict[str, Tensor]
    row_order: dict[str, NDArray[np.int64]]


def load_tokenizer(model: Model) -> PreTrainedTokenizerBase:
    """The tokenizer of a GGUF file, or of a folder.

    Raises
    ------
    ModelError
        If it has none that transformers reads.
    """
    try:
        if model.path.is_dir():
            return AutoTokenizer.from_pretrained(str(model.path))
        return AutoTokenizer.from_pretrained(str(model.path.parent), gguf_file=model.path.name)
    except Exception as error:
        raise ModelError(f"transformers can't read the tokenizer of {model.path}: {error}. Convert the model again.") from error


def load_model(plan: Plan, context: int | None, device: str = _AUTO, dtype: str = "float32") -> HostModel:
    """Load a model.

    It is built without memory, and then filled with the weights of the file, one tensor after the other, on the device and in
    the type that it is to have.

    Parameters
    ----------
    plan : Plan
        Says which matrices are quantised on the user's wish; the host gets those weights, too.
    context : int or None
        Positions that will be used, as for `import_model`: a decoder that goes on from this model's cache has
        `ImportedModel.context`.
    device : str
        Of PyTorch. ``auto``: cuda if there is one, else the CPU.
    dtype : str
        One of `DTYPES`. ``auto``: float32 on the CPU; elsewhere that of the file if its matrices have 16 bits, else bfloat16.

    Raises
    ------
    ConfigError
        If PyTorch has no such device, or the type is none of these.
    ModelError
        If transformers does not have the model, or a tensor is missing, left over, or of another shape.
    """
    place = _device(device)
    kind = _dtype(dtype, place, plan.model)
    model = plan.model
    try:
        imported = import_model(model, context)
    except NoDescriptionError:
        imported = None
    scaled = next((name for name in model.tensors if name.endswith(".scale")), None)
    if scaled is not None:
        raise ModelError(
            f"{model.path} multiplies what a matrix computes with a number ({scaled}), which is done on the device only: leave"
            " --prefill torch, --path operations and --allow-host out"
        )
    host = _build(model, imported)
    host.eval()
    found = sources(host, model)
    mixers = () if imported is None else tuple(mixer for _, mixer in imported.description.mixers)
    linear = next((mixer for mixer in mixers if isinstance(mixer, LinearAttention)), None)
    orders = row_orders(host, model, found, linear)
    quantised = {p.tensor.name: p.format for p in plan.placements if p.quantise}
    filled: dict[nn.Parameter, nn.Parameter] = {}
    for parameter, tensors in found.items():
        module, leaf = host.get_submodule(parameter.rpartition(".")[0]), parameter.rpartition(".")[2]
        empty = getattr(module, leaf)
        if empty not in filled:
            formats = [quantised.get(t.name) for t in tensors]
            wanted = [t if f is None else t.quantised(f) for t, f in zip(tensors, formats, strict=True)]
            weights = arranged(model, parameter, wanted, module, orders.get(parameter), linear)
            values = np.require(weights, requirements=("C", "W"))
            if values.size != empty.numel():
                raise ModelError(f"{tensors[0].name} has {values.size} elements, and {parameter} {empty.numel()}")
            weight = torch.from_numpy(values).reshape(empty.shape).to(place, kind)
            filled[empty] = nn.Parameter(weight, requires_grad=False)
        # Both uses of one that is tied get the same.
        setattr(module, leaf, filled[empty])
    host.config.dtype = kind
    if imported is not None and not imported.description.is_recurrent:
        for reason in shape_differences(describe_model(host, imported.context), imported):
            raise ModelError(f"{model.path} is not what transformers computes: {reason}. Let the device compute the prompt")
    return HostModel(host.to(place), {p: t[0] for p, t in found.items() if len(t) == 1}, orders)


def _build(model: Model, imported: ImportedModel | None) -> PreTrainedModel:
    """A model whose parameters have no memory yet."""
    config = _undescribed(model) if imported is None else configuration_of(imported)
    try:
        with torch.device("meta"):
            host = AutoModelForCausalLM.from_config(config)
        internals.make_buffers(host)
    except Exception as error:
        raise ModelError(f"transformers can't build the model of {model.path}: {error}") from error
    host.tie_weights()
    if imported is not None:
        set_frequencies(host, imported)
    return host


def _undescribed(model: Model) -> PretrainedConfig:
    arch = model.architecture.name
    if model.header.text(f"{arch}.rope.scaling.type", "none") != "none" or ROPE_TENSORS & set(model.tensors):
        raise ModelError(
            f"{model.path} scales RoPE, which transformers does not read from files of the architecture {arch!r}: choose a"
            " model without it"
        )
    return configuration_from_header(model)


def _device(name: str) -> torch.device:
    if name == _AUTO:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        # Whoever is not there says so when it is used.
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ConfigError(f"PyTorch can't use the device {name!r}: {reason}") from None


def _dtype(name: str, device: torch.device, model: Model) -> torch.dtype:
    if name != _AUTO:
        if name not in DTYPES:
            raise ConfigError(f"{name!r} is no type of a model on the host: choose auto or one of {', '.join(DTYPES)}")
        return DTYPES[name]
    if device.type == "cpu":
        return torch.float32
    return torch.float16 if model.head.type_name == "F16" else torch.bfloat16
