"""The arithmetic of the elementwise unit."""

from typing import Any

from amaranth.hdl import Module, Signal
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
    """``t = x[0] * y[0] + x[1] * y[1]``, ``u = function(t)``, ``v = u * factor + addend``, in each lane.

    Every product, every function and every sum is rounded, as `tailrace.spec.floats` says.

    Latency: `function_latency` enabled cycles from operands to u, `latency` to v. Throughput: one word a cycle.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    enable : In(1)
        The pipeline advances.
    function : In(Function)
        The same for all words in the pipeline.
    valid : In(1)
    operands : In(operand_layout(config))
    place : In(place_layout(config))
    u_valid, v_valid : Out(1)
    u, v : Out(word_layout(config))
    u_place, v_place : Out(place_layout(config))
    busy : Out(1)
        There are words in the pipeline, `v` included.
    """

    #: Enabled cycles from operands to u, and to v.
    function_latency = FloatMultiply.latency + FloatAdd.latency + FunctionUnit.latency
    latency = function_latency + FloatMultiply.latency + FloatAdd.latency

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

        stages = Signal(self.latency)
        with m.If(self.enable):
            m.d.sync += stages.eq(stages << 1 | self.valid)
        m.d.comb += [
            self.busy.eq(stages.any()),
            self.u_valid.eq(stages[self.function_latency - 1]),
            self.v_valid.eq(stages[-1]),
        ]
        # Delay lines count the cycles in which there is something to delay.
        moves = Signal()
        m.d.comb += moves.eq(self.enable & (self.valid | self.busy))

        def delay(name: str, shape: Any, value: Any, cycles: int) -> Any:
            m.submodules[name] = line = DelayMemory(shape, cycles)
            m.d.comb += [line.enable.eq(moves), line.i.eq(value)]
            return line.o

        factor = delay("factor", word, self.operands.factor, self.function_latency)
        addend = delay("addend", word, self.operands.addend, self.function_latency + FloatMultiply.latency)
        u_place = delay("u_place", place, self.place, self.function_latency)
        m.d.comb += [
            self.u_place.eq(u_place),
            self.v_place.eq(delay("v_place", place, u_place, self.latency - self.function_latency)),
        ]

        for lane in range(config.lanes):

            def unit(kind: Any, name: str, valid: Any, lane: int = lane, **inputs: Any) -> Any:
                m.submodules[f"{name}_{lane}"] = one = kind()
                m.d.comb += [one.enable.eq(self.enable), one.valid.eq(valid)]
                m.d.comb += [getattr(one, port).eq(value) for port, value in inputs.items()]
                return one

            operands = self.operands
            first = unit(FloatMultiply, "first_product", self.valid, a=operands.x[0][lane], b=operands.y[0][lane])
            second = unit(FloatMultiply, "second_product", self.valid, a=operands.x[1][lane], b=operands.y[1][lane])
            t = unit(FloatAdd, "t", first.o_valid, a=first.o, b=second.o)
            u = unit(FunctionUnit, "u", t.o_valid, function=self.function, x=t.o)
            product = unit(FloatMultiply, "product", u.o_valid, a=u.o, b=factor[lane])
            v = unit(FloatAdd, "v", product.o_valid, a=product.o, b=addend[lane])
            m.d.comb += [self.u[lane].eq(u.o), self.v[lane].eq(v.o)]
        return m
