"""The execute side: the units that vectors, weights and results pass through, and what stays on the device."""

from typing import Any

from amaranth.hdl import Module, ResetInserter
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tailrace.spec.config import Config

from .axi.signature import write_request_layout
from .control.executor import Executor
from .control.layout import operation_layout
from .gemv.engine import GemvEngine
from .vector.loader import VectorLoader
from .vector.memory import VectorMemory
from .vector.quantiser import Quantiser
from .vector.result_buffer import ResultBuffer
from .vector.results import ResultRouter
from .vector.store import Store
from .vector.write_select import VectorWriteSelect


class Datapath(wiring.Component):
    """Executor, matrix-vector engine, vector slots and result buffer.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    flush : in
        While 1 the units are held in reset. Vector slots and the result buffer keep what they hold.
    operation : stream of operations, in
    vector, weights : streams of bus beats, in
        The data of the operations, in their order.
    write_request, o : streams, out
        Where results go in memory, and the results (float32), for the write master.
    idle : out
        Nothing is left to do.
    command : out
        Index of the command that was started last.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "flush": In(1),
                "operation": In(stream.Signature(operation_layout(config))),
                "vector": In(stream.Signature(config.bus_width)),
                "weights": In(stream.Signature(config.bus_width)),
                "write_request": Out(stream.Signature(write_request_layout(config.address_width))),
                "o": Out(stream.Signature(32)),
                "idle": Out(1),
                "command": Out(16),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        executor, gemv, loader = Executor(config), GemvEngine(config), VectorLoader(config)
        quantiser, router, store = Quantiser(config), ResultRouter(config), Store(config)
        for name, unit in (
            ("executor", executor),
            ("gemv", gemv),
            ("loader", loader),
            ("quantiser", quantiser),
            ("router", router),
            ("store", store),
        ):
            m.submodules[name] = ResetInserter(self.flush)(unit)
        m.submodules.slots = slots = VectorMemory(config)
        m.submodules.writes = writes = VectorWriteSelect(config)
        m.submodules.results = results = ResultBuffer(config)

        connect(m, flipped(self.operation), executor.i)
        connect(m, executor.write, flipped(self.write_request))
        connect(m, executor.load, loader.command)
        connect(m, executor.gemv, gemv.command)
        connect(m, executor.route, router.command)
        connect(m, executor.quantise, quantiser.command)
        connect(m, executor.store, store.command)
        connect(m, flipped(self.vector), loader.i)
        connect(m, flipped(self.weights), gemv.i)
        connect(m, gemv.o, router.i)
        connect(m, loader.write, writes.loader)
        connect(m, quantiser.write, writes.quantiser)
        connect(m, writes.write, slots.write)
        connect(m, router.write, results.write)
        m.d.comb += [
            slots.vector_block.eq(gemv.vector_block),
            gemv.vector.eq(slots.vector),
            executor.bases.eq(slots.bases),
            executor.load_idle.eq(loader.idle),
            executor.gemv_idle.eq(gemv.idle),
            executor.route_idle.eq(router.idle),
            executor.quantise_idle.eq(quantiser.idle),
            executor.store_idle.eq(store.idle),
            self.idle.eq(executor.idle),
            self.command.eq(executor.command),
        ]

        # The executor never runs two of these at once: whoever is at work has the buffer's read port, and the way to memory.
        m.d.comb += [
            results.read.address.eq(store.read.address),
            store.read.data.eq(results.read.data),
            quantiser.read.data.eq(results.read.data),
            self.o.valid.eq(router.o.valid | store.o.valid),
            self.o.payload.eq(router.o.payload),
            router.o.ready.eq(self.o.ready),
            store.o.ready.eq(self.o.ready),
        ]
        with m.If(~quantiser.idle):
            m.d.comb += results.read.address.eq(quantiser.read.address)
        with m.If(store.o.valid):
            m.d.comb += self.o.payload.eq(store.o.payload)
        return m
