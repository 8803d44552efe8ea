"""The programs of an image, which lie behind it: those that are always there, and those that are made for a pass."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from tailrace.firmware.command_list import check_length
from tailrace.firmware.decode import build_program
from tailrace.firmware.description import Attention, Description, LinearAttention
from tailrace.firmware.draft import build_draft
from tailrace.firmware.fold import build_fold
from tailrace.firmware.passes import effective_window
from tailrace.firmware.placement import CachePlace
from tailrace.firmware.program import Program
from tailrace.spec.attention import CHUNK, reach
from tailrace.spec.errors import LimitError
from tailrace.spec.isa import COMMAND_BYTES

from .allocator import align
from .image import Image

#: What a pass is to give: ``prompt``: nothing; ``logits``: those of each row; ``tokens``: the device chooses one for each row.
Kind = Literal["prompt", "logits", "tokens"]
#: The program of the layer that drafts, with logits of what it may draft.
DRAFT: Literal["draft"] = "draft"
#: As many of the largest programs find room beside each other. A decoder of one sequence needs nine.
_ROOM = 9
#: Programs of more tokens than a chunk that are kept; others are made again.
_KEPT = 32


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
    kind : str
        `Kind` of a pass.
    fills : bool
        Whether a pass fills the cache of a layer that drafts, if there is one.
    """

    program: Program
    address: int
    rows: tuple[int, ...] = ()
    kind: str = ""
    fills: bool = True

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
        ``fold``, too; and what `name_of` and `at` have made since.
    room : range
        Addresses of those that are made for a pass.
    most_rows : int
        Rows of a sequence that a pass has at most.
    most_tokens : int
        Tokens that one sees at most, in any layer.
    """

    image: Image
    loaded: dict[str, LoadedProgram]
    room: range
    most_rows: int = 1
    most_tokens: int = CHUNK
    _refused: dict[str, str] = field(default_factory=dict)
    _later: list[str] = field(default_factory=list)

    @property
    def end(self) -> int:
        """First address after them."""
        return self.room.stop

    @property
    def most_together(self) -> int:
        """Rows that a pass has at most, of all sequences."""
        return max(self.most_rows, self.image.request.batch)

    def name_of(self, kind: Kind | Literal["draft"], rows: Sequence[int], fills: bool = True) -> str:
        """Name of the program of a pass whose tokens see the first chunk of the cache, which is made if there is none yet.

        Parameters
        ----------
        kind : Kind or str
            What it is to give; or `DRAFT`.
        rows : sequence of int
            For each row the number of its sequence.
        fills : bool
            Whether the pass fills the cache of a layer that drafts, if there is one.

        Raises
        ------
        LimitError
            If the device has no room for what these rows need beside each other.
        """
        fills = fills or kind == DRAFT or self.image.imported.description.draft_layer is None
        name = program_name(kind, rows, self.image.request.batch, fills)
        self._make(name, kind, rows, (CHUNK,) * len(rows), fills)
        return name

    def at(self, name: str, positions: Sequence[int]) -> str:
        """Name of the program that does for rows at these positions what another one does in the first chunk of the cache.

        It is made if there is none yet. Not all that have been made are kept: the name is to be asked for before each use.

        Raises
        ------
        LimitError
            If the device has no room for what these rows need beside each other.
        """
        first = self.loaded[name]
        seen = self.seen(positions)
        if max(seen, default=0) <= CHUNK:
            return name
        later = f"{name}, up to {'-'.join(map(str, seen))} tokens"
        if self._make(later, first.kind, first.rows, seen, first.fills):
            self._later.append(later)
            if len(self._later) > _KEPT:
                del self.loaded[self._later.pop(0)]
        return later

    def seen(self, positions: Sequence[int]) -> tuple[int, ...]:
        """For rows at these positions up to how many tokens the program is the same; with other numbers it is another one."""
        return tuple(min(reach(position), self.most_tokens) for position in positions)

    def positions(self, name: str, position: int) -> list[int]:
        """Positions of a program's rows, where each sequence's first one is at a position."""
        rows = self.loaded[name].rows
        return [position + rows[:s].count(sequence) for s, sequence in enumerate(rows)]

    def program_at(self, name: str, position: int) -> Program:
        """The program that does this where each sequence's first row is at a position."""
        return self.loaded[self.at(name, self.positions(name, position))].program

    def stretch(self, position: int) -> int:
        """Tokens from a position on that one program takes, one after the other."""
        return reach(position) - position if self.most_tokens > CHUNK else self.image.capacity

    def _make(self, name: str, kind: str, rows: Sequence[int], seen: Sequence[int], fills: bool) -> bool:
        """Make a program unless it is there; returns whether it was not."""
        if name in self._refused:
            raise LimitError(self._refused[name])
        if name in self.loaded:
            return False
        try:
            made = LoadedProgram(_build(self.image, kind, rows, seen, fills), self.room.start, tuple(rows), kind, fills)
            if made.size > len(self.room):
                raise LimitError(f"the program {name} needs {made.size} bytes, and there are {len(self.room)}")
        except LimitError as error:
            self._refused[name] = str(error)
            raise
        self.loaded[name] = made
        return True


def program_name(kind: Kind | Literal["draft"], rows: Sequence[int], batch: int = 1, fills: bool = True) -> str:
    """Name of the program with these rows: its kind, and whose the rows are if there is not one of each sequence."""
    name = kind if tuple(rows) == tuple(range(batch)) else f"{kind} of {', '.join(map(str, rows))}"
    return name if fills else f"{name}, nothing for drafts"


def check_programs(image: Image) -> None:
    """Check that all programs can be built: by the one that needs the most, and as fast as that can be done.

    Raises
    ------
    LimitError
        If the model or its context does not fit the device.
    """
    description, batch = image.imported.description, image.request.batch

    def commands(tokens: int) -> int:
        """Those of a program whose rows see so many tokens."""
        program = build_program(
            description, image.placement, image.build, batch=batch, logits=True, choose=True, overlap=False,
            reach=(tokens,) * batch,
        )  # fmt: skip
        return len(program.commands)

    most, steady = most_tokens(image), _most_tokens_of_windows(image)
    if most <= 2 * steady:
        commands(most)
    else:
        # From there on all windows are full, and each round of them adds as many commands as the one before, and nothing else.
        before, after = commands(steady), commands(2 * steady)
        check_length(after + -(-(most - 2 * steady) // steady) * (after - before))
    if folds(description):
        build_fold(description, image.placement, image.build, first=False, overlap=False)
    if description.draft_layer:
        build_draft(
            description, image.placement, image.build, rows=range(batch), reach=(min(most, 2 * steady),) * batch, overlap=False
        )  # fmt: skip


def build_programs(image: Image) -> Programs:
    """Build the programs that are always there, and make room for the others.

    Raises
    ------
    LimitError
        If the model or its context does not fit the device.
    """
    description, everybody = image.imported.description, tuple(range(image.request.batch))
    alone = (CHUNK,) * len(everybody)
    built = {kind: LoadedProgram(_build(image, kind, everybody, alone), 0, everybody, kind) for kind in get_args(Kind)}
    if folds(description):
        for name, first in {"first fold": True, "fold": False}.items():
            built[name] = LoadedProgram(build_fold(description, image.placement, image.build, first=first), 0)
    loaded, address = {}, image.end
    for name, made in built.items():
        loaded[name] = replace(made, address=address)
        address += made.size
    most = most_tokens(image)
    several = _most_rows(image, CHUNK)
    largest = [made for made in (several, built["logits"], built["tokens"]) if made]
    if most > CHUNK:
        later = LoadedProgram(_build(image, "logits", everybody, (most,) * len(everybody)), 0)
        largest += [made for made in (_most_rows(image, most), later) if made]
    made_later = several or len(everybody) > 1 or most > CHUNK or description.draft_layer
    room = _ROOM * max(made.size for made in largest) if made_later else 0
    return Programs(image, loaded, range(address, address + room), len(several.rows) if several else 1, most)


def _most_tokens_of_windows(image: Image) -> int:
    """Tokens from which on no layer with a window sees more: a power of two chunks, and at least two."""
    windows = [mixer.window for _, mixer in image.imported.description.mixers if isinstance(mixer, Attention) and mixer.window]
    return CHUNK << max((-(-window // CHUNK) - 1).bit_length() for window in (CHUNK + 1, *windows))


def most_tokens(image: Image) -> int:
    """Tokens that one sees at most, in any layer."""
    description, places = image.imported.description, image.placement.caches[0]
    # Where what is seen begins anew in later chunks of the cache, programs go by the position.
    seen = [
        image.capacity
        if mixer.chunked and place.capacity > CHUNK
        else effective_window(mixer, place.capacity) or place.capacity
        for (_, mixer), place in zip(description.mixers, places, strict=True)
        if isinstance(mixer, Attention) and isinstance(place, CachePlace)
    ]
    return max(seen, default=0)


def _build(image: Image, kind: str, rows: Sequence[int], seen: Sequence[int], fills: bool = True) -> Program:
    description = image.imported.description
    if kind == DRAFT:
        return build_draft(description, image.placement, image.build, rows=rows, reach=seen)
    return build_program(
        description,
        image.placement,
        image.build,
        rows=tuple(rows),
        reach=seen,
        logits=kind == "logits",
        choose=kind == "tokens",
        fills=fills,
    )


def _most_rows(image: Image, seen: int) -> LoadedProgram | None:
    """The program with the most rows of a sequence that the device has room for, and that the model can do; None: it is one.

    `seen`: tokens that each row sees.
    """
    for count in range(min(image.build.right_hand_sides, image.request.most_rows), 1, -1):
        rows = (0,) * count
        try:
            return LoadedProgram(_build(image, "logits", rows, (seen,) * count), 0, rows)
        except LimitError:
            continue
    return None


def folds(description: Description) -> bool:
    """Whether a model has states that lists are folded into."""
    return any(isinstance(mixer, LinearAttention) for _, mixer in description.mixers)
