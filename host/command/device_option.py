"""The option ``--device`` of the command line."""

from typing import Any

import click

from tailrace.spec.errors import ConfigError

from ..transports.open import is_hardware, parse_hardware
from .without_effect import refuse

#: Devices without hardware, as `tailrace.sim.devices` opens them.
SIMULATED = ("golden", "verilator")
#: Options of the simulation.
_SIMULATES = ("memory_timing", "latency", "bandwidth", "threads", "trace", "wave")
#: Options that say how a device without hardware is made.
_MAKES = ("config", "memory", *_SIMULATES)


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


def refuse_what_the_device_ignores(context: click.Context) -> None:
    """Refuse options of a command that the device, as it is, does not obey.

    Raises
    ------
    click.UsageError
        If one was given.
    """
    device = context.params["device"]
    if is_hardware(device):
        for names, advice in ((["memory"], "; its memory is named as in xdma:/dev/xdma0,memory=4GiB"), (_MAKES, "")):
            refuse(context, names, f"is for devices without hardware: {device} is built as it is{advice}")
    elif device == "golden":
        refuse(context, _SIMULATES, "is for the simulation, --device verilator: golden has neither cycles nor signals")
        refuse(context, ["clock"], "is for devices that count cycles: golden has none")
    elif (timing := context.params.get("memory_timing", "ideal")) != "ideal":
        refuse(context, ("latency", "bandwidth"), f"is for --memory-timing ideal: {timing} has a timing of its own")
