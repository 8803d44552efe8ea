"""What the device executes: decode programs built from a model's description, command lists for single products, their text."""
