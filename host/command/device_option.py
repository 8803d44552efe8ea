"""The option ``--device`` of the command line."""

from typing import Any

import click

from tailrace.sim.devices import KINDS
from tailrace.spec.errors import ConfigError

from ..transports.open import is_hardware, parse_hardware
from .without_effect import refuse

#: Options that cycles depend on, whether they are simulated or predicted.
_TIMES = ("memory_timing", "latency", "bandwidth")
#: Options of the simulation alone.
_SIMULATES = ("trace", "wave", "optimise")
#: Options that say how a device without hardware is made.
_MAKES = ("config", "memory", "threads", *_TIMES, *_SIMULATES)


class DeviceName(click.ParamType):  # type: ignore[type-arg]
    """One of `tailrace.sim.devices.KINDS`, or the name of hardware (`tailrace.transports.open.parse_hardware`)."""

    name = "device"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the name; hardware is not opened."""
        if value not in KINDS:
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
    elif device != "verilator":
        refuse(context, _SIMULATES, f"is for the simulation, --device verilator: {device} has neither cycles nor signals")
        if not predicts(context):
            refuse(context, ("clock", *_TIMES), f"is for devices that count cycles: {device} has none")
        if device == "golden":
            refuse(context, ["threads"], "is for --device emulator and verilator: golden computes with one thread")
    timing = context.params.get("memory_timing", "ideal")
    if timing != "ideal":
        refuse(context, ("latency", "bandwidth"), f"is for --memory-timing ideal: {timing} has a timing of its own")


def predicts(context: click.Context) -> bool:
    """Whether the command predicts cycles, with a device that counts none."""
    return context.params.get("path", "operations") != "operations"
