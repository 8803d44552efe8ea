import pytest
from amaranth.hdl import UnusedElaboratable

from tailrace.hdl.control import command_fetch
from tailrace.spec.config import CONFIGS
from verification.formal.command_fetch_rules import CommandFetchRules
from verification.formal.plant import plant
from verification.formal.prove import prove_by_induction, refute
from verification.formal.stand_ins import ForgetfulFifo

pytestmark = pytest.mark.filterwarnings(f"ignore::{UnusedElaboratable.__module__}.{UnusedElaboratable.__name__}")


@pytest.mark.parametrize("name", ["base", "wide"])
def test_fetch(monkeypatch, name):
    monkeypatch.setattr(command_fetch, "StreamFifo", ForgetfulFifo)
    rules = CommandFetchRules(command_fetch.CommandFetch(CONFIGS[name]), CONFIGS[name], command_fetch.AHEAD)
    verdict = prove_by_induction(rules, depth=1)
    assert verdict.proved, verdict.reason


@pytest.mark.parametrize(
    ("old", "new", "broken"),
    [
        ("~ends & (room != 0)", "~ends", "there is more room than there is"),
        (
            "StreamFifo(config.unit_width, AHEAD * beats)",
            "StreamFifo(config.unit_width, 1)",
            "a command's beat finds no room",
        ),
        ("fifo.o.ready.eq(~full | self.o.ready)", "fifo.o.ready.eq(1)", "what was on offer changed before it was taken"),
        (
            "room.eq(back)",
            "room.eq(AHEAD + taken)",
            "there is more room than there is",
        ),
    ],
)
def test_fetch_notices(old, new, broken):
    """With four commands ahead, so that a few cycles are enough."""
    planted = plant(command_fetch.CommandFetch, old, new)
    planted.elaborate.__globals__.update(StreamFifo=ForgetfulFifo, AHEAD=4)
    rules = CommandFetchRules(planted(CONFIGS["wide"]), CONFIGS["wide"], ahead=4, inductive=False)
    assert broken in refute(rules, depth=16)
