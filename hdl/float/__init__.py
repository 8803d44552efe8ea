"""Pipelined float32 arithmetic, with the bits of `tailrace.spec.floats`."""
