"""Opens the files that a kernel driver makes of a device."""

import errno
import fcntl
import os
from pathlib import Path

from tailrace.spec.errors import LinkError


def open_device_file(path: Path, flags: int, missing: str, *, alone: bool = False) -> int:
    """Open a device file.

    Parameters
    ----------
    path : Path
    flags : int
        Those of `os.open`.
    missing : str
        What to do if there is no such file.
    alone : bool
        Whether to keep out every other program that opens it so, until it is closed or this process ends.

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
        file = os.open(path, flags | os.O_CLOEXEC)
    except FileNotFoundError:
        raise LinkError(f"{path} does not exist: {missing}") from None
    except PermissionError:
        raise LinkError(
            f"{path} may not be opened by this user: run as root, or give the user access to it with a udev rule"
        ) from None
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise _in_use(path) from None
        raise LinkError(f"{path} can't be opened: {error.strerror}. {missing[0].upper()}{missing[1:]}") from None
    if alone:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            raise _in_use(path) from None
    return file


def _in_use(path: Path) -> LinkError:
    return LinkError(
        f"{path} is in use: wait until the other program that has opened it is done, or end it; fuser -v {path} names it"
    )


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
