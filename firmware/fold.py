"""The fold: the program that makes the states of a sequence's linear attention take in what their lists hold."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any

from tailrace.spec.errors import LimitError
from tailrace.spec.floats import Function
from tailrace.spec.formats import BLOCK, I8, Q8_0
from tailrace.spec.isa import ADDRESS_UNIT, STREAM_UNIT, Cache, Combine, Multiplier, Reduce
from tailrace.spec.kv_cache import CODE_STEP, value_row_bytes
from tailrace.spec.linear_attention import ENTRIES, FOLD, LOWER, LOWER_EXPONENT

from .buffer_map import RegionMap, buffer_map, slot_map
from .command_list import Address, BlockAt, CommandList, Loaded, Slot
from .description import Description, LinearAttention
from .placement import Build, CachePlace, Placement, StatePlace
from .planes import ROUNDING
from .program import Program
from .state_places import SCORES, layout_of

#: Register that holds the number of the sequence.
SEQUENCE = 16
#: Table of unit vectors, each followed by what the lower plane counts for: a row for each element of a key.
UNIT_VECTORS = "unit_vectors"
#: Sets of the slots, in turn: unit vectors, and what deltas are multiplied with. Unit vectors that stay are of the first set.
UNIT_SETS, WEIGHT_SETS = (0, 2), (1, 3)
#: Rows of a state that are worked on at a time, at most: so many that the vector unit's start-up does not count.
ROWS = 16


def unit_columns(description: Description) -> int:
    """Elements of a unit vector, both planes; 0 if there is no linear attention."""
    sizes = {mixer.key_size for _, mixer in description.mixers if isinstance(mixer, LinearAttention)}
    if len(sizes) > 1:
        raise LimitError(f"linear attention with keys of one size has a program, not of {sorted(sizes)} elements")
    return 2 * max(sizes, default=0)


def build_fold(
    description: Description, placement: Placement, build: Build, *, first: bool, overlap: bool = True
) -> Program:  # fmt: skip
    """Build the program that folds the full lists of a sequence, whose number is in ``r16``, into its states.

    Parameters
    ----------
    description : Description
        With linear attention.
    placement : Placement
    build : Build
    first : bool
        Whether there was no state before: then nothing of it is read.
    overlap : bool

    Raises
    ------
    LimitError
        If it does not fit the device.
    """
    commands = CommandList(build, overlap)
    mixers = description.mixers
    numbers = [n for n, (_, mixer) in enumerate(mixers) if isinstance(mixer, LinearAttention)]
    layers = commands.register("the number of layers"), commands.register("the caches")
    fold = _Fold(commands, build, placement, layers[1], first)
    commands.section("unit vectors")
    fold.load_units(unit_columns(description))
    for n, rounds, distance in _runs(description, placement, numbers):
        with commands.loop(layers[0], rounds, {layers[1]: distance // ADDRESS_UNIT}):
            layer, attention = mixers[n]
            assert isinstance(attention, LinearAttention)
            commands.section(f"fold of layer {layer}" + (f" and {rounds - 1} more" if rounds > 1 else ""))
            fold.layer(attention, [caches[n] for caches in placement.caches])
    return commands.finish()


def _runs(description: Description, placement: Placement, numbers: list[int]) -> list[tuple[int, int, int]]:
    """Layers as loops: the first one, rounds, and bytes from one round's state to the next's."""
    runs, at = [], 0
    places = [placement.caches[0][n].addresses[0] for n in numbers]
    kinds = [(description.mixers[n][1], placement.caches[0][n].form) for n in numbers]
    while at < len(numbers):
        rounds, distance = 1, 0
        while at + rounds < len(numbers) and kinds[at + rounds] == kinds[at]:
            step = places[at + rounds] - places[at + rounds - 1]
            if rounds > 1 and step != distance:
                break
            distance, rounds = step, rounds + 1
        runs.append((numbers[at], rounds, distance))
        at += rounds
    return runs


class _Fold:
    """The commands of one layer: for each head, and each few rows of its state, new rows and their codes.

    A *chunk* is some rows of the state, and a *turn* as many of them as there are right-hand sides. The matrix unit multiplies
    for a chunk turn by turn, while the vector unit makes new rows and codes of the chunk before, whose sums lie in another
    place. Between the turns it weighs the columns that the next products need.
    """

    def __init__(self, commands: CommandList, build: Build, placement: Placement, caches: int, first: bool) -> None:
        self._commands, self._build, self._placement, self._caches, self._first = commands, build, placement, caches, first
        register = commands.register
        self._base = register("a sequence's states")
        self._key_heads, self._key_head = register("the key heads to come"), register("the list's keys of a head")
        self._heads, self._head = register("the value heads to come"), register("the number of a head")
        self._next_head = register("the number of a key head's first value head")
        self._chunks, self._row = register("the rows to come"), register("the number of a row")
        self._codes, self._scales = register("the codes of a state"), register("the scales of a state")
        self._list, self._list_scales = register("the deltas of a list"), register("the scales of a list")
        self._master, self._units = register("the rows of a state"), register("the unit vectors")
        self._width = min(build.right_hand_sides, ROWS)

    def load_units(self, columns: int) -> None:
        """Load all unit vectors, if there is room for them beside what deltas are multiplied with: then they stay."""
        blocks, width, each, vectors = slot_map(self._build.vector_blocks), self._width, columns // BLOCK, columns // 2
        needed = len(WEIGHT_SETS) * -(-ENTRIES // STREAM_UNIT)
        self._stay = vectors // width * each + needed <= blocks.free
        turns = vectors // width if self._stay else len(UNIT_SETS)
        first = blocks.allocate("unit vectors", turns * each)
        self._unit_places = [first + turn * each for turn in range(turns)]
        self._weight_places = [blocks.allocate("weights of deltas", needed // len(WEIGHT_SETS)) for _ in WEIGHT_SETS]
        table = self._placement.tables[UNIT_VECTORS]
        for turn, place in enumerate(self._unit_places if self._stay else ()):
            target = Slot(0, UNIT_SETS[0], place, next_slot=True, join=turn > 0)
            self._commands.elementwise(Address(table.address + turn * width * table.stride), columns, width, to=target)

    def layer(self, a: LinearAttention, places: list[CachePlace | StatePlace]) -> None:
        """Emit the fold of a layer, as it lies for the first sequence."""
        layout, commands = layout_of(a, self._build.lanes), self._commands
        first = places[0]
        assert isinstance(first, StatePlace)
        distance = places[1].address - first.address if len(places) > 1 and isinstance(places[1], StatePlace) else 0
        self._layout, self._a, self._address = layout, a, first.address
        self._allocate(buffer_map(self._build.buffer_entries))
        commands.set(self._base, x=SEQUENCE, factor=distance // ADDRESS_UNIT, y=self._caches)
        row = Address(first.address + layout.offsets["sums"] + FOLD * layout.sum_pitch, (self._base,))
        commands.elementwise(row, a.value_heads, to=self._logs)
        commands.elementwise(self._logs, a.value_heads, function=Function.EXP, to=self._decays)
        for n, weight in enumerate((1.0, LOWER)):
            commands.elementwise(self._decays, 1, p=0.0, q=weight, reduce=Reduce.SUM, r=self._planes + n)
        ratio = a.value_heads // a.key_heads
        step, within = (1, a.key_heads) if a.tiled else (ratio, 1)
        commands.set(self._next_head)
        with commands.loop(self._key_heads, a.key_heads, {self._key_head: layout.key_stride // ADDRESS_UNIT}):
            commands.set(self._head, y=self._next_head)
            with commands.loop(self._heads, ratio):
                self._one_head()
                commands.set(self._head, y=self._head, addend=within)
            commands.set(self._next_head, y=self._next_head, addend=step)

    def _allocate(self, buffer: RegionMap) -> None:
        a, width = self._a, self._width
        allocate, heads = buffer.allocate, a.value_heads
        self._logs, self._decays = allocate("the sums of decays", heads), allocate("decays", heads)
        self._planes = allocate("the weights of planes", 2)
        self._weights, self._list_values = allocate("the weights of a list", SCORES), allocate("the scales of deltas", SCORES)
        self._columns = [allocate("columns of a list's keys", width * SCORES) for _ in UNIT_SETS]
        self._largest = allocate("the largest of each row", ROWS)
        self._inverses = allocate("what rows are multiplied with", ROWS)
        self._scales_of_rows = allocate("scales of rows", 4 * ROWS)
        self._rows = max(min(ROWS, buffer.free // (4 * a.value_size * width) * width), width)
        while a.key_size % self._rows:
            self._rows -= width
        # Sums of two chunks in turn. Upper planes, the second operand of what `APPEND` reads, lie behind lower ones.
        size = self._rows * a.value_size
        self._sums = [(allocate("lower planes", size), allocate("upper planes", size)) for _ in range(2)]

    def _part(self, name: str, *registers: int, offset: int = 0) -> Address:
        return Address(self._address + self._layout.offsets[name] + offset, registers)

    def _of_head(self, entry: int) -> Loaded:
        """A head's entry of those of all heads."""
        return Loaded(entry, register=self._head, reach=self._a.value_heads)

    def _one_head(self) -> None:
        layout, commands = self._layout, self._commands
        strides = {
            self._codes: layout.state_stride, self._scales: layout.state_scale_stride, self._list: layout.delta_stride,
            self._list_scales: layout.scale_stride, self._master: layout.master_stride,
        }  # fmt: skip
        for register, stride in strides.items():
            commands.set(register, x=self._head, factor=stride // ADDRESS_UNIT, y=self._base)
        commands.elementwise(self._part("scales", self._list_scales), ENTRIES, to=self._list_values)
        commands.elementwise(
            self._part("logs", self._list_scales), ENTRIES, p=-1.0, q=self._of_head(self._logs), function=Function.EXP,
            b=self._list_values, multiplier=Multiplier.B, to=self._weights,
        )  # fmt: skip
        commands.set(self._row)
        self._chunks_of_a_head()

    def _chunks_of_a_head(self) -> None:
        """The sums of the first chunk; of each other one, and what is made of those before; and what is made of the last."""
        count, commands = self._a.key_size // self._rows, self._commands
        distance = self._rows * self._placement.tables[UNIT_VECTORS].stride // ADDRESS_UNIT
        if self._stay:
            distance = self._rows // self._width * self._layout.key_blocks
        commands.set(self._units)
        self._sum_up(0)
        if count > 2:
            with commands.loop(self._chunks, (count - 1) // 2):
                for place in (1, 0):
                    commands.set(self._units, y=self._units, addend=distance)
                    self._sum_up(place, self._finish(1 - place))
        if not count % 2:
            commands.set(self._units, y=self._units, addend=distance)
            self._sum_up(1, self._finish(0))
        for work in self._finish(1 - count % 2):
            work()

    def _sum_up(self, place: int, beside: Sequence[Callable[[], None]] = ()) -> None:
        """The sums of a chunk's rows, and between its products the vector work of another chunk.

        That begins with rows that are streamed, which would else come behind the first products' keys.
        """
        turns, done = self._rows // self._width, min(1, len(beside))
        for work in beside[:done]:
            work()
        for turn in range(min(2, turns)):
            self._pick(turn)
            self._multiply_keys(turn)
        for turn in range(turns):
            until = max(done, len(beside) * (turn + 1) // turns)
            for work in beside[done:until]:
                work()
            done = until
            self._weigh(turn)
            self._multiply_deltas(turn, place)
            if turn + 2 < turns:
                self._pick(turn + 2)
                self._multiply_keys(turn + 2)

    def _pick(self, turn: int) -> None:
        """Load unit vectors, unless they are there."""
        if self._stay:
            return
        width, units = self._width, self._placement.tables[UNIT_VECTORS]
        self._commands.elementwise(
            Address(units.address + turn * width * units.stride, (self._units,)), 2 * self._a.key_size, width,
            to=Slot(0, UNIT_SETS[turn % 2], self._unit_places[turn % 2], next_slot=True),
        )  # fmt: skip

    def _multiply_keys(self, turn: int) -> None:
        place: int | BlockAt = self._unit_places[turn % 2]
        if self._stay:
            span = (len(self._unit_places) - turn) * self._layout.key_blocks
            place = BlockAt(self._unit_places[turn], self._units, span)
        self._commands.gemv(
            self._part("keys", self._base, self._key_head), number=Q8_0.number, rows=ENTRIES, blocks=self._layout.key_blocks,
            slots=self._width, vector_set=UNIT_SETS[0 if self._stay else turn % 2], first_block=place,
            offset=self._columns[turn % 2], slot_stride=SCORES, kind="keys",
        )  # fmt: skip

    def _weigh(self, turn: int) -> None:
        self._commands.elementwise(
            self._columns[turn % 2], ENTRIES, self._width, a_stride=SCORES, b=self._weights, combine=Combine.PRODUCT,
            to=Slot(0, WEIGHT_SETS[turn % 2], self._weight_places[turn % 2], next_slot=True, duplicate=True),
        )  # fmt: skip

    def _multiply_deltas(self, turn: int, place: int) -> None:
        size, (lower, upper) = self._a.value_size, self._sums[place]
        for name, entry, exponent in (("deltas", upper, 0), ("lower_deltas", lower, LOWER_EXPONENT)):
            self._commands.gemv(
                self._part(name, self._list), number=I8.number, rows=size, blocks=-(-ENTRIES // STREAM_UNIT),
                slots=self._width, vector_set=WEIGHT_SETS[turn % 2], first_block=self._weight_places[turn % 2],
                offset=entry + turn * self._width * size, slot_stride=size, exponent=exponent,
                stride=self._layout.delta_row_stride, kind="values",
            )  # fmt: skip

    def _finish(self, place: int) -> list[Callable[[], None]]:
        """New rows, to memory, and their codes, step by step.

        The rows lie in place of the upper planes, and then the lower codes do.
        """
        rows = range(self._rows)
        each = len(rows) // 4 or 1
        appends = [partial(self._append, place, rows[n : n + each]) for n in range(0, len(rows), each)]
        return [partial(work, place) for work in (self._add_rows, self._keep_rows, self._round)] + [*appends, self._go_on]

    def _add_rows(self, place: int) -> None:
        """Add what is left of the rows to what the upper planes of the list make of them."""
        if self._first:
            return
        upper = self._sums[place][1]
        self._commands.elementwise(
            self._part("master", self._master), self._rows * self._a.value_size, p=self._of_head(self._decays), b=upper,
            combine=Combine.SUM, to=upper,
        )  # fmt: skip

    def _keep_rows(self, place: int) -> None:
        """Add what the lower planes make of them, keep the rows, and find their largest elements."""
        commands, rows, size = self._commands, self._rows, self._a.value_size
        lower, upper = self._sums[place]
        commands.elementwise(
            upper, size, rows, a_stride=size, b=lower, b_stride=size, combine=Combine.SUM, to=upper, d_stride=size,
            reduce=Reduce.ABSOLUTE_MAXIMUM, r=self._largest,
        )  # fmt: skip
        commands.store(upper, self._part("master", self._master), rows * size)

    def _round(self, place: int) -> None:
        """The scales of rows, and both planes of their codes."""
        commands, rows, size, step = self._commands, self._rows, self._a.value_size, float(CODE_STEP)
        lower, upper = self._sums[place]
        shape: dict[str, Any] = {"a_stride": size, "d_stride": size}
        commands.elementwise(
            self._planes, 2, rows, p=Loaded(self._largest, advance=True), m=step, to=self._scales_of_rows, d_stride=4
        )  # fmt: skip
        commands.elementwise(self._largest, rows, p=step, function=Function.RECIPROCAL, to=self._inverses)
        scaled = Loaded(self._inverses, advance=True)
        commands.elementwise(upper, size, rows, **shape, p=scaled, q=ROUNDING, n=-ROUNDING, to=lower)
        commands.elementwise(
            upper, size, rows, **shape, p=scaled, b=lower, b_stride=size, q=-1.0, combine=Combine.SUM, m=1 / LOWER, to=upper
        )  # fmt: skip

    def _append(self, place: int, rows: range) -> None:
        """Codes of rows of the state: both planes, the lower one `key_size` tokens behind the upper one."""
        a, layout, size = self._a, self._layout, self._a.value_size
        codes, scales = self._part("state", self._codes), self._part("state_scales", self._scales)
        between = value_row_bytes(a.key_size, self._build.lanes)
        together = not between % ADDRESS_UNIT
        lower, upper = self._sums[place]
        for row, plane in product(rows, range(1 if together else 2)):
            self._commands.append(
                Cache.VALUES, a=(upper if plane else lower) + row * size, scales=self._scales_of_rows + 4 * row + plane,
                count=size, heads=2 if together else 1, a_stride=upper - lower, destination=codes,
                head_stride=between if together else 0, row_stride=layout.state_row_stride, scale_place=scales,
                scale_stride=4 * a.key_size, token=self._row, token_offset=row + plane * a.key_size,
            )  # fmt: skip

    def _go_on(self) -> None:
        """The next rows are those of the next chunk."""
        self._commands.set(self._row, y=self._row, addend=self._rows)
        self._commands.set(self._master, y=self._master, addend=self._rows * 4 * self._a.value_size // ADDRESS_UNIT)
