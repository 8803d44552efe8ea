"""Linear attention as a cache: a state in codes, and a list of what has been added to it since.

A gated delta rule keeps for each head a state S of ``key_size`` rows and ``value_size`` columns. With decay g, key k, query q,
value v and rate beta a token does ``S = g S; d = beta (v - S^T k); S = S + k d^T; o = S^T q``. Here S itself is written only at
positions that are multiples of `FOLD`. Let S0 be the state there, and L the sum of log g since then:

    S^T x = e^L_t S0^T x + sum over s < t of e^(L_t - L_s) (k_s . x) d_s

* *S0* lies as the values of a cache (`tailrace.spec.kv_cache`): ``key_size`` rows of S are its tokens, each with one scale, in
  format `I8`. Two planes of 8 bits lie side by side: tokens 0 to ``key_size - 1`` are the upper ones, the others the lower
  ones, whose scales are 2^-8 of the upper ones'.
* *S* at the same position lies beside it as float32, row after row. Only the fold reads and writes it.
* *The list* has an entry for each token since then. Keys: a matrix of format `Q8_0` with a row for each entry, in which the
  upper plane is followed by the lower one; both have the scales of the upper one. Deltas: the values of a cache, two planes one
  after the other; the scales of the upper plane are those of both, the array of the lower plane's scales holds L.
  Entry 0 is never written: its scale and its L are 0, so that the list is never empty. The token of position p is entry
  ``p % FOLD + 1``.
* *Sums*: L of all heads once more, a row for each entry; row 0 is zero.

A plane: with scale s as in `tailrace.spec.kv_cache`, ``x / s = upper + lower / 256``; upper is the nearest integer, ties to
even, lower the nearest integer to what is left.

A state that was computed elsewhere may stand at any position p. It is S0 then, and the entries of the tokens from the last
multiple of `FOLD` to p are as empty as entry 0: with scales and L of 0 they add nothing to a product or a fold. So S0 stands at
a position, and only a fold moves that.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .floats import add, multiply, reciprocal
from .formats import BLOCK, LANE_BYTES
from .kv_cache import CODE_STEP, codes_of, key_bytes, value_bytes, value_row_bytes
from .recent_rows import RecentRows, padded

#: Positions at whose multiples the list is folded into the state.
FOLD = 64
FOLD_SHIFT = 6
#: Entries of a full list: one for each token, and the empty one.
ENTRIES = FOLD + 1
#: Entries for which there is room.
CAPACITY = 128
#: Entries of an array of scales, or of L: a full list in whole units of 64 bytes.
SCALES = -(-ENTRIES // 16) * 16
#: What a lower plane's codes count for, beside those of the upper one.
LOWER = 1 / 256
LOWER_EXPONENT = -8

Floats = NDArray[np.float32]


def quantise_state(state: Floats) -> tuple[Floats, NDArray[np.int8]]:
    """S0 from S, as the fold makes it, to the bit.

    Parameters
    ----------
    state : ndarray of float32, shape (..., key_size, value_size)

    Returns
    -------
    scales : ndarray of float32, shape (..., 2 * key_size)
        Those of the upper plane's rows, then those of the lower one's.
    codes : ndarray of int8, shape (..., 2 * key_size, value_size)
    """
    largest = np.abs(state).max(axis=-1)
    scaled = multiply(state, reciprocal(multiply(largest, CODE_STEP))[..., None])
    upper = np.rint(scaled)
    lower = multiply(add(scaled, -upper), np.array(1 / LOWER, np.float32))
    scales = [multiply(multiply(largest, np.array(plane, np.float32)), CODE_STEP) for plane in (1.0, LOWER)]
    return np.concatenate(scales, axis=-1), np.concatenate([codes_of(upper), codes_of(lower)], axis=-2)


@dataclass(frozen=True)
class StateLayout:
    """Where a layer's state, list and recent rows of one sequence lie: byte offsets.

    Attributes
    ----------
    key_heads, value_heads : int
        `value_heads` is a multiple of `key_heads`.
    key_size, value_size : int
        Multiples of 32.
    rows : RecentRows
        Those of the convolution before it, whose channels are all queries, keys and values.
    lanes : int
    """

    key_heads: int
    value_heads: int
    key_size: int
    value_size: int
    rows: RecentRows
    lanes: int

    @property
    def sum_pitch(self) -> int:
        """Bytes from one row of sums to the next."""
        return padded(4 * self.value_heads)

    @property
    def scale_stride(self) -> int:
        """Bytes from the list's scales, or its L, of one head to those of the next."""
        return 4 * SCALES

    @property
    def state_scale_stride(self) -> int:
        """Bytes from the scales of one head's S0 to those of the next."""
        return 4 * 2 * self.key_size

    @property
    def key_stride(self) -> int:
        """Bytes from the list's keys of one head to those of the next."""
        return key_bytes(2 * self.key_size, CAPACITY, self.lanes)

    @property
    def key_blocks(self) -> int:
        """Blocks of a row of keys, both planes."""
        return 2 * self.key_size // BLOCK

    @property
    def delta_stride(self) -> int:
        """Bytes from a plane of one head's deltas to that of the next."""
        return padded(value_bytes(self.value_size, CAPACITY, self.lanes))

    @property
    def delta_row_stride(self) -> int:
        """Bytes from one group of rows of deltas to the next."""
        return value_row_bytes(CAPACITY, self.lanes)

    @property
    def state_stride(self) -> int:
        """Bytes from one head's S0 to the next."""
        return padded(value_bytes(self.value_size, 2 * self.key_size, self.lanes))

    @property
    def state_row_stride(self) -> int:
        """Bytes from one group of rows of S0 to the next."""
        return value_row_bytes(2 * self.key_size, self.lanes)

    @property
    def master_stride(self) -> int:
        """Bytes from one head's S in float32 to the next."""
        return 4 * self.key_size * self.value_size

    @cached_property
    def offsets(self) -> dict[str, int]:
        """Where each part begins, and under ``end`` where the last one ends."""
        sizes = {
            "rows": self.rows.size,
            "sums": ENTRIES * self.sum_pitch,
            "scales": self.value_heads * self.scale_stride,
            "logs": self.value_heads * self.scale_stride,
            "state_scales": self.value_heads * self.state_scale_stride,
            "keys": self.key_heads * self.key_stride,
            "deltas": self.value_heads * self.delta_stride,
            "lower_deltas": self.value_heads * self.delta_stride,
            "state": self.value_heads * self.state_stride,
            "master": self.value_heads * self.master_stride,
        }
        # Keys, deltas and states are matrices, which begin with a beat.
        beat = self.lanes * LANE_BYTES
        offsets, end = {}, 0
        for name, size in sizes.items():
            offsets[name] = end
            end += -(-size // beat) * beat
        return {**offsets, "end": end}

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return self.offsets["end"]

    @property
    def cleared(self) -> range:
        """Bytes that are zero before a sequence's first token: what makes S0 nothing, and the list empty."""
        return range(self.rows.cleared.start, self.offsets["keys"])
