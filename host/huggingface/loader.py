"""The Hugging Face model of a GGUF file, with the weights of the file."""

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from functools import cache
from io import StringIO

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.initialization import no_init_weights

from tailrace.spec.errors import ModelError

from ..gguf.describe import ImportedModel, NoDescriptionError, import_model
from ..gguf.file import Model, Tensor
from .configuration import configuration_of, set_frequencies
from .placement import Plan
from .weights import ROPE_TENSORS, arranged, row_orders, sources


@dataclass(frozen=True)
class HostModel:
    """The model on the host.

    Attributes
    ----------
    model : PreTrainedModel
        In float32, on cuda if there is one.
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


def load_model(plan: Plan, context: int | None, device: str | None = None) -> HostModel:
    """Load a model in float32.

    A model that `import_model` can describe is built from its description, and filled with the weights of the file. Any other
    is loaded by transformers, and its matrices are compared with the file's.

    Parameters
    ----------
    plan : Plan
        Says which matrices are quantised on the user's wish; the host gets those weights, too.
    context : int or None
        Positions that will be used, as for `import_model`: a decoder that goes on from this model's cache has
        `ImportedModel.context`.
    device : str or None
        Torch device; None takes cuda if there is one.

    Raises
    ------
    ModelError
        If transformers does not have the model, a tensor is missing or left over, or a weight is not the file's.
    """
    model = plan.model
    try:
        imported = import_model(model, context)
    except NoDescriptionError:
        imported = None
    host = _load(model) if imported is None else _build(imported)
    host.eval().requires_grad_(False)
    found = sources(host, model)
    orders = row_orders(host, model, found)
    quantised = {p.tensor.name: p.format for p in plan.placements if p.quantise}
    state = host.state_dict()
    for parameter, tensors in found.items():
        weight, formats = state[parameter], [quantised.get(t.name) for t in tensors]
        module = host.get_submodule(parameter.rpartition(".")[0])
        if imported is None and not any(formats):
            _check_equal(weight, parameter, tensors[0])
            continue
        wanted = [t if f is None else t.quantised(f) for t, f in zip(tensors, formats, strict=True)]
        values = np.require(arranged(model, wanted, module, orders.get(parameter)), requirements=("C", "W"))
        weight.copy_(torch.from_numpy(values).reshape(weight.shape))
    host.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return HostModel(host, {p: t[0] for p, t in found.items() if len(t) == 1}, orders)


def _build(imported: ImportedModel) -> PreTrainedModel:
    """The model of a description, before its weights are filled in."""
    model = imported.model
    try:
        with _parsed_once(model), redirect_stderr(StringIO()), no_init_weights():
            host = AutoModelForCausalLM.from_config(configuration_of(imported), dtype=torch.float32)
    except Exception as error:
        raise ModelError(f"transformers can't build the model of {model.path}: {error}") from error
    host.tie_weights()
    set_frequencies(host, imported)
    return host


def _load(model: Model) -> PreTrainedModel:
    """A model as transformers loads it."""
    arch = model.architecture.name
    if model.metadata.get(f"{arch}.rope.scaling.type", "none") != "none" or ROPE_TENSORS & set(model.tensors):
        raise ModelError(
            f"{model.path} scales RoPE, which transformers does not read from files of the architecture {arch!r}: choose a"
            " model without it"
        )
    try:
        with _parsed_once(model), redirect_stderr(StringIO()):  # its progress bars
            return AutoModelForCausalLM.from_pretrained(str(model.path.parent), gguf_file=model.path.name, dtype=torch.float32)
    except Exception as error:
        raise ModelError(f"transformers can't load {model.path}: {error}") from error


@contextmanager
def _parsed_once(model: Model) -> Iterator[None]:
    """While this is open, transformers gets the file parsed already.

    It would parse it four times over, and build the table of names once for every module: half of the time to load.
    """
    reader, originals = model.reader, (gguf.GGUFReader, gguf.get_tensor_name_map)
    gguf.GGUFReader, gguf.get_tensor_name_map = (lambda path: reader), cache(gguf.get_tensor_name_map)
    try:
        yield
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map = originals


def _check_equal(weight: torch.Tensor, parameter: str, tensor: Tensor) -> None:
    """Check a matrix. Vectors stay on the host, and a converter may have changed what they mean."""
    if weight.ndim > 1 and not np.array_equal(weight.numpy().reshape(tensor.rows, -1), tensor.dequantised()):
        raise ModelError(
            f"transformers loaded {parameter} with other values than {tensor.name} of the file: this version of transformers"
            " is not supported for this architecture"
        )
