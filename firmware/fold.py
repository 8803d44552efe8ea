"""The fold: the program that makes the states of a sequence's linear attention take in what their lists hold."""

from tailrace.spec.errors import LimitError
from tailrace.spec.floats import Function
from tailrace.spec.formats import I8, Q8_0
from tailrace.spec.isa import ADDRESS_UNIT, STREAM_UNIT, Cache, Combine, Multiplier, Reduce
from tailrace.spec.kv_cache import CODE_STEP
from tailrace.spec.linear_attention import ENTRIES, FOLD, LOWER, LOWER_EXPONENT

from .buffer_map import RegionMap, buffer_map, slot_map
from .command_list import Address, CommandList, Loaded, Slot
from .description import Description, LinearAttention
from .placement import Build, CachePlace, Placement, StatePlace
from .planes import divide, take_apart
from .program import Program
from .state_places import SCORES, layout_of

#: Register that holds the number of the sequence.
SEQUENCE = 16
#: Table of unit vectors, each followed by what the lower plane counts for: a row for each element of a key.
UNIT_VECTORS = "unit_vectors"
#: Sets of the slots, in turn: unit vectors, and what deltas are multiplied with.
UNIT_SETS, WEIGHT_SETS = (0, 2), (1, 3)
#: Stretches of rows that are worked on at a time, so that one unit is at work on one and the other on the other.
TURNS = 2


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
    """The commands of one layer: for each head, and each few rows of its state, new rows and their codes."""

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

    def layer(self, a: LinearAttention, places: list[CachePlace | StatePlace]) -> None:
        """Emit the fold of a layer, as it lies for the first sequence."""
        layout, commands = layout_of(a, self._build.lanes), self._commands
        first = places[0]
        assert isinstance(first, StatePlace)
        distance = places[1].address - first.address if len(places) > 1 and isinstance(places[1], StatePlace) else 0
        self._layout, self._a, self._address = layout, a, first.address
        self._width = min(self._build.right_hand_sides, a.key_size)
        while a.key_size % self._width:
            self._width -= 1
        self._allocate(buffer_map(self._build.buffer_entries))
        commands.set(self._base, x=SEQUENCE, factor=distance // ADDRESS_UNIT, y=self._caches)
        row = Address(first.address + layout.offsets["sums"] + FOLD * layout.sum_pitch, (self._base,))
        commands.elementwise(row, a.value_heads, to=self._logs)
        commands.elementwise(self._logs, a.value_heads, function=Function.EXP, to=self._decays)
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
        self._weights, self._list_values = allocate("the weights of a list", SCORES), allocate("the scales of deltas", SCORES)
        turns = range(TURNS)
        self._columns = [allocate("columns of a list's keys", width * SCORES) for _ in turns]
        self._upper = [allocate("upper planes", width * a.value_size) for _ in turns]
        self._lower = [allocate("lower planes", width * a.value_size) for _ in turns]
        self._new = allocate("rows of a state", width * a.value_size)
        self._largest = allocate("the largest of each row", width)
        self._upper_scales, self._lower_scales = allocate("scales of rows", width), allocate("their lower scales", width)
        blocks = slot_map(self._build.vector_blocks)
        self._unit_places = [blocks.allocate("unit vectors", self._layout.key_blocks) for _ in turns]
        self._weight_places = [blocks.allocate("weights of deltas", -(-ENTRIES // STREAM_UNIT)) for _ in turns]

    def _part(self, name: str, *registers: int, offset: int = 0) -> Address:
        return Address(self._address + self._layout.offsets[name] + offset, registers)

    def _of_head(self, entry: int) -> Loaded:
        """A head's entry of those of all heads."""
        return Loaded(entry, register=self._head, reach=self._a.value_heads)

    def _one_head(self) -> None:
        a, layout, commands = self._a, self._layout, self._commands
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
        width = self._width
        units = self._placement.tables[UNIT_VECTORS]
        distances = {self._units: TURNS * width * units.stride // ADDRESS_UNIT}
        commands.set(self._row)
        with commands.loop(self._chunks, a.key_size // (TURNS * width), distances):
            for stage in (self._pick, self._multiply_keys, self._weigh, self._multiply_deltas, self._finish):
                for turn in range(TURNS):
                    stage(turn)
            commands.set(self._row, y=self._row, addend=TURNS * width)
            commands.set(self._master, y=self._master, addend=TURNS * width * 4 * a.value_size // ADDRESS_UNIT)

    def _pick(self, turn: int) -> None:
        """Load unit vectors."""
        width, units = self._width, self._placement.tables[UNIT_VECTORS]
        self._commands.elementwise(
            Address(units.address + turn * width * units.stride, (self._units,)), 2 * self._a.key_size, width,
            to=Slot(0, UNIT_SETS[turn], self._unit_places[turn], next_slot=True),
        )  # fmt: skip

    def _multiply_keys(self, turn: int) -> None:
        self._commands.gemv(
            self._part("keys", self._base, self._key_head), number=Q8_0.number, rows=ENTRIES, blocks=self._layout.key_blocks,
            slots=self._width, vector_set=UNIT_SETS[turn], first_block=self._unit_places[turn], offset=self._columns[turn],
            slot_stride=SCORES, kind="keys",
        )  # fmt: skip

    def _weigh(self, turn: int) -> None:
        self._commands.elementwise(
            self._columns[turn], ENTRIES, self._width, a_stride=SCORES, b=self._weights, combine=Combine.PRODUCT,
            to=Slot(0, WEIGHT_SETS[turn], self._weight_places[turn], next_slot=True, duplicate=True),
        )  # fmt: skip

    def _multiply_deltas(self, turn: int) -> None:
        size = self._a.value_size
        for name, entry, exponent in (("deltas", self._upper[turn], 0), ("lower_deltas", self._lower[turn], LOWER_EXPONENT)):
            self._commands.gemv(
                self._part(name, self._list), number=I8.number, rows=size, blocks=-(-ENTRIES // STREAM_UNIT),
                slots=self._width, vector_set=WEIGHT_SETS[turn], first_block=self._weight_places[turn], offset=entry,
                slot_stride=size, exponent=exponent, stride=self._layout.delta_row_stride, kind="values",
            )  # fmt: skip

    def _finish(self, turn: int) -> None:
        """New rows, to memory, and their codes."""
        commands, width, size = self._commands, self._width, self._a.value_size
        count, upper, lower = width * size, self._upper[turn], self._lower[turn]
        master = self._part("master", self._master, offset=4 * turn * count)
        if not self._first:
            commands.elementwise(
                master, count, p=self._of_head(self._decays), b=upper, combine=Combine.SUM, to=upper
            )  # fmt: skip
        commands.elementwise(
            upper, size, width, a_stride=size, b=lower, b_stride=size, combine=Combine.SUM, to=self._new, d_stride=size,
            reduce=Reduce.ABSOLUTE_MAXIMUM, r=self._largest,
        )  # fmt: skip
        commands.store(self._new, master, count)
        self._append(turn, width, size)

    def _append(self, turn: int, width: int, size: int) -> None:
        a, layout, commands, upper, lower = self._a, self._layout, self._commands, self._upper[turn], self._lower[turn]
        commands.elementwise(self._largest, width, p=float(CODE_STEP), to=self._upper_scales)
        commands.elementwise(self._upper_scales, width, p=LOWER, to=self._lower_scales)
        commands.elementwise(self._upper_scales, width, function=Function.RECIPROCAL, to=self._largest)
        divide(commands, self._new, width, size, self._largest)
        take_apart(commands, self._new, upper, lower, width, size, size)
        planes = ((upper, self._upper_scales, 0), (lower, self._lower_scales, a.key_size))
        for entry, scales, first in planes:
            for row in range(width):
                commands.append(
                    Cache.VALUES, a=entry + row * size, scales=scales + row, count=size, heads=1, a_stride=size,
                    destination=self._part("state", self._codes), head_stride=layout.state_stride,
                    row_stride=layout.state_row_stride, scale_place=self._part("state_scales", self._scales),
                    scale_stride=layout.state_scale_stride, token=self._row, token_offset=first + turn * width + row,
                )  # fmt: skip
