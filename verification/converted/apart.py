"""Calls in another process, which a failed assertion of llama.cpp ends without ending what was measured before."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import ParamSpec, TypeVar

_Given, _Found = ParamSpec("_Given"), TypeVar("_Found")


class Apart:
    """A process for calls one after the other; the next call gets a new one if it has ended."""

    def __init__(self) -> None:
        self._pool = _process()

    def call(self, function: Callable[_Given, _Found], *given: _Given.args, **options: _Given.kwargs) -> _Found:
        """Call it there.

        Raises
        ------
        RuntimeError
            If it ended the process.
        Exception
            What it raised.
        """
        try:
            return self._pool.submit(function, *given, **options).result()
        except BrokenProcessPool:
            self._pool = _process()
            raise RuntimeError("it ended its process") from None


def _process() -> ProcessPoolExecutor:
    # Not forked: locks of torch's and llama.cpp's threads would be held for ever.
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
