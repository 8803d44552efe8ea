"""What the device executes: command lists, and later whole decode programs."""
