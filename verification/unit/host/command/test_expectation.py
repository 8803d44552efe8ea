"""What an answer should take: the passes that it would have without drafts, and those that it had."""

from pathlib import Path

import pytest

from tailrace.command.expectation import Expectation, expected
from tailrace.device.decoder import Decoder
from tailrace.device.driver import Device
from tailrace.gguf.describe import import_model
from tailrace.gguf.file import open_model
from tailrace.image.predicted import predict_step
from tailrace.sim.devices import open_device
from tailrace.sim.verilated import VerilatedDevice
from tailrace.spec.config import parse_config
from verification.unit.host.tiny_models import write_model

CONFIG = "base,right_hand_sides=4"
IDEAL = {"memory": "ideal", "latency": 100, "bandwidth": 1.0}


@pytest.fixture
def decoder(tmp_path: Path) -> Decoder:
    return decoder_of(tmp_path, CONFIG)


def decoder_of(folder: Path, config: str, kind: str = "emulator") -> Decoder:
    imported = import_model(open_model(write_model(folder / "tiny.gguf")), 64)
    return Decoder(Device(open_device(kind, parse_config(config), 1 << 24)), imported)


def test_with_drafts_and_without(decoder: Decoder) -> None:
    """Three tokens: one in a pass of its own, and two in a pass over three rows, of which one was taken back."""
    decoder.step(5)
    decoder.take([[6, 7, 8]], "tokens")
    decoder.truncate(3)
    found = expected([decoder], [decoder.steps], range(3), "tokens", **IDEAL)
    three = decoder.programs.name_of("tokens", [0] * 3)

    def cycles(program: str, position: int) -> int:
        return predict_step(decoder.programs, parse_config(CONFIG), position, program=program).cycles

    assert found is not None
    # A step gives logits, which were not asked for elsewhere.
    assert found.taken == pytest.approx((cycles("logits", 0) + cycles(three, 1)) / 3, rel=0.005)
    assert found.plain == pytest.approx(sum(cycles("tokens", position) for position in range(3)) / 3, rel=0.005)
    assert found.drafting == 0
    slow = expected([decoder], [decoder.steps], range(3), "tokens", memory="ideal", latency=400, bandwidth=1.0)
    assert slow is not None
    assert slow.plain > found.plain


def test_a_draft_model_counts_but_for_its_prompt(decoder: Decoder, tmp_path: Path) -> None:
    decoder.step(5)
    drafter = decoder_of(tmp_path, CONFIG)
    drafter.prefill([1, 2, 3])
    drafter.step(4)
    drafter.step(5)
    found = expected([decoder, drafter], [decoder.steps, drafter.steps], range(1), "logits", **IDEAL)
    alone = expected([decoder], [decoder.steps], range(1), "logits", **IDEAL)
    assert found is not None
    assert alone is not None
    assert (found.plain, found.taken) == (alone.plain, alone.taken)
    # Two steps of the same model, at later positions.
    assert 2 * alone.taken <= found.drafting <= 2.2 * alone.taken
    assert found.in_all == found.taken + found.drafting


def test_hardware_is_of_the_build_that_it_states(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder.step(5)
    known = expected([decoder], [decoder.steps], range(1), "logits", **IDEAL)
    monkeypatch.setattr("tailrace.command.expectation.config_of", lambda transport: None)
    assert expected([decoder], [decoder.steps], range(1), "logits", **IDEAL) == known


def test_where_nothing_is_known(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    assert expected([decoder], [{}], range(0), "tokens", **IDEAL) is None
    monkeypatch.setattr("tailrace.command.expectation.config_of", lambda transport: None)
    # No configuration has such a bus.
    object.__setattr__(decoder.device.geometry, "bus_width", 1024)
    assert expected([decoder], [decoder.steps], range(1), "tokens", **IDEAL) is None


def test_the_simulation_takes_what_was_expected(tmp_path: Path) -> None:
    """Passes over one row and over four, on the gateware: what `run` says that was got."""
    pytest.importorskip("amaranth")
    decoder = decoder_of(tmp_path, CONFIG, "verilator")
    assert isinstance(decoder.device.transport, VerilatedDevice)
    for token in (5, 6, 7):
        decoder.step(token)
    decoder.take([[8, 9, 10, 11]], "tokens")
    found = expected([decoder], [decoder.steps], range(7), "tokens", **IDEAL)
    assert found == Expectation(found.plain, found.taken) if found else False
    # Small models have the largest errors: of these, the bound of the timing model's own tests.
    assert decoder.counters.cycles / 7 == pytest.approx(found.taken, rel=0.03)
