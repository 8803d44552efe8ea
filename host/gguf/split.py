"""Models that are split over several GGUF files, as llama.cpp's `llama-gguf-split` does it."""

import re
from pathlib import Path

from tailrace.spec.errors import ModelError

from .header import Header
from .printable import printable
from .recognise import check_file, check_whole

_NAME = re.compile(r"^(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf$", re.DOTALL)
_MAX_PARTS = 65535


def open_header(path: Path) -> Header:
    """The header of a file that must be GGUF."""
    check_file(path)
    try:
        return Header(path)
    except ModelError as error:
        raise check_whole(path, error) from None


def open_parts(path: Path) -> list[Header]:
    """The headers of all parts of a model, the first one first; of a model in one file that of the file.

    Parameters
    ----------
    path : Path
        Of any part.

    Raises
    ------
    ModelError
        If a part is missing, or is not what its name says, or a tensor is in two of them.
    """
    header = open_header(path)
    count = header.integer("split.count", 0, _MAX_PARTS, 0)
    if count < 2:
        return [header]
    number = header.integer("split.no", 0, count - 1, 0)
    name = _NAME.match(path.name)
    while not _says(name, number, count) and path.is_symlink():
        # A link of any name to a part: the others are beside the part.
        path = path.parent / path.readlink()
        name = _NAME.match(path.name)
    if name is None or not _says(name, number, count):
        raise ModelError(
            f"{header.path} is part {number + 1} of {count} of a model, and is not named so: rename it to"
            f" name-{number + 1:05}-of-{count:05}.gguf, beside the other parts"
        )
    paths = [path.with_name(f"{name['stem']}-{n:05}-of-{count:05}.gguf") for n in range(1, count + 1)]
    missing = [p for p in paths if not p.exists()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ModelError(
            f"{path} is one of {count} parts of a model, and {missing[0]}{more} {'are' if more else 'is'} missing: download all"
            " parts into one folder"
        )
    headers = [header if p == path else open_header(p) for p in paths]
    seen: dict[str, Path] = {}
    for n, part in enumerate(headers):
        if part.integer("split.count", 0, _MAX_PARTS, 0) != count or part.integer("split.no", 0, _MAX_PARTS) != n:
            raise ModelError(f"{part.path} is not part {n + 1} of {count}, as its name says: download it again")
        for tensor in part.tensors:
            if tensor.name in seen:
                raise ModelError(
                    f"{part.path} has the tensor {printable(tensor.name)}, which is in {seen[tensor.name]} already: download"
                    " both again"
                )
            seen[tensor.name] = part.path
    total = headers[0].integer("split.tensors.count", 0, (1 << 31) - 1, len(seen))
    if total != len(seen):
        raise ModelError(
            f"{headers[0].path} speaks of {total} tensors in its {count} parts, and they have {len(seen)}: download all parts"
            " again"
        )
    return headers


def _says(name: re.Match[str] | None, number: int, count: int) -> bool:
    """Whether a name is that of a part."""
    return name is not None and int(name["count"]) == count and int(name["number"]) == number + 1
