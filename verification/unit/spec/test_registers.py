import pytest

from tailrace.spec.config import CHANNELS
from tailrace.spec.errors import ErrorCode
from tailrace.spec.isa import ARGUMENTS, FIRST_ARGUMENT
from tailrace.spec.isa import REGISTERS as REGISTER_COUNT
from tailrace.spec.registers import (
    ADDRESS_BITS,
    BY_NAME,
    CHANNEL_BASES,
    CONTROL,
    COUNTER_BASE,
    COUNTERS,
    DEFAULT_WATCHDOG_CYCLES,
    MAGIC,
    NO_WATCHDOG,
    REGISTERS,
    Register,
    base_registers,
    offset,
    registers_of,
)


def test_offsets_are_unique_and_aligned() -> None:
    offsets = [r.offset for r in REGISTERS]
    assert len(set(offsets)) == len(offsets)
    assert all(place % 4 == 0 and 0 <= place < 1 << ADDRESS_BITS for place in offsets)


def test_names_are_unique() -> None:
    assert len(BY_NAME) == len(REGISTERS)
    assert all(offset(r.name) == r.offset for r in REGISTERS)


@pytest.mark.parametrize("register", REGISTERS, ids=lambda r: r.name)
def test_each_is_documented(register: Register) -> None:
    assert register.doc
    assert register.access in ("rw", "ro", "special")
    assert 0 <= register.reset < 1 << 32
    assert register.access == "rw" or not register.reset


def test_ap_ctrl_conventions() -> None:
    """UG1393: control, global enable, enable, status; arguments from 0x10."""
    assert [offset(name) for name in ("AP_CTRL", "GIE", "IER", "ISR", "QUEUE_ADDRESS_LO")] == [0, 4, 8, 12, 16]


def test_arguments_of_a_run_are_few_words() -> None:
    """XRT writes every word from 0x10 to the last argument with each start, those that a host did not set as 0."""
    written = [r for r in CONTROL if r.offset >= 0x10]
    assert [r.offset for r in written] == list(range(0x10, 0x50, 4))
    assert offset(f"ARGUMENT_{ARGUMENTS - 1}") < 0x40
    # As wide as two registers: at multiples of eight, as C structures have them.
    assert all(r.offset % 8 == 0 for r in REGISTERS if r.name.endswith("_LO"))
    text = BY_NAME["WATCHDOG_CYCLES"].doc
    assert f"0: {DEFAULT_WATCHDOG_CYCLES}; {NO_WATCHDOG:#X}: never".replace("0X", "0x") in text


def test_a_base_for_each_channel() -> None:
    """Of builds with so many, and no other register depends on that."""
    assert base_registers(1) == ("BASE",)
    assert base_registers(4) == ("BASE", "BASE_1", "BASE_2", "BASE_3")
    for channels in CHANNELS:
        names = {f"{base}_{half}" for base in base_registers(channels) for half in ("LO", "HI")}
        present = registers_of(channels)
        assert names == {r.name for r in present if r.name.startswith("BASE")}
        assert [r for r in present if r not in CHANNEL_BASES] == [r for r in REGISTERS if r not in CHANNEL_BASES]


def test_pairs_lie_side_by_side() -> None:
    for register in REGISTERS:
        if register.name.endswith("_LO"):
            assert offset(f"{register.name[:-2]}HI") == register.offset + 4


def test_counters_lie_in_order() -> None:
    assert [offset(f"{name}_LO") for name, _ in COUNTERS] == [COUNTER_BASE + 8 * i for i in range(len(COUNTERS))]


def test_arguments_are_registers_of_the_program() -> None:
    assert [offset(f"ARGUMENT_{i}") for i in range(ARGUMENTS)] == [offset("ARGUMENT_0") + 4 * i for i in range(ARGUMENTS)]
    assert all(BY_NAME[f"ARGUMENT_{i}"].access == "rw" for i in range(ARGUMENTS))
    assert FIRST_ARGUMENT + ARGUMENTS <= REGISTER_COUNT
    assert f"ARGUMENT_{ARGUMENTS}" not in BY_NAME


def test_every_cycle_has_a_counter() -> None:
    names = [name for name, _ in COUNTERS]
    assert names[0] == "CYCLES"
    last = names.index("STALL_DRAIN")
    assert all(name.endswith("_BEATS") or name.startswith("STALL_") for name in names[1 : last + 1])
    assert not any(name.startswith("STALL_") for name in names[last + 1 :])


def test_magic_is_text() -> None:
    assert MAGIC.to_bytes(4, "little") == b"TLRC"
    assert f"0x{MAGIC:08X}" in BY_NAME["MAGIC"].doc


def test_error_codes_fit_their_register() -> None:
    assert ErrorCode.NONE == 0
    assert len(ErrorCode) == max(ErrorCode) + 1
