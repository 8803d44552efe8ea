"""The programs of an image, which lie behind it: those that are always there, and those that are made for a pass."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from tailrace.firmware.decode import build_program
from tailrace.firmware.description import Description, LinearAttention
from tailrace.firmware.fold import build_fold
from tailrace.firmware.program import Program
from tailrace.spec.errors import LimitError
from tailrace.spec.isa import COMMAND_BYTES

from .allocator import align
from .image import Image

#: What a pass is to give: ``prompt``: nothing; ``logits``: those of each row; ``tokens``: the device chooses one for each row.
Kind = Literal["prompt", "logits", "tokens"]
#: As many of the largest programs find room beside each other. A decoder of one sequence needs nine.
_ROOM = 9


@dataclass(frozen=True)
class LoadedProgram:
    """A program and its place in device memory.

    Attributes
    ----------
    program : Program
    address : int
        That of a program which is made for a pass is where the first of them lies.
    rows : tuple of int
        For each row of a pass the number of its sequence; none of a fold.
    """

    program: Program
    address: int
    rows: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Bytes."""
        return align(len(self.program.commands) * COMMAND_BYTES)


@dataclass
class Programs:
    """The programs of an image, which lie behind it.

    Attributes
    ----------
    image : Image
    loaded : dict of str to LoadedProgram
        ``prompt``, ``logits`` and ``tokens``, a pass with a row of each sequence; with linear attention ``first fold`` and
        ``fold``, too; and what `name_of` has made since.
    room : range
        Addresses of those that are made for a pass.
    most_rows : int
        Rows of a sequence that a pass has at most.
    """

    image: Image
    loaded: dict[str, LoadedProgram]
    room: range
    most_rows: int = 1
    _refused: dict[str, str] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """First address after them."""
        return self.room.stop

    @property
    def most_together(self) -> int:
        """Rows that a pass has at most, of all sequences."""
        return max(self.most_rows, self.image.request.batch)

    def name_of(self, kind: Kind, rows: Sequence[int]) -> str:
        """Name of the program of a pass, which is made if there is none yet.

        Parameters
        ----------
        kind : Kind
        rows : sequence of int
            For each row the number of its sequence.

        Raises
        ------
        LimitError
            If the device has no room for what these rows need beside each other.
        """
        name = program_name(kind, rows, self.image.request.batch)
        if name in self._refused:
            raise LimitError(self._refused[name])
        if name not in self.loaded:
            try:
                made = LoadedProgram(_build(self.image, kind, rows), self.room.start, tuple(rows))
                if made.size > len(self.room):
                    raise LimitError(f"the program {name} needs {made.size} bytes, and there are {len(self.room)}")
            except LimitError as error:
                self._refused[name] = str(error)
                raise
            self.loaded[name] = made
        return name


def program_name(kind: Kind, rows: Sequence[int], batch: int = 1) -> str:
    """Name of the program with these rows: its kind, and whose the rows are if there is not one of each sequence."""
    return kind if tuple(rows) == tuple(range(batch)) else f"{kind} of {', '.join(map(str, rows))}"


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
    """Build the programs that are always there, and make room for the others.

    Raises
    ------
    LimitError
        If the model or its context does not fit the device.
    """
    description, everybody = image.imported.description, tuple(range(image.request.batch))
    built = {kind: LoadedProgram(_build(image, kind, everybody), 0, everybody) for kind in get_args(Kind)}
    if folds(description):
        for name, first in {"first fold": True, "fold": False}.items():
            built[name] = LoadedProgram(build_fold(description, image.placement, image.build, first=first), 0)
    loaded, address = {}, image.end
    for name, made in built.items():
        loaded[name] = replace(made, address=address)
        address += made.size
    several = _most_rows(image)
    largest = max(made.size for made in (several or built["logits"], built["logits"], built["tokens"]))
    room = _ROOM * largest if several or len(everybody) > 1 else 0
    return Programs(image, loaded, range(address, address + room), len(several.rows) if several else 1)


def _build(image: Image, kind: str, rows: Sequence[int]) -> Program:
    return build_program(
        image.imported.description,
        image.placement,
        image.build,
        rows=tuple(rows),
        logits=kind == "logits",
        choose=kind == "tokens",
    )


def _most_rows(image: Image) -> LoadedProgram | None:
    """The program with the most rows of a sequence that the device has room for, and that the model can do; None: it is one."""
    for count in range(min(image.build.right_hand_sides, image.request.most_rows), 1, -1):
        rows = (0,) * count
        try:
            return LoadedProgram(_build(image, "logits", rows), 0, rows)
        except LimitError:
            continue
    return None


def folds(description: Description) -> bool:
    """Whether a model has states that lists are folded into."""
    return any(isinstance(mixer, LinearAttention) for _, mixer in description.mixers)
