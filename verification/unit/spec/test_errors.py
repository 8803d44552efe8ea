import pytest

from tailrace.spec.errors import (
    ADVICE,
    ConfigError,
    DeviceError,
    DeviceTimeout,
    ErrorCode,
    LimitError,
    LinkError,
    MissingPackage,
    ModelError,
    TailraceError,
)


def test_every_code_has_advice() -> None:
    assert set(ADVICE) == set(ErrorCode)


@pytest.mark.parametrize("kind", [ConfigError, ModelError, LimitError, DeviceError, DeviceTimeout, LinkError])
def test_one_base_catches_all(kind: type[Exception]) -> None:
    assert issubclass(kind, TailraceError)


def test_bus_errors_name_the_address() -> None:
    error = DeviceError(ErrorCode.READ_ERROR, 3, 0x1000)
    assert str(error) == (
        "the device stopped at command 3 with READ_ERROR at address 0x1000: the memory, or LIMIT, refused a read:"
        " check that the address lies within the device's memory"
    )
    assert (error.code, error.command, error.address) == (ErrorCode.READ_ERROR, 3, 0x1000)


def test_other_errors_do_not() -> None:
    assert str(DeviceError(ErrorCode.MISALIGNED, 0, 0)) == (
        "the device stopped at command 0 with MISALIGNED: the queue's address must be a multiple of 64, BASE and LIMIT multiples of"
        " 4096"
    )


def test_a_missing_package_says_how_to_get_what_was_tested() -> None:
    assert str(MissingPackage("litex", "to make a memory controller", "board")) == (
        "the Python package litex is needed to make a memory controller: run make setup in Tailrace's folder, or there:"
        " .venv/bin/pip install -e '.[board]'"
    )


def test_exit_codes_are_not_zero() -> None:
    assert TailraceError.exit_code != 0
