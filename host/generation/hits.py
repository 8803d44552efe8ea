"""How often drafts were right, by what was known of them."""

from collections.abc import Sequence

#: How many drafts the prior is worth; and after how many what was seen first begins to count less.
_WEIGHT, _MEMORY = 4.0, 64.0


class Hits:
    """How often drafts of each kind were right lately.

    Parameters
    ----------
    prior : sequence of float
        For each kind how likely a draft is right, before anything is known.
    """

    def __init__(self, prior: Sequence[float]) -> None:
        self._tried = [_WEIGHT] * len(prior)
        self._right = [_WEIGHT * chance for chance in prior]

    def note(self, kind: int, right: float) -> None:
        """Note what became of a draft: 1 if it was right, 0 if not; what is not known is as likely as that."""
        if self._tried[kind] > _MEMORY:
            self._tried[kind] /= 2
            self._right[kind] /= 2
        self._tried[kind] += 1
        self._right[kind] += right

    def chance(self, kind: int) -> float:
        """How likely the next draft of a kind is right."""
        return self._right[kind] / self._tried[kind]

    def chances(self) -> list[float]:
        """The same of all kinds: what another text can begin with."""
        return [self.chance(kind) for kind in range(len(self._tried))]
