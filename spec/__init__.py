"""The contract: instruction set, registers, formats, numbers, configurations and errors, each stated once.

Everything else (gateware, golden model, firmware, simulation, driver, documents) follows from these modules. This
floor imports numpy and the standard library only.
"""
