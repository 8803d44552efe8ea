"""Tailrace: an open decode co-processor for large language models, and what drives it.

`load` gives a language model on a device; the page docs/api.md shows how it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tailrace.spec.errors import (
    ConfigError,
    DeviceClosed,
    DeviceError,
    DeviceTimeout,
    HostMemoryError,
    LimitError,
    LinkError,
    MissingPackage,
    ModelError,
    TailraceError,
    ToolError,
)

if TYPE_CHECKING:
    from .generation.completion import ChosenLogprob, Completion, FinishReason, Piece, Stream, TokenLogprob
    from .generation.draft import DraftModel, Outlook
    from .generation.options import Options
    from .generation.sampling import LogitsProcessor, Sampler
    from .language_model import LanguageModel
    from .loading import load
    from .session import Session
    from .text.grammar import Grammar

    __version__: str

__all__ = [
    "ChosenLogprob",
    "Completion",
    "ConfigError",
    "DeviceClosed",
    "DeviceError",
    "DeviceTimeout",
    "DraftModel",
    "FinishReason",
    "Grammar",
    "HostMemoryError",
    "LanguageModel",
    "LimitError",
    "LinkError",
    "LogitsProcessor",
    "MissingPackage",
    "ModelError",
    "Options",
    "Outlook",
    "Piece",
    "Sampler",
    "Session",
    "Stream",
    "TailraceError",
    "TokenLogprob",
    "ToolError",
    "__version__",
    "load",
]

#: Where names are that are imported when they are asked for: every import of a lower floor comes through here, and needs none.
_PLACES = {
    "ChosenLogprob": "generation.completion",
    "Completion": "generation.completion",
    "DraftModel": "generation.draft",
    "FinishReason": "generation.completion",
    "Grammar": "text.grammar",
    "LanguageModel": "language_model",
    "LogitsProcessor": "generation.sampling",
    "Options": "generation.options",
    "Outlook": "generation.draft",
    "Piece": "generation.completion",
    "Sampler": "generation.sampling",
    "Session": "session",
    "Stream": "generation.completion",
    "TokenLogprob": "generation.completion",
    "load": "loading",
}


# Type checkers are not to see it: every name would be there for them.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            from importlib.metadata import PackageNotFoundError, version

            try:
                return version("tailrace")
            except PackageNotFoundError:
                # A checkout on the path, not installed.
                return "0+unknown"
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f".{_PLACES[name]}", __name__), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
