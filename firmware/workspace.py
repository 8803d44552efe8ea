"""What all parts of a decode program share."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tailrace.spec.errors import ModelError
from tailrace.spec.isa import ADDRESS_UNIT, FIRST_ARGUMENT

from .buffer_map import RegionMap
from .command_list import Address, CommandList, Loaded
from .description import Description, layer_role
from .placement import Build, CachePlace, MatrixPart, MatrixPlace, Placement, StatePlace, TablePlace

#: Rows of which the arguments hold tokens and positions; of more rows they hold positions only.
TOKEN_ROWS = 4
#: Register that holds the token of row 0, and its position; those of the other rows follow.
TOKEN, _POSITION = FIRST_ARGUMENT, FIRST_ARGUMENT + TOKEN_ROWS


def pass_arguments(tokens: Sequence[int], positions: Sequence[int]) -> list[int]:
    """The arguments of a pass.

    Parameters
    ----------
    tokens : sequence of int
        For each row the row of the tables of embeddings that is its own. Of more than four rows they are 0, 1, 2, ...
    positions : sequence of int
        For each row.
    """
    if len(tokens) > TOKEN_ROWS:
        assert [*tokens] == [*range(len(tokens))]
        return [*positions]
    return [*tokens, *[0] * (TOKEN_ROWS - len(tokens)), *positions]


@dataclass
class Workspace:
    """A program under construction and the places in the activation buffer that live through a whole token.

    A row is a token that a pass takes, of a sequence; rows are counted here as if each had a sequence of its own.

    Attributes
    ----------
    owners : tuple of int
        For each row the number of its sequence.
    reach : tuple of int
        For each row the tokens that it sees at most (`tailrace.spec.attention.reach`).
    x : int
        The activations between layers, one sequence after the other.
    statistic, inverse : int
        For each sequence what the next norm needs of x (sum, or sum of squares), and what that norm multiplies with.
    scales : int
        The layer's table of what the results of its matrices are multiplied with, if it has one.
    scale_count : int
        Entries of that.
    norm_weights : int or None
        Place for the weights of a norm that come before they are needed; None: there is none.
    held_norm : str or None
        Role of the norm whose weights are there.
    position_rows : dict
        What tables have for the positions (angles, scales of scores), by name and sequence.
    rows : dict
        Registers that hold the row of the KV cache for a window, sliding or not, and a sequence.
    weights_register, caches_register : int or None
        In a loop over layers: what is added to the addresses of weights and tables, and of caches.
    embeddings_register : int or None
        The same of what the table of layers' embeddings has for them.
    address_register : int
        For what the next command needs.
    length_registers : tuple
        For even and odd sequences the registers that hold the tokens in the cache, and their blocks of 16.
    layer_registers : tuple of int
        For a loop over layers: its counter, and what is added to addresses of weights, caches and layers' embeddings.
    expert_registers : tuple of int
        Registers that hold the numbers of chosen experts.
    """

    description: Description
    placement: Placement
    build: Build
    owners: tuple[int, ...]
    reach: tuple[int, ...]
    commands: CommandList
    buffer: RegionMap
    x: int = 0
    statistic: int = 0
    inverse: int = 0
    scales: int = 0
    scale_count: int = 0
    norm_weights: int | None = None
    held_norm: str | None = None
    address_register: int = 0
    length_registers: tuple[tuple[int, int], ...] = ()
    position_rows: dict[tuple[str, int], int] = field(default_factory=dict)
    rows: dict[tuple[int | None, int], int] = field(default_factory=dict)
    layer_registers: tuple[int, ...] = ()
    expert_registers: tuple[int, ...] = ()
    weights_register: int | None = None
    caches_register: int | None = None
    embeddings_register: int | None = None

    @property
    def hidden(self) -> int:
        """Length of the activations."""
        return self.description.hidden

    @property
    def batch(self) -> int:
        """Rows of a pass."""
        return len(self.owners)

    @property
    def sequences(self) -> range:
        """Numbers of the rows."""
        return range(self.batch)

    @property
    def turns(self) -> list[tuple[int, ...]]:
        """The first row of each sequence, then the second one of each that has two, and so on."""
        places = [self.owners[:s].count(owner) for s, owner in enumerate(self.owners)]
        return [tuple(s for s in self.sequences if places[s] == turn) for turn in range(max(places) + 1)]

    def address(self, byte: int) -> Address:
        """Where a weight or a table lies, in this round of the loop over layers."""
        return Address(byte, () if self.weights_register is None else (self.weights_register,))

    @property
    def has_tokens(self) -> bool:
        """Whether registers hold the tokens of the rows."""
        return self.batch <= TOKEN_ROWS

    def position(self, row: int) -> int:
        """The register that holds the position of a row."""
        return (_POSITION if self.has_tokens else FIRST_ARGUMENT) + row

    def row_before(self, row: int) -> int | None:
        """The row of the same sequence before one, if there is one."""
        return next((s for s in reversed(range(row)) if self.owners[s] == self.owners[row]), None)

    def cache_address(self, byte: int) -> Address:
        """Where something in the KV cache lies, in this round of the loop over layers."""
        return Address(byte, () if self.caches_register is None else (self.caches_register,))

    def matrix(self, role: str, rows: int, columns: int) -> MatrixPlace:
        """A matrix, with the rows and columns that it must have.

        Raises
        ------
        ModelError
            If it has others, or has not been placed.
        """
        place = self.placement.matrices.get(role)
        if place is None:
            raise ModelError(f"the model needs a matrix {role}, which has not been placed")
        if (place.rows, place.blocks * 32) != (rows, columns):
            raise ModelError(f"{role} must have {rows} rows of {columns} elements, not {place.rows} of {place.blocks * 32}")
        return place

    def cache(self, sequence: int, layer: int) -> CachePlace:
        """The KV cache of a layer; `ModelError` if it has something else."""
        place = self.placement.caches[self.owners[sequence]][layer]
        if not isinstance(place, CachePlace):
            raise ModelError(f"layer {layer} needs a KV cache, which has not been placed")
        return place

    def state(self, sequence: int, mixer: int) -> StatePlace:
        """What a mixer without a KV cache keeps; `ModelError` if it has something else."""
        place = self.placement.caches[self.owners[sequence]][mixer]
        if not isinstance(place, StatePlace):
            raise ModelError(f"mixer {mixer} needs a state, which has not been placed")
        return place

    def table(self, role: str) -> TablePlace:
        """A table; `ModelError` if it has not been placed."""
        place = self.placement.tables.get(role)
        if place is None:
            raise ModelError(f"the model needs a table {role}, which has not been placed")
        return place

    def bias(self, role: str, expert: int | None = None) -> Address | None:
        """Where a matrix's bias lies, if it has one.

        `expert`: register with the number of the expert whose bias it is; then by way of the address register, so valid until
        that is used for something else.
        """
        place = self.placement.tables.get(f"{role}_bias")
        if place is None:
            return None
        source = self.address(place.address)
        if expert is None:
            return source
        self.commands.set(self.address_register, x=expert, factor=place.stride // ADDRESS_UNIT)
        return Address(source.byte, (*source.registers, self.address_register))

    def row(self, table: TablePlace, register: int) -> Address:
        """Row of a table whose number a register holds; by way of the address register, so valid for the next command only."""
        if not table.stride:
            return Address(table.address)
        self.commands.set(self.address_register, x=register, factor=table.stride // ADDRESS_UNIT)
        return Address(table.address, (self.address_register,))

    def row_of_token(self, table: TablePlace, row: int) -> Address:
        """What a table of embeddings has for the token of a row of the pass, as `row`.

        Of more rows than registers hold tokens for, the table has the one of row 0 first, then that of row 1, and so on.
        """
        return self.row(table, TOKEN + row) if self.has_tokens else Address(table.address + row * table.stride)

    def product(
        self, place: MatrixPlace, part: MatrixPart, offset: int, slot_stride: int, *, vector_set: int = 0, first_block: int = 0,
        slots: int | None = None, expert: int | None = None,
    ) -> None:  # fmt: skip
        """Multiply a part of a matrix with the vectors of all sequences, or of `slots`, and the results with its scale.

        `expert`: register with the number of the expert whose matrix it is.
        """
        source = self.address(part.address)
        if expert is not None:
            self.commands.set(self.address_register, x=expert, factor=place.expert_stride // ADDRESS_UNIT)
            source = Address(source.byte, (*source.registers, self.address_register))
        self.commands.gemv(
            source,
            number=place.format,
            exponent=place.exponent,
            rows=part.rows,
            blocks=place.blocks,
            slots=self.batch if slots is None else slots,
            vector_set=vector_set,
            first_block=first_block,
            offset=offset,
            slot_stride=slot_stride,
        )
        if place.scale is not None:
            entry = self.scales + place.scale
            scale = Loaded(entry, register=expert, reach=1 if expert is None else self.scale_count - place.scale)
            count = self.batch if slots is None else slots
            self.commands.elementwise(
                offset, part.rows, count, a_stride=slot_stride, p=scale, to=offset, d_stride=slot_stride
            )  # fmt: skip

    def load_scales(self, layer: int) -> None:
        """Fetch what the results of a layer's matrices are multiplied with, for `product`; it stays for the phase."""
        table = self.placement.tables.get(layer_role(layer, "scales"))
        if table is not None:
            self.scales, self.scale_count = self.buffer.allocate("the scales of matrices", table.columns), table.columns
            self.commands.elementwise(self.address(table.address), table.columns, to=self.scales)

    def products(self, place: MatrixPlace, offset: int, *, vector_set: int = 0, first_block: int = 0) -> None:
        """Multiply a whole matrix; the results of a sequence lie together."""
        for part in place.parts:
            start = offset + part.first_row
            self.product(place, part, start, place.rows, vector_set=vector_set, first_block=first_block)
