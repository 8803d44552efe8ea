"""Commands and queues that a device refuses, or whose operands are not in memory."""

from dataclasses import replace

import numpy as np

from tailrace.golden.machine import Outcome
from tailrace.spec.commands import encode
from tailrace.spec.config import RIGHT_HAND_SIDES, Config
from tailrace.spec.errors import ErrorCode
from tailrace.spec.isa import ADDRESS_UNIT, COMMAND_BYTES, MAX_HEAD, Opcode
from verification.programs import MEMORY_BYTES, Program


def replaced(program: Program, index: int, command: bytes) -> Program:
    """The program with another command at `index`."""
    image, commands = program.memory.copy(), list(program.commands)
    place = program.queue + index * COMMAND_BYTES
    image[place : place + COMMAND_BYTES] = np.frombuffer(command, dtype=np.uint8)
    commands[index] = command
    return replace(program, memory=image, commands=commands)


def bad_commands(config: Config) -> list[tuple[bytes, ErrorCode]]:
    """Commands of every kind that a build refuses, or whose operands are not in memory."""
    good = {"rows": 1, "blocks": 1, "slots": 1}
    simple = {"count": 1, "segments": 1}
    end = MEMORY_BYTES // ADDRESS_UNIT
    bad, range_ = ErrorCode.BAD_FIELD, ErrorCode.OUT_OF_RANGE
    commands = [
        (bytes(64), ErrorCode.BAD_OPCODE),
        (b"\xff" * 64, ErrorCode.BAD_OPCODE),
        (encode(Opcode.FENCE)[:63] + b"\x80", bad),
        (encode(Opcode.LOOP, target=(1 << 16) - 1), bad),
        (encode(Opcode.SET, mode=3), bad),
        (encode(Opcode.GEMV, **good | {"format": 99}), bad),
        (encode(Opcode.GEMV, **good | {"slots": 0}), bad),
        (encode(Opcode.GEMV, **good | {"stride": 1}), bad),
        (encode(Opcode.ELEMENTWISE, **simple | {"function": 7}), bad),
        (encode(Opcode.GEMV, **good | {"rows": 0}), range_),
        (encode(Opcode.GEMV, **good | {"blocks": config.vector_blocks + 1}), range_),
        (encode(Opcode.GEMV, **good | {"offset": 2}), range_),
        (encode(Opcode.LOAD_VECTOR, blocks=1, first_block=config.vector_blocks), range_),
        (encode(Opcode.ELEMENTWISE, **simple | {"segments": 0}), range_),
        (encode(Opcode.ROTATE, **simple | {"count": 6}), range_),
        (encode(Opcode.APPEND, **simple | {"count": MAX_HEAD + 1}), range_),
        (encode(Opcode.STORE, count=config.buffer_entries + 1), range_),
        (encode(Opcode.LOAD_VECTOR, blocks=1, source=end - 2), ErrorCode.READ_ERROR),
        (encode(Opcode.GEMV, **good, source=(1 << 32) - 64), ErrorCode.READ_ERROR),
        (encode(Opcode.ELEMENTWISE, **simple, a_stream=1, source=end), ErrorCode.READ_ERROR),
        (encode(Opcode.STORE, count=5, destination=end), ErrorCode.WRITE_ERROR),
    ]
    if config.right_hand_sides < RIGHT_HAND_SIDES[-1]:
        commands.append((encode(Opcode.LOAD_VECTOR, blocks=1, slot=config.right_hand_sides), bad))
    if config.buffer_entries < 1 << 16:
        commands.append((encode(Opcode.READ, a=config.buffer_entries), range_))
    return commands


def bad_queues() -> list[tuple[int, int, Outcome]]:
    """Address and length of queues that can't be run, or of nothing, and how they end."""
    return [
        (32, 1, Outcome(ErrorCode.MISALIGNED)),
        (MEMORY_BYTES, 1, Outcome(ErrorCode.READ_ERROR, 0, MEMORY_BYTES)),
        (0, 0, Outcome()),
    ]
