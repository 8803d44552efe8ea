"""Builds for FPGAs: what a configuration takes, how fast it clocks, and boards."""
