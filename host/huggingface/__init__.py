"""Hugging Face models that decode on the device: `offload` for whole steps, `operations` for single linear layers.

Needs the extra ``tailrace[torch]``; nothing here is imported before it is used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .generate import Offload, offload

__all__ = ["Offload", "offload"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from . import generate

        return getattr(generate, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
