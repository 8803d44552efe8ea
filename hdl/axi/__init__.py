"""The masters on the memory bus and the slave that the host talks to."""
