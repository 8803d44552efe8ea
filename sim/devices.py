"""Opens a device to run on without hardware, by its name."""

from operator import index
from typing import Any, SupportsIndex

from tailrace.spec.config import Config
from tailrace.spec.errors import ConfigError
from tailrace.spec.transport import Transport

#: What `open_device` can open.
KINDS = ("emulator", "golden", "verilator")


def open_device(kind: str, config: Config, memory_size: int, **options: Any) -> Transport:
    """Open a device.

    Parameters
    ----------
    kind : str
        ``emulator``: the instruction set in native code; ``golden``: the golden model, in numpy; ``verilator``: the gateware,
        simulated.
    config : Config
    memory_size : int
        Bytes of device memory.
    **options
        Further parameters of `tailrace.sim.emulator.device.EmulatedDevice`, `tailrace.golden.device.GoldenDevice` or
        `tailrace.sim.verilated.VerilatedDevice`.

    Raises
    ------
    ConfigError
        If there is no such kind, or a parameter is out of range.
    TypeError
        If `config` is not one, but its name.
    ToolError
        If the simulation needs a tool that is missing.
    """
    if not isinstance(config, Config):
        raise TypeError(f"config is what tailrace.spec.config.parse_config('base') returns, not {config!r}")
    if isinstance(memory_size, bool) or not isinstance(memory_size, SupportsIndex):
        raise ConfigError(f"memory_size must be a whole number of bytes, not {memory_size!r}")
    memory_size = index(memory_size)
    if kind == "golden":
        from tailrace.golden.device import GoldenDevice

        return GoldenDevice(config, memory_size, **options)
    if kind == "emulator":
        from .emulator.device import EmulatedDevice

        return EmulatedDevice(config, memory_size, **options)
    if kind == "verilator":
        from .verilated import VerilatedDevice

        return VerilatedDevice(config, memory_size, **options)
    raise ConfigError(f"unknown device {kind!r}: choose one of {', '.join(KINDS)}")
