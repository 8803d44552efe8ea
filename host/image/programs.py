"""The programs of an image, which lie behind it."""

from dataclasses import dataclass

from tailrace.firmware.decode import MAX_BATCH, build_program
from tailrace.firmware.description import Description, LinearAttention
from tailrace.firmware.fold import build_fold
from tailrace.firmware.program import Program
from tailrace.spec.errors import LimitError
from tailrace.spec.isa import COMMAND_BYTES

from .allocator import align
from .image import Image


@dataclass(frozen=True)
class LoadedProgram:
    """A program and its place in device memory.

    Attributes
    ----------
    program : Program
    address : int
    rows : tuple of int
        For each row of a pass the number of its sequence; none of a fold.
    """

    program: Program
    address: int
    rows: tuple[int, ...] = ()


@dataclass(frozen=True)
class Programs:
    """The programs of an image, which lie behind it.

    Attributes
    ----------
    loaded : dict of str to LoadedProgram
        ``prompt``: no head; ``logits``; ``tokens``: the device chooses. With linear attention ``first fold`` and ``fold``, too.
        For prompts also what `rows_name` names.
    end : int
        First address after them.
    most_rows : int
        Tokens of a prompt that a pass takes at most.
    """

    loaded: dict[str, LoadedProgram]
    end: int
    most_rows: int = 1


def rows_name(count: int, sequence: int) -> str:
    """Name of the program that takes so many tokens of a sequence's prompt."""
    return f"{count} tokens of the prompt of sequence {sequence}"


def check_programs(image: Image) -> None:
    """Check that all programs can be built: by the one that needs the most, and as fast as that can be done.

    Raises
    ------
    LimitError
        If the model or its context does not fit the device.
    """
    description, batch = image.imported.description, image.request.batch
    build_program(description, image.placement, image.build, batch=batch, logits=True, choose=True, overlap=False)
    if folds(description):
        build_fold(description, image.placement, image.build, first=False, overlap=False)


def build_programs(image: Image) -> Programs:
    """Build all programs for an image.

    Raises
    ------
    LimitError
        If the model or its context does not fit the device.
    """
    description, batch = image.imported.description, image.request.batch
    built: dict[str, tuple[Program, tuple[int, ...]]] = {}
    for name, (logits, choose) in {"prompt": (False, False), "logits": (True, False), "tokens": (False, True)}.items():
        program = build_program(description, image.placement, image.build, batch=batch, logits=logits, choose=choose)
        built[name] = program, tuple(range(batch))
    if folds(description):
        for name, first in {"first fold": True, "fold": False}.items():
            built[name] = build_fold(description, image.placement, image.build, first=first), ()
    of_rows = _prompt_programs(image)
    built |= of_rows
    loaded, address = {}, image.end
    for name, (program, rows) in built.items():
        loaded[name] = LoadedProgram(program, address, rows)
        address += align(len(program.commands) * COMMAND_BYTES)
    return Programs(loaded, address, max((len(rows) for _, rows in of_rows.values()), default=1))


def _prompt_programs(image: Image) -> dict[str, tuple[Program, tuple[int, ...]]]:
    """Those that take 2, 3 and more rows of a sequence, as far as the device has room, and as the model can do it."""
    built: dict[str, tuple[Program, tuple[int, ...]]] = {}
    description, placement, build = image.imported.description, image.placement, image.build
    for count in range(2, min(build.right_hand_sides, MAX_BATCH) + 1):
        for sequence in range(image.request.batch):
            rows = (sequence,) * count
            try:
                program = build_program(description, placement, build, rows=rows, logits=False, choose=False)
            except LimitError:
                return built
            built[rows_name(count, sequence)] = program, rows
    return built


def folds(description: Description) -> bool:
    """Whether a model has states that lists are folded into."""
    return any(isinstance(mixer, LinearAttention) for _, mixer in description.mixers)
