"""The programs of an image, which lie behind it."""

from dataclasses import dataclass

from tailrace.firmware.decode import build_program
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
        ``prompt``: no head; ``logits``; ``tokens``: the device chooses.
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


def build_programs(image: Image) -> Programs:
    """Build all programs for an image.

    Raises
    ------
    LimitError
        If the model or its context does not fit the device.
    """
    description, batch = image.imported.description, image.request.batch
    loaded, address = {}, image.end
    for name, (logits, choose) in {"prompt": (False, False), "logits": (True, False), "tokens": (False, True)}.items():
        program = build_program(description, image.placement, image.build, batch=batch, logits=logits, choose=choose)
        loaded[name] = LoadedProgram(program, address)
        address += align(len(program.commands) * COMMAND_BYTES)
    return Programs(loaded, address)
