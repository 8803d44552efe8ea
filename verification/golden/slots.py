"""The vector slots: block-floating-point vectors that stay from command to command."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.config import Config
from tailrace.spec.formats import BLOCK
from tailrace.spec.numerics import EXPONENT_MAX

from .dot import Vector
from .quantiser import Blocks, quantise, split

_SETS = 4


class Slots:
    """One slot for each right-hand side. Blocks hold absolute exponents; each slot has a base exponent for each of four sets.

    Parameters
    ----------
    config : Config
    """

    def __init__(self, config: Config) -> None:
        shape = config.right_hand_sides, config.vector_blocks
        self._mantissas = np.zeros((*shape, BLOCK), dtype=np.int16)
        self._exponents = np.zeros(shape, dtype=np.int32)
        self._bases = [[0] * _SETS for _ in range(config.right_hand_sides)]

    def _places(self, first: int, blocks: int) -> slice | NDArray[np.int64]:
        depth = self._exponents.shape[1]
        return slice(first, first + blocks) if first + blocks <= depth else np.arange(first, first + blocks) % depth

    def write(self, slot: int, number: int, first: int, blocks: Blocks, *, join: bool = False) -> None:
        """Write blocks, and the base of set `number`.

        Parameters
        ----------
        slot, number, first : int
            Slot, set, and the first block's place.
        blocks : Blocks
        join : bool
            Keep the set's base if it is larger.
        """
        places = self._places(first, len(blocks.exponents))
        self._mantissas[slot, places] = blocks.mantissas
        self._exponents[slot, places] = blocks.exponents
        bases = self._bases[slot]
        bases[number] = max(bases[number], blocks.base) if join else blocks.base

    def quantise(self, x: NDArray[np.float32], fields: Mapping[str, int]) -> None:
        """Do what `ELEMENTWISE` does for the slot target.

        Parameters
        ----------
        x : ndarray of float32, shape (segments, count)
        fields : mapping
            The command's fields.
        """
        pieces = split(x, bool(fields["duplicate"]))
        slot, number, first, join = fields["slot"], fields["set"], fields["first_block"], bool(fields["join"])
        if not fields["next_slot"]:
            self.write(slot, number, first, quantise(pieces.reshape(-1, BLOCK)), join=join)
            return
        for segment, piece in enumerate(pieces):
            self.write((slot + segment) % len(self._bases), number, first, quantise(piece), join=join)

    def differences(self, slot: int, number: int, first: int, blocks: int) -> NDArray[np.int32]:
        """How far the exponents of blocks lie above the base of set `number`."""
        return self._exponents[slot, self._places(first, blocks)] - self._bases[slot][number]

    def read(self, slots: int, number: int, first: int, blocks: int) -> list[Vector]:
        """Vectors of slots 0 to `slots` - 1 as a product with set `number` sees them.

        A block whose exponent lies below the base counts as zero. (One that lies more than 31 above it belongs to another
        vector; of its difference the lowest five bits count.)
        """
        vectors = []
        for slot in range(slots):
            differences = self.differences(slot, number, first, blocks)
            mantissas = self._mantissas[slot, self._places(first, blocks)]
            if differences.min() < 0:
                mantissas = np.where(differences[:, None] < 0, np.int16(0), mantissas)
            vectors.append(Vector(self._bases[slot][number], differences & EXPONENT_MAX, mantissas))
        return vectors
