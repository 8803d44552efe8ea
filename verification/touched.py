"""Which beats of memory a program reads and writes, found by running it on the golden model."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailrace.golden.append import appended
from tailrace.golden.elementwise import stream_units
from tailrace.golden.machine import Machine
from tailrace.spec.commands import decode
from tailrace.spec.config import Config
from tailrace.spec.formats import BY_NUMBER, LANE_BYTES
from tailrace.spec.isa import ADDRESS_UNIT, COMMAND_BYTES, Opcode
from tailrace.spec.vector import vector_bytes

from .program_maker import Program


@dataclass(frozen=True)
class Touched:
    """What a program touches.

    Attributes
    ----------
    reads, writes : mapping from address to command index
        Bus beats that only one command of the queue reads, or writes.
    written : ndarray of bool, shape (memory bytes,)
        Bytes that are written at all.
    """

    reads: dict[int, int]
    writes: dict[int, int]
    written: NDArray[np.bool_]


def touched(program: Program, config: Config) -> Touched:
    """Find out what a program without errors touches."""
    machine = Machine(config, program.memory.copy())
    reads: dict[int, set[int]] = defaultdict(set)
    writes: dict[int, set[int]] = defaultdict(set)
    written = np.zeros(program.memory.size, dtype=np.bool_)

    def note(beats: dict[int, set[int]], index: int, address: int, size: int) -> None:
        first = address // config.beat_bytes * config.beat_bytes
        for beat in range(first, address + size, config.beat_bytes):
            beats[beat].add(index)

    def see(index: int, opcode: Opcode, command: bytes) -> None:
        decoded = decode(command)
        assert decoded
        fields = decoded[1]
        for address, size in _read_ranges(opcode, fields, config):
            note(reads, index, address, size)
        places: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        if opcode is Opcode.STORE:
            places = fields["destination"] * ADDRESS_UNIT + np.arange(4 * fields["count"])
        elif opcode is Opcode.APPEND:
            places = appended(machine.buffer, fields, config.lanes).addresses
        written[places] = True
        for beat in np.unique(places // config.beat_bytes * config.beat_bytes):
            writes[int(beat)].add(index)

    machine.trace = see
    outcome = machine.run(program.queue, len(program.commands), program.arguments)
    assert not outcome.code, outcome
    for index in range(len(program.commands)):
        note(reads, index, program.queue + index * COMMAND_BYTES, COMMAND_BYTES)
    return Touched(_of_one(reads), _of_one(writes), written)


def _of_one(beats: dict[int, set[int]]) -> dict[int, int]:
    return {beat: next(iter(indices)) for beat, indices in beats.items() if len(indices) == 1}


def _read_ranges(opcode: Opcode, fields: dict[str, int], config: Config) -> list[tuple[int, int]]:
    """Address and size of each piece of memory that a command reads."""
    if opcode is Opcode.LOAD_VECTOR:
        return [(fields["source"] * ADDRESS_UNIT, vector_bytes(fields["blocks"]))]
    if opcode is Opcode.ELEMENTWISE and (units := stream_units(fields)):
        return [(fields["source"] * ADDRESS_UNIT, units * ADDRESS_UNIT)]
    if opcode is not Opcode.GEMV:
        return []
    source, weights = fields["source"] * ADDRESS_UNIT, BY_NUMBER[fields["format"]]
    if not fields["stride"]:
        return [(source, weights.matrix_bytes(fields["rows"], fields["blocks"], config.lanes))]
    size = weights.stream_beats(fields["blocks"]) * config.lanes * LANE_BYTES
    groups = -(-fields["rows"] // config.lanes)
    return [(source + group * fields["stride"] * ADDRESS_UNIT, size) for group in range(groups)]
