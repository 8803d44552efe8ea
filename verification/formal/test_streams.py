"""Every stream part keeps the contract of streams."""

import pytest
from amaranth.hdl import Assume, Cat, Signal

from tailrace.hdl import fifo
from tailrace.hdl.control.executor import Executor
from tailrace.hdl.fifo import StreamFifo
from tailrace.hdl.gemv.rounding import RoundToFloat32
from tailrace.hdl.gemv.serialiser import Serialiser
from tailrace.hdl.merge import StreamMerge
from tailrace.hdl.vector.results import ResultRouter
from tailrace.hdl.vector.store import Store
from tailrace.spec.config import CONFIGS
from verification.formal.plant import plant
from verification.formal.prove import prove_by_induction, prove_by_reachability, refute
from verification.formal.steady_streams import SteadyStreams
from verification.formal.stream_contract import StreamContract
from verification.formal.visible_fifo import CountingFifo, VisibleFifo


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_small_fifo(depth):
    verdict = prove_by_reachability(StreamContract(StreamFifo(2, depth), capacity=depth, latency=1))
    assert verdict.proved, verdict.reason


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_large_fifo(monkeypatch, depth):
    """With block RAM, though shallow: the depth only says where pointers wrap."""
    monkeypatch.setattr(fifo, "SMALL_DEPTH", 0)
    verdict = prove_by_reachability(StreamContract(StreamFifo(2, depth), capacity=depth, latency=2))
    assert verdict.proved, verdict.reason


def test_visible_fifo():
    verdict = prove_by_reachability(StreamContract(VisibleFifo(2, 2), capacity=2, latency=1))
    assert verdict.proved, verdict.reason


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("self.i.ready.eq(inner.w_rdy)", "self.i.ready.eq(1)"),
        ("inner.w_en.eq(self.i.valid)", "inner.w_en.eq(1)"),
        ("inner.r_en.eq(self.o.ready)", "inner.r_en.eq(1)"),
        ("self.o.valid.eq(inner.r_rdy)", "self.o.valid.eq(1)"),
        ("self.o.valid.eq(inner.r_rdy)", "self.o.valid.eq(inner.r_rdy & self.i.valid)"),
        ("inner.w_data.eq(Cat(self.i.payload))", "inner.w_data.eq(Cat(self.i.payload) & self.level[0].replicate(2))"),
    ],
)
def test_fifo_notices(old, new):
    verdict = prove_by_reachability(StreamContract(plant(StreamFifo, old, new)(2, 2), capacity=2, latency=1))
    assert verdict.refuted, verdict.reason


def test_forgetting_is_noticed():
    verdict = prove_by_reachability(StreamContract(CountingFifo(2, 2), capacity=2, latency=1))
    assert verdict.refuted, verdict.reason


def idle_until_used(m, executor):
    """A unit that has nothing to do stays so until it is given something."""
    for name in ("load", "gemv", "route", "quantise", "store"):
        rested, idle = Signal(name=f"{name}_rested"), getattr(executor, f"{name}_idle")
        m.d.sync += rested.eq(idle & ~getattr(executor, name).valid)
        m.d.comb += Assume(~rested | idle)
    # The exponents belong to vectors, which do not change while a product is on offer.
    bases, offered = Signal.like(Cat(executor.bases)), Signal()
    m.d.sync += [bases.eq(Cat(executor.bases)), offered.eq(executor.gemv.valid & ~executor.gemv.ready)]
    m.d.comb += Assume(~offered | (Cat(executor.bases) == bases))


def read_from_memory(m, store):
    """The same address gives the same entry."""
    address, data = Cat(store.read.address), Cat(store.read.data)
    last, one_before, previous = Signal(len(address)), Signal(len(address)), Signal(len(data))
    m.d.sync += [last.eq(address), one_before.eq(last), previous.eq(data)]
    m.d.comb += Assume((last != one_before) | (data == previous))


TINY = CONFIGS["tiny"]


@pytest.mark.parametrize(
    ("part", "surroundings"),
    [
        (lambda: StreamMerge(8), None),
        (lambda: Executor(TINY), idle_until_used),
        (lambda: ResultRouter(TINY), None),
        (lambda: Store(TINY), read_from_memory),
        (lambda: RoundToFloat32(), None),
        (lambda: Serialiser(TINY), None),
    ],
    ids=["merge", "executor", "router", "store", "rounding", "serialiser"],
)
def test_offers_stand(part, surroundings):
    verdict = prove_by_induction(SteadyStreams(part(), surroundings), depth=3)
    assert verdict.proved, verdict.reason


def test_an_offer_withdrawn_is_noticed():
    planted = plant(StreamMerge, "use_first = self.first.valid & ~offered", "use_first = self.first.valid")
    assert refute(SteadyStreams(planted(8)), depth=5) == "what was on offer changed before it was taken"
