"""Opens the files that a kernel driver makes of a device."""

import errno
import os
from pathlib import Path

from tailrace.spec.errors import LinkError


def open_device_file(path: Path, flags: int, missing: str) -> int:
    """Open a device file.

    Parameters
    ----------
    path : Path
    flags : int
        Those of `os.open`.
    missing : str
        What to do if there is no such file.

    Returns
    -------
    int
        The file's descriptor.

    Raises
    ------
    LinkError
        If it can't be opened, with what to do.
    """
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    except FileNotFoundError:
        raise LinkError(f"{path} does not exist: {missing}") from None
    except PermissionError:
        raise LinkError(
            f"{path} may not be opened by this user: run as root, or give the user access to it with a udev rule"
        ) from None
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise LinkError(f"{path} is in use: end the other program that has opened it") from None
        raise LinkError(f"{path} can't be opened: {error.strerror}. {missing[0].upper()}{missing[1:]}") from None


def check_span(what: str, address: int, size: int, memory_size: int) -> None:
    """Check that an access lies within the device's memory.

    Raises
    ------
    LinkError
        If it does not.
    """
    if address < 0 or size < 0 or address + size > memory_size:
        raise LinkError(
            f"can't {what} {size} bytes at {address:#x}: the device's memory has {memory_size} bytes, from address 0 on"
        )
