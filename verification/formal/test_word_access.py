import pytest

from tailrace.hdl.link.word_access import WordAccess
from verification.formal.plant import plant
from verification.formal.prove import prove_by_reachability, refute
from verification.formal.word_access_rules import WordAccessRules

#: Cycles of the watchdog: enough for every order of events around its last one.
CYCLES = 3


def test_rules():
    verdict = prove_by_reachability(WordAccessRules(WordAccess(CYCLES)))
    assert verdict.proved, verdict.reason


@pytest.mark.parametrize(
    ("old", "new", "broken"),
    [
        ("with m.If(port.ready):", "with m.If(port.ready | late):", "what was on offer changed before it was taken"),
        ("with m.If(outstanding & ~late):", "with m.If(outstanding):", "what was on offer changed before it was taken"),
        ("with m.Elif(cycles == self.watchdog_cycles - 1):", "with m.Elif(0):", "an access does not end"),
        (
            "with m.If(outstanding):\n                m.d.sync += [o.valid.eq(1), o.payload.error.eq(1)]",
            "with m.If(outstanding):\n                m.d.sync += [o.valid.eq(1), o.payload.error.eq(0)]",
            "an outcome that is not that of its own transfer",
        ),
        (
            "channel.ready.eq(outstanding & selected)",
            "channel.ready.eq(busy & selected)",
            "the bus can not get rid of an answer",
        ),
    ],
)
def test_notices(old, new, broken):
    assert broken in refute(WordAccessRules(plant(WordAccess, old, new)(CYCLES)), 12)
