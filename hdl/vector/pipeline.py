"""The arithmetic of the elementwise unit."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tailrace.spec.config import Config
from tailrace.spec.floats import Function

from ..float.add import FloatAdd
from ..float.function import FunctionUnit
from ..float.multiply import FloatMultiply
from .activation_buffer import word_layout
from .delay_memory import DelayMemory
from .elementwise_sequencer import place_layout
from .operands import operand_layout


class ElementwisePipeline(wiring.Component):
    """``t = x[0] * y[0] + x[1] * y[1]``, ``u = function(t)``, ``v = u * factor + addend``, for each element of a word.

    Instead of the sum of both products, t may be their difference or the lesser one.

    Every product, every function and every sum is rounded, as `tailrace.spec.floats` says.

    Latency, in enabled cycles: `latency` from operands to v, and `function_latency` less for the identity, which has nothing to
    compute: it goes past the function units. `tail_latency` of that is from u to v. Throughput: one word a cycle.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    enable : In(1)
        The pipeline advances.
    function : In(Function)
        To be changed only while the pipeline is empty.
    valid : In(1)
    operands : In(operand_layout(config))
    place : In(place_layout(config))
    u_valid, v_valid : Out(1)
    u, v : Out(word_layout(config))
    u_place, v_place : Out(place_layout(config))
    busy : Out(1)
        There are words in the pipeline, `v` included.
    """

    #: Enabled cycles from operands to t, from there to u, and from there to v.
    head_latency = FloatMultiply.latency + FloatAdd.latency
    function_latency = FunctionUnit.latency
    tail_latency = FloatMultiply.latency + FloatAdd.latency
    latency = head_latency + function_latency + tail_latency

    def __init__(self, config: Config) -> None:
        self._config = config
        word, place = word_layout(config), place_layout(config)
        super().__init__(
            {
                "enable": In(1),
                "function": In(Function),
                "valid": In(1),
                "operands": In(operand_layout(config)),
                "place": In(place),
                "u_valid": Out(1),
                "u": Out(word),
                "u_place": Out(place),
                "v_valid": Out(1),
                "v": Out(word),
                "v_place": Out(place),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        word, place = word_layout(config), place_layout(config)

        identity = Signal()
        m.d.comb += identity.eq(self.function == Function.IDENTITY)

        head, functions, tail = Signal(self.head_latency), Signal(self.function_latency), Signal(self.tail_latency)
        with m.If(self.enable):
            m.d.sync += [
                head.eq(head << 1 | self.valid),
                functions.eq(functions << 1 | (head[-1] & ~identity)),
                tail.eq(tail << 1 | self.u_valid),
                # In a register, as much waits for it: whether anything is in the pipeline from the next cycle on.
                self.busy.eq(self.valid | head.any() | functions.any() | tail[:-1].any()),
            ]
        m.d.comb += [self.u_valid.eq(Mux(identity, head[-1], functions[-1])), self.v_valid.eq(tail[-1])]
        # Delay lines count the cycles in which there is something to delay.
        moves = Signal()
        m.d.comb += moves.eq(self.enable & (self.valid | self.busy))

        def delay(name: str, shape: Any, value: Any, cycles: int, short_cycles: int) -> Any:
            m.submodules[name] = line = DelayMemory(shape, cycles, short_cycles)
            m.d.comb += [line.enable.eq(moves), line.short.eq(identity), line.i.eq(value)]
            return line.o

        to_u = (self.head_latency + self.function_latency, self.head_latency)
        to_addend = (to_u[0] + FloatMultiply.latency, to_u[1] + FloatMultiply.latency)
        factor = delay("factor", word, self.operands.factor, *to_u)
        addend = delay("addend", word, self.operands.addend, *to_addend)
        u_place = delay("u_place", place, self.place, *to_u)
        v_place = delay("v_place", place, u_place, self.tail_latency, self.tail_latency)
        m.d.comb += [self.u_place.eq(u_place), self.v_place.eq(v_place)]

        subtract, lesser = (Signal(FloatMultiply.latency, name=n) for n in ("subtract", "lesser"))
        with m.If(moves):
            m.d.sync += [
                line.eq(line << 1 | bit) for line, bit in ((subtract, self.operands.subtract), (lesser, self.operands.lesser))
            ]

        for n in range(config.word_elements):
            m.submodules[f"first_product_{n}"] = first = FloatMultiply()
            m.submodules[f"second_product_{n}"] = second = FloatMultiply()
            m.submodules[f"t_{n}"] = t = FloatAdd()
            m.submodules[f"function_{n}"] = function = FunctionUnit()
            m.submodules[f"product_{n}"] = product = FloatMultiply()
            m.submodules[f"v_{n}"] = v = FloatAdd()
            x, y, u = self.operands.x, self.operands.y, Mux(identity, t.o, function.o)
            m.d.comb += [
                *(unit.enable.eq(self.enable) for unit in (first, second, t, function, product, v)),
                *(first.valid.eq(self.valid), first.a.eq(x[0][n]), first.b.eq(y[0][n])),
                *(second.valid.eq(self.valid), second.a.eq(x[1][n]), second.b.eq(y[1][n])),
                *(t.valid.eq(first.o_valid), t.a.eq(first.o), t.b.eq(second.o)),
                *(t.subtract.eq(subtract[-1]), t.lesser.eq(lesser[-1])),
                *(function.valid.eq(t.o_valid & ~identity), function.function.eq(self.function), function.x.eq(t.o)),
                *(product.valid.eq(self.u_valid), product.a.eq(u), product.b.eq(factor[n])),
                *(v.valid.eq(product.o_valid), v.a.eq(product.o), v.b.eq(addend[n])),
                *(self.u[n].eq(u), self.v[n].eq(v.o)),
            ]
        return m
