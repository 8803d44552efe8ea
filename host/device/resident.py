"""Which programs are in a device's memory: those that are always there, and those that were made for passes since."""

import struct

from tailrace.spec.isa import COMMAND_BYTES

from ..image.programs import Programs
from .driver import Device

#: Byte of a `SET` command at which its addend is.
_ADDEND = 8


class ResidentPrograms:
    """The programs in a device's memory.

    Those that are made for a pass lie one behind the other in the room that the image has for them. When it is full, it is
    filled anew from its beginning: what is still in use is written again when its turn comes.

    Parameters
    ----------
    device : Device
    programs : Programs
    """

    def __init__(self, device: Device, programs: Programs) -> None:
        self._device, self._programs = device, programs
        self._places: dict[str, int] = {}
        self._steps: dict[str, int] = {}
        self._top = programs.room.start

    def write_all(self) -> None:
        """Write those that are always there."""
        for name, loaded in self._programs.loaded.items():
            if loaded.address not in self._programs.room:
                self._write(name, loaded.address)

    def address_of(self, name: str, steps: int = 1) -> int:
        """Where a program lies, which takes so many steps; it is written if it is not there."""
        loaded, room = self._programs.loaded[name], self._programs.room
        if name not in self._places:
            if self._top + loaded.size > room.stop:
                self._places = {other: place for other, place in self._places.items() if place not in room}
                self._top = room.start
            self._write(name, self._top)
            self._top += loaded.size
        place, command = self._places[name], loaded.program.steps_command
        if command is not None and self._steps.get(name) != steps:
            # Whoever is interrupted here finds nothing noted.
            self._steps.pop(name, None)
            self._device.write(place + command * COMMAND_BYTES + _ADDEND, struct.pack("<I", steps))
            self._steps[name] = steps
        return place

    def _write(self, name: str, place: int) -> None:
        self._device.write(place, b"".join(self._programs.loaded[name].program.commands))
        self._places[name], self._steps[name] = place, 1
