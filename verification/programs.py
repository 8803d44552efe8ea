"""Random programs: memory images and command queues that exercise everything a build can do."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailrace.spec.config import Config
from tailrace.spec.formats import FORMATS, Format
from tailrace.spec.isa import Opcode, encode, format_command
from tailrace.spec.numerics import quantise
from tailrace.spec.vector import ALIGNMENT, pack_vector, vector_bytes

#: Memory of a random program: sources and queue in the lower half, results in the upper one.
MEMORY_BYTES = 1 << 20
DESTINATION = MEMORY_BYTES // 2


@dataclass
class Program:
    """A memory image and a queue in it."""

    memory: NDArray[np.uint8]
    queue: int
    commands: list[bytes]

    def __str__(self) -> str:
        return "\n".join(f"{i}: {format_command(command)}" for i, command in enumerate(self.commands))


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
        # Anywhere in a page, so that bursts meet 4 KiB boundaries.
        self._next = int(rng.integers(0, 64)) * ALIGNMENT
        self._destination = DESTINATION + int(rng.integers(0, 64)) * ALIGNMENT

    def place(self, data: bytes | NDArray[np.uint8]) -> int:
        """Put bytes in memory at the next free address, now and then after a gap."""
        raw = np.frombuffer(bytes(data), dtype=np.uint8)
        address = self._next + int(self.rng.integers(0, 3)) * ALIGNMENT
        if address + raw.size > DESTINATION:
            raise ValueError("the program needs more memory than there is")
        self.memory[address : address + raw.size] = raw
        self._next = -(-(address + raw.size) // ALIGNMENT) * ALIGNMENT
        return address

    def destination(self, entries: int) -> int:
        """Reserve memory for results."""
        address = self._destination + int(self.rng.integers(0, 3)) * ALIGNMENT
        if address + 4 * entries > MEMORY_BYTES:
            raise ValueError("the program needs more memory than there is")
        self._destination = -(-(address + 4 * entries) // ALIGNMENT) * ALIGNMENT
        return address

    def load(self, slot: int, blocks: int) -> None:
        """Load a vector of random values over a wide range of magnitudes."""
        spread = float(self.rng.choice([0, 2, 10, 30]))
        x = self.rng.standard_normal(32 * blocks) * 2.0 ** self.rng.uniform(-spread, spread, 32 * blocks)
        x[self.rng.random(x.size) < 0.1] = 0
        address = self.place(pack_vector(*quantise(x.astype(np.float32))))
        self.commands.append(encode(Opcode.LOAD_VECTOR, slot=slot, source=address, blocks=blocks))

    def gemv(self, weight_format: Format, rows: int, blocks: int, slots: int, *, keep_at: int | None = None) -> None:
        """Multiply a random matrix: any bytes are a stream of weights."""
        size = weight_format.matrix_bytes(rows, blocks, self.config.lanes)
        stream = self.rng.integers(0, 256, size, dtype=np.uint8)
        if self.rng.random() < 0.5:
            # Scales of ordinary size: float16 exponents from 8 to 15, so that results are of ordinary size too.
            halves = stream.view(np.uint16)
            halves[:] = (halves & 0xA3FF) | 0x2000
        where = {"destination": self.destination(rows * slots)} if keep_at is None else {"keep": 1, "offset": keep_at}
        self.commands.append(
            encode(
                Opcode.GEMV,
                format=weight_format.number,
                slots=slots,
                rows=rows,
                blocks=blocks,
                source=self.place(stream),
                **where,
            )
        )

    def quantise(self, slot: int, offset: int, blocks: int, stride: int) -> None:
        """Quantise kept results into a slot."""
        self.commands.append(encode(Opcode.QUANTISE, slot=slot, offset=offset, blocks=blocks, stride=stride))

    def store(self, offset: int, entries: int) -> None:
        """Write kept results to memory."""
        self.commands.append(encode(Opcode.STORE, offset=offset, rows=entries, destination=self.destination(entries)))

    def fence(self) -> None:
        """Wait for everything so far."""
        self.commands.append(encode(Opcode.FENCE))

    def program(self) -> Program:
        """Place the queue and finish."""
        return Program(self.memory, self.place(b"".join(self.commands)), list(self.commands))


def random_program(rng: np.random.Generator, config: Config, commands: int, *, stream_blocks: int = 300) -> Program:
    """Make a program of random valid commands.

    Parameters
    ----------
    rng : Generator
    config : Config
    commands : int
        Number of commands, beyond the loads that fill the slots at the start.
    stream_blocks : int
        Bound on the blocks in a lane's stream of one matrix: how long a product takes.
    """
    maker = ProgramMaker(rng, config)
    lanes, slots = config.lanes, config.right_hand_sides

    def pick(low: int, high: int) -> int:
        """Pick a number from low to high, small ones and the limits more often than others."""
        return int(rng.choice([low, high, rng.integers(low, high + 1), rng.integers(low, min(low + 8, high) + 1)]))

    longest = min(config.vector_blocks, stream_blocks)
    for slot in range(slots):
        maker.load(slot, pick(1, min(longest, 24)))
    for _ in range(commands):
        choice = rng.choice(["load", "gemv", "gemv", "gemv", "keep", "quantise", "store", "fence", "read back"])
        if choice == "load":
            maker.load(pick(0, slots - 1), pick(1, longest))
        elif choice in ("gemv", "keep"):
            blocks = pick(1, longest)
            used = pick(1, slots)
            rows = pick(1, max(1, min(stream_blocks // blocks * lanes, 400)))
            offset = None
            if choice == "keep":
                rows = min(rows, config.result_entries // used)
                offset = pick(0, config.result_entries - rows * used)
            maker.gemv(FORMATS[int(rng.integers(len(FORMATS)))], rows, blocks, used, keep_at=offset)
        elif choice == "quantise":
            stride = pick(1, 4)
            blocks = pick(1, min(config.result_entries // (32 * stride), config.vector_blocks, 16))
            maker.quantise(pick(0, slots - 1), pick(0, config.result_entries - 32 * blocks * stride), blocks, stride)
        elif choice == "store":
            entries = pick(1, min(config.result_entries, 500))
            maker.store(pick(0, config.result_entries - entries), entries)
        elif choice == "fence":
            maker.fence()
        else:
            # What was written before the fence is read after it; any bytes are a vector.
            blocks = pick(1, min(8, config.vector_blocks))
            maker.gemv(FORMATS[0], vector_bytes(blocks) // 4, 1, 1)
            fields = maker.commands[-1]
            maker.fence()
            written = int.from_bytes(fields[16:24], "little")
            maker.commands.append(encode(Opcode.LOAD_VECTOR, slot=0, source=written, blocks=blocks))
    return maker.program()
