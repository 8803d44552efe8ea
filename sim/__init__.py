"""Devices to run on without hardware, and the memory that they run on."""
