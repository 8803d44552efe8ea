"""The programs of an image, which lie behind it."""

from collections.abc import Collection
from dataclasses import dataclass, replace

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
    kind : str
        ``prompt``, ``logits`` or ``tokens``, if each sequence has one row at most.
    """

    program: Program
    address: int
    rows: tuple[int, ...] = ()
    kind: str = ""


@dataclass(frozen=True)
class Programs:
    """The programs of an image, which lie behind it.

    Attributes
    ----------
    loaded : dict of str to LoadedProgram
        ``prompt``: no head; ``logits``; ``tokens``: the device chooses. With linear attention ``first fold`` and ``fold``, too.
        Of several sequences also programs for some of them (`name_for`), and for prompts what `rows_name` names.
    end : int
        First address after them.
    most_rows : int
        Tokens of a prompt that a pass takes at most.
    """

    loaded: dict[str, LoadedProgram]
    end: int
    most_rows: int = 1

    def name_for(self, kind: str, sequences: Collection[int]) -> str:
        """The program of a kind with the fewest rows among those that have one for each of these sequences."""
        found = [name for name, loaded in self.loaded.items() if loaded.kind == kind and {*sequences} <= {*loaded.rows}]
        return min(found, key=lambda name: len(self.loaded[name].rows))


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
    description = image.imported.description
    built: dict[str, LoadedProgram] = {}
    for kind, (logits, choose) in {"prompt": (False, False), "logits": (True, False), "tokens": (False, True)}.items():
        for sequences in _companies(image.request.batch):
            program = build_program(
                description, image.placement, image.build, rows=sequences, logits=logits, choose=choose
            )  # fmt: skip
            some = len(sequences) < image.request.batch
            name = f"{kind} of {', '.join(map(str, sequences))}" if some else kind
            built[name] = LoadedProgram(program, 0, sequences, kind)
    if folds(description):
        for name, first in {"first fold": True, "fold": False}.items():
            built[name] = LoadedProgram(build_fold(description, image.placement, image.build, first=first), 0)
    of_rows = _prompt_programs(image)
    built |= of_rows
    loaded, address = {}, image.end
    for name, made in built.items():
        loaded[name] = replace(made, address=address)
        address += align(len(made.program.commands) * COMMAND_BYTES)
    return Programs(loaded, address, max((len(made.rows) for made in of_rows.values()), default=1))


def _companies(batch: int) -> list[tuple[int, ...]]:
    """Which sequences have programs of their own: all, the first few, and each alone. The others sit out, and cost nothing."""
    few = [tuple(range(count)) for count in range(batch, 0, -1)]
    return few + [(sequence,) for sequence in range(1, batch)]


def _prompt_programs(image: Image) -> dict[str, LoadedProgram]:
    """Those that take 2, 3 and more rows of a sequence, as far as the device has room, and as the model can do it."""
    built: dict[str, LoadedProgram] = {}
    description, placement, build = image.imported.description, image.placement, image.build
    for count in range(2, min(build.right_hand_sides, MAX_BATCH) + 1):
        for sequence in range(image.request.batch):
            rows = (sequence,) * count
            try:
                program = build_program(description, placement, build, rows=rows, logits=False, choose=False)
            except LimitError:
                return built
            built[rows_name(count, sequence)] = LoadedProgram(program, 0, rows)
    return built


def folds(description: Description) -> bool:
    """Whether a model has states that lists are folded into."""
    return any(isinstance(mixer, LinearAttention) for _, mixer in description.mixers)
