"""Whole models over several memory ports: golden and the gateware, byte for byte, whatever the ports do apart from each other; and
the same logits of every build, however wide its beats are."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tailrace.gguf.describe import import_model
from tailrace.gguf.file import open_model
from tailrace.sim.verilated import VerilatedDevice
from tailrace.spec.config import Config
from tailrace.spec.registers import base_registers, offset
from tailrace.spec.transport import Piece
from verification.system.twins import Twins

pytest.importorskip("transformers")
from verification.architectures import Case, draw, draw_text, open_decoder
from verification.unit.host.transformers_models import make_model

MEMORY = 1 << 26
#: The default run builds one core; the other takes minutes.
BUILDS = ["base,channels=2", pytest.param("base,channels=4", marks=pytest.mark.slow)]
#: Attention over all tokens and in windows, experts, a state with its list, a convolution, and latent attention.
ARCHITECTURES = [
    "llama",
    "qwen35",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("gpt-oss", "gemma4-a4b", "lfm2", "deepseek2", "mamba2", "llama4")
    ),
]
#: Of cycles in which a channel of a port is stalled. Every port draws its own.
STALLED = 0.2
#: Ports that are away in a run, one after the other, and cycles of it at most: longer than what is read ahead lasts.
ABSENCES, LONGEST = 6, 2000


class UnsteadyDevice(VerilatedDevice):
    """A device of whose ports one is away now and then, for so long that the others come to wait for it."""

    def __init__(self, *arguments: Any, seed: int, **options: Any) -> None:
        super().__init__(*arguments, stall_seed=seed, stall_probability=STALLED, **options)
        self._random = np.random.default_rng(seed)

    def wait(self, timeout: float) -> None:
        for _ in range(ABSENCES):
            before, away = self._random.integers(1, LONGEST, 2)
            port = int(self._random.integers(self.config.channels))
            self.run(int(before))
            self.freeze(port=port)
            self.run(int(away))
            self.freeze(False, port=port)
        super().wait(timeout)


@pytest.fixture(params=ARCHITECTURES)
def case(request: pytest.FixtureRequest, seed: int) -> Case:
    return draw(request.param, seed)


@contextmanager
def decoded(case: Case, build: str, device: type[UnsteadyDevice], seed: int, folder: Path) -> Iterator[Twins]:
    """Golden and the gateware after a prompt, steps with logits, and a run of tokens, with the same bytes everywhere in memory."""
    path = folder / "model.gguf"
    make_model(path, case.architecture, seed=seed, **case.sizes)
    tokens = draw_text(case, 6)
    options = {"gateware": {"seed": seed}, "device": device, "tokens_per_doorbell": 3}
    with Twins(import_model(open_model(path), 64), build, MEMORY, **options) as both:
        both.prefill(tokens[:3])
        for token in tokens[3:-1]:
            assert np.isfinite(both.step(token)).all()
        both.run(tokens[-1], 3)
        both.check_memory()
        yield both


@pytest.mark.parametrize("build", BUILDS)
def test_ports_that_stall_apart(case: Case, build: str, seed: int, tmp_path: Path) -> None:
    with decoded(case, build, UnsteadyDevice, seed, tmp_path) as both:
        gateware = both.decoders[1].device.transport
        assert isinstance(gateware, VerilatedDevice)
        # Every port has read its part of every beat, and what was written went to all.
        assert len({port.read_beats for port in gateware.port_traffic}) == 1
        assert all(port.write_beats for port in gateware.port_traffic)


class OneBuffer(UnsteadyDevice):
    """A buffer somewhere in the one memory that all ports of the device reach, as a driver of hardware knows it."""

    first = 5 << 20

    def __init__(self, config: Config, memory_size: int, **options: Any) -> None:
        super().__init__(config, self.first + memory_size, one_memory=True, **options)
        self.pieces = (Piece(self.first, memory_size),)

    @property
    def memory_size(self) -> int:
        return super().memory_size - self.first

    def read(self, address: int, size: int) -> bytes:
        return super().read(self.first + address, size)

    def write(self, address: int, data: bytes | memoryview) -> None:
        super().write(self.first + address, data)


@pytest.mark.parametrize("build", BUILDS)
def test_ports_that_reach_one_memory(build: str, seed: int, tmp_path: Path) -> None:
    """The driver gives each port a part of it, and stripes what it writes and reads over the parts."""
    with decoded(draw("llama", seed), build, OneBuffer, seed, tmp_path) as both:
        _, device = (decoder.device for decoder in both.decoders)
        channels, part = device.geometry.channels, MEMORY // device.geometry.channels
        stated = [device.transport.read_register(offset(f"{name}_LO")) for name in base_registers(channels)]
        assert stated == [OneBuffer.first + n * part for n in range(channels)]


#: Beats of 1,024 to 8,192 bits.
WIDE_BUILDS = (
    "base,channels=8", "base,bus_width=256,channels=8,right_hand_sides=4", "base,bus_width=256,channels=16", "base,bus_width=256,channels=32",
)  # fmt: skip


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_wide_beats_give_the_same_bits(architecture: str, seed: int, tmp_path: Path) -> None:
    """A prompt in as many rows as a build has, steps with logits, and the tokens that a run chooses, on the emulator."""
    case = draw(architecture, seed)
    path = tmp_path / "model.gguf"
    make_model(path, case.architecture, seed=seed, **case.sizes)
    tokens = draw_text(case, 24)

    def results(build: str) -> tuple[NDArray[np.float32], list[int]]:
        decoder = open_decoder(path, build, 128, "emulator", tokens_per_doorbell=90)
        try:
            decoder.prefill(tokens[:17])
            logits = np.stack([decoder.step(token) for token in tokens[17:-1]])
            # Longer than the list of a linear attention, so that it is folded.
            return logits, [int(token) for token in decoder.run(tokens[-1], 90)]
        finally:
            decoder.device.close()

    expected, chosen = results("base")
    assert np.isfinite(expected).all()
    for build in WIDE_BUILDS:
        found, also = results(build)
        assert np.array_equal(found.view(np.uint32), expected.view(np.uint32)), build
        assert also == chosen, build
