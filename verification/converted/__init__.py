"""Models that llama.cpp's own converter has written: what the device makes of such a file, and what llama.cpp makes of it."""
