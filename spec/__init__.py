"""The contract: instruction set, registers, formats, numbers, configurations and errors, each stated once.

Everything else (gateware, golden model, firmware, simulation, driver, documents) follows from these modules. This
floor imports numpy and the standard library only.
"""

import time

#: When this process began to load Tailrace, of which this is the first module to run, in nanoseconds since 1970.
LOADED_AT = time.time_ns()
