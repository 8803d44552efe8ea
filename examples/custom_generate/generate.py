"""Decodes on Tailrace whatever `generate` is asked for: see docs/huggingface.md."""

from typing import Any

from tailrace.huggingface.custom_generate import generate_on_device


def generate(*positional: Any, model: Any, quantise: str = "Q8_0", **arguments: Any) -> Any:
    """`generate` of a model, whose weights are quantised and uploaded when it is first called."""
    if positional:
        arguments["inputs"] = positional[0]
    return generate_on_device(model, quantise=quantise, **arguments)
