import pytest
from amaranth.hdl import UnusedElaboratable

from tailrace.hdl.axi.write_master import WriteMaster
from tailrace.spec.config import CONFIGS
from verification.formal.plant import plant
from verification.formal.prove import prove_by_induction, refute
from verification.formal.write_master_rules import WriteMasterRules

# A part that a visible one stands for is made and not used.
pytestmark = pytest.mark.filterwarnings(f"ignore::{UnusedElaboratable.__module__}.{UnusedElaboratable.__name__}")


@pytest.mark.parametrize("config", CONFIGS.values(), ids=lambda c: c.name)
def test_bus(config):
    verdict = prove_by_induction(WriteMasterRules(WriteMaster(config)), depth=1)
    assert verdict.proved, verdict.reason


@pytest.mark.parametrize(
    ("old", "new", "depth", "broken"),
    [
        ("self.aw.length.eq(bursts.o.payload.length)", "self.aw.length.eq(BURST_BEATS - 1)", 8, "a burst crosses 4 KiB"),
        ("with m.Elif(aw.ready):", "with m.Else():", 8, "a channel changed while stalled"),
        (
            "ResetInserter(self.flush & (self.promised == 0))(beats)",
            "ResetInserter(self.flush)(beats)",
            10,
            "a channel changed while stalled",
        ),
        (
            "w.valid.eq(self.beats.o.valid & (self.promised != 0))",
            "w.valid.eq(self.beats.o.valid)",
            12,
            "a beat of a burst that is not on aw",
        ),
        ("self.bursts.o.valid | burst.valid)", "self.bursts.o.valid)", 10, "idle though something is on its way"),
    ],
)
def test_bus_notices(old, new, depth, broken):
    planted = plant(WriteMaster, old, new)
    assert refute(WriteMasterRules(planted(CONFIGS["base"]), inductive=False), depth) == broken
