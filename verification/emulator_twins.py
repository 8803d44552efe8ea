"""Golden and the emulator of one build, which must agree in everything that can be seen."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tailrace.golden.device import GoldenDevice
from tailrace.golden.machine import Outcome
from tailrace.sim.emulator.device import EmulatedDevice
from tailrace.spec.config import Config
from tailrace.spec.registers import COUNTERS, offset
from verification.programs import MEMORY_BYTES, Program
from verification.register_driver import finish, start


@dataclass
class Twins:
    """Golden and the emulator of one build."""

    config: Config
    golden: GoldenDevice
    emulator: EmulatedDevice

    def check(self, program: Program, what: str, base: int = 0) -> Outcome:
        """Run a program on both; all that can be seen must be the same. Returns how it ended."""
        outcomes = []
        for device in (self.golden, self.emulator):
            start(device, program, base)
            outcomes.append(finish(device))
        assert outcomes[0] == outcomes[1], f"{what}\n{program}"
        seen = [device.activations.view(np.uint32) for device in (self.golden, self.emulator)]
        wrong = np.flatnonzero(seen[0] != seen[1])
        assert not wrong.size, f"{what}: {wrong.size} entries differ, from {wrong[0]} on\n{program}"
        size = self.golden.memory_size
        seen = [np.frombuffer(device.read(0, size), dtype=np.uint8) for device in (self.golden, self.emulator)]
        wrong = np.flatnonzero(seen[0] != seen[1])
        assert not wrong.size, f"{what}: {wrong.size} bytes of memory differ, from {wrong[0]:#x} on\n{program}"
        for name, _ in COUNTERS:
            counted = [device.read_registers(offset(f"{name}_LO"), 2) for device in (self.golden, self.emulator)]
            assert counted[0] == counted[1] or outcomes[0].code, f"{what}: {name}\n{program}"
        return outcomes[0]


def twins_of(config: Config, size: int = MEMORY_BYTES, threads: int = 2, library: Path | None = None) -> Iterator[Twins]:
    """Both devices, with memory of this size; the emulator with so many threads, or another shared object."""
    with EmulatedDevice(config, size, threads=threads, library=library) as emulator:
        yield Twins(config, GoldenDevice(config, size), emulator)
