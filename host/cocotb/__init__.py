"""For cocotb benches with the core in them: memory, registers, runs, a comparison with the golden model, the driver.

It needs cocotb and cocotbext-axi, which come with the extra ``cocotb``.
"""

from .bench import Bench
from .memory import DeviceMemory
from .registers import Registers
from .scoreboard import Scoreboard
from .transport import CocotbTransport

__all__ = ["Bench", "CocotbTransport", "DeviceMemory", "Registers", "Scoreboard"]
