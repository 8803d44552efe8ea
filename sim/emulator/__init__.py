"""The emulator: the instruction set, executed exactly and fast, in native code."""
