"""Golden devices with one thing wrong."""

from collections.abc import Callable

import numpy as np

from tailrace.golden.device import GoldenDevice
from tailrace.spec.config import Config
from tailrace.spec.errors import DeviceTimeout
from tailrace.spec.registers import AP_DONE, AP_IDLE, AP_READY, AP_START, offset
from tailrace.spec.transport import RegisterByRegister


class Broken(RegisterByRegister):
    """A transport over golden; what is passed replaces how it behaves.

    Parameters
    ----------
    config : Config
    memory_size : int
    address : callable
        Maps the host's addresses, those of words of 4 bytes.
    written, read : callable
        Change data on the way (address, bytes).
    registers : dict from offset to callable
        Change what registers read.
    aliases : dict from offset to offset
        Registers that are another one.
    run : callable
        Called in place of a run with the golden device.
    interrupts : bool
        Whether `wait` returns.
    """

    name = "broken"
    simulated = False

    def __init__(
        self,
        config: Config,
        memory_size: int,
        *,
        address: Callable[[np.ndarray], np.ndarray] | None = None,
        written: Callable[[int, np.ndarray], np.ndarray] = lambda address, data: data,
        read: Callable[[int, np.ndarray], np.ndarray] = lambda address, data: data,
        registers: dict[int, Callable[[int], int]] | None = None,
        aliases: dict[int, int] | None = None,
        writable: tuple[int, ...] = (),
        run: Callable[[GoldenDevice], None] | None = None,
        interrupts: bool = True,
    ) -> None:
        self.golden, self.memory_size = GoldenDevice(config, memory_size), memory_size
        self._address, self._written, self._read = address, written, read
        self._registers, self._aliases, self._run = registers or {}, aliases or {}, run
        self._interrupts = interrupts
        self._kept = dict.fromkeys(writable)
        self.closed = 0

    def read(self, address: int, size: int) -> bytes:
        if self._address is not None:
            data = self._words()[self._places(address, size)].tobytes()
        else:
            data = self.golden.read(address, size)
        return self._read(address, np.frombuffer(data, np.uint8).copy()).tobytes()

    def write(self, address: int, data: bytes | memoryview) -> None:
        changed = self._written(address, np.frombuffer(data, np.uint8).copy()).tobytes()
        if self._address is None:
            self.golden.write(address, changed)
        else:
            words = self._words()
            words[self._places(address, len(changed))] = np.frombuffer(changed, np.uint32)
            self.golden.write(0, words.tobytes())

    def _words(self) -> np.ndarray:
        return np.frombuffer(self.golden.read(0, self.memory_size), np.uint32).copy()

    def _places(self, address: int, size: int) -> np.ndarray:
        assert self._address is not None
        return self._address(np.arange(address, address + size, 4)) // 4

    def read_register(self, place: int) -> int:
        place = self._aliases.get(place, place)
        if self._kept.get(place) is not None:
            return self._kept[place]
        value = self.golden.read_register(place)
        return self._registers[place](value) if place in self._registers else value

    def write_register(self, place: int, value: int) -> None:
        place = self._aliases.get(place, place)
        if place in self._kept:
            self._kept[place] = value
        elif self._run is not None and (place, value) == (offset("AP_CTRL"), AP_START):
            self._run(self.golden)
        else:
            self.golden.write_register(place, value)

    def wait(self, timeout: float) -> None:
        if not self._interrupts:
            raise DeviceTimeout(f"nothing happened for {timeout:g} s")
        self.golden.wait(timeout)

    def close(self) -> None:
        self.closed += 1


class Hanging(Broken):
    """A device that starts and never ends, with these counters."""

    def __init__(self, config: Config, memory_size: int, cycles: int = 0, beats: int = 0) -> None:
        values = {"CYCLES_LO": cycles, "COMMAND_BEATS_LO": beats, "COMMANDS_LO": 1 if beats else 0}
        super().__init__(
            config,
            memory_size,
            registers={
                **{offset(name): lambda _, value=value: value for name, value in values.items()},
                offset("AP_CTRL"): self._control,
            },
            run=self._start,
            interrupts=False,
        )
        self.started = False

    def _start(self, golden: GoldenDevice) -> None:
        self.started = True

    def _control(self, value: int) -> int:
        return AP_START if self.started else value & ~(AP_DONE | AP_READY) | AP_IDLE
