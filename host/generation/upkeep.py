"""What passes take more that fill the cache of a layer that drafts, and who bears it."""

from collections.abc import Collection, Mapping

from .budget import Budget
from .depth import Costs

#: Passes of either kind after which what they take is compared.
_MEASURED = 3


class Upkeep:
    """How many times as long passes take that fill the cache of a layer that drafts.

    Parameters
    ----------
    part : float
        What they take more at least, as a part of a pass: what they read more.
    """

    def __init__(self, part: float) -> None:
        self._part = part
        self._seconds = {True: _Measured(), False: _Measured()}

    def note(self, rows: int, seconds: float, fills: bool) -> float:
        """Note what a pass has taken; returns what one like that would have taken without."""
        self._seconds[fills].note(rows, seconds)
        return seconds / self.factor(rows) if fills else seconds

    def factor(self, rows: int) -> float:
        """Of passes with so many rows; before both kinds have been measured it is thought to be what they read more."""
        filling, plain = (self._seconds[fills].known(rows) for fills in (True, False))
        least = 1 + self._part
        return least if filling is None or plain is None else max(filling / plain, least)


class _Measured(Costs):
    """Times of passes, of which those with another number of rows say nothing."""

    def known(self, rows: int) -> float | None:
        return self.of(rows) if len(self._seconds.get(rows, ())) >= _MEASURED else None


class FillingCosts(Costs):
    """Times of passes that fill the cache, by those of passes that do not.

    Parameters
    ----------
    plain : Costs
    upkeep : Upkeep
    """

    def __init__(self, plain: Costs, upkeep: Upkeep) -> None:
        super().__init__()
        self._plain, self._upkeep = plain, upkeep

    def of(self, rows: int) -> float:  # noqa: D102
        return self._plain.of(rows) * self._upkeep.factor(rows)

    @property
    def are_known(self) -> bool:  # noqa: D102
        return self._plain.are_known


def bearers(budgets: Mapping[int, Budget], prompts: Collection[int], price: float) -> dict[int, float]:
    """Which answers have a pass take more for their drafts to come, and what each bears: whoever can't leaves it to the others.

    Parameters
    ----------
    budgets : mapping of int to Budget
        Of the answers that would have it so.
    prompts : collection of int
        Those of them that the pass gives no token.
    price : float
        What the pass takes more, in tokens.

    Returns
    -------
    dict of int to float
        In tokens. Empty: the pass is one that takes nothing more.
    """
    bearing = dict(budgets)
    while bearing:
        each = price / len(bearing)
        still = {place: budget for place, budget in bearing.items() if budget.bears(each, place in prompts)}
        if len(still) == len(bearing):
            return dict.fromkeys(bearing, each)
        bearing = still
    return {}
