"""The driver of PYNQ: ``import tailrace.pynq``, and a core in an overlay is a `TailraceIP`.

It needs the package ``pynq``, which the images of PYNQ's boards have.
"""

from .driver import TailraceIP, bind
from .transport import PynqTransport

__all__ = ["PynqTransport", "TailraceIP", "bind"]
