"""Programs for tests: a memory image with operands, and a queue of commands that use them."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tailrace.golden.machine import Machine
from tailrace.spec.commands import decode, encode, float_bits, format_command
from tailrace.spec.config import Config
from tailrace.spec.formats import LANE_BYTES, BeatKind, Format, ScaleKind
from tailrace.spec.isa import ADDRESS_UNIT, ARGUMENTS, Opcode, Target
from tailrace.spec.numerics import quantise
from tailrace.spec.vector import pack_vector

#: Memory of a program: sources and queue in the lower half, results in the upper one.
MEMORY_BYTES = 1 << 20
DESTINATION = MEMORY_BYTES // 2


@dataclass
class Program:
    """A memory image and a queue in it.

    Attributes
    ----------
    memory : ndarray of uint8, shape (MEMORY_BYTES,)
    queue : int
        Address of the first command.
    commands : list of bytes
    arguments : list of int
        Values of the control registers ``ARGUMENT_n``.
    """

    memory: NDArray[np.uint8]
    queue: int
    commands: list[bytes]
    arguments: list[int] = field(default_factory=lambda: [0] * ARGUMENTS)

    @property
    def summary(self) -> str:
        """One line: which commands, and how many of each."""
        counts = Counter(decoded[0].name if (decoded := decode(c)) else "invalid" for c in self.commands)
        return f"{len(self.commands)} commands at {self.queue:#x}: " + ", ".join(f"{n} {name}" for name, n in counts.items())

    def __str__(self) -> str:
        lines = [self.summary, f"arguments: {' '.join(f'{a:#x}' for a in self.arguments)}"]
        return "\n".join(lines + [f"{i}: {format_command(command)}" for i, command in enumerate(self.commands)])


class ProgramMaker:
    """Places operands in memory and collects commands.

    Parameters
    ----------
    rng : Generator
        Decides what is not given: all of memory is random at first.
    config : Config
    """

    def __init__(self, rng: np.random.Generator, config: Config) -> None:
        self.rng, self.config = rng, config
        self.memory = rng.integers(0, 256, MEMORY_BYTES, dtype=np.uint8)
        self.commands: list[bytes] = []
        self.arguments = [int(a) for a in rng.integers(0, 1 << 32, ARGUMENTS)]
        # Anywhere in a page, so that bursts meet 4 KiB boundaries.
        self._next = int(rng.integers(0, 64)) * ADDRESS_UNIT
        self._destination = DESTINATION + int(rng.integers(0, 64)) * ADDRESS_UNIT

    def place(self, data: bytes | NDArray[np.uint8], multiple: int = ADDRESS_UNIT) -> int:
        """Put bytes in memory at the next free address, now and then after a gap; returns the address in units of 64 bytes."""
        raw = np.frombuffer(bytes(data), dtype=np.uint8)
        address = -(-(self._next + int(self.rng.integers(0, 3)) * ADDRESS_UNIT) // multiple) * multiple
        if address + raw.size > DESTINATION:
            raise ValueError("the program needs more memory than there is")
        self.memory[address : address + raw.size] = raw
        self._next = -(-(address + raw.size) // ADDRESS_UNIT) * ADDRESS_UNIT
        return address // ADDRESS_UNIT

    def destination(self, size: int, multiple: int = ADDRESS_UNIT) -> int:
        """Reserve `size` bytes of memory for results; returns the address in units of 64 bytes."""
        address = -(-(self._destination + int(self.rng.integers(0, 3)) * ADDRESS_UNIT) // multiple) * multiple
        if address + size > MEMORY_BYTES:
            raise ValueError("the program needs more memory than there is")
        self._destination = -(-(address + size) // ADDRESS_UNIT) * ADDRESS_UNIT
        return address // ADDRESS_UNIT

    def floats(self, count: int) -> NDArray[np.float32]:
        """Random finite values: ordinary ones, or over a wide range of magnitudes; some are zero."""
        spread = float(self.rng.choice([0, 2, 10, 30]))
        x = self.rng.standard_normal(count) * 2.0 ** self.rng.uniform(-spread, spread, count)
        x[self.rng.random(count) < 0.1] = 0
        return x.astype(np.float32)

    def add(self, opcode: Opcode, **fields: int) -> int:
        """Append a command; returns its index."""
        self.commands.append(encode(opcode, **fields))
        return len(self.commands) - 1

    def load(self, slot: int, blocks: int, *, number: int = 0, first_block: int = 0) -> None:
        """Load a vector of random values with set `number`."""
        source = self.place(pack_vector(*quantise(self.floats(32 * blocks))))
        self.add(Opcode.LOAD_VECTOR, slot=slot, source=source, blocks=blocks, set=number, first_block=first_block)

    def stream(self, weight_format: Format, rows: int, blocks: int) -> int:
        """Place a random matrix: nearly any bytes are a stream of weights. Returns its address."""
        lanes = self.config.lanes
        beats = self.rng.integers(0, 256, (weight_format.matrix_beats(rows, blocks, lanes), lanes * LANE_BYTES), dtype=np.uint8)
        schedule = weight_format.schedule(-(-rows // lanes) * blocks)
        scales = [i for i, (kind, _) in enumerate(schedule) if kind is BeatKind.SCALE]
        if weight_format.scale_kind is ScaleKind.EXPONENT:
            beats[scales] %= 31
        elif scales and self.rng.random() < 0.7:
            # Scales of ordinary size: float16 exponents from 8 to 15, so that results are of ordinary size too.
            beats[scales] = ((beats[scales].view("<u2") & 0xA3FF) | 0x2000).view(np.uint8)
        return self.place(beats.reshape(-1), self.config.alignment)

    def gemv(self, weight_format: Format, rows: int, blocks: int, slots: int, **fields: int) -> None:
        """Multiply a random matrix. `fields` are the command's others, such as ``offset``."""
        stride = {"slot_stride": -(-rows // 4) * 4} if slots > 1 else {}
        where = {"source": self.stream(weight_format, rows, blocks)} | stride | fields
        self.add(Opcode.GEMV, format=weight_format.number, slots=slots, rows=rows, blocks=blocks, **where)

    def fill(self, d: int, count: int) -> None:
        """Put random values in the activation buffer."""
        source = self.place(self.floats(-(-count // 16) * 16).view(np.uint8))
        one = float_bits(1)
        self.add(
            Opcode.ELEMENTWISE, a_stream=1, source=source, p=one, m=one, target=Target.BUFFER, d=d, count=count, segments=1
        )

    def store(self, a: int, count: int) -> int:
        """Write entries of the activation buffer to memory; returns the address, in bytes."""
        destination = self.destination(4 * count)
        self.add(Opcode.STORE, a=a, count=count, destination=destination)
        return destination * ADDRESS_UNIT

    def fence(self) -> None:
        """Wait for everything so far."""
        self.add(Opcode.FENCE)

    def program(self) -> Program:
        """Place the queue and finish."""
        queue = self.place(b"".join(self.commands)) * ADDRESS_UNIT
        return Program(self.memory, queue, list(self.commands), self.arguments)


def trace(program: Program, config: Config) -> list[tuple[int, bytes]]:
    """Run a program on the golden model; returns the index and the resolved command of everything that was carried out."""
    machine = Machine(config, program.memory.copy())
    executed: list[tuple[int, bytes]] = []

    def see(index: int, opcode: Opcode, command: bytes) -> None:
        executed.append((index, command))
        if opcode is Opcode.GEMV:
            _, fields = decode(command) or (opcode, {})
            for slot in range(fields["slots"]):
                if machine.slots.differences(slot, fields["set"], fields["first_block"], fields["blocks"]).max() > 31:
                    raise ValueError(f"command {index} reads blocks that do not belong to its vector")

    machine.trace = see
    outcome = machine.run(program.queue, len(program.commands), program.arguments)
    if outcome.code:
        raise ValueError(f"{outcome}\n{program}")
    return executed
