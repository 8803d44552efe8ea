"""The driver: products and whole decode steps on a device, whatever it is made of."""
