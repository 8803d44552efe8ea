"""What sequences keep beside their KV caches, between tokens: cleared before the first one, folded at every 64th position."""

from collections.abc import Iterator

from tailrace.firmware.placement import StatePlace
from tailrace.spec.linear_attention import FOLD, StateLayout

from ..image.image import Image
from ..image.programs import Programs
from .counters import Counters
from .driver import Device


class States:
    """The states, lists and recent rows of a decoder's sequences.

    Parameters
    ----------
    device : Device
    image : Image
    programs : Programs
    """

    def __init__(self, device: Device, image: Image, programs: Programs) -> None:
        self._device, self._programs = device, programs
        self._places = [[p for p in places if isinstance(p, StatePlace)] for places in image.placement.caches]
        self._folds = "fold" in programs.loaded
        #: Positions that the sequences' S0 stand at; None: what they had before has not been cleared.
        self._begun: list[int | None] = [None] * len(self._places)

    def forget(self, sequence: int) -> None:
        """Clear a sequence before its next token, which is its first one."""
        self._begun[sequence] = None

    def begun(self, sequence: int) -> int:
        """Position that a sequence's S0 stands at."""
        return self._begun[sequence] or 0

    def resume(self, sequence: int, begun: int) -> None:
        """Go on from a state that has been written, whose S0 stands at this position."""
        self._begun[sequence] = begun

    def stretch(self, position: int) -> int:
        """Tokens that can follow each other without a fold, from a position on."""
        return FOLD - position % FOLD if self._folds else 1 << 30

    def earliest(self, length: int) -> int:
        """Fewest tokens but 0 that a sequence of this length can be cut to, as far as its recent rows go."""
        layouts = [p.layout for p in self._places[0]]
        rows = [layout.rows if isinstance(layout, StateLayout) else layout for layout in layouts]
        return max((r.earliest(length) for r in rows), default=0)

    def is_due(self, sequence: int, position: int) -> bool:
        """Whether `prepare` has something to do before the token of this position."""
        begun = self._begun[sequence]
        if not self._places[sequence]:
            return False
        return begun is None or (self._folds and position % FOLD == 0 and begun != position)

    def prepare(self, sequence: int, position: int) -> Iterator[tuple[str, Counters]]:
        """Clear or fold, as the position wants it; yields the name of a program that was run, and its counters."""
        if self._begun[sequence] is None:
            for place in self._places[sequence]:
                self._device.write(place.cleared.start, bytes(len(place.cleared)))
        else:
            name = "fold" if self._begun[sequence] else "first fold"
            loaded = self._programs.loaded[name]
            yield name, self._device.start(loaded.address, len(loaded.program.commands), arguments=[sequence], weight_bytes=0)
        self._begun[sequence] = position
