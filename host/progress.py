"""Progress of what takes a while."""

from collections.abc import Callable

#: Told what is being done, and how much of that is done, from 0 to 1.
Progress = Callable[[str, float], None]
