"""Finds out whether registers keep what is written to them, and only that."""

from tailrace.spec.registers import IDENTIFICATION, offset, registers_of

from .examination import Examination, Fault

_WORD = 0xFFFF_FFFF
#: Bits of the registers that have fewer than 32.
_BITS = {"GIE": 1, "IER": 3}


def check_registers(examination: Examination) -> str:
    """Write patterns to every register that keeps them, and try to change those that are read-only."""
    link = examination.link
    writable = [r for r in registers_of(examination.driver.geometry.channels) if r.access == "rw"]
    before = {r.name: link.read_register(r.offset) for r in writable}
    patterns = [0, _WORD, 0x5555_5555, 0xAAAA_AAAA, *(1 << bit for bit in range(32))]
    try:
        for done, pattern in enumerate(patterns):
            examination.progress("writing registers", done / len(patterns))
            _check_pattern(examination, {r.name: (pattern ^ (n * 0x0101_0101 if done > 3 else 0)) & _bits(r.name)
                                         for n, r in enumerate(writable)})  # fmt: skip
    finally:
        for register in writable:
            link.write_register(register.offset, before[register.name])
    for register in IDENTIFICATION:
        value = link.read_register(register.offset)
        link.write_register(register.offset, value ^ _WORD)
        if (now := link.read_register(register.offset)) != value:
            raise Fault(
                f"{register.name} is read-only and changed from {value:#010x} to {now:#010x} when it was written",
                "something else answers at this address: check the base address and the range of s_axi_control (4 KiB)",
            )
    return f"{len(writable)} registers keep {len(patterns)} patterns, {len(IDENTIFICATION)} can't be written"


def _check_pattern(examination: Examination, values: dict[str, int]) -> None:
    link = examination.link
    for name, value in values.items():
        link.write_register(offset(name), value)
    for name, value in values.items():
        found = link.read_register(offset(name))
        if found == value:
            continue
        twin = next((other for other, written in values.items() if other != name and written == found), None)
        wrong = ", ".join(str(bit) for bit in range(32) if (found ^ value) >> bit & 1)
        if twin is not None and found not in (0, _WORD):
            raise Fault(
                f"{name} reads {found:#010x}, which was written to {twin}",
                "check the address lines of the control bus: the core needs 12 bits of byte address",
            )
        raise Fault(
            f"{name} reads {found:#010x} after {value:#010x} was written (bits {wrong})",
            "check the data lines and the byte strobes of the control bus: every access must be one of 32 bits",
        )


def _bits(name: str) -> int:
    return _BITS.get(name, _WORD)
