"""Parameters of a PyTorch model in the place of a file's tensors: read when they are wanted, a few rows at a time."""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from tailrace.spec.errors import ModelError
from tailrace.spec.formats import Format

from ..gguf.describe import Source
from ..gguf.file import Tensor
from ..gguf.quantisation import blocks_of
from ..gguf.types import TENSOR_TYPE_NUMBERS

#: ggml's name of each type that parameters can have.
_TYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


@dataclass(frozen=True)
class ParameterTensor(Tensor):
    """A parameter; `data` is empty, and nothing is copied.

    Attributes
    ----------
    weight : tensor
        Rows first, on the model's device and in its dtype.
    """

    weight: torch.Tensor = field(repr=False, compare=False)

    def check_finite(self) -> None:
        """Check that every number is finite.

        Raises
        ------
        ModelError
            If one is not.
        """
        finite = torch.isfinite(self.weight)
        if not bool(finite.all()):
            row = int(torch.nonzero(~finite)[0][0])
            raise ModelError(f"{self.name} is damaged: a value in row {row} is not finite. Load the model again.")


def parameter_tensor(name: str, weight: torch.Tensor) -> ParameterTensor:
    """A parameter as a tensor.

    Raises
    ------
    ModelError
        If it is not made of plain numbers.
    """
    if weight.dtype not in _TYPES:
        raise ModelError(
            f"{name} has the type {weight.dtype}, and the weights of {', '.join(map(str, _TYPES))} can be quantised: load the"
            " model without quantisation"
        )
    type_name = _TYPES[weight.dtype]
    number = TENSOR_TYPE_NUMBERS[type_name]
    return ParameterTensor(name, type_name, number, tuple(weight.shape), np.empty(0, np.uint8), weight.detach())


@dataclass(frozen=True)
class ParameterSource(Source):
    """Rows of a parameter that play a role.

    Attributes
    ----------
    above : float
        What is added to each number.
    """

    above: float = 0.0

    def blocks(self, start: int, stop: int, fmt: Format, expert: int = 0) -> NDArray[np.uint8]:
        """Rows of a matrix, quantised to a format or taken apart."""
        return blocks_of(self._numbers(start, stop, expert), fmt)

    def numbers(self, start: int = 0, stop: int | None = None, expert: int = 0) -> NDArray[np.float32]:
        """Rows as float32, shape (rows, columns); a vector as (repeats, elements)."""
        rows = self._numbers(start, self.rows if stop is None else stop, expert)
        return np.tile(rows, (self.repeats, 1)) if self.columns == 1 else rows

    def _numbers(self, start: int, stop: int, expert: int) -> NDArray[np.float32]:
        assert isinstance(self.tensor, ParameterTensor)
        weight = self.tensor.weight[expert] if self.experts else self.tensor.weight
        rows = weight[self.first + start : self.first + stop].to("cpu", torch.float32)
        return np.ascontiguousarray(rows.numpy()) + np.float32(self.above)
