"""What stands around a block that reads the activation buffer and writes to memory."""

import random
from typing import Any

import numpy as np

from tailrace.spec.config import Config


class Buffer:
    """The activation buffer behind one read port, full of random floats."""

    def __init__(self, config: Config, port: Any, seed: int) -> None:
        self.elements, self.port = config.word_elements, port
        rng = np.random.default_rng(seed)
        self.entries = rng.integers(0, 1 << 32, config.buffer_entries, dtype=np.uint32)

    def put(self, entry: int, floats: np.ndarray) -> None:
        places = (entry + np.arange(len(floats))) % len(self.entries)
        self.entries[places] = floats.astype(np.float32).view(np.uint32)

    async def answer(self, ctx: Any) -> None:
        async for _, _, enable, address in ctx.tick().sample(self.port.enable, self.port.address):
            if enable:
                word = self.entries[address * self.elements : (address + 1) * self.elements]
                ctx.set(self.port.data, [int(value) for value in word])


class Written:
    """Takes beats from a stream, with stalls or without, and keeps what they write. A byte is written once at most."""

    def __init__(self, config: Config, stream: Any, seed: int | None) -> None:
        self.stream, self.bus_bytes = stream, len(stream.payload.strobe)
        self.stalls = None if seed is None else random.Random(seed)
        self.bytes: dict[int, int] = {}
        self.beats = 0
        self.commands: set[int] = set()

    async def take(self, ctx: Any) -> None:
        stream, offered = self.stream, None
        while True:
            ctx.set(stream.ready, self.stalls is None or self.stalls.random() < 0.4)
            _, _, valid, ready, beat = await ctx.tick().sample(stream.valid, stream.ready, stream.payload)
            shown = (beat.address, beat.data, beat.strobe, beat.command)
            assert offered is None or (valid and shown == offered), "what was on offer changed before it was taken"
            offered = shown if valid and not ready else None
            if valid and ready:
                self.beats += 1
                self.commands.add(beat.command)
                assert beat.address % self.bus_bytes == 0
                for n in range(self.bus_bytes):
                    if beat.strobe >> n & 1:
                        assert beat.address + n not in self.bytes, f"{beat.address + n:#x} was written twice"
                        self.bytes[beat.address + n] = beat.data >> 8 * n & 0xFF

    def check(self, expected: dict[int, bytes], what: str) -> None:
        """Whether exactly these pieces of memory were written: address to bytes."""
        pieces = {address + n: byte for address, piece in expected.items() for n, byte in enumerate(piece)}
        assert sorted(self.bytes) == sorted(pieces), what
        wrong = {hex(address): (self.bytes[address], byte) for address, byte in pieces.items() if self.bytes[address] != byte}
        assert not wrong, f"{what}: {dict(list(wrong.items())[:8])}"
