"""Command queue, sequencer and registers."""
