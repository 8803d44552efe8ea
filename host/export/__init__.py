"""The core as a package that other designs take in: Verilog, register map, build descriptions."""
