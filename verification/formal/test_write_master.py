import pytest
from amaranth.hdl import UnusedElaboratable

from tailrace.hdl.axi.write_master import WriteMaster
from tailrace.spec.config import CONFIGS
from verification.formal.plant import plant
from verification.formal.prove import netlist, prove_by_induction, refute
from verification.formal.write_master_rules import WriteMasterRules

# A buffer that another one stands for is made and not used.
pytestmark = pytest.mark.filterwarnings(f"ignore::{UnusedElaboratable.__module__}.{UnusedElaboratable.__name__}")


#: Builds that differ in the width of a port.
PROVED = ("base", "wide", "u280-hbm")


@pytest.mark.parametrize("name", ["base", *(pytest.param(name, marks=pytest.mark.slow) for name in PROVED[1:])])
def test_bus(name):
    verdict = prove_by_induction(WriteMasterRules(WriteMaster(CONFIGS[name])), depth=1)
    assert verdict.proved, verdict.reason


@pytest.mark.parametrize("name", sorted(CONFIGS.keys() - set(PROVED)))
def test_other_builds_have_the_master_of_base(name):
    assert netlist(WriteMaster(CONFIGS[name])) == netlist(WriteMaster(CONFIGS["base"]))


@pytest.mark.parametrize(
    ("old", "new", "depth", "broken"),
    [
        ("aw.payload.length.eq(0)", "aw.payload.length.eq(1)", 4, "a burst of more than one beat"),
        ("w.payload.last.eq(1)", "w.payload.last.eq(i.valid)", 6, "a beat that is not its burst's last"),
        (
            "addresses.o.ready.eq(aw.ready)",
            "addresses.o.ready.eq(1)",
            8,
            ("an address lost, invented or out of order", "a channel changed while stalled"),
        ),
        ("beats.o.valid & ~leads", "beats.o.valid & ~leads & i.valid", 6, "a channel changed while stalled"),
        ("beats.level < addresses.level", "0 < 0 * addresses.level", 6, "a beat before its address"),
        (
            "queue.level < queue.depth - 1",
            "queue.level < queue.depth",
            14,
            "a beat is lost",
        ),
        (
            "leaves | self.flush)",
            "leaves | self.beat)",
            12,
            "a beat is lost",
        ),
        (
            "unanswered.o.ready.eq(b.valid)",
            "unanswered.o.ready.eq(b.valid & ~self.flush)",
            10,
            # In the same cycle; which of them is found is the solver's choice.
            ("idle though something is on its way, or not idle though nothing is", "an answer is not recognised"),
        ),
        (
            "(unanswered.level == 0) & ~self.held.valid",
            "(addresses.level == 0) & ~self.held.valid",
            10,
            "idle though something is on its way, or not idle though nothing is",
        ),
        ("error.address.eq(unanswered.o", "error.address.eq(i", 10, "the error has a wrong address"),
        (
            "self.held.valid & ~outside & self.room",
            "self.held.valid & self.room",
            6,
            "a wrong address, or one outside the memory that may be used",
        ),
        (
            "from_base(beat.address, self.first_page)",
            "beat.address",
            6,
            "a wrong address, or one outside the memory that may be used",
        ),
        (
            "(unanswered.level == 0) & ~takes)",
            "(unanswered.level == 0))",
            8,
            "a beat is dropped before all before it are answered",
        ),
        ("self.held.valid & outside & self.nothing & ~self.error.valid", "0", 6, "an error is not reported"),
    ],
)
def test_bus_notices(old, new, depth, broken):
    planted = plant(WriteMaster, old, new)
    # Shallow queues, so that a few cycles fill them.
    planted.__init__.__globals__.update(BEATS_QUEUED=2, WRITES_IN_FLIGHT=4)
    # One bug can break several claims at once.
    found = refute(WriteMasterRules(planted(CONFIGS["base"]), inductive=False), depth)
    assert any(claim in found for claim in ([broken] if isinstance(broken, str) else broken)), found


def test_a_slower_buffer_of_what_waits_for_an_answer_is_noticed():
    """The margin is zero: one cycle more than its two, and an answer comes before its beat is known."""
    rules = WriteMasterRules(WriteMaster(CONFIGS["base"]), inductive=False)
    rules.dut.unanswered.latency = None
    assert "an answer is not recognised" in refute(rules, depth=8)
