"""llama.cpp, from the package `cyllama`, as something to compare with."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from tailrace.spec.errors import MissingPackage

PACKAGE = "cyllama"


class LlamaCpp:
    """A model in llama.cpp, and sequences that take a step together.

    Parameters
    ----------
    path : Path
        GGUF file.
    batch : int
        Sequences.
    threads : int
    context : int
        Tokens that each has room for.

    Raises
    ------
    MissingPackage
        If the package is not installed.
    """

    def __init__(self, path: Path, batch: int, threads: int, context: int) -> None:
        if find_spec(PACKAGE) is None:
            raise MissingPackage(PACKAGE, "to compare with llama.cpp", "dev")
        import cyllama.llama.llama_cpp as binding  # type: ignore[import-not-found, import-untyped, unused-ignore]

        parameters = binding.LlamaContextParams()
        parameters.n_ctx, parameters.n_threads, parameters.n_seq_max = batch * -(-context // 256) * 256, threads, batch
        with without_its_log():
            self._context: Any = binding.LlamaContext(weights(path), parameters)
        self._batch: Any = binding.LlamaBatch(n_tokens=batch, embd=0, n_seq_max=batch)
        self._position = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with without_its_log():
            del self._context, self._batch

    @property
    def version(self) -> str:
        """The package's."""
        return f"{PACKAGE} {version(PACKAGE)}"

    def step(self, tokens: list[int]) -> list[int]:
        """Take a token of each sequence; returns the best next ones."""
        self._batch.reset()
        for sequence, token in enumerate(tokens):
            self._batch.add(token, self._position, [sequence], True)
        self._context.decode(self._batch)
        self._position += 1
        return [int(np.argmax(np.asarray(self._context.get_logits_ith(n)))) for n in range(len(tokens))]


def weights(path: Path) -> Any:
    """A file's model as cyllama has it, before there is a context."""
    import cyllama.llama.llama_cpp as binding

    class Model(binding.LlamaModel):  # type: ignore[misc, unused-ignore]
        @property
        def n_vocab(self) -> int:
            """Cyllama asks for it, and does not have it."""
            return int(self.get_vocab().n_vocab)

    return Model(str(path), binding.LlamaModelParams())


@contextmanager
def without_its_log() -> Iterator[None]:
    """Keep what llama.cpp tells off standard error."""
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)
