"""Whole boards: the core with memory, link, clocks and pins."""
