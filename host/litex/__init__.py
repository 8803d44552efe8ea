"""The co-processor in LiteX: ``from tailrace.litex import add_tailrace``.

It needs LiteX, which comes with the extra ``board``.
"""

from .core import Tailrace
from .integration import add_tailrace

__all__ = ["Tailrace", "add_tailrace"]
