"""What synthesis makes of the gateware decodes as the golden model does: the netlist of `tiny`, cell by cell."""

from pathlib import Path

import numpy as np
import pytest

from tailrace.device.decoder import Decoder
from tailrace.device.driver import Device
from tailrace.fpga.netlist import build_netlist
from tailrace.gguf.describe import import_model
from tailrace.gguf.file import open_model
from tailrace.golden.device import GoldenDevice
from tailrace.sim.verilated import VerilatedDevice
from tailrace.spec.config import CONFIGS
from tailrace.spec.transport import Transport
from verification.unit.host.tiny_models import write_model

MEMORY = 1 << 21
PROMPT = (72, 105, 33)


def decoder(path: Path, transport: Transport) -> Decoder:
    return Decoder(Device(transport), import_model(open_model(path), len(PROMPT) + 2))


@pytest.mark.slow
def test_the_netlist_decodes_a_token(tmp_path: Path, seed: int) -> None:
    pytest.importorskip("amaranth")
    pytest.importorskip("pyosys")
    tiny = CONFIGS["tiny"]
    path = write_model(tmp_path / "llama.gguf", seed=seed)
    golden = GoldenDevice(tiny, MEMORY)
    with VerilatedDevice(tiny, MEMORY, latency=7, stall_seed=seed, library=build_netlist(tiny)) as netlist:
        expected, found = decoder(path, golden), decoder(path, netlist)
        for token in PROMPT:
            logits = [each.step(token) for each in (expected, found)]
            assert np.array_equal(logits[0].view(np.uint32), logits[1].view(np.uint32)), f"token {token}, seed {seed}"
        chosen = [each.run(int(logits[0].argmax())) for each in (expected, found)]
        assert chosen[0] == chosen[1], f"seed {seed}"
        wrong = np.flatnonzero(
            np.frombuffer(golden.read(0, MEMORY), np.uint8) != np.frombuffer(netlist.read(0, MEMORY), np.uint8)
        )
        assert not wrong.size, f"{wrong.size} bytes of memory differ, from {wrong[:1]} on, seed {seed}"
        print(f"{netlist.cycles:,} cycles")
