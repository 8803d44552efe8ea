"""Every stream part keeps the contract of streams."""

import pytest

from tailrace.hdl import fifo
from tailrace.hdl.fifo import StreamFifo
from tailrace.hdl.merge import StreamMerge
from tailrace.hdl.stream_register import StreamRegister
from tailrace.hdl.vector.append import Append
from tailrace.hdl.vector.store import Store
from tailrace.spec.config import CONFIGS
from verification.formal.plant import plant
from verification.formal.prove import prove_by_induction, prove_by_reachability, refute
from verification.formal.stand_ins import ForgetfulFifo
from verification.formal.steady_streams import SteadyStreams
from verification.formal.stream_contract import StreamContract


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_small_fifo(depth):
    verdict = prove_by_reachability(StreamContract(StreamFifo(2, depth), capacity=depth, latency=1))
    assert verdict.proved, verdict.reason


@pytest.mark.parametrize("depth", [3, 4])
def test_large_fifo(monkeypatch, depth):
    """With block RAM, though shallow: the depth only says where pointers wrap."""
    monkeypatch.setattr(fifo, "SMALL_DEPTH", 0)
    verdict = prove_by_reachability(StreamContract(StreamFifo(2, depth), capacity=depth, latency=2))
    assert verdict.proved, verdict.reason


def test_register():
    verdict = prove_by_reachability(StreamContract(StreamRegister(2), capacity=2, latency=1))
    assert verdict.proved, verdict.reason


@pytest.mark.parametrize(
    ("depth", "old", "new"),
    [
        (2, "i.ready.eq(~full)", "i.ready.eq(1)"),
        (2, "keeps | full | i.valid", "keeps | i.valid"),
        (2, "keeps & (full | i.valid)", "full | i.valid"),
        (2, "Mux(full, second, i.payload)", "i.payload"),
        (2, "m.If(~full)", "m.If(1)"),
        (3, "self.i.ready.eq(inner.w_rdy)", "self.i.ready.eq(1)"),
        (3, "inner.w_en.eq(self.i.valid)", "inner.w_en.eq(1)"),
        (3, "inner.r_en.eq(self.o.ready)", "inner.r_en.eq(1)"),
        (3, "self.o.valid.eq(inner.r_rdy)", "self.o.valid.eq(1)"),
        (3, "self.o.valid.eq(inner.r_rdy)", "self.o.valid.eq(inner.r_rdy & self.i.valid)"),
        (3, "inner.w_data.eq(Cat(self.i.payload))", "inner.w_data.eq(Cat(self.i.payload) & self.level[0].replicate(2))"),
    ],
)
def test_fifo_notices(depth, old, new):
    verdict = prove_by_reachability(StreamContract(plant(StreamFifo, old, new)(2, depth), capacity=depth, latency=1))
    assert verdict.refuted, verdict.reason


def test_forgetting_is_noticed():
    verdict = prove_by_reachability(StreamContract(ForgetfulFifo(2, 2, latency=1), capacity=2, latency=1))
    assert verdict.refuted, verdict.reason


TINY = CONFIGS["tiny"]


@pytest.mark.parametrize(
    "part", [lambda: StreamMerge(8), lambda: Store(TINY), lambda: Append(TINY)], ids=["merge", "store", "append"]
)
def test_offers_stand(part):
    verdict = prove_by_induction(SteadyStreams(part()), depth=3)
    assert verdict.proved, verdict.reason


def test_an_offer_withdrawn_is_noticed():
    planted = plant(StreamMerge, "use_first = self.first.valid & ~offered", "use_first = self.first.valid")
    assert refute(SteadyStreams(planted(8)), depth=5) == "what was on offer changed before it was taken"
