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
    """

    size: int
    base: float
    divisors: tuple[float, ...] = ()
    magnitude: float = 1.0
    yarn: Yarn | None = None

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
        angles = np.arange(first, first + count)[:, None] * self.frequencies()[None, :]
        return (np.concatenate([np.cos(angles), np.sin(angles)], axis=1) * self.magnitude).astype(np.float32)
