"""What an exported core is called, and where its files lie."""

import re
from dataclasses import dataclass
from importlib.metadata import version

from tailrace.spec.config import Config

LICENCE = "Apache-2.0"
#: Vendor and library of all cores.
VENDOR, LIBRARY = "tailrace", "cores"


@dataclass(frozen=True)
class ExportedCore:
    """A core to be exported.

    Attributes
    ----------
    config : Config
    """

    config: Config

    @property
    def module(self) -> str:
        """Name of the Verilog module, such as ``tailrace_base``: the prefix of all that is exported."""
        return "tailrace_" + re.sub(r"[^a-z0-9]+", "_", self.config.name.lower()).strip("_")

    @property
    def macro(self) -> str:
        """What macros and constants in C begin with, such as ``TAILRACE_BASE``."""
        return self.module.upper()

    @property
    def version(self) -> str:
        """Version of Tailrace."""
        return version("tailrace")

    @property
    def vlnv(self) -> str:
        """Vendor, library, name and version, by which FuseSoC, Vivado and PYNQ know it."""
        return f"{VENDOR}:{LIBRARY}:{self.module}:{self.version}"

    @property
    def command(self) -> str:
        """The command that exports it."""
        return f"tailrace export --config {self.config.name}"

    def header(self, what: str, comment: str) -> str:
        """Lines for the top of a file.

        Parameters
        ----------
        what : str
            What the file is.
        comment : str
            What a comment begins with.
        """
        lines = (
            what,
            f"Tailrace {self.version}, configuration {self.config.name}; licence: {LICENCE}",
            f"Written by: {self.command}",
        )
        return "".join(f"{comment} {line}\n" for line in lines)
