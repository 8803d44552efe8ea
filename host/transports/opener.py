"""Hardware belongs to the process that opened it."""

import os

from tailrace.spec.errors import LinkError


class Opener:
    """Remembers which process it was made in: a fork has its files and maps as well, but not the device."""

    def __init__(self) -> None:
        self._process = os.getpid()

    def check(self) -> None:
        """Check that this is that process.

        Raises
        ------
        LinkError
            If it is a fork of it.
        """
        if os.getpid() != self._process:
            raise LinkError(
                f"process {self._process} has opened this device, and this one is a fork of it: close the device there, and"
                " open it here"
            )
