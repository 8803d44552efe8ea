"""Opens hardware by the name that a user gives it."""

from dataclasses import dataclass
from typing import Any

from tailrace.spec.errors import ConfigError
from tailrace.spec.transport import Transport

from .sizes import parse_size

#: What a name of each kind looks like.
EXAMPLES = {
    "serial": "serial:/dev/ttyUSB0,baud=3000000",
    "xdma": "xdma:/dev/xdma0,memory=4GiB",
    "uio": "uio:/dev/uio0,memory=udmabuf0",
    "litex": "litex:build/csr.csv,port=1234",
}
#: Options of each kind; those that must be given come first.
OPTIONS: dict[str, tuple[str, ...]] = {
    "serial": ("baud", "patience"),
    "xdma": ("memory", "control", "offset", "wait"),
    "uio": ("memory", "base", "wait"),
    "litex": ("host", "port", "core", "patience"),
}
_NEEDS_MEMORY = ("xdma", "uio")
_WAITS = ("interrupt", "poll")


@dataclass(frozen=True)
class HardwareName:
    """The name of a device that is hardware, taken apart.

    Attributes
    ----------
    kind : str
        One of `OPTIONS`.
    place : str
        The port, or device file.
    options : dict of str to object
        Values of the options that were given.
    """

    kind: str
    place: str
    options: dict[str, Any]


def is_hardware(text: str) -> bool:
    """Whether a device's name is that of hardware, as far as its kind tells."""
    return text.partition(":")[0] in OPTIONS


def parse_hardware(text: str) -> HardwareName:
    """Take the name of a device apart: ``KIND:PLACE`` and then options, as in ``serial:/dev/ttyUSB0,baud=3000000``.

    Raises
    ------
    ConfigError
        If the kind or an option is unknown, or a value is not what it should be.
    """
    kind, _, rest = text.partition(":")
    if kind not in OPTIONS:
        raise ConfigError(
            f"unknown device {text!r}: choose emulator, golden or verilator, or name hardware like {_join(EXAMPLES)}"
        )
    place, *changes = rest.split(",")
    if not place:
        raise ConfigError(f"{text!r} names no device: write it like {EXAMPLES[kind]}")
    options: dict[str, Any] = {}
    for change in changes:
        name, _, value = change.partition("=")
        if name not in OPTIONS[kind]:
            raise ConfigError(f"{text!r}: {kind} has no option {name!r}, choose from {', '.join(OPTIONS[kind])}")
        if name in options:
            raise ConfigError(f"{text!r}: {name} is given twice")
        options[name] = _value(text, kind, name, value)
    if kind in _NEEDS_MEMORY and "memory" not in options:
        raise ConfigError(f"{text!r} does not tell the memory: write it like {EXAMPLES[kind]}")
    return HardwareName(kind, place, options)


def open_transport(text: str) -> Transport:
    """Open hardware by its name.

    Parameters
    ----------
    text : str
        ``serial:PORT[,baud=N][,patience=SECONDS]``, ``xdma:PREFIX,memory=SIZE[,control=OFFSET][,offset=ADDRESS][,wait=poll]``,
        ``uio:DEVICE,memory=BUFFER[:BUFFER...][,base=ADDRESS][,wait=poll]``
        or ``litex:CSR_CSV[,host=NAME][,port=N][,core=NAME][,patience=SECONDS]``; see ``docs/transports.md``.

    Raises
    ------
    ConfigError
        If the name is not one, or an option is out of range.
    LinkError
        If the device can't be opened.
    ToolError
        If a package that it needs is not installed.
    """
    name = parse_hardware(text)
    options = dict(name.options)
    if name.kind == "serial":
        from .serial import SerialTransport

        return SerialTransport(name.place, **options)
    if name.kind == "litex":
        from .litex import LitexTransport

        return LitexTransport(name.place, **options)
    events = options.pop("wait", "interrupt") == "interrupt"
    if name.kind == "xdma":
        from .xdma import XdmaTransport

        return XdmaTransport(
            name.place,
            options["memory"],
            control_offset=options.get("control", 0),
            memory_offset=options.get("offset", 0),
            events=events,
        )
    from .uio import UioTransport

    return UioTransport(name.place, options["memory"], base=options.get("base"), events=events)


def _value(text: str, kind: str, name: str, value: str) -> Any:
    if name == "memory":
        return parse_size(value) if kind == "xdma" else value
    if name in ("host", "core"):
        if not value:
            raise ConfigError(f"{text!r}: {name} is empty")
        return value
    if name == "wait":
        if value not in _WAITS:
            raise ConfigError(f"{text!r}: wait must be {' or '.join(_WAITS)}, not {value!r}")
        return value
    try:
        number = float(value) if name == "patience" else int(value, 0)
    except ValueError:
        number = -1
    if number < 0 or name in ("baud", "patience", "port") and not number:
        what = "a number of seconds" if name == "patience" else "a whole number"
        raise ConfigError(f"{text!r}: {name} must be {what}, not {value!r}")
    return number


def _join(examples: dict[str, str]) -> str:
    *first, last = examples.values()
    return f"{', '.join(first)} or {last}"
