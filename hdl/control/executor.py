"""Starts each operation on the unit that carries it out, when what it depends on is done."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config
from tailrace.spec.isa import Opcode

from ..axi.signature import write_request_layout
from ..gemv.command import gemv_command_layout
from ..vector.loader import load_command_layout
from ..vector.quantiser import quantise_command_layout
from ..vector.results import route_command_layout
from ..vector.store import store_command_layout
from .layout import operation_layout


class Executor(wiring.Component):
    """Dispatch operations in order.

    Vectors and weights come in one stream in the order of the operations. So a load may be started while a product before it
    still runs: its beats come after that product's weights, when the slots have been read for the last time. A product waits
    until the slots have been written. Operations on the result buffer (`QUANTISE`, `STORE`) wait for everything before them,
    and everything after them waits for them.

    An operation that depends on none before it starts in the cycle in which it arrives, any other in the cycle after the last
    unit that it depends on has become idle.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    i : stream of operations, in
    load, gemv, route, quantise, store : streams of commands to the units, out
    write : stream of write requests, out
    bases : in
        Base exponents of the vector slots, captured by each product.
    load_idle, gemv_idle, route_idle, quantise_idle, store_idle : in
        A unit has nothing left to do. It must fall in the cycle after a command was accepted, or before.
    idle : out
        All of them are, and nothing waits here.
    command : out
        Index of the operation that was started last: a product when it was accepted, as the engine takes the next one while
        it works; a load when it waits for its own beats, so when no product is before it; the others when they are offered.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "i": In(stream.Signature(operation_layout(config))),
                "load": Out(stream.Signature(load_command_layout(config))),
                "gemv": Out(stream.Signature(gemv_command_layout(config))),
                "route": Out(stream.Signature(route_command_layout(config))),
                "quantise": Out(stream.Signature(quantise_command_layout(config))),
                "store": Out(stream.Signature(store_command_layout(config))),
                "write": Out(stream.Signature(write_request_layout(config.address_width))),
                "bases": In(gemv_command_layout(config)["bases"].shape),
                "load_idle": In(1),
                "gemv_idle": In(1),
                "route_idle": In(1),
                "quantise_idle": In(1),
                "store_idle": In(1),
                "idle": Out(1),
                "command": Out(16),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        operation = self.i.payload
        entries = Signal(27)
        m.d.comb += entries.eq(operation.rows * operation.slots)

        # Registered, so that no unit's readiness feeds another's in the same cycle; one that is being offered work is not idle.
        done = {name: Signal(name=f"{name}_done") for name in ("load", "gemv", "route", "quantise", "store")}
        for name, signal in done.items():
            m.d.sync += signal.eq(getattr(self, f"{name}_idle") & ~getattr(self, name).valid)
        barrier_done = done["quantise"] & done["store"]
        all_done = barrier_done & done["load"] & done["gemv"] & done["route"]
        m.d.comb += self.idle.eq(~self.i.valid & all_done)

        m.d.comb += [
            self.load.payload.slot.eq(operation.slot),
            self.load.payload.blocks.eq(operation.blocks),
            self.gemv.payload.format.eq(operation.format),
            self.gemv.payload.rows.eq(operation.rows),
            self.gemv.payload.blocks.eq(operation.blocks),
            self.gemv.payload.slots.eq(operation.slots),
            self.gemv.payload.bases.eq(self.bases),
            self.route.payload.keep.eq(operation.keep),
            self.route.payload.offset.eq(operation.offset),
            self.route.payload.entries.eq(entries),
            self.quantise.payload.slot.eq(operation.slot),
            self.quantise.payload.offset.eq(operation.offset),
            self.quantise.payload.blocks.eq(operation.blocks),
            self.quantise.payload.stride.eq(operation.stride),
            self.store.payload.offset.eq(operation.offset),
            self.store.payload.entries.eq(operation.rows),
            self.write.payload.address.eq(operation.destination),
            self.write.payload.command.eq(operation.command),
        ]

        def offer(condition: Any, *targets: Any) -> None:
            """Give the operation to several units, each when it is ready; take it when all have it."""
            taken = []
            for target in targets:
                sent = Signal(name="sent")
                m.d.comb += target.valid.eq(condition & ~sent)
                accepted = target.valid & target.ready
                taken.append(sent | accepted)
                with m.If(self.i.ready):
                    m.d.sync += sent.eq(0)
                with m.Elif(accepted):
                    m.d.sync += sent.eq(1)
            everywhere = condition
            for one in taken:
                everywhere = everywhere & one
            m.d.comb += self.i.ready.eq(everywhere)

        started = Signal()
        with m.If(self.i.valid):
            with m.Switch(operation.opcode):
                with m.Case(Opcode.LOAD_VECTOR):
                    offer(barrier_done, self.load)
                with m.Case(Opcode.GEMV):
                    with m.If(operation.keep):
                        offer(barrier_done & done["load"], self.gemv, self.route)
                    with m.Else():
                        m.d.comb += self.write.payload.entries.eq(entries)
                        offer(barrier_done & done["load"], self.gemv, self.route, self.write)
                # What is offered is no longer idle, so that it may go on is remembered.
                with m.Case(Opcode.QUANTISE):
                    offer(all_done | started, self.quantise)
                with m.Case(Opcode.STORE):
                    m.d.comb += self.write.payload.entries.eq(operation.rows)
                    offer(all_done | started, self.store, self.write)
        m.d.sync += started.eq(self.i.valid & ~self.i.ready & (started | all_done))
        loading = self.load.valid & done["gemv"]
        with m.If((self.i.valid & self.i.ready) | loading | self.quantise.valid | self.store.valid):
            m.d.sync += self.command.eq(operation.command)
        return m
