"""What tells a file from another one that has taken its place, without reading it."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Stamp:
    """A file as it was when it was opened.

    Attributes
    ----------
    path : Path
    numbers : tuple of int
        Its device and inode, its bytes, and when its contents and its entry were last changed, in nanoseconds. The last one no
        program can set: another file with the same name, size and time differs in it.
    """

    path: Path
    numbers: tuple[int, ...]

    @classmethod
    def of(cls, path: Path, status: os.stat_result) -> "Stamp":
        """The stamp of a file of which this is the status."""
        return cls(path, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))

    def is_current(self) -> bool:
        """Whether the file is still the one that was opened, unchanged."""
        try:
            return Stamp.of(self.path, self.path.stat()) == self
        except OSError:
            return False
