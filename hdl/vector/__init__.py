"""What stays on the device between commands: vector slots and the result buffer."""
