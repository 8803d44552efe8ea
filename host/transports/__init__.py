"""Ways to devices that are hardware: a serial port, PCIe, a processor on the same chip."""
