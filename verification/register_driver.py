"""Runs programs on a device as a driver without a library would: register by register."""

import numpy as np
from numpy.typing import NDArray

from tailrace.golden.machine import Outcome
from tailrace.spec.errors import ErrorCode
from tailrace.spec.registers import AP_START, base_registers, offset
from tailrace.spec.transport import Transport
from verification.programs import MEMORY_BYTES, Program


def set_memory(device: Transport, base: int, limit: int) -> None:
    """Let programs use `limit` bytes from `base` on, a multiple of the channels' pages: it lies at the same place in each."""
    channels = device.read_register(offset("CHANNELS"))
    for name, value in (*((name, base // channels) for name in base_registers(channels)), ("LIMIT", limit)):
        device.write_register(offset(f"{name}_LO"), value & 0xFFFF_FFFF)
        device.write_register(offset(f"{name}_HI"), value >> 32)


def start(device: Transport, program: Program, base: int = 0) -> None:
    """Start a program, with its memory from `base` on, as a driver without a library would."""
    device.write(base, program.memory.tobytes())
    ring(device, program)


def ring(device: Transport, program: Program) -> None:
    """Start a program whose memory is in place."""
    for name, value in (
        *((f"ARGUMENT_{i}", value) for i, value in enumerate(program.arguments)),
        ("QUEUE_ADDRESS_LO", program.queue),
        ("QUEUE_ADDRESS_HI", 0),
        ("QUEUE_LENGTH", len(program.commands)),
        ("GIE", 1),
        ("IER", 1),
        ("AP_CTRL", AP_START),
    ):
        device.write_register(offset(name), value)


def finish(device: Transport) -> Outcome:
    """Wait for the interrupt, acknowledge it, and say how the run ended."""
    device.wait(60)
    device.read_register(offset("AP_CTRL"))
    device.write_register(offset("ISR"), device.read_register(offset("ISR")))
    address = device.read_register(offset("ERROR_ADDRESS_LO")) | device.read_register(offset("ERROR_ADDRESS_HI")) << 32
    return Outcome(
        ErrorCode(device.read_register(offset("ERROR_CODE"))), device.read_register(offset("ERROR_COMMAND")), address
    )


def memory(device: Transport) -> NDArray[np.uint8]:
    """The memory of a program."""
    return np.frombuffer(device.read(0, MEMORY_BYTES), dtype=np.uint8)
