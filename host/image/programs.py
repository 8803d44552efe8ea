"""The programs of an image, which lie behind it, and whether it all fits."""

from dataclasses import dataclass

from tailrace.firmware.decode import build_program, max_context
from tailrace.firmware.program import Program
from tailrace.spec.errors import LimitError
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


def build_programs(image: Image) -> Programs:
    """Build all programs for an image.

    Raises
    ------
    LimitError
        If the model or its context does not fit the device, with what would help.
    """
    description, batch = image.imported.description, image.request.batch
    loaded, address = {}, image.end
    for name, (logits, choose) in {"prompt": (False, False), "logits": (True, False), "tokens": (False, True)}.items():
        try:
            program = build_program(description, image.placement, image.build, batch=batch, logits=logits, choose=choose)
        except LimitError as error:
            longest = max_context(description, image.build, batch)
            if 0 < longest < image.capacity:
                raise LimitError(f"{error}; the longest context of this model on this device is {longest} tokens") from None
            raise
        loaded[name] = LoadedProgram(program, address)
        address += align(len(program.commands) * COMMAND_BYTES)
    return Programs(loaded, address)


def check_memory(image: Image, programs: Programs, available: int) -> None:
    """Check that an image and its programs fit so many bytes of device memory.

    Raises
    ------
    LimitError
        If they do not, with what takes how much.
    """
    size = programs.end - image.base
    if size <= available:
        return
    others = size - image.stream_bytes - image.table_bytes - image.cache_bytes
    raise LimitError(
        f"{image.imported.name} needs {size} bytes of device memory, but only {available} are available:"
        f" {image.stream_bytes} for weights, {image.table_bytes} for embeddings and other tables, {image.cache_bytes} for the"
        f" KV cache at a context of {image.capacity} tokens, {others} for programs and results."
        " Use a device with more memory (a simulated one: --memory), ask for a shorter context with --context, or choose a"
        " smaller model"
    )
