"""Predicts the cycles of a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from tailrace.spec.config import Config
from tailrace.spec.isa import ARGUMENTS, FIRST_ARGUMENT, REGISTERS

from ..memory_models import dram_of
from .commands import Command
from .dram import DramMemory
from .memory import FixedMemory, MemoryTiming
from .walk import Walk

#: Largest error that is published for decode steps, as a part of the simulated cycles (docs/blocks/timing.md has the table).
LARGEST_ERROR = 0.005
#: Cycles to a read's first beat, as of `tailrace.sim.verilated.VerilatedDevice`.
LATENCY = 100


@dataclass(frozen=True)
class Operation:
    """An operation of a unit.

    Attributes
    ----------
    unit : str
        ``matrix`` or ``vector``.
    index : int
        Of the command in its program.
    start, end : int
        Cycles since the doorbell: the first one, and the one after the last.
    """

    unit: str
    index: int
    start: int
    end: int


@dataclass(frozen=True)
class Prediction:
    """What a run is predicted to take.

    Attributes
    ----------
    cycles : int
        From the doorbell to the interrupt.
    beats : int
        Beats that are read, commands included.
    operations : tuple of Operation
        All of them, in the order in which they are handed over, if every turn of every loop was worked out.
    """

    cycles: int
    beats: int
    operations: tuple[Operation, ...] = ()

    def tokens_per_second(self, clock: float) -> float:
        """Runs in a second at a clock in MHz: tokens of each sequence, if a run is a decode step."""
        return clock * 1e6 / self.cycles


def predict(
    commands: Sequence[bytes],
    config: Config,
    *,
    arguments: Sequence[int] = (),
    address: int = 0,
    memory: str = "ideal",
    latency: int = LATENCY,
    bandwidth: float | Fraction = 1.0,
    exact: bool = False,
) -> Prediction:
    """Predict what a program takes on a build, without simulating it.

    What depends on data is taken as it comes: a `READ` reads 0, so experts are the first one. How long a command takes does not
    depend on its data.

    Parameters
    ----------
    commands : sequence of bytes
        The program, which must be one that runs (`tailrace.spec.commands.check`).
    config : Config
    arguments : sequence of int
        As the host sets them; those that are left out are 0.
    address : int
        Of the program in device memory.
    memory, latency, bandwidth
        The memory behind the core, as for `tailrace.sim.verilated.VerilatedDevice`.
    exact : bool
        Whether every turn of every loop is worked out. Else what is left of a loop is a sum, when its turns have become equal.

    Returns
    -------
    Prediction

    Raises
    ------
    ConfigError
        If there is no such memory.
    ValueError
        If a command has no known opcode, or there are more arguments than registers for them.
    """
    if len(arguments) > ARGUMENTS:
        raise ValueError(f"a run has at most {ARGUMENTS} arguments, not {len(arguments)}")
    dram = dram_of(memory)
    timing: MemoryTiming = FixedMemory(latency, float(bandwidth)) if dram is None else DramMemory(dram, config.beat_bytes)
    registers = [0] * REGISTERS
    registers[FIRST_ARGUMENT : FIRST_ARGUMENT + len(arguments)] = arguments
    walk = Walk([Command(code) for code in commands], config, timing, address, registers, exact)
    cycles = round(walk.run())
    if not exact:
        return Prediction(cycles, walk.beats)
    operations = (Operation(unit, index, round(start), round(end) + 1) for unit, index, start, end in walk.spans)
    return Prediction(cycles, walk.beats, tuple(operations))
