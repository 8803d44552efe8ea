"""Decodes on Tailrace whatever `generate` is asked for: see docs/huggingface.md."""

from typing import Any
from weakref import WeakKeyDictionary

from tailrace.huggingface import Offload, offload

_OFFLOADS: "WeakKeyDictionary[Any, Offload]" = WeakKeyDictionary()


def generate(model: Any, device: str = "emulator", quantise: str = "Q8_0", context: int | None = None, **arguments: Any) -> Any:
    """`generate` of a model, whose weights are uploaded when it is first called."""
    if model not in _OFFLOADS:
        _OFFLOADS[model] = offload(model, device, quantise=quantise, context=context)
    return _OFFLOADS[model].generate(**arguments)
