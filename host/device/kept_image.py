"""Images that are kept in the cache as files, so that a model that was laid out once can be mapped the next time."""

import hashlib
import os
import shutil
from dataclasses import astuple
from functools import cache
from importlib.metadata import version
from pathlib import Path

from tailrace.sim.cache import cache_folder, cached, content_key
from tailrace.sim.cache_contents import make_room
from tailrace.sim.progress import say
from tailrace.sim.sources import module_parts
from tailrace.spec.errors import ConfigError, ToolError
from tailrace.spec.registers import PAGE_BYTES

from ..gguf.describe import ImportedModel
from ..image.image import Image, MatrixPiece
from ..image.write import write_image
from ..progress import Progress
from ..transports.sizes import parse_size

#: Environment variable: bytes that all images in the cache may take together, as in ``20GiB``; ``0`` keeps none.
VARIABLE = "TAILRACE_IMAGES"
_DEFAULT_LIMIT = 32 << 30
#: The folder of the cache, and the file in each entry.
_KIND, _FILE = "images", "image.bin"
#: Bytes of an image below which laying it out takes no time that anybody notices.
_LEAST = 32 << 20
#: Bytes that are left free on the disk.
_SPARE = 1 << 30
#: What decides on the bytes of an image: any change here makes another one.
_SOURCES = ("tailrace.image", "tailrace.gguf", "tailrace.spec")


def kept_image(image: Image, on_progress: Progress | None = None) -> Path | None:
    """The file that holds an image's weights and tables from its base on, made now if need be.

    Parameters
    ----------
    image : Image
    on_progress : callable or None
        Told about what is being written.

    Returns
    -------
    Path or None
        None if it is not kept: it is small, its model does not come from a file, `VARIABLE` does not allow it, or the cache has
        no room for it, which is said on standard error.

    Raises
    ------
    ConfigError
        If `VARIABLE` is no size.
    ModelError
        If a tensor is damaged.
    """
    limit, size = image_limit(), image_size(image)
    imported = image.imported
    if not isinstance(imported, ImportedModel) or not imported.model.stamps or image.base % PAGE_BYTES:
        return None
    if not _LEAST <= size <= limit:
        return None
    name = Path(imported.name).name

    def make(folder: Path) -> None:
        make_room(_KIND, size, limit)
        free = shutil.disk_usage(folder).free
        if free < size + _SPARE:
            raise ToolError(f"it takes {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB of the disk of {cache_folder()} are free")
        with (folder / _FILE).open("wb", buffering=0) as file:
            file.truncate(size)
            write_image(image, _FileMemory(file.fileno(), image.base), on_progress)
        if not all(stamp.is_current() for stamp in imported.model.stamps):
            raise ToolError("its file was changed meanwhile")

    try:
        return cached(_KIND, _key(image, imported), make, what=f"the image of {name} for {_lanes(image)}") / _FILE
    except (ToolError, OSError) as error:
        again = f"{name} will be laid out again the next time, as its image is not kept"
        say(f"{again}: {error}. {VARIABLE}=0 says that none is to be")
        return None


def image_size(image: Image) -> int:
    """Bytes from an image's base to the end of its last weight or table."""
    return max((p.address + p.size for p in image.pieces), default=image.base) - image.base


def image_limit() -> int:
    """Bytes that images in the cache may take together: what `VARIABLE` says.

    Raises
    ------
    ConfigError
        If it is no size.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if text in ("", "0"):
        return 0 if text else _DEFAULT_LIMIT
    try:
        return parse_size(text)
    except ConfigError:
        raise ConfigError(f"{VARIABLE} must be a size such as 20GiB, or 0 to keep no images, not {text!r}") from None


class _FileMemory:
    """A file that an image is written to in place of a device's memory."""

    def __init__(self, file: int, base: int) -> None:
        self._file, self._base = file, base

    def write(self, address: int, data: memoryview, /) -> None:
        """Write bytes from an address on."""
        place = address - self._base
        while len(data):
            written = os.pwrite(self._file, data, place)
            place, data = place + written, data[written:]


def _lanes(image: Image) -> str:
    return f"{image.build.lanes} lane{'s' if image.build.lanes > 1 else ''}"


def _key(image: Image, imported: ImportedModel) -> str:
    model = imported.model
    header = hashlib.sha256(model.header.head.data).digest()
    request = image.request
    parts = [str(stamp.numbers) for stamp in model.stamps]
    parts += [_sources(), repr(astuple(image.build)), repr((imported.context, request.whole_embedding, request.quantise))]
    for piece in image.pieces:
        what: tuple[object, ...] = (piece.role, piece.address - image.base, piece.size)
        if isinstance(piece, MatrixPiece):
            what += (piece.format.name, piece.exponent, piece.start, piece.stop, piece.expert)
        else:
            what += (piece.rows, piece.columns)
        parts.append(repr(what))
    return content_key([header, *parts])


@cache
def _sources() -> str:
    return content_key([*module_parts(*_SOURCES), *(version(package) for package in ("numpy", "gguf"))])
