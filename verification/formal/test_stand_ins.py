"""Every buffer that a proof replaces is contained in what stands for it there."""

import pytest

from tailrace.hdl.axi import read_master, write_master
from tailrace.hdl.control import command_fetch
from tailrace.hdl.fifo import SMALL_DEPTH, StreamFifo
from tailrace.spec.config import CONFIGS
from verification.formal.containment import Containment
from verification.formal.plant import plant
from verification.formal.prove import prove_by_induction, refute
from verification.formal.stand_ins import ForgetfulFifo, VisibleFifo


def depths_in_use() -> list[int]:
    """Depths of all buffers of the masters and of command fetch, in the named configurations."""
    depths = set()

    class Recorded(StreamFifo):
        def __init__(self, shape, depth):
            super().__init__(shape, depth)
            depths.add(depth)

    with pytest.MonkeyPatch.context() as patch:
        for module in (read_master, write_master, command_fetch):
            patch.setattr(module, "StreamFifo", Recorded)
        for config in CONFIGS.values():
            for part in (read_master.ReadMaster, write_master.WriteMaster, command_fetch.CommandFetch):
                part(config).elaborate("formal")
    return sorted(depths)


DIFFERENT = "it offers an entry, or does not, unlike the stand-in"


@pytest.mark.parametrize("depth", depths_in_use())
def test_real_buffers_are_contained(depth):
    """With one bit, which stands for any, as the buffer does not look at what it holds."""
    verdict = prove_by_induction(Containment(StreamFifo(1, depth), latency=1 if depth <= SMALL_DEPTH else 2), depth=1)
    assert verdict.proved, verdict.reason


@pytest.mark.parametrize(("depth", "latency"), [(2, None), (read_master.REQUESTS_IN_FLIGHT, 2)])
def test_what_can_be_looked_into_gives_what_it_takes(depth, latency):
    verdict = prove_by_induction(Containment(VisibleFifo(1, depth, latency), latency), depth=1)
    assert verdict.proved, verdict.reason


@pytest.mark.parametrize(
    ("part", "latency", "depth", "broken"),
    [
        (StreamFifo(1, SMALL_DEPTH + 1), 1, None, DIFFERENT),
        (StreamFifo(1, 2), 1, 3, "it takes an entry, or does not, unlike the stand-in"),
        (VisibleFifo(1, 2, 2), 1, None, DIFFERENT),
        (VisibleFifo(1, 2, None), 2, None, DIFFERENT),
        (ForgetfulFifo(1, 2, 1), 1, None, "it offers what the stand-in can not"),
        (
            plant(StreamFifo, "self.o.valid.eq(inner.r_rdy)", "self.o.valid.eq(inner.r_rdy & self.i.valid)")(1, 3),
            1,
            None,
            DIFFERENT,
        ),
        (
            plant(StreamFifo, "inner.w_data.eq(Cat(self.i.payload))", "inner.w_data.eq(Cat(self.i.payload) & self.level[0])")(
                1, 3
            ),
            1,
            None,
            "it offers what the stand-in can not",
        ),
        (plant(StreamFifo, "Mux(full, second, i.payload)", "i.payload")(1, 2), 1, None, "it offers what the stand-in can not"),
        (plant(StreamFifo, "keeps | full | i.valid", "keeps | i.valid")(1, 2), 1, None, DIFFERENT),
    ],
)
def test_what_does_more_than_its_stand_in_is_noticed(part, latency, depth, broken):
    assert broken in refute(Containment(part, latency, depth, inductive=False), depth=6)
