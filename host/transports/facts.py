"""What a device tells of itself besides its registers, as far as its transport knows it."""

from dataclasses import asdict, is_dataclass

from tailrace.spec.config import Config
from tailrace.spec.transport import Transport


def config_of(transport: Transport) -> Config | None:
    """The configuration that it was built with; None: hardware, which states its numbers in registers."""
    config = getattr(transport, "config", None)
    return config if isinstance(config, Config) else None


def clock_of(transport: Transport) -> float | None:
    """Clock frequency in MHz; None: not known."""
    frequency = getattr(getattr(transport, "link", None), "clock", 0)
    return frequency / 1e6 if frequency else None


def statistics_of(transport: Transport) -> dict[str, int]:
    """What was counted on the way to the device, by name; empty if nothing is."""
    counters = getattr(getattr(transport, "link", None), "counters", None)
    if is_dataclass(counters) and not isinstance(counters, type):
        return {name.replace("_", " "): value for name, value in asdict(counters).items()}
    return dict(getattr(transport, "statistics", {}))
