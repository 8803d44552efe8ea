"""Which queries read keys and values together: heads of a group, and of rows of one sequence that have consecutive tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

from .description import Attention
from .workspace import Workspace


@dataclass(frozen=True)
class Bundle:
    """Rows of a sequence that read its keys and values together, each of them a few heads at a time.

    Attributes
    ----------
    rows : tuple of int
        Rows of the pass, side by side, with consecutive tokens.
    width : int
        Heads of a row in a pass over keys and values at most.
    passes : int
        Passes that the heads of a KV head take.
    """

    rows: tuple[int, ...]
    width: int
    passes: int

    @property
    def sides(self) -> int:
        """Queries of a pass at most."""
        return len(self.rows) * self.width

    def heads(self, turn: int, group: int) -> range:
        """Heads of a group of so many that a pass takes."""
        return range(turn * self.width, min((turn + 1) * self.width, group))


@dataclass(frozen=True)
class Group:
    """Heads of a bundle that share one pass over the keys and values of a KV head.

    The query of the ``h``-th head and the ``r``-th row lies in slot ``h * len(rows) + r``; what comes of it has the same order.

    Attributes
    ----------
    rows : tuple of int
    kv_head, first_head, heads : int
        `heads` are those of one row.
    lengths : int
        Which pair of registers holds the lengths of the sequence's cache.
    number : int
        Of the group among those of a layer.
    family, turn, turns : int
        Of how many groups, and in which place among them, the sums are inverted in one command, and the number of these groups.
    """

    rows: tuple[int, ...]
    kv_head: int
    first_head: int
    heads: int
    lengths: int
    number: int
    family: int
    turn: int = 0
    turns: int = 1

    @property
    def sides(self) -> int:
        """Queries."""
        return len(self.rows) * self.heads

    @property
    def row(self) -> int:
        """The last row, whose token sees the most: the number of the only one of most groups."""
        return self.rows[-1]


def single(rows: Sequence[int], attention: Attention, right_hand_sides: int) -> list[Bundle]:
    """Each row for itself, with no more heads than an even share of the passes: scores take no more room than they must."""
    passes = -(-attention.group // right_hand_sides)
    return [Bundle((row,), -(-attention.group // passes), passes) for row in rows]


def bundled(workspace: Workspace, attention: Attention) -> list[Bundle]:
    """All rows, those of a sequence in one bundle if keys and values are read fewer times then.

    The results for tokens behind a row's own are masked: minus infinity, of which the exponential is 0. That needs scores as
    they come from the product with the keys (no cap), what is the same for all rows (no scale that grows with the position, no
    chunks of the cache of which one row sees more than another), and heads whose entries lie in the order of a group's queries
    (no sinks).
    """
    w, sides = workspace, workspace.build.right_hand_sides
    kept_apart = attention.score_cap or attention.sinks or attention.growing
    bundles = []
    for owner in dict.fromkeys(w.owners):
        rows = tuple(s for s in w.sequences if w.owners[s] == owner)
        apart = single(rows, attention, sides)
        consecutive = rows == tuple(range(rows[0], rows[-1] + 1)) and len({w.reach[s] for s in rows}) == 1
        if len(rows) > 1 and consecutive and not kept_apart:
            passes = -(-attention.group // (sides // len(rows)))
            if passes < sum(bundle.passes for bundle in apart):
                apart = [Bundle(rows, -(-attention.group // passes), passes)]
        bundles += apart
    return bundles
