"""Runs the linear layers of a Hugging Face model on the device while its own sampling loop decodes."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tailrace.spec.errors import ModelError

from ..device.counters import Counters
from ..device.driver import Device
from ..device.products import Floats, Matrix, multiply_all, upload
from ..image.exponents import tensor_exponent
from ..progress import Progress
from . import internals
from .loader import HostModel
from .placement import Place, Plan, TensorPlacement
from .prefill import prefill


@dataclass(frozen=True)
class _Member:
    """A linear layer's matrix on the device, and its rows in the layer's order."""

    matrix: Matrix
    row_order: NDArray[np.int64] | None


class _Group:
    """Layers that multiply the same vector: the first that is called computes all of them, with one doorbell."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._members: list[_Member] = []
        self._input: Floats | None = None
        self._results: dict[int, Floats] = {}

    def add(self, member: _Member) -> int:
        self._members.append(member)
        return len(self._members) - 1

    def multiply(self, index: int, x: Floats) -> Floats:
        """Product of member `index` with the rows of x, in the layer's order of rows."""
        if index not in self._results or self._input is None or not np.array_equal(self._input, x):
            results = multiply_all([m.matrix for m in self._members], x)
            self._input, self._results = x.copy(), dict(enumerate(results))
        result, order = self._results.pop(index), self._members[index].row_order
        return result if order is None else result[:, order]


class OperationOffload:
    """A Hugging Face model and the device that its linear layers run on.

    Loading uploads every matrix; the Hugging Face model itself stays as it is, and runs on the host whenever it is called
    outside `generate` and `logits`.

    Parameters
    ----------
    host : HostModel
    plan : Plan
        What `Plan.check` has accepted.
    device : Device
    on_progress : callable or None
        Told about each matrix that is uploaded.
    on_step : callable or None
        Called after each decode step with its counters.

    Attributes
    ----------
    model : PreTrainedModel
    plan : Plan
    device : Device
    steps : list of Counters
        One for each decode step so far.
    on_host : list of str
        Matrices that stay on the host because the user allowed it.

    Raises
    ------
    ModelError, LimitError
        If a matrix is damaged or does not fit the device.
    """

    def __init__(
        self,
        host: HostModel,
        plan: Plan,
        device: Device,
        *,
        on_progress: Progress | None = None,
        on_step: Callable[[Counters], None] | None = None,
    ) -> None:
        self.model, self.plan, self.device, self.on_step = host.model, plan, device, on_step
        self.steps: list[Counters] = []
        self.on_host = [p.tensor.name for p in plan.placed(Place.REFUSED)]
        self._forwards: dict[nn.Linear, Callable[[torch.Tensor], torch.Tensor]] = {}
        self._counted = device.counters
        self._load(host, plan, on_progress or (lambda name, done: None))

    def _load(self, host: HostModel, plan: Plan, on_progress: Progress) -> None:
        placements = {p.tensor.name: p for p in plan.placed(Place.DEVICE)}
        groups: dict[str, _Group] = {}
        done = 0
        for module_name, linear in host.model.named_modules():
            if not isinstance(linear, nn.Linear):
                continue
            parameter = f"{module_name}.weight"
            name = host.source[parameter].name
            if name not in placements:
                if name in self.on_host:
                    continue
                raise ModelError(f"the linear layer {module_name} multiplies {name}, which the plan does not place")
            matrix = self._upload(placements[name])
            group = groups.setdefault(_group_key(plan, name), _Group(self.device))
            index = group.add(_Member(matrix, host.row_order.get(parameter)))
            self._forwards[linear] = partial(_forward, linear, group, index)
            done += matrix.stream_bytes
            on_progress(name, done / plan.stream_bytes)

    def _upload(self, placement: TensorPlacement) -> Matrix:
        tensor, fmt = placement.tensor, placement.format
        assert fmt is not None
        tensor.check_finite()
        if fmt is not tensor.format:
            return upload(self.device, tensor.name, fmt, tensor.quantised(fmt).data, tensor_exponent(tensor, fmt))
        return upload(self.device, tensor.name, fmt, tensor.data)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """While this is open, every linear layer that the plan places on the device runs there."""
        with ExitStack() as stack:
            for linear, forward in self._forwards.items():
                # An attribute of the instance goes before the method of its class.
                linear.forward = forward
                stack.callback(delattr, linear, "forward")
            hook = self.model.register_forward_hook(self._after_step)
            stack.callback(hook.remove)
            self._counted = self.device.counters
            yield

    def _after_step(self, *_: Any) -> None:
        step, self._counted = self.device.counters - self._counted, self.device.counters
        self.steps.append(step)
        if self.on_step is not None:
            self.on_step(step)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Hugging Face's ``generate``, decoding on the device; takes and returns what that does.

        The host computes all positions of the prompt but the last; that one and every new token is a decode step. So the
        distribution of each new token comes from the device.
        """
        return self.model.generate(*args, custom_generate=self.custom_generate(), **kwargs)

    def custom_generate(self) -> Callable[..., Any]:
        """What to pass as ``model.generate(custom_generate=...)``."""

        def decode_on_device(
            model: Any,
            input_ids: torch.Tensor,
            logits_processor: Any,
            stopping_criteria: Any,
            generation_config: Any,
            **model_kwargs: Any,
        ) -> Any:
            given = internals.withheld()
            if not internals.is_single_sequence(internals.generation_mode(generation_config, given.assistant)):
                raise ModelError(
                    "the device decodes greedily or by sampling: set num_beams=1, and leave out an assistant model"
                )
            if not model_kwargs.get("use_cache") or internals.CACHE not in model_kwargs or input_ids.numel() == 0:
                raise ModelError("the device decodes token by token: call generate with input_ids and use_cache=True")
            mask, chunk = model_kwargs.get("attention_mask"), generation_config.prefill_chunk_size
            prefill(model, input_ids[:, :-1], model_kwargs[internals.CACHE], None if mask is None else mask[:, :-1], chunk)
            with self.attached():
                return internals.sampling_loop(model)(
                    input_ids,
                    logits_processor=logits_processor,
                    stopping_criteria=stopping_criteria,
                    generation_config=generation_config,
                    streamer=given.streamer,
                    **model_kwargs,
                )

        return decode_on_device

    @torch.no_grad()
    def logits(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Logits of every position, with every linear layer on the device (teacher forcing).

        Parameters
        ----------
        input_ids : tensor of int64, shape (batch, positions)

        Returns
        -------
        tensor of float32, shape (batch, positions, vocabulary)
        """
        with self.attached():
            return self.model(input_ids=input_ids.to(self.model.device), use_cache=False).logits


def _forward(linear: nn.Linear, group: _Group, index: int, x: torch.Tensor) -> torch.Tensor:
    vectors = x.detach().reshape(-1, x.shape[-1]).to("cpu", torch.float32).numpy()
    y = torch.from_numpy(np.ascontiguousarray(group.multiply(index, vectors))).to(x.device, x.dtype).reshape(*x.shape[:-1], -1)
    return y if linear.bias is None else y + linear.bias


def _group_key(plan: Plan, name: str) -> str:
    """The same text for the tensors that multiply the same vector."""
    for group in plan.model.architecture.groups:
        for matrix in group:
            if f".{matrix}." in name:
                return name.replace(matrix, group[0])
    return name
