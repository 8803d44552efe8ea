"""A model of seven billion random weights, for the time that it is measured."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tailrace.sim.cache import cache_folder
from tailrace.spec.errors import ToolError

from ..models.published import PUBLISHED
from ..models.random_weights import write_random_weights
from ..progress import Progress

#: Its shape, and the bytes that it and its image take.
NAME, _BYTES = "Llama-2-7B", 8 << 30


@contextmanager
def large_model(on_progress: Progress) -> Iterator[Path]:
    """Write the model beside the cache, and remove it in the end.

    Raises
    ------
    ToolError
        If the disk has no room for it.
    """
    folder = cache_folder().parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < 2 * _BYTES:
        raise ToolError(
            f"{NAME} and its image take {_BYTES / 1e9:.0f} GB, and {free / 1e9:.0f} GB of the disk of {folder} are free"
        )
    shape = next(shape for shape in PUBLISHED if shape.name == NAME)
    with tempfile.TemporaryDirectory(prefix=".tailrace-large-", dir=folder) as place:
        on_progress(f"writing {NAME}", 0.0)
        yield write_random_weights(Path(place) / f"{NAME}.Q4_0.gguf", shape)
