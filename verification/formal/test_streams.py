"""Every part whose streams `i` and `o` carry the same things keeps the contract of streams."""

import pytest

from tailrace.hdl import fifo
from tailrace.hdl.fifo import StreamFifo
from verification.formal.plant import plant
from verification.formal.prove import prove_by_reachability
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
