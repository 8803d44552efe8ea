"""The programs of an image, which lie behind it."""

from dataclasses import dataclass

from tailrace.firmware.decode import build_program
from tailrace.firmware.description import Description, LinearAttention
from tailrace.firmware.fold import build_fold
from tailrace.firmware.program import Program
from tailrace.spec.isa import COMMAND_BYTES

from .allocator import align
from .image import Image


@dataclass(frozen=True)
class LoadedProgram:
    """A program and its place in device memory."""

    program: Program
    address: int


@dataclass(frozen=True)
class Programs:
    """The programs of an image, which lie behind it.

    Attributes
    ----------
    loaded : dict of str to LoadedProgram
        ``prompt``: no head; ``logits``; ``tokens``: the device chooses. With linear attention ``first fold`` and ``fold``, too.
    end : int
        First address after them.
    """

    loaded: dict[str, LoadedProgram]
    end: int


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
    built: dict[str, Program] = {}
    for name, (logits, choose) in {"prompt": (False, False), "logits": (True, False), "tokens": (False, True)}.items():
        built[name] = build_program(description, image.placement, image.build, batch=batch, logits=logits, choose=choose)
    if folds(description):
        for name, first in {"first fold": True, "fold": False}.items():
            built[name] = build_fold(description, image.placement, image.build, first=first)
    loaded, address = {}, image.end
    for name, program in built.items():
        loaded[name] = LoadedProgram(program, address)
        address += align(len(program.commands) * COMMAND_BYTES)
    return Programs(loaded, address)


def folds(description: Description) -> bool:
    """Whether a model has states that lists are folded into."""
    return any(isinstance(mixer, LinearAttention) for _, mixer in description.mixers)
