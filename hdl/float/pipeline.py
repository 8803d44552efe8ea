"""Registers between the stages of a unit that has no handshake."""

from typing import Any

from amaranth.hdl import Module, Signal, Value


class Stage:
    """What one stage of a pipeline holds; each value is an attribute."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"this stage does not hold {name!r}")


class Pipeline:
    """Makes the stages of a pipeline, one after the other.

    A stage takes its values when the pipeline advances and the stage before it holds valid ones; else it keeps what it has, so
    that idle logic does not switch, nor cost a simulator time.

    Parameters
    ----------
    m : Module
    enable : Value
        The pipeline advances.
    valid : Value
        The operands are valid.

    Attributes
    ----------
    valid : Value
        The stage made last holds valid values.
    latency : int
        Stages made so far.
    """

    def __init__(self, m: Module, enable: Value, valid: Value) -> None:
        self._m = m
        self._enable = enable
        self.valid = valid
        self.latency = 0

    @property
    def advance(self) -> Value:
        """The next stage takes its values at the end of this cycle."""
        return self._enable & self.valid

    def stage(self, **values: Any) -> Stage:
        """Make a stage that holds these values, each a `Value` or a list of them, and no others."""
        n = self.latency
        taken = []

        def register(name: str, value: Any) -> Any:
            if isinstance(value, list):
                return [register(f"{name}_{k}", one) for k, one in enumerate(value)]
            held = Signal(Value.cast(value).shape(), name=f"{name}_{n}", reset_less=True)
            taken.append(held.eq(value))
            return held

        stage = Stage({name: register(name, value) for name, value in values.items()})
        with self._m.If(self.advance):
            self._m.d.sync += taken
        valid = Signal(name=f"valid_{n}")
        with self._m.If(self._enable):
            self._m.d.sync += valid.eq(self.valid)
        self.valid = valid
        self.latency += 1
        return stage
