"""Tables of angles for RoPE: whatever the variant, the device gets cosines and sines.

Sources: RoFormer (Su et al., 2021); YaRN (Peng et al., 2023); factors on frequencies as in Llama 3.1 and LongRoPE, which GGUF
files hold as tensors.
"""

from dataclasses import dataclass
from math import ceil, floor, log, pi

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Yarn:
    """YaRN: low frequencies are divided by `factor`, high ones stay, and those between are blended.

    Attributes
    ----------
    factor : float
    original_context : int
        Positions that the model was trained for before it was extended.
    beta_fast, beta_slow : float
        Turns within the original context from which on a frequency stays, and up to which it is divided.
    whole_pairs : bool
        Whether the blend begins and ends with a whole pair.
    """

    factor: float
    original_context: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    whole_pairs: bool = True


@dataclass(frozen=True)
class Growth:
    """How queries grow behind the context that a model was first trained for (Llama 4, Ministral 3).

    At position ``p`` they are multiplied with ``1 + rate * log(1 + floor(p / original_context))``.
    """

    rate: float
    original_context: int


@dataclass(frozen=True)
class Rope:
    """Which angles belong to a position.

    Attributes
    ----------
    size : int
        Elements that are rotated; there are half as many pairs.
    base : float
        Pair ``i`` turns by ``base ** (-2 * i / size)`` from one position to the next.
    divisors : tuple of float
        What each pair's frequency is divided by; empty: 1.
    magnitude : float
        What cosines and sines are multiplied with.
    yarn : Yarn or None
    growth : Growth or None
        What cosines and sines of a position are multiplied with as well.
    """

    size: int
    base: float
    divisors: tuple[float, ...] = ()
    magnitude: float = 1.0
    yarn: Yarn | None = None
    growth: Growth | None = None

    def frequencies(self) -> NDArray[np.float64]:
        """Angle of each pair from one position to the next, in radians, shape (size / 2,)."""
        pairs = np.arange(self.size // 2)
        plain = self.base ** (-2.0 * pairs / self.size)
        if self.divisors:
            plain = plain / np.array(self.divisors)
        return plain if self.yarn is None else self._blend(plain, self.yarn)

    def _blend(self, plain: NDArray[np.float64], yarn: Yarn) -> NDArray[np.float64]:
        def pair_with(turns: float) -> float:
            return self.size * log(yarn.original_context / (turns * 2 * pi)) / (2 * log(self.base))

        first, last = pair_with(yarn.beta_fast), pair_with(yarn.beta_slow)
        if yarn.whole_pairs:
            first, last = floor(first), ceil(last)
        low, high = max(first, 0), min(last, self.size - 1)
        divided = np.clip((np.arange(self.size // 2) - low) / max(high - low, 0.001), 0.0, 1.0)
        return plain / yarn.factor * divided + plain * (1.0 - divided)

    def table(self, first: int, count: int) -> NDArray[np.float32]:
        """Cosines of all pairs and then their sines, for `count` positions from `first` on.

        Returns
        -------
        ndarray of float32, shape (count, size)
            Rounded from float64.
        """
        positions = np.arange(first, first + count)
        angles = positions[:, None] * self.frequencies()[None, :]
        magnitudes = np.full(count, self.magnitude)
        if self.growth is not None:
            magnitudes *= 1.0 + self.growth.rate * np.log1p(positions // self.growth.original_context)
        return (np.concatenate([np.cos(angles), np.sin(angles)], axis=1) * magnitudes[:, None]).astype(np.float32)
