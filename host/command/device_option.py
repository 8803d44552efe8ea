"""The option ``--device`` of the command line."""

from typing import Any

import click
from click.core import ParameterSource

from tailrace.spec.errors import ConfigError

from ..transports.open import is_hardware, parse_hardware

#: Devices without hardware, as `tailrace.sim.devices` opens them.
SIMULATED = ("golden", "verilator")
#: Options that say how a device without hardware is made.
_MAKES = ("config", "memory", "memory_timing", "latency", "bandwidth", "threads", "trace", "wave")


class DeviceName(click.ParamType):  # type: ignore[type-arg]
    """``golden``, ``verilator``, or the name of hardware (`tailrace.transports.open.parse_hardware`)."""

    name = "device"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the name; hardware is not opened."""
        if value not in SIMULATED:
            try:
                parse_hardware(value)
            except ConfigError as error:
                self.fail(str(error), param, ctx)
        return str(value)


def refuse_for_hardware(context: click.Context) -> bool:
    """Whether the device is hardware; then nothing may be asked for that only can be chosen without.

    Raises
    ------
    click.UsageError
        If such an option was given.
    """
    if not is_hardware(context.params["device"]):
        return False
    for name in _MAKES:
        if name in context.params and context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            option, device = f"--{name.replace('_', '-')}", context.params["device"]
            advice = "; its memory is named as in xdma:/dev/xdma0,memory=4GiB" if name == "memory" else ""
            raise click.UsageError(f"{option} is for devices without hardware: {device} is built as it is{advice}")
    return True


def clock_was_given(context: click.Context) -> bool:
    """Whether ``--clock`` was given, rather than left at its default."""
    return context.get_parameter_source("clock") is not ParameterSource.DEFAULT
