"""Self-attention: keys stream while the vector unit works on the scores of the heads before."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from tailrace.spec.errors import LimitError
from tailrace.spec.formats import BLOCK
from tailrace.spec.isa import BUFFER_UNIT, Cache, Multiplier

from .branch import Branch, Residual, enter
from .buffer_map import slot_map
from .command_list import Loaded, Slot
from .description import Attention, layer_role
from .groups import Bundle, Group, bundled, single
from .passes import Passes, Piece, window_is_open
from .projections import Projections, QuerySlots
from .workspace import Workspace

#: Sets of the probabilities, which alternate.
PROBABILITY_SETS = (2, 3)


def attend(workspace: Workspace, layer: int, attention: Attention, branch: Branch) -> None:
    """Norm, attention, residual of a layer."""
    w, o_role = workspace, layer_role(layer, "o")
    with w.buffer.phase():
        residual = Residual(w, branch, o_role, attention.heads * attention.head_size)
        heads = _Heads(w, layer, attention, residual)
        enter(w, branch)
        heads.emit()
        residual.emit(heads.output_set)


class _Heads:
    """The commands between norm and output matrix of one layer.

    Probabilities of a piece and of the next one lie in different places, too, if there is room.

    In a closed window a token takes the place of one that the rows before it still see: in a sliding one always, in a chunk
    where the next one begins. So rows of one sequence take turns there: each one's keys and values are appended when the row
    before it is done with the cache. Elsewhere all are appended first, and rows read them together (`bundled`).
    """

    def __init__(self, workspace: Workspace, layer: int, attention: Attention, residual: Residual) -> None:
        w = self._workspace = workspace
        self._layer, self._attention, self._residual = layer, attention, residual
        self._start = w.buffer.mark()
        columns = attention.heads * attention.head_size
        # Heads that do not fill their blocks are gathered in the buffer.
        self._gathered = (
            w.buffer.allocate("the outputs of all heads", w.batch * columns) if attention.head_size % BLOCK else None
        )
        self._turns = [tuple(w.sequences)] if window_is_open(w, layer, attention) else w.turns
        in_order = [s for rows in self._turns for s in rows]
        apart = single(in_order, attention, w.build.right_hand_sides)
        together = apart if len(self._turns) > 1 else bundled(w, attention)
        # Rows that read keys and values together have more scores at a time.
        ways = dict.fromkeys((tuple(together), tuple(apart)))
        *plans, last = [(bundles, short) for bundles in ways for short in (False, True)]
        for plan in plans:
            try:
                with w.buffer.attempt():
                    self._plan(*plan)
                return
            except LimitError:
                continue
        self._plan(*last)

    def _plan(self, bundles: Sequence[Bundle], short: bool) -> None:
        """Find a place for everything; `short`: queries of some KV heads take the place of others."""
        w, attention = self._workspace, self._attention
        columns = attention.heads * attention.head_size
        sides, self._turns_together = max(bundle.sides for bundle in bundles), [self._together(bundle) for bundle in bundles]
        self._passes = Passes(w, self._layer, attention, sides, max(self._turns_together))
        self._queries, self._probabilities = self._slot_plan(columns, bundles)
        rows = [w.rows[self._passes.window, s] for s in w.sequences]
        self._projections = Projections(
            w, self._layer, attention, self._queries, self._passes.caches, rows, self._turns, short=short
        )  # fmt: skip
        self.output_set = self._projections.output_set
        groups, self._query_places = self._all_groups(bundles)
        self._pieces = self._passes.pieces(groups)
        with w.buffer.over(self._projections.end if len(self._turns) == 1 else w.buffer.mark()):
            self._passes.allocate_scores(len(self._pieces) > 1)
        with w.buffer.over(self._start):
            # What went before is no longer needed.
            self._residual.allocate()

    def _together(self, bundle: Bundle) -> int:
        """How many groups of a bundle wait for each other, so that one command inverts their sums.

        Those of a KV head, if each takes a head of several rows: a command for as few sums is over before it is under way.
        """
        room = self._workspace.build.buffer_entries // 32
        outputs = bundle.passes * bundle.sides * self._attention.value_size
        several = len(bundle.rows) > 1 and bundle.width == 1 and bundle.sides % BUFFER_UNIT == 0
        return bundle.passes if several and outputs <= room else 1

    def _slot_plan(self, columns: int, bundles: Sequence[Bundle]) -> tuple[QuerySlots, list[int]]:
        """Where queries and probabilities lie in the slots."""
        w, blocks = self._workspace, slot_map(self._workspace.build.vector_blocks)
        if columns % BLOCK:
            raise LimitError(f"heads times head_size must be a multiple of {BLOCK}, not {columns}")
        blocks.allocate("the input of attention and its output", max(w.hidden, columns) // BLOCK)
        queries = QuerySlots(self._attention, bundles, 0)
        queries = QuerySlots(self._attention, bundles, blocks.allocate("queries", queries.blocks))
        size = self._passes.blocks
        copies = 2 if 2 * size <= blocks.free else 1
        return queries, [blocks.allocate("the probabilities of attention", size) for _ in range(copies)]

    def _all_groups(self, bundles: Sequence[Bundle]) -> tuple[list[Group], dict[Group, int]]:
        """All groups, and the first block of each one's queries."""
        attention = self._attention
        places: dict[Group, int] = {}
        family = 0
        for n, (bundle, turns) in enumerate(zip(bundles, self._turns_together, strict=True)):
            for kv_head in range(attention.kv_heads):
                for turn in range(bundle.passes):
                    heads = bundle.heads(turn, attention.group)
                    first, number = kv_head * attention.group + heads.start, len(places)
                    group = Group(
                        bundle.rows, kv_head, first, len(heads), n % 2, number, family + turn // turns, turn % turns, turns
                    )  # fmt: skip
                    places[group] = self._queries.place(bundle, turn, kv_head)
                family += bundle.passes // turns
        return [*places], places

    def emit(self) -> None:
        """Emit from the products q, k and v on, until the outputs of the heads are in the slots."""
        w = self._workspace
        self._passes.load_sinks()
        # Several rows' scores keep the vector unit from writing to the buffer, so it writes before them.
        begun = self._projections.emit(ahead=self._begin if w.batch > 1 else None)
        first = 0
        for rows in self._turns:
            if first:
                self._projections.append(rows)
            if first or not begun:
                self._begin(first)
            count = sum(piece.group.row in rows for piece in self._pieces)
            self._attend(range(first, first + count))
            first += count
        if self._gathered is not None:
            columns = self._attention.heads * self._attention.head_size
            target = Slot(0, self.output_set, 0, next_slot=True)
            w.commands.elementwise(self._gathered, columns, w.batch, a_stride=columns, to=target)

    def _begin(self, first: int = 0) -> None:
        """What comes before the first scores of the turn that begins with piece `first`."""
        if not self._attention.shared_cache:
            self._workspace.commands.fence(Cache.KEYS, Cache.VALUES)
        self._passes.measure(self._pieces[first].group)
        self._passes.load_scales(self._pieces[first])

    def _attend(self, turn: range) -> None:
        """Scores, their softmax, and outputs of the pieces of a turn, ready to be used."""
        pieces, passes, first = self._pieces, self._passes, turn.start
        self._keys(first, first)
        if first == 0:
            self._projections.finish_later_queries()
        ahead = passes.ahead and len(turn) > 1
        if ahead:
            self._keys(first + 1, first)
        # Whether a piece's values come behind the softmax of the next one, which needs places for the probabilities of both.
        behind = len(self._probabilities) > 1
        waiting = list[Group]()
        for i in turn:
            passes.soften(pieces[i], *self._place(i))
            steps = [partial(passes.values, pieces[i - 1], *self._place(i - 1))] if behind and i > first else []
            if i > first:
                steps.append(partial(self._finish, pieces[i - 1], waiting, pieces[i]))
            if i + 1 in turn and not (ahead and i == first):
                steps.insert(self._turn_of_keys(i, first, len(steps)), partial(self._keys, i + 1, first))
            for step in steps:
                step()
            if i + 1 in turn:
                passes.load_scales(pieces[i + 1])
            if not behind:
                passes.values(pieces[i], *self._place(i))
        if behind:
            passes.values(pieces[turn[-1]], *self._place(turn[-1]))
        self._finish(pieces[turn[-1]], waiting, pieces[turn[-1]])

    def _place(self, i: int) -> tuple[int, int]:
        """Set and first block of the probabilities of a piece."""
        turn = i % len(self._probabilities)
        return PROBABILITY_SETS[turn], self._probabilities[turn]

    def _keys(self, i: int, first: int) -> None:
        """Scores of a piece of the turn that begins with piece `first`."""
        piece = self._pieces[i]
        if i > first and piece.group.rows != self._pieces[i - 1].group.rows:
            self._passes.measure(piece.group)
        self._passes.keys(piece, self._projections.vector_set(piece.group), self._query_places[piece.group])

    def _turn_of_keys(self, i: int, first: int, others: int) -> int:
        """Which of the steps behind the softmax of piece `i` computes the next scores: of so many others, outputs come first.

        What is emitted behind a product waits until that has been asked for. So of several rows those scores come last, unless
        outputs wait for the inverses of their sums, and the next softmax comes first.
        """
        if self._workspace.batch == 1:
            return min(others, 1) if len(self._probabilities) > 1 else 0
        waits = i > first and self._pieces[i - 1].last and not self._hands_on(self._pieces[i - 1].group, self._pieces[i])
        return 0 if waits and self._passes.ahead else others

    def _finish(self, piece: Piece, waiting: list[Group], softened: Piece) -> None:
        """Add the outputs of a piece to its group's, which waits behind the last one until its sums have been inverted.

        Then they are divided, for the slot that o reads, or for the place where they are gathered.

        Parameters
        ----------
        piece : Piece
        waiting : list of Group
            Those that wait.
        softened : Piece
            The last one whose probabilities are there.
        """
        self._passes.add_values(piece)
        if piece.last:
            waiting.append(piece.group)
        while waiting and self._hands_on(waiting[0], softened):
            self._divide(waiting.pop(0))

    @staticmethod
    def _hands_on(group: Group, softened: Piece) -> bool:
        """Whether the sums of a group have been inverted, behind the softmax of a piece."""
        last = softened.group
        return group.family != last.family or softened.last and last.turn == last.turns - 1

    def _divide(self, group: Group) -> None:
        """Hand on the outputs of a group."""
        size = self._attention.head_size
        outputs, first, divided = self._passes.outputs(group), group.first_head, self._passes.divided(group)
        if len(group.rows) == 1:
            self._hand_on(group.rows, first, outputs, group.heads, divided)
            return
        count = len(group.rows)
        for n in range(group.heads):
            inverse = replace(divided, entry=divided.entry + n * count)
            self._hand_on(group.rows, first + n, outputs + n * count * size, 1, inverse)

    def _hand_on(self, rows: tuple[int, ...], first: int, outputs: int, heads: int, divided: Loaded) -> None:
        """The outputs of some heads of a row, or of one head of several rows, divided and gated, from head `first` on."""
        w, size, columns = self._workspace, self._attention.head_size, self._attention.heads * self._attention.head_size
        entry = rows[0] * columns + first * size
        stride = size if len(rows) == 1 else columns
        change: dict[str, Any] = {"p": divided}
        if self._attention.gated:
            change |= {"b": self._projections.gate + entry, "b_stride": stride, "multiplier": Multiplier.B}
        if self._gathered is not None:
            change |= {"to": self._gathered + entry, "d_stride": stride}
        else:
            change["to"] = Slot(rows[0], self.output_set, first * size // BLOCK, next_slot=len(rows) > 1, join=first > 0)
        w.commands.elementwise(outputs, size, heads * len(rows), a_stride=size, **change)
