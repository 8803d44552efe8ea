"""Finds out whether it is a Tailrace device, and whether what it says of itself makes sense."""

from tailrace.spec.config import Config
from tailrace.spec.errors import ConfigError
from tailrace.spec.formats import BY_NUMBER
from tailrace.spec.isa import ISA_MAJOR, MAX_COMMANDS
from tailrace.spec.registers import MAGIC, offset

from ..device.driver import Device
from ..device.stated_config import stated_config
from ..image.geometry import Geometry
from .examination import Examination, Fault

_ALL_ONES = 0xFFFF_FFFF


def open_link(examination: Examination) -> str:
    """Open the device."""
    examination.transport = examination.opener()
    return f"{examination.link.name}, {examination.link.memory_size:,} bytes of memory"


def identify(examination: Examination) -> str:
    """Read the identification registers."""
    link = examination.link
    magic = link.read_register(offset("MAGIC"))
    if magic != MAGIC:
        raise Fault(f"MAGIC reads {magic:#010x}, not {MAGIC:#010x}", _advice_on_magic(magic))
    version = link.read_register(offset("ISA_VERSION"))
    if version >> 16 != ISA_MAJOR:
        raise Fault(
            f"the instruction set is {version >> 16}.{version & 0xFFFF}, and this driver speaks {ISA_MAJOR}.x",
            "build the device again from this release, or install the release of tailrace that it was built from",
        )
    geometry = Geometry.of_device(link)
    config = config_of(examination, geometry)
    unknown = [n for n in range(32) if geometry.reads(n) and n not in BY_NUMBER]
    if not geometry.readable or geometry.max_commands != MAX_COMMANDS or geometry.lanes != config.lanes:
        raise Fault(
            f"the registers do not fit together: {geometry}",
            "read them again: if they change, the control bus is not reliable (clock crossing, timing); if not, the device was"
            " built from other sources than this release",
        )
    if link.memory_size > 1 << geometry.address_width:
        raise Fault(
            f"the memory has {link.memory_size} bytes, and the device's addresses {geometry.address_width} bits",
            "give the size of the memory that the device can address",
        )
    try:
        examination.device = Device(link, timeout=examination.timeout)
    except ConfigError as error:
        raise Fault(str(error), "do what the message says, and run this again") from None
    more = f", formats {unknown} are unknown here" if unknown else ""
    return (
        f"instruction set {version >> 16}.{version & 0xFFFF}, {_ports(geometry)}, {geometry.lanes} lanes,"
        f" {geometry.right_hand_sides} right-hand sides, {len(geometry.readable)} formats{more}"
    )


def config_of(examination: Examination, geometry: Geometry) -> Config:
    """The configuration that a device states.

    Raises
    ------
    Fault
        If no device can be built so.
    """
    try:
        return stated_config(examination.link, geometry)
    except ConfigError as error:
        raise Fault(
            f"the registers tell of a device that can't be built: {error}",
            "the control bus garbles what is read: check its width (32 bits), its address lines and its clock",
        ) from None


def _ports(geometry: Geometry) -> str:
    ports = "" if geometry.channels == 1 else f"{geometry.channels} memory ports with a "
    return f"{ports}{geometry.bus_width}-bit bus"


def _advice_on_magic(magic: int) -> str:
    if magic == _ALL_ONES:
        return "nothing answers: load the bitstream, and check the base address of the registers"
    if magic == 0:
        return "check that the core has a clock and is out of reset, and the base address of the registers"
    if magic == int.from_bytes(MAGIC.to_bytes(4, "little"), "big"):
        return "the bytes of a word arrive in the wrong order: the control bus must be little endian"
    return "check the base address of the registers, and that the bitstream is one of Tailrace"
