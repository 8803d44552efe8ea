"""The sequences of a decoder, and whose tokens they hold: who needs one gets the one that has most of it already."""

import weakref
from collections.abc import Sequence

from ..device.decoder import Decoder, Snapshot

#: A sequence is taken for what it holds if that is at least one part in so many of what is wanted; else the one that has not
#: been used for longest is, so that others keep what they hold.
_SIMILAR = 10


class Holder:
    """Somebody with tokens: they are in a sequence of the device, or here, or have to be computed.

    Attributes
    ----------
    tokens : list of int
        Those of the snapshot.
    snapshot : Snapshot or None
    is_foreign : bool
        Whether what is held was not computed by the device alone. Nobody else goes on from it, and the holder goes on from
        nothing else, so that an answer's bits do not depend on who asked before.
    """

    def __init__(self, tokens: Sequence[int] = (), snapshot: Snapshot | None = None, is_foreign: bool = False) -> None:
        self.tokens, self.snapshot, self.is_foreign = list(tokens), snapshot, is_foreign


class Sequences:
    """The sequences of a decoder.

    Whoever is interrupted at any point leaves them usable: a sequence is believed to hold no more tokens than are noted here,
    and no more than the decoder has taken.

    Parameters
    ----------
    decoder : Decoder
        Its sequences belong to this object.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._tokens: list[list[int]] = [[] for _ in range(decoder.batch)]
        self._owners: list[weakref.ref[Holder] | None] = [None] * decoder.batch
        self._used = [0] * decoder.batch
        self._foreign = [False] * decoder.batch

    def place(self, holder: Holder, wanted: Sequence[int], busy: Sequence[int] = ()) -> int:
        """Give a holder a sequence that holds as many of the wanted tokens as possible, but the last one, and no others.

        Parameters
        ----------
        holder : Holder
        wanted : sequence of int
        busy : sequence of int
            Sequences that can't be taken. One is left.

        Returns
        -------
        int
            The sequence.
        """
        place = self.find(holder)
        if place is None:
            place = self._choose(holder, wanted, busy)
            if self._owners[place] is not None:
                self._park(place)
            self._owners[place] = None
            kept = self._kept(holder, wanted)
            if holder.is_foreign or self._foreign[place]:
                self.cut(place, 0)
            self._foreign[place] = holder.is_foreign
            if holder.snapshot is not None and kept > self._reusable(place, wanted):
                self._tokens[place] = []
                self._decoder.restore(holder.snapshot.first(kept), place)
                self._tokens[place] = holder.tokens[:kept]
            self._owners[place] = weakref.ref(holder)
        holder.tokens, holder.snapshot = [], None
        self._used[place] = max(self._used) + 1
        self.cut(place, self._reusable(place, wanted))
        return place

    def note(self, place: int, tokens: Sequence[int]) -> None:
        """Note tokens that a sequence is about to be given, or was given."""
        del self._tokens[place][self._decoder.positions[place] :]
        self._tokens[place] += tokens

    def note_run(self, place: int, first: int, tokens: Sequence[int]) -> None:
        """Note all tokens from a position on."""
        self._tokens[place][first:] = tokens

    def cut(self, place: int, length: int) -> None:
        """Take a sequence back to its first tokens."""
        if length != self._decoder.positions[place]:
            self._decoder.truncate(length, place)
        del self._tokens[place][length:]

    def release(self, holder: Holder) -> None:
        """Leave what a holder has to whoever needs it."""
        place = self.find(holder)
        if place is not None:
            self._owners[place] = None

    def settle(self, holder: Holder, tokens: Sequence[int]) -> None:
        """Cut what the device holds for a holder to the first of these tokens."""
        place = self.find(holder)
        if place is not None:
            self.cut(place, _usable(_common(self._held(place), tokens), self._decoder.earliest(place)))

    def copy(self, holder: Holder, tokens: Sequence[int]) -> Holder:
        """Another holder, of what this one holds of these tokens."""
        self.settle(holder, tokens)
        place = self.find(holder)
        if place is not None:
            return Holder(self._held(place), self._decoder.snapshot(place), holder.is_foreign)
        if holder.snapshot is None:
            return Holder(is_foreign=holder.is_foreign)
        length = _usable(_common(holder.tokens, tokens), holder.snapshot.earliest)
        return Holder(tokens[:length], holder.snapshot.first(length), holder.is_foreign)

    def find(self, holder: Holder) -> int | None:
        """The sequence that a holder has, if it has one."""
        return next((i for i, owner in enumerate(self._owners) if owner is not None and owner() is holder), None)

    def _choose(self, holder: Holder, wanted: Sequence[int], busy: Sequence[int]) -> int:
        kept = self._kept(holder, wanted)

        def worth(place: int) -> tuple[int, bool, bool, int]:
            reusable = 0 if holder.is_foreign or self._foreign[place] else self._reusable(place, wanted)
            similar = reusable if reusable * _SIMILAR >= len(wanted) and reusable >= kept else 0
            owner = self._owners[place]
            return similar, owner is None or owner() is None, not self._tokens[place], -self._used[place]

        return max((i for i in range(self._decoder.batch) if i not in busy), key=worth)

    def _held(self, place: int) -> list[int]:
        return self._tokens[place][: self._decoder.positions[place]]

    def _reusable(self, place: int, wanted: Sequence[int]) -> int:
        """Tokens at the beginning, but the last one, that a sequence holds, and can go on from."""
        return _usable(_common(self._held(place), wanted[:-1]), self._decoder.earliest(place))

    def _kept(self, holder: Holder, wanted: Sequence[int]) -> int:
        """The same of a holder's snapshot."""
        return 0 if holder.snapshot is None else _usable(_common(holder.tokens, wanted[:-1]), holder.snapshot.earliest)

    def _park(self, place: int) -> None:
        """Keep what a sequence holds for its owner."""
        owner = self._owners[place]
        holder = None if owner is None else owner()
        if holder is None:
            return
        held = self._held(place)
        self.cut(place, _usable(len(held), self._decoder.earliest(place)))
        holder.tokens, holder.snapshot = self._held(place), self._decoder.snapshot(place)


def _common(one: Sequence[int], two: Sequence[int]) -> int:
    """Tokens that both begin with."""
    most = min(len(one), len(two))
    if one[:most] == two[:most]:
        return most
    return next(i for i in range(most) if one[i] != two[i])


def _usable(length: int, earliest: int) -> int:
    """`length`, if a sequence can be cut to that, or go on from there; else 0."""
    return length if length >= earliest else 0
