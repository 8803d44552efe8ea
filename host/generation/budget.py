"""What an answer may lose by drafts that are wrong, so that it never takes much longer than without any."""

from collections.abc import Sequence

#: Part of an answer's time without drafts that may be lost, and tokens that count before there are any: so an answer takes
#: 1.5 % and half a token longer than without drafts at most, and one of 89 tokens or more has at least 0.98 of the speed.
_PART, _AHEAD = 0.015, 32


class Budget:
    """What drafts have cost an answer, beyond what they have brought.

    How likely a draft is right is a guess, and a text can be such that every guess is wrong. So drafts of which all may be
    wrong are verified as long as that would not cost more than what is left. What they bring is there to be spent, too. All is
    counted in tokens: in the time that one takes without drafts.
    """

    def __init__(self) -> None:
        self._left, self._bears = _PART * _AHEAD, True

    @property
    def left(self) -> float:
        """Tokens."""
        return self._left

    def bears(self, price: float, is_prompt: bool) -> bool:
        """Whether passes may go on to take so many tokens more, each, for drafts to come.

        Once nothing is left for that, not before as much is left as an answer begins with: what is kept up for a few passes is
        of no use.
        """
        price = self._beyond(price) if is_prompt else price
        if price > self._left:
            self._bears = False
        elif self._left >= _PART * _AHEAD:
            self._bears = True
        return self._bears

    def most(self, prices: Sequence[float]) -> int:
        """How many drafts may be verified, if 1, 2, 3, ... cost so many tokens."""
        return next((count for count in range(len(prices), 0, -1) if prices[count - 1] <= self._left), 0)

    def note(self, tokens: int, price: float) -> None:
        """Note what a pass gave, and what its drafts have cost.

        Parameters
        ----------
        tokens : int
            One, and the drafts that were right.
        price : float
            In tokens.
        """
        self._left += _PART * tokens + (tokens - 1) - price

    def note_prompt(self, price: float) -> None:
        """Note what a pass over the prompt took more."""
        self._left -= self._beyond(price)

    @staticmethod
    def _beyond(price: float) -> float:
        """What that costs the answer: a pass over the prompt bears as much itself as a token does, and leaves none of it."""
        return max(price - _PART, 0.0)
