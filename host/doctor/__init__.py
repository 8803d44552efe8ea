"""Examines a device step by step, says what is wrong and what to do."""
