import pytest
from amaranth.hdl import UnusedElaboratable
from amaranth.lib import data

from tailrace.hdl.axi import read_master
from tailrace.hdl.axi.signature import ReadKind
from tailrace.spec.config import CONFIGS, Config
from verification.formal.plant import plant
from verification.formal.prove import netlist, prove_by_induction, refute
from verification.formal.read_master_beats import ReadMasterBeats
from verification.formal.read_master_rules import ReadMasterRules

# A buffer that another one stands for is made and not used.
pytestmark = pytest.mark.filterwarnings(f"ignore::{UnusedElaboratable.__module__}.{UnusedElaboratable.__name__}")

SMALL = Config("small", 128, read_fifo_beats=32, burst_beats=16, address_width=32)


@pytest.fixture
def short_requests(monkeypatch):
    """Requests of up to 31 beats, two bursts and more: the counters' width is all that is different, and proofs take seconds."""
    layout = data.StructLayout({"address": SMALL.address_width, "beats": 5, "kind": ReadKind, "command": 2})
    monkeypatch.setattr(read_master, "read_request_layout", lambda address_width: layout)


#: Builds that differ in the width of a port, or in their bursts.
PROVED = ("base", "wide", "u280-hbm")


@pytest.mark.parametrize("config", [SMALL, *(CONFIGS[name] for name in PROVED)], ids=lambda c: c.name)
def test_bus(config):
    verdict = prove_by_induction(ReadMasterRules(read_master.ReadMaster(config)), depth=1)
    assert verdict.proved, verdict.reason


@pytest.mark.parametrize("name", sorted(CONFIGS.keys() - set(PROVED)))
def test_other_builds_have_the_master_of_base(name):
    assert netlist(read_master.ReadMaster(CONFIGS[name])) == netlist(read_master.ReadMaster(CONFIGS["base"]))


@pytest.mark.parametrize(("follow", "requests_in_flight"), [("asked", read_master.REQUESTS_IN_FLIGHT), ("received", 1)])
def test_beats(short_requests, follow, requests_in_flight):
    verdict = prove_by_induction(ReadMasterBeats(read_master.ReadMaster(SMALL, requests_in_flight), follow), depth=1)
    assert verdict.proved, verdict.reason


@pytest.mark.parametrize(
    ("old", "new", "broken"),
    [
        ("+ ~address[byte_bits:unit_bits])[", "- 1)[", "a burst crosses 4 KiB"),
        ("(self.held | ~(self.flush | self.error.valid))", "~(self.flush | self.error.valid)", "ar changed while stalled"),
        (
            "(self.held | ~(self.flush | self.error.valid))",
            "(self.held | ~self.flush)",
            "a burst was asked for after an error or a flush",
        ),
        ("burst.valid & self.room &", "burst.valid &", "more was asked for than fits"),
        ("r.ready.eq(1)", "r.ready.eq(self.o.ready)", "r is not always ready"),
        (
            "Cat(given, self.free) + Cat(given, ~asked_beats)",
            "Cat(given, self.free) + Cat(0, ~asked_beats)",
            "room was forgotten",
        ),
        (
            "self.beat & ~failed & ~self.error.valid",
            "self.beat & ~failed & ~self.error.valid & ~arriving.command[0]",
            "a beat was lost",
        ),
        ("self.beat & ~failed & ~self.error.valid", "self.beat & ~self.error.valid", "a beat came from nowhere"),
        ("self.error.valid.eq(0)", "self.error.valid.eq(self.error.valid)", "an error outlives a flush"),
        (" & ~burst.payload.outside", "", "a burst lies outside the memory that may be used"),
        ("(failed | refused)", "failed", "a burst that is not asked for is no error"),
        ("(self.requests.level == 0)", "~self.requests.o.valid", "idle though a request is queued"),
    ],
)
def test_bus_notices(old, new, broken):
    planted = plant(read_master.ReadMaster, old, new)
    assert refute(ReadMasterRules(planted(SMALL), inductive=False), depth=10) == broken


@pytest.mark.parametrize(
    ("old", "new", "follow", "broken"),
    [
        ("address[unit_bits:] + 1", "address[unit_bits:]", "asked", "a burst is not the next of its request"),
        (
            "end[beat_bits:] - 1",
            "end[beat_bits:] - 2",
            "asked",
            "a burst is not the next of its request",
        ),
        (
            "from_base(address, self.first_page)",
            "address",
            "asked",
            "a burst is not the next of its request",
        ),
        ("last.eq(arriving.beats == 2)", "last.eq(arriving.beats == 3)", "received", "the wrong beat is the last"),
        (
            "single.eq(self.i.payload.beats == 1)",
            "single.eq(self.i.payload.beats == 2)",
            "received",
            "the wrong beat is the last",
        ),
    ],
)
def test_beats_notice(short_requests, old, new, follow, broken):
    planted = plant(read_master.ReadMaster, old, new)
    planted.__init__.__globals__["read_request_layout"] = read_master.read_request_layout
    assert refute(ReadMasterBeats(planted(SMALL, 1), follow, inductive=False), depth=10) == broken


def test_a_slower_buffer_of_requests_is_noticed(short_requests):
    """The margin is zero: one cycle more than its two, and a beat comes before its request is known."""
    rules = ReadMasterBeats(read_master.ReadMaster(SMALL), "received", inductive=False)
    rules.dut.requests.latency = None
    assert "a beat is not recognised" in refute(rules, depth=8)
